"""Samplers after training: fitted to codes, and rejecting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.keys import each
from aejax.runs.run import Run
from aejax.samplers import Mixture, draw, gaussian_mixture, sample_accepted, sample_fitted
from aejax.types import DataContract, Dataset, Experiment, Model, TrainState

MEANS = np.array([[-4.0, 0.0], [0.0, 5.0], [6.0, -3.0]])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def keys(n):
    return each(jax.random.key(0), jnp.arange(n))


def linear_run(tmp_path, encode=None, data=True):
    """x = (code, label): its decoder writes the label that it is shown beside the code."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((90, 3)) * [1.0, 0.1, 0.0] + [3.0, 0.0, 0.0]).astype(np.float32)
    arrays = {"x": x, "label": (np.arange(90) % 4).astype(np.int32)}
    train = Dataset("codes:train", (3,), 90, ("a", "b", "c", "d"), "", arrays if data else None)
    model = Model(
        init=lambda key, batch: ({}, {}),
        loss=lambda *given: None,
        evaluate=lambda *given: {},
        encode=encode or (lambda params, extras, batch, key: batch["x"][:, :2]),
        decode=lambda params, extras, z, batch: jnp.concatenate([z, batch["label"][:, None].astype(z.dtype)], axis=1),
    )
    state = TrainState(np.int32(0), {}, {}, ())
    return Run(tmp_path, {}, Experiment(model, optax.sgd(0.1), train, train, 10, 1, 0), state)


def test_a_mixture_is_recovered_from_its_codes():
    rng = np.random.default_rng(0)
    which = rng.choice(3, 4000, p=WEIGHTS)
    codes = (MEANS[which] + rng.standard_normal((4000, 2)) * [0.5, 1.0]).astype(np.float32)
    found = gaussian_mixture(codes, 3)
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.means[order], MEANS, atol=0.12)
    np.testing.assert_allclose(found.weights[order], WEIGHTS, atol=0.02)
    for factor in found.factors:
        np.testing.assert_allclose(factor @ factor.T, np.diag([0.25, 1.0]), atol=0.1)


def test_one_component_is_the_codes_mean_and_covariance_and_so_are_its_draws():
    rng = np.random.default_rng(1)
    # Small, and far from the origin: neither may matter.
    codes = 1e-4 * (rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3)) + 7.0)
    found = gaussian_mixture(codes, 1)
    covariance = np.cov(codes.T, bias=True)
    np.testing.assert_allclose(found.means[0], codes.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.factors[0] @ found.factors[0].T, covariance, atol=1e-5 * np.trace(covariance))
    drawn = np.asarray(draw(found, keys(20_000)), np.float64)
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(axis=0), codes.mean(axis=0), atol=0.03 * deviation.max())
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05 * np.trace(covariance))


def test_draws_choose_components_by_their_weights():
    spread = np.tile(1e-3 * np.eye(2), (3, 1, 1))
    drawn = np.asarray(draw(Mixture(WEIGHTS, MEANS, spread), keys(6000)))
    nearest = np.argmin(np.linalg.norm(drawn[:, None] - MEANS[None], axis=-1), axis=1)
    np.testing.assert_allclose(np.bincount(nearest) / 6000, WEIGHTS, atol=0.025)
    assert np.abs(drawn - MEANS[nearest]).max() < 0.01


def test_the_first_ten_of_a_hundred_and_fifty_are_the_ten(tmp_path):
    run = linear_run(tmp_path)
    many, few = sample_fitted(run, 2, 150, seed=3), sample_fitted(run, 2, 10, seed=3)
    assert many.shape == (150, 3)
    assert np.array_equal(many[:10], few)
    assert len(np.unique(many[:, 0])) == 150  # more than one batch, and none is repeated
    assert not np.isin(sample_fitted(run, 2, 10, seed=4)[:, 0], many[:, 0]).any()
    assert abs(many[:, 0].mean() - 3.0) < 0.3
    # Labels go with the positions of the training split, round and round.
    assert np.array_equal(many[:, 2], (np.arange(150) % 90) % 4)


def test_what_cannot_be_fitted_is_refused_in_one_line(tmp_path):
    codes = np.random.default_rng(0).standard_normal((5, 2))
    for wrong, told in (
        (lambda: gaussian_mixture(codes, 6), "5 codes are too few"),
        (lambda: gaussian_mixture(codes, 0), "at least 1"),
        (lambda: gaussian_mixture(codes[:, :, None], 2), "vector codes"),
        (lambda: gaussian_mixture(codes.astype(np.int32), 2), "vector codes"),
        (lambda: gaussian_mixture(np.full((5, 2), np.nan), 2), "not finite"),
        (lambda: sample_fitted(linear_run(tmp_path, data=False), 2, 4), "without its data"),
    ):
        with pytest.raises(UsageError, match=told):
            wrong()
    without = linear_run(tmp_path)
    without.experiment = without.experiment._replace(model=without.experiment.model._replace(decode=None))
    with pytest.raises(UsageError, match="no `decode`"):
        sample_fitted(without, 2, 4)


def noisy(tmp_path, sample=None, evaluate=None, condition=None):
    """A run of one number a datum, of labels 0 and 1."""
    train = Dataset("numbers:train", (1,), 2, ("0", "1"), "", None)
    model = Model(None, None, evaluate, sample=sample, data=DataContract(condition=condition))
    state = TrainState(jnp.int32(0), {}, {}, ())
    return Run(tmp_path, {}, Experiment(model, optax.sgd(1.0), train, train, 2, 1, 0), state)


def test_a_classifier_accepts_what_it_is_surest_of(tmp_path):
    """x = label + noise; the classifier's log-odds of label 1 are x − ½."""

    def sample(params, extras, batch, key):
        noise = jax.vmap(jax.random.normal)(each(key, batch["index"]))
        return (batch["label"].astype(jnp.float32) + noise)[:, None]

    def evaluate(params, extras, batch, key):
        odds = jnp.where(batch["label"] == 1, 1.0, -1.0) * (batch["x"][:, 0] - 0.5)
        return {"nll": jax.nn.softplus(-odds), "error": (odds < 0.0).astype(jnp.float32)}

    run = noisy(tmp_path, sample, condition=lambda batch: batch["label"])
    classifier = noisy(tmp_path, evaluate=evaluate)
    drawn = run.sample(4_000, seed=5, label=0)
    found, share = sample_accepted(run, classifier, 0, 1_000, seed=5, keep=0.25)
    np.testing.assert_allclose(share, np.mean(drawn < 0.5))
    np.testing.assert_array_equal(found, drawn[drawn[:, 0] <= np.sort(drawn[:, 0])[999]])
    everything, _ = sample_accepted(run, classifier, 0, 4_000, seed=5, keep=1.0)
    np.testing.assert_array_equal(everything, drawn)
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        sample_accepted(run, classifier, 0, 10, keep=0.0)
    with pytest.raises(UsageError, match="is no classifier's run"):
        sample_accepted(run, noisy(tmp_path, evaluate=lambda p, e, b, k: {"nll": b["x"][:, 0]}), 0, 10)
