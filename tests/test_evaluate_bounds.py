"""Importance sampling of −log p(x): against a model whose likelihood is known, and streaming against all at once."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.data import open_split
from aejax.evaluation.bounds import enough, importance_nll, latent_use, unless_collapsed
from aejax.keys import evaluation_key
from aejax.runs.run import Run
from aejax.types import Experiment, Latent, Model, TrainState
from tiny import batch_of

X = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)


def run_of(log_weights, divergences=None, seed=0):
    """A run whose model has these functions alone."""
    model = Model(None, None, None, latent=Latent(log_weights, divergences))
    data = open_split(X)
    return Run(Path(), {}, Experiment(model, None, data, data, 1, 1, seed), TrainState(0, {}, {}, None))


def normal(scale):
    """log w = log p(x) + s·ε − s²/2, so that E w = p(x), with log p(x) = −‖x‖²."""

    def log_weights(params, extras, batch, key, k):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
        noise = jax.vmap(lambda key: jax.random.normal(key, (k,)))(keys)
        return -jnp.sum(jnp.square(batch["x"]), axis=1)[:, None] + scale * noise - 0.5 * scale**2

    return log_weights


def test_an_exact_posterior_needs_one_draw():
    found = importance_nll(run_of(normal(0.0)), open_split(X), draws=1)
    nll = np.sum(X**2, axis=1)
    np.testing.assert_allclose(found["nll"], nll.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["standard_error"], nll.std(ddof=1) / np.sqrt(len(X)), rtol=1e-5)
    assert found["sampling_error"] < 1e-3


@pytest.mark.parametrize("draws", [7, 120])
def test_streamed_sums_are_those_of_all_draws_at_once(draws):
    weights, data = normal(1.5), open_split(X[:50])
    found = importance_nll(run_of(weights), data, draws=draws)
    key, width = evaluation_key(0, "importance"), min(50, draws)
    batch = batch_of(X[:50])
    parts = [weights({}, {}, batch, jax.random.fold_in(key, i), width) for i in range(-(-draws // width))]
    w = np.exp(np.concatenate(parts, axis=1)[:, :draws].astype(np.float64))
    np.testing.assert_allclose(found["nll"], -np.log(w.mean(axis=1)).mean(), rtol=1e-5)
    effective = w.sum(axis=1) ** 2 / (w**2).sum(axis=1)
    np.testing.assert_allclose(found["effective_draws"], np.median(effective), rtol=1e-4)
    np.testing.assert_allclose(found["sampling_error"], np.sqrt((1 / effective - 1 / draws).sum()) / 50, rtol=1e-3)


@pytest.mark.parametrize(("scale", "collapsed"), [(1.0, False), (8.0, True)])
def test_an_estimate_that_rests_on_a_few_draws_is_withheld(scale, collapsed):
    found = unless_collapsed(importance_nll(run_of(normal(scale)), open_split(X), draws=1000))
    assert (found["effective_draws"] < enough(1000)) == collapsed
    assert (found["nll"] is None) == collapsed
    # A few draws are not meant as an estimate: with them it is the bound of so many draws.
    assert unless_collapsed(importance_nll(run_of(normal(scale)), open_split(X), draws=5))["nll"] is not None


def test_the_sampling_error_is_what_repetition_shows():
    data, found = open_split(X[:20]), []
    for seed in range(30):
        found.append(importance_nll(run_of(normal(1.0), seed=seed), data, draws=200))
    spread, told = np.std([f["nll"] for f in found], ddof=1), np.mean([f["sampling_error"] for f in found])
    assert 0.6 < told / spread < 1.7
    # and the mean is an upper bound: log is concave
    assert np.mean([f["nll"] for f in found]) > np.sum(X[:20] ** 2, axis=1).mean() - 2 * spread / np.sqrt(30)


def test_dimensions_that_ignore_x_are_not_active():
    rates = lambda params, extras, batch, key: jnp.stack([batch["x"][:, 0] ** 2, jnp.zeros(len(batch["x"]))], axis=1)
    found = latent_use(run_of(None, rates), open_split(X), np.stack([X[:, 0], 0.01 * X[:, 1]], axis=1))
    assert (found["units"], found["active_units"]) == (2, 1)
    np.testing.assert_allclose(found["divergences"], [np.mean(X[:, 0] ** 2), 0.0], rtol=1e-5)
