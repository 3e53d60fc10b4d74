"""Members of a group against runs of their own."""

import json
import os
import signal

import jax
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.evaluation.summary import summarize
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.runs.checkpoint import digest
from aejax.runs.directory import is_group, read_config
from aejax.runs.opening import open_run
from aejax.training.groups import resume_members, train_members, variants_of
from aejax.training.recorder import Interrupted, means_over
from aejax.training.settings import Settings
from aejax.training.trainer import resume, train
from aejax.types import Dataset, Experiment

QUICK = Settings(log_every=4, save_every=8)
EVERY = Settings(log_every=1, save_every=8)
ARGUMENTS = {"data": "noise", "rate": 0.5, "lr": 1e-2, "seed": 0, "steps": 16, "batch_size": 8}
KEYS = np.array([2.0**i for i in range(6)], np.float32)  # tells every mask of six components from every other


def dataset(n, name):
    return Dataset(f"noise:{name}", (6,), n, None, name, {"x": np.random.default_rng(n).uniform(0.1, 1, (n, 6))})


def experiment(data="noise", rate=0.5, lr=1e-2, seed=0, steps=16, batch_size=8):
    model = autoencoder(MLP((5,), 2), MLP((5,), 6), bernoulli(), corrupt=masking(rate))
    return Experiment(model, optax.adam(lr), dataset(20, "train"), dataset(9, "test"), batch_size, steps, seed)


def told(f, x, h, keys, axis):
    """Not a penalty, but a number for the log that tells which components of which example were masked."""
    return (x == 0.0).astype(np.float32) @ KEYS * np.arange(1.0, 9.0, dtype=np.float32)


