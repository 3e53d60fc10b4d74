import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from aejax.data import open_split
from aejax.errors import UsageError
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.runs.checkpoint import digest
from aejax.runs.opening import open_run
from aejax.training import recorder
from aejax.training.recorder import Interrupted, NonFinite, means_over
from aejax.training.settings import Settings
from aejax.training.trainer import resume, train
from aejax.types import Dataset, Experiment

pytestmark = pytest.mark.optimized  # most compare bits

QUICK = Settings(log_every=4, save_every=8, keep=2)


def dataset(n, seed, name="all", low=0.0):
    x = np.random.default_rng(seed).uniform(low, 1.0, (n, 6)).astype(np.float32)
    return Dataset(f"noise:{name}", (6,), n, None, f"{seed}", {"x": x})


def experiment(steps=24, lr=1e-2, low=0.0, batch_size=8, seed=0, **changes):
    model = autoencoder(MLP((5,), 2), MLP((5,), 6), bernoulli(), corrupt=masking(0.5))
    made = Experiment(
        model, optax.adam(lr), dataset(20, 1, "train", low), dataset(9, 2, "test"), batch_size, steps, seed,
        validation=dataset(7, 3, "validation"), monitor="denoising_nll",
    )  # fmt: skip
    return made._replace(**changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete run, for the tests that only look at it."""
    return train(experiment(), tmp_path_factory.mktemp("train") / "run", QUICK)


def copy_of(run, directory):
    return Path(shutil.copytree(run.directory, directory))


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def result(directory):
    return json.loads((directory / "result.json").read_text())


def test_a_run_leaves_its_files(whole):
    directory = whole.directory
    assert whole.step == 24
    log = lines(directory)
    assert [line["step"] for line in log if line["split"] == "train"] == [4, 8, 12, 16, 20, 24]
    assert [line["step"] for line in log if line["split"] == "validation"] == [8, 16, 24]
    assert {"loss", "nll", "mse"} <= log[0].keys()
    assert {"nll", "mse", "denoising_nll", "denoising_mse"} <= log[2].keys()
    told = result(directory)
    assert told["digest"] == digest(whole.state.params, whole.state.extras)
    assert told["metrics"] == {k: v for k, v in log[-1].items() if k not in ("step", "split")}
    config = json.loads((directory / "config.json").read_text())
    assert config["seed"] == 0
    assert config["source"] is None
    assert config["data"]["splits"]["train"]["fingerprint"] == "1"
    reopened = open_run(directory, experiment=experiment())
    np.testing.assert_array_equal(reopened.encode(dataset(3, 5)), whole.encode(dataset(3, 5)))


def test_the_log_holds_means_over_all_steps_since_the_last_line(whole, tmp_path):
    every = tmp_path / "every"
    train(experiment(), every, QUICK._replace(log_every=1))
    losses = [line["loss"] for line in lines(every) if line["split"] == "train"]
    means = [line["loss"] for line in lines(whole.directory) if line["split"] == "train"]
    np.testing.assert_allclose(means, np.reshape(losses, (6, 4)).mean(axis=1), rtol=1e-6)
    assert result(every)["digest"] == result(whole.directory)["digest"]


def test_a_run_is_a_function_of_its_seed(whole, tmp_path):
    found = [result(train(experiment(seed=seed), tmp_path / f"{seed}", QUICK).directory)["digest"] for seed in (0, 1)]
    assert found[0] == result(whole.directory)["digest"] != found[1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_run_ends_in_the_same_bits(whole, tmp_path, signum, request, monkeypatch):
    """A signal that comes while the first line of the log is written."""
    cut = tmp_path / "cut"
    late = guarded(signum, request)

    def told(parts):
        monkeypatch.undo()  # a second signal would be obeyed at once
        os.kill(os.getpid(), signum)
        return means_over(parts)

    monkeypatch.setattr(recorder, "means_over", told)
    with pytest.raises(Interrupted, match="aejax resume") as stopped:
        train(experiment(), cut, QUICK)
    check_interrupted(stopped.value, signum, cut, whole)
    assert signal.getsignal(signum) is late  # handlers are as they were


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_after", [0.0, 0.05])
def test_a_signal_may_come_at_any_moment(tmp_path, signum, stop_after, request):
    cut, steps, settings = tmp_path / "cut", 3_000, Settings(log_every=50, save_every=700)
    late = guarded(signum, request)
    expected = train(experiment(steps), tmp_path / "whole", settings)

    def shoot():
        while not (cut / "metrics.jsonl").exists() or not (cut / "metrics.jsonl").stat().st_size:
            time.sleep(0.005)
        time.sleep(stop_after)
        os.kill(os.getpid(), signum)

    threading.Thread(target=shoot, daemon=True).start()
    with pytest.raises(Interrupted, match="aejax resume") as stopped:
        train(experiment(steps), cut, settings)
    check_interrupted(stopped.value, signum, cut, expected)
    assert signal.getsignal(signum) is late


def guarded(signum, request):
    """What a signal after the end of training would meet, instead of ending the tests."""

    def late(signum, frame):
        pass

    previous = signal.signal(signum, late)
    request.addfinalizer(lambda: signal.signal(signum, previous))
    return late


def check_interrupted(stopped, signum, cut, expected):
    steps = expected.experiment.steps
    assert stopped.signum == signum
    assert not (cut / "result.json").exists()
    assert 0 < open_run(cut, experiment=expected.experiment).step < steps
    resumed = resume(cut, experiment=expected.experiment)
    assert digest(resumed.state) == digest(expected.state)  # the whole state, not only the parameters
    assert result(cut)["digest"] == result(expected.directory)["digest"]
    assert [line["step"] for line in lines(cut)] == sorted(line["step"] for line in lines(cut))


def test_resuming_a_complete_run_changes_nothing(whole):
    files = [whole.directory / name for name in ("config.json", "metrics.jsonl", "result.json")]
    before = [file.read_bytes() for file in files]
    assert resume(whole.directory, experiment=experiment()).step == 24
    assert [file.read_bytes() for file in files] == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(whole, tmp_path):
    directory = copy_of(whole, tmp_path / "run")
    shutil.rmtree(directory / "checkpoints")
    (directory / "result.json").unlink()
    assert digest(resume(directory, experiment=experiment()).state) == digest(whole.state)
    assert [session["from_step"] for session in json.loads((directory / "config.json").read_text())["resumed"]] == [0]


def test_reading_a_run_leaves_a_checkpoint_that_is_being_written(whole, tmp_path):
    directory = copy_of(whole, tmp_path / "run")
    unfinished = directory / "checkpoints" / "99.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert open_run(directory, experiment=experiment()).step == 24
    assert unfinished.exists()


def test_without_a_validation_split_the_test_split_is_evaluated_under_its_name(tmp_path):
    train(experiment(8, validation=None), tmp_path / "run", QUICK)
    assert [line["split"] for line in lines(tmp_path / "run")] == ["train", "train", "test"]


def test_a_log_beyond_the_checkpoint_and_a_torn_line_are_written_again(whole, tmp_path):
    directory = copy_of(whole, tmp_path / "run")
    # As a kill leaves it: beyond the checkpoint at 16 a logged step and half a line, no result.
    (directory / "result.json").unlink()
    shutil.rmtree(directory / "checkpoints" / "24")
    kept = (directory / "metrics.jsonl").read_text().splitlines()[:7]
    (directory / "metrics.jsonl").write_text("\n".join(kept) + '\n{"step": 2')
    resume(directory, experiment=experiment())

    def without_speed(log):
        return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in log]

    assert without_speed(lines(directory)) == without_speed(lines(whole.directory))


def test_several_devices_train_the_same_run_and_one_resumes_it(whole, tmp_path):
    four = train(experiment(16), tmp_path / "four", QUICK._replace(devices=4))
    assert json.loads((tmp_path / "four" / "config.json").read_text())["settings"]["devices"] == 4
    assert four.step == 16
    resumed = resume(tmp_path / "four", experiment=experiment(), devices=1)
    assert resumed.step == 24
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), resumed.params, whole.params)


def test_non_finite_training_stops_by_name_and_keeps_the_last_finite_checkpoint(tmp_path):
    exploding = optax.chain(optax.adam(1e-2), optax.scale_by_schedule(lambda t: jax.numpy.where(t < 11, 1.0, 1e38)))
    with pytest.raises(NonFinite, match=r"non-finite .*loss.* at step 1[123].*checkpoint of step 8 is kept"):
        train(experiment(40, optimizer=exploding), tmp_path / "run", QUICK)
    assert open_run(tmp_path / "run", experiment=experiment(40, optimizer=exploding)).step == 8
    assert not (tmp_path / "run" / "result.json").exists()


def test_non_finite_parameters_are_never_saved(tmp_path):
    exploding = optax.chain(optax.adam(1e-2), optax.scale_by_schedule(lambda t: jax.numpy.where(t == 7, np.nan, 1.0)))
    with pytest.raises(NonFinite, match=r"after step 8; no checkpoint was saved"):
        train(experiment(8, optimizer=exploding), tmp_path / "run", QUICK)


def test_what_would_fail_later_is_refused_before_anything_is_written(tmp_path):
    def refuse(match, settings=QUICK, directory=tmp_path / "run", **changes):
        with pytest.raises(UsageError, match=match):
            train(experiment(**changes), directory, settings)
        assert not (tmp_path / "run").exists()

    refuse("bernoulli.*noise:train", low=-1.0)
    refuse("--steps 0", steps=0)
    refuse("--batch-size 0", batch_size=0)
    refuse("--log-every 0", QUICK._replace(log_every=0))
    refuse("batch size 8 is not divisible by 3", QUICK._replace(devices=3))
    refuse("--seed -1", seed=-1)
    refuse(r"monitors 'elbo'.*denoising_nll", monitor="elbo")
    refuse("shape", test=open_split(np.zeros((3, 5), np.float32)))


def test_a_run_directory_that_exists_is_not_touched(whole, tmp_path):
    copy_of(whole, tmp_path / "run")
    before = (tmp_path / "run" / "result.json").read_text()
    with pytest.raises(UsageError, match=r"exists.*--overwrite"):
        train(experiment(seed=1), tmp_path / "run", QUICK)
    assert (tmp_path / "run" / "result.json").read_text() == before
    train(experiment(4, seed=1), tmp_path / "run", QUICK, overwrite=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    (tmp_path / "notes" / "config.json").write_text('{"model_type": "of another program"}')
    with pytest.raises(UsageError, match="not a run directory"):
        train(experiment(), tmp_path / "notes", QUICK, overwrite=True)
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "precious"
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        train(experiment(), tmp_path / "file", QUICK)


def test_the_best_checkpoint_is_never_chosen_on_the_test_split(tmp_path):
    chosen = experiment(4)._replace(validation=None)
    train(chosen, tmp_path / "run", QUICK)
    with pytest.raises(UsageError, match=r"no validation split.*--checkpoint last"):
        open_run(tmp_path / "run", experiment=chosen, checkpoint="best")
    assert open_run(tmp_path / "run", experiment=chosen).step == 4
