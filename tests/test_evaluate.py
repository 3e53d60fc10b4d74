"""The evaluation of a run: what is computed, compared with what, and what is left out where it does not apply."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.data import load, take
from aejax.evaluation import evaluate
from aejax.evaluation.baselines import compresses
from aejax.evaluation.linear import apply, pca, statistics
from aejax.evaluation.part import Context, corrupted
from aejax.evaluation.probing import probing
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.runs.run import Run
from aejax.training.settings import Settings
from aejax.training.trainer import train
from aejax.types import Dataset, Experiment


def halve(key, x, step):
    """A corruption of a user's own, which tells no moments."""
    return x / 2, jnp.ones(x.shape, bool)


def run_on(directory, train_set, test_set, steps, corrupt=None, sweep=(), latent=16):
    model = autoencoder(MLP((128,), latent), MLP((128,), train_set.shape), bernoulli(), corrupt=corrupt)
    levels = {level: masking(level) for level in sweep}
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    made = Experiment(model, optimizer, train_set, test_set, 64, steps, seed=0, sweep=levels)
    return train(made, directory, Settings(save_every=steps))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A denoising autoencoder of digits and its eval.json."""
    directory = tmp_path_factory.mktemp("evaluated") / "run"
    run = run_on(directory, *load("digits"), steps=1500, corrupt=masking(0.3), sweep=(0.0, 0.3))
    return run, evaluate(run)


def test_a_denoiser_restores_better_than_the_optimal_linear_one(evaluated):
    _, result = evaluated
    at = result["restoration"]["trained"]
    assert result["restoration"]["corruption"] == "masking(0.3)"
    assert at["model"]["mse"] < 0.8 * at["optimal_linear"]["mse"]
    assert at["optimal_linear"]["mse"] < at["pca"]["mse"] < at["input"]["mse"]
    assert at["model"]["psnr"] > at["optimal_linear"]["psnr"]
    assert at["model"]["ssim"] > at["input"]["ssim"]


def test_examples_of_many_dimensions_have_no_probe_of_raw_pixels(evaluated, monkeypatch):
    run, result = evaluated
    for module in ("probing", "baselines"):
        monkeypatch.setattr(f"aejax.evaluation.{module}.LINEAR_DIMENSIONS", 63)
    found = probing(Context(run, 0)).probes
    assert "raw" in result["probes"]
    assert not {"raw", "pca"} & found.keys()
    assert found["codes"] == result["probes"]["codes"]


def test_numbers_are_those_of_the_examples(evaluated):
    run, result = evaluated
    test = run.experiment.test
    x = take(test, np.arange(test.size))["x"]
    x_tilde = corrupted(run, run.experiment.model.data.corrupt, test)
    np.testing.assert_array_equal((x_tilde != x).reshape(359, -1).sum(axis=1) <= round(0.3 * 64), True)
    mse = np.mean((run.reconstruct(x_tilde) - x) ** 2)
    assert result["restoration"]["trained"]["model"]["mse"] == pytest.approx(mse, rel=1e-4)
    assert result["terms"]["mse"] == pytest.approx(result["reconstruction"]["model"]["mse"], rel=1e-4)
    at_zero, at_rate = result["restoration"]["sweep"]
    assert at_zero["input"]["mse"] == 0.0
    assert at_zero["optimal_linear"]["mse"] < 1e-9
    assert {k: v for k, v in at_rate.items() if k != "level"} == result["restoration"]["trained"]
    assert result["probes"]["components"] == 16
    assert min(result["probes"]["codes"].values()) > 0.85


def test_evaluating_twice_writes_the_same_file(evaluated):
    run, _ = evaluated
    before = (run.directory / "eval.json").read_bytes()
    evaluate(run)
    assert (run.directory / "eval.json").read_bytes() == before
    json.loads(before, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("size", [60, 5])
def test_pca_that_leaves_nothing_out_is_no_baseline(size):
    x = np.random.default_rng(0).uniform(size=(size, 7)).astype(np.float32)
    data = Dataset("noise:all", (7,), size, None, "", {"x": x})
    for components in range(1, 10):
        residual = np.abs(apply(pca(statistics(x), components), x) - x).max()
        assert compresses(components, data) == (residual > 1e-5), components


def test_what_does_not_apply_is_left_out(tmp_path):
    x = np.random.default_rng(0).uniform(size=(60, 7)).astype(np.float32)
    data = Dataset("noise:all", (7,), 60, None, "", {"x": x})
    run = run_on(tmp_path / "run", data, data, 5, latent=3)
    plain = evaluate(run)
    assert plain["restoration"] is None
    assert plain["probes"] is None
    assert plain["robustness"] is None
    assert plain["reconstruction"]["model"]["ssim"] is None  # not images
    model = autoencoder(MLP((128,), 3), MLP((128,), (7,)), bernoulli(), corrupt=halve)
    own = evaluate(Run(run.directory, run.config, run.experiment._replace(model=model), run.state))
    assert set(own["restoration"]["trained"]) == {"input", "model", "pca", "mean"}
    assert own["restoration"]["corruption"] == "halve"
    few = run.experiment._replace(train=data._replace(size=4, arrays={"x": x[:4]}))
    assert set(evaluate(Run(run.directory, run.config, few, run.state))["reconstruction"]) == {"model", "mean"}
