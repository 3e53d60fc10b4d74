"""Following a run from Python: callbacks, early stopping, its history and scores."""

import json
import shutil

import numpy as np
import pytest
from test_train import QUICK, experiment, lines

from aejax.cli import main
from aejax.errors import UsageError
from aejax.runs.checkpoint import digest
from aejax.training.callbacks import early_stopping, without_improvement
from aejax.training.trainer import resume, train

pytestmark = pytest.mark.optimized  # compares bits

# The validation term of this learning rate soon rises, and three validations in a row bring no new minimum.
DIVERGING = {"lr": 0.5, "steps": 200}
PATIENT = QUICK._replace(patience=3)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return train(experiment(**DIVERGING), tmp_path_factory.mktemp("stopped") / "run", PATIENT)


def test_patience_ends_a_run_after_so_many_validations_without_a_new_minimum(stopped):
    values = list(stopped.history["validation"]["denoising_nll"][1])
    assert stopped.step < 200
    assert without_improvement(values) == 3
    assert all(without_improvement(values[:n]) < 3 for n in range(1, len(values)))
    result = json.loads((stopped.directory / "result.json").read_text())
    assert result["stopped_early"]
    assert result["step"] == stopped.step


def test_a_stopped_run_has_the_bits_of_the_same_step_of_a_longer_one(stopped, tmp_path):
    at_that_step = []

    def note(step, split, terms):
        if step == stopped.step and split == "validation":
            at_that_step.append(terms)

    train(experiment(**DIVERGING), tmp_path / "run", QUICK, callbacks=[note])
    (terms,) = at_that_step
    assert terms["denoising_nll"] == stopped.history["validation"]["denoising_nll"][1][-1]


def test_a_stopped_run_is_complete_and_resumes_to_itself(stopped, tmp_path):
    made = experiment(**DIVERGING)
    again = resume(stopped.directory, experiment=made)
    assert digest(again.state.params) == digest(stopped.state.params)
    # Killed after its last checkpoint and before its result; and some validations earlier.
    killed = shutil.copytree(stopped.directory, tmp_path / "killed")
    (killed / "result.json").unlink()
    assert digest(resume(killed, experiment=made).state.params) == digest(stopped.state.params)
    earlier = shutil.copytree(stopped.directory, tmp_path / "earlier")
    (earlier / "result.json").unlink()
    shutil.rmtree(earlier / "checkpoints" / str(stopped.step))
    assert digest(resume(earlier, experiment=made).state.params) == digest(stopped.state.params)


def test_a_callback_gets_every_line_of_the_log_and_true_stops(tmp_path):
    seen = []

    def callback(step, split, terms):
        seen.append((step, split, set(terms)))
        return step == 12

    run = train(experiment(), tmp_path / "run", QUICK, callbacks=[callback])
    assert run.step == 12
    written = [
        (line.pop("step"), line.pop("split"), set(line) - {"examples_per_second"}) for line in lines(run.directory)
    ]
    assert seen == written
    assert seen[-1][:2] == (12, "validation")


def test_early_stopping_goes_on_from_past_values():
    whole = early_stopping(2, "nll")
    values = [3.0, 2.0, 2.5, 2.0, 1.0]
    answers = [whole(i, "validation", {"nll": value}) for i, value in enumerate(values)]
    assert answers == [False, False, False, True, False]
    assert early_stopping(2, "nll", values[:3])(3, "validation", {"nll": 2.0})
    assert not whole(5, "train", {"nll": 9.0})


def test_wrong_patience_is_refused(tmp_path):
    for wrong, told in [({"patience": -1}, "--patience -1"), ({"patience": 2}, "needs a validation split")]:
        with pytest.raises(UsageError, match=told):
            train(experiment(validation=None), tmp_path / "run", QUICK._replace(**wrong))


def test_a_quiet_run_says_nothing(tmp_path, capsys):
    train(experiment(steps=8), tmp_path / "run", QUICK._replace(verbose=False))
    assert capsys.readouterr() == ("", "")


def test_the_score_is_the_nats_of_each_example(stopped):
    x = np.asarray(stopped.experiment.test.arrays["x"])
    np.testing.assert_array_equal(stopped.score(x), stopped.evaluate(x)["nll"])


def test_a_stopped_run_is_verified_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--steps", "400", "--save-every", "10", "--hidden", "8", "--lr", "0.3", "--no-evaluate", "--no-verbose"]
    assert main(["train", "dae", *quick, "--patience", "2", "--run", "run"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stopped_early"]
    assert main(["verify", "run"]) == 0
    assert "same digest" in capsys.readouterr().out
    assert main(["train", "dae", *quick, "--patience", "2", "--seeds", "2", "--run", "group"]) == 2
