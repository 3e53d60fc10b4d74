"""Runs that go on: with more steps than they were started with, or from the parameters of another run."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli
from aejax.runs.directory import read_config
from aejax.training.settings import Settings
from tiny import refusal

SMALL = ["--hidden", "8", "--latent", "4", "--batch-size", "32", "--save-every", "10"]


def trained(run, *flags):
    assert main(["train", "dae", "--run", run, *SMALL, "--no-evaluate", *flags]) == 0


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def experiment():
    train, test = aejax.load("digits")
    model = autoencoder(MLP((), 4), MLP((), train.shape), bernoulli())
    return lambda steps, lr=1e-3: aejax.fit(model, (train, test), lr, 32, steps)


@pytest.mark.parametrize("extensions", [(30,), (30, 45)])
def test_an_extended_run_says_so_and_replays(extensions, capsys):
    trained("run", "--steps", "20")
    before = 20
    for steps in extensions:
        assert main(["resume", "run", "--steps", str(steps), "--no-evaluate"]) == 0
        config = read_config(Path("run"))
        assert config["extended"][-1] == {"from_step": before, "from_steps": before, "steps": steps}
        assert config["steps"] == config["source"]["arguments"]["steps"] == steps
        before = steps
    result = json.loads(Path("run/result.json").read_text())
    assert result["step"] == extensions[-1]
    assert main(["verify", "run"]) == 0
    assert result["digest"] in capsys.readouterr().out


def test_fewer_steps_are_refused_and_leave_the_run_complete(capsys):
    trained("run", "--steps", "20")
    before = Path("run/config.json").read_bytes(), Path("run/result.json").read_bytes()
    assert main(["resume", "run", "--steps", "10"]) == 2
    assert "must be more" in capsys.readouterr().err
    assert (Path("run/config.json").read_bytes(), Path("run/result.json").read_bytes()) == before
    assert main(["resume", "run", "--steps", "20", "--no-evaluate"]) == 0


def test_more_steps_from_python(experiment, tmp_path):
    quiet = Settings(verbose=False)
    aejax.train(experiment(20), tmp_path / "run", quiet)
    run = aejax.resume(tmp_path / "run", experiment=experiment(30))
    assert run.step == 30
    assert run.config["extended"] == [{"from_step": 20, "from_steps": 20, "steps": 30}]
    assert "give one of them" in refusal(aejax.resume, tmp_path / "run", experiment=experiment(30), steps=40)


def test_a_warm_start_begins_with_the_parameters_of_the_other_run(experiment, tmp_path):
    quiet = Settings(verbose=False)
    first = aejax.train(experiment(20), tmp_path / "first", quiet)
    second = aejax.train(experiment(1, lr=1e-30), tmp_path / "second", quiet, start=first)
    same = jax.tree.map(np.array_equal, first.params, second.params)
    assert all(jax.tree.leaves(same))
    assert second.step == 1
    assert second.config["started_from"]["run"] == str((tmp_path / "first").resolve())
    # The first run is as it was: its parameters were copied.
    assert np.isfinite(first.encode("digits:test[:3]")).all()


def test_a_warm_start_replays_and_needs_the_same_net(capsys):
    trained("first", "--steps", "10")
    trained("second", "--steps", "10", "--start-from", "first", "--lr", "1e-4")
    assert main(["verify", "second"]) == 0
    other = [*SMALL, "--latent", "3", "--steps", "1", "--no-evaluate"]
    capsys.readouterr()
    assert main(["train", "dae", "--run", "third", *other, "--start-from", "first"]) == 2
    assert "['params']['decoder']['dense_0']['kernel'] is (4, 8), here (3, 8)" in capsys.readouterr().err
    assert not Path("third").exists()
    assert main(["train", "dae", "--run", "third", "--seeds", "2", "--start-from", "first"]) == 2
    assert main(["resume", "first", "--steps", "12", "--no-evaluate"]) == 0  # now other parameters
    assert main(["verify", "second"]) == 2
    assert "has changed" in capsys.readouterr().err


def test_codes_are_decoded_without_examples(experiment, tmp_path):
    run = aejax.train(experiment(5), tmp_path / "run", Settings(verbose=False))
    codes = run.encode("digits:test[:7]")
    np.testing.assert_array_equal(run.decode(codes), run.reconstruct("digits:test[:7]"))


def test_a_quick_evaluation_has_the_cheap_parts_only():
    trained("run", "--steps", "5")
    assert main(["evaluate", "run", "--quick"]) == 0
    numbers = json.loads(Path("run/eval.json").read_text())
    assert numbers["terms"]["denoising_nll"] > 0
    assert numbers["reconstruction"] is not None
    assert numbers["probes"] is None
    assert numbers["restoration"] is None
    assert main(["report", "run"]) == 0