def telling(**arguments):
    """The experiment with that number in its log; it is made of small integers, so that rounding has no part in it."""
    made = experiment(**arguments)
    model = autoencoder(MLP((5,), 2), MLP((5,), 6), bernoulli(), corrupt=made.model.data.corrupt, penalties=(told,))
    return made._replace(model=model)


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Members that differ in all that may differ, for the tests that only look at them: (directory, runs)."""
    directory = tmp_path_factory.mktemp("members") / "group"
    varied = {"rate": [0.2, 0.5], "lr": [1e-2, 1e-3], "seed": [0, 7]}
    return directory, train_members(telling, ARGUMENTS | {"steps": 8}, varied, directory, EVERY)


def masks_of(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line["told"] for line in lines if line["split"] == "train"]


def test_members_are_the_runs_of_their_own_but_for_rounding(group, tmp_path):
    """And draw the very noise and order of these. The two have every value of what varies among them."""
    _, runs = group
    assert [run.directory.name for run in runs][:3] == [
        "rate0.2-lr0.01-seed0", "rate0.2-lr0.01-seed7", "rate0.2-lr0.001-seed0"
    ]  # fmt: skip
    for run in (runs[1], runs[6]):
        alone_with = {**ARGUMENTS, "steps": 8, **read_config(run.directory)["member"]}
        alone = train(telling(**alone_with), tmp_path / run.directory.name, EVERY)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run.state, alone.state)
        assert masks_of(run.directory) == masks_of(alone.directory)
        reopened = open_run(run.directory, experiment=alone.experiment)
        assert digest(reopened.state) == digest(run.state)
        assert json.loads((run.directory / "result.json").read_text())["digest"] == digest(run.params, run.state.extras)
    assert len({str(masks_of(run.directory)) for run in runs}) == 4  # as many as pairs of a rate and a seed
    assert len({digest(run.state) for run in runs}) == 8


@pytest.mark.slow
def test_devices_share_the_members(tmp_path):
    seeds = {"seed": [0, 1, 2, 3]}
    one = train_members(experiment, ARGUMENTS, seeds, tmp_path / "one", QUICK)
    four = train_members(experiment, ARGUMENTS, seeds, tmp_path / "four", QUICK._replace(devices=4))
    for a, b in zip(one, four):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a.state, b.state)


@pytest.mark.slow
def test_a_group_compiles_its_step_once(tmp_path, monkeypatch):
    traced = []

    def counted(**arguments):
        traced.append(arguments["seed"])
        return experiment(**arguments)

    seen = []

    def listen(name, seconds, **more):
        if name == "/jax/core/compile/backend_compile_duration":
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    counts = {}
    try:
        for m in (5, 9):  # numbers that no other test has, so that nothing is compiled yet
            seen.clear()
            train_members(counted, ARGUMENTS | {"steps": 24}, {"seed": list(range(m))}, tmp_path / f"{m}", QUICK)
            counts[m] = len(seen)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert counts[9] <= counts[5] + 2


@pytest.mark.optimized
def test_a_group_resumes_to_the_same_bits(tmp_path, monkeypatch):
    arguments, seeds = ARGUMENTS | {"steps": 40}, {"seed": [0, 1]}
    settings = Settings(log_every=4, save_every=16)
    whole = train_members(experiment, arguments, seeds, tmp_path / "whole", settings)

    def interrupted(parts):
        monkeypatch.undo()  # a second signal would be obeyed at once
        os.kill(os.getpid(), signal.SIGINT)  # while the first line of the log is written
        return means_over(parts)

    monkeypatch.setattr("aejax.training.recorder.means_over", interrupted)
    with pytest.raises(Interrupted, match="aejax resume"):
        train_members(experiment, arguments, seeds, tmp_path / "cut", settings)
    assert 0 < open_run(tmp_path / "cut" / "seed1", experiment=experiment(steps=40, seed=1)).step < 40
    resumed = resume_members(tmp_path / "cut", function=experiment)
    for a, b in zip(resumed, whole):
        assert digest(a.state) == digest(b.state)
    again = resume_members(tmp_path / "cut", function=experiment)  # complete: opened as they are
    assert [digest(run.state) for run in again] == [digest(run.state) for run in whole]


def test_the_summary_is_mean_and_sd_over_seeds(group):
    directory, runs = group
    summary = summarize(directory)
    assert summary == json.loads((directory / "summary.json").read_text())
    settings = [({"rate": rate, "lr": lr}, [0, 7]) for rate in (0.2, 0.5) for lr in (1e-2, 1e-3)]
    assert [(s["varied"], s["seeds"]) for s in summary["settings"]] == settings
    values = [json.loads((run.directory / "result.json").read_text())["metrics"]["nll"] for run in runs[:2]]
    told = summary["settings"][0]["metrics"]["validation/nll"]
    assert told["values"] == values
    np.testing.assert_allclose([told["mean"], told["sd"]], [np.mean(values), np.std(values, ddof=1)])


def test_what_cannot_vary_within_a_program_is_refused(tmp_path):
    for varied, message in [
        ({"steps": [1, 2]}, "steps cannot vary within one program"),
        ({"width": [1.0]}, "no argument 'width' to vary; it has data, rate"),
        ({"lr": [1e-3, 1e-3]}, "lr has a value twice"),
        ({"rate": [0.5, 1.5]}, r"masking\(rate=1.5\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            variants_of(experiment, ARGUMENTS, varied)
    with pytest.raises(UsageError, match="3 members cannot be shared by 2 devices"):
        train_members(experiment, ARGUMENTS, {"seed": [0, 1, 2]}, tmp_path / "x", QUICK._replace(devices=2))
    with pytest.raises(UsageError, match="--exact-reduce"):
        train_members(experiment, ARGUMENTS, {"seed": [0]}, tmp_path / "x", QUICK._replace(exact_reduce=True))
    assert not (tmp_path / "x").exists()


def test_a_member_is_not_resumed_alone(group):
    directory, runs = group
    assert is_group(directory)
    with pytest.raises(UsageError, match="resume all of them: aejax resume"):
        resume(runs[0].directory)
    with pytest.raises(UsageError, match=r"is a group of runs; give one of rate0\.2-lr0\.01-seed0, rate0\.2-"):
        open_run(directory)
