"""Logistic PCA: it descends, ends where the gradient vanishes, and finds what generated the data."""

from __future__ import annotations

import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.evaluation.linear import apply, pca, statistics
from aejax.evaluation.logistic_pca import LogisticPCA, bound_curvature, codes, cross_entropy, logistic_pca, mean

K, D = 2, 12


def truth(n=200, seed=0):
    """A model and codes of rank K."""
    rng = np.random.default_rng(seed)
    return LogisticPCA(rng.normal(size=(K, D)), 0.5 * rng.normal(size=D), ()), rng.normal(size=(n, K))


def gray(seed=0):
    """Data of no low rank, strictly within (0, 1): every minimum is at finite logits."""
    return np.random.default_rng(seed).beta(0.5, 0.5, size=(80, D)).clip(0.01, 0.99)


def binary(seed=0):
    model, z = truth(seed=seed)
    return (np.random.default_rng(seed + 1).uniform(size=(len(z), D)) < mean(model, z)).astype(float)


def entropy(p):
    return -np.sum(p * np.log(p) + (1 - p) * np.log1p(-p), axis=1)


def test_the_bound_is_above_everywhere_and_touches_at_plus_and_minus_theta():
    t = np.linspace(-30, 30, 601)
    for theta in (0.0, 1e-4, 0.5, -3.0, 25.0):
        slope = 1 / (1 + np.exp(-theta))
        curvature = bound_curvature(np.array(theta))
        bound = np.logaddexp(0, theta) + slope * (t - theta) + curvature / 2 * (t - theta) ** 2
        assert np.all(bound >= np.logaddexp(0, t) - 1e-12)
        opposite = np.logaddexp(0, theta) - 2 * slope * theta + 2 * curvature * theta**2
        np.testing.assert_allclose(opposite, np.logaddexp(0, -theta), atol=1e-12)


@pytest.mark.parametrize("x", [gray(), binary(), binary().astype(np.float32)], ids=["gray", "binary", "float32"])
@pytest.mark.parametrize("components", [1, 3])
def test_the_cross_entropy_falls_at_every_iteration_and_is_what_the_history_says(x, components):
    fit = logistic_pca(x, components, iterations=30, tolerance=0.0)
    assert len(fit.history) == 31
    assert np.all(np.diff(fit.history) < 0)
    # Codes of their own, given weights and offset, can only be better than those of the last iteration.
    own = cross_entropy(fit, codes(fit, x), x).mean()
    assert entropy(x.astype(float).clip(1e-9, 1 - 1e-9)).mean() < own < fit.history[-1] + 1e-4


def test_examples_that_are_all_alike_are_their_mean():
    x = np.full((5, D), 0.3)
    fit = logistic_pca(x, 1, tolerance=0.0)
    np.testing.assert_allclose(mean(fit, codes(fit, x)), x, atol=1e-6)


def test_logits_of_low_rank_are_recovered_from_their_means():
    """Of x = σ(ZW + b) itself the cross-entropy is least, the entropy, at these logits and no others."""
    model, z = truth()
    x = mean(model, z)
    np.testing.assert_allclose(cross_entropy(model, z, x), entropy(x))
    fit = logistic_pca(x, K, iterations=400, tolerance=1e-12)
    np.testing.assert_allclose(fit.history[-1], entropy(x).mean(), atol=1e-6)
    np.testing.assert_allclose(mean(fit, codes(fit, x)), x, atol=2e-3)
    unseen = truth(seed=0)[1][::-1] * 0.7
    x_unseen = mean(model, unseen)
    np.testing.assert_allclose(mean(fit, codes(fit, x_unseen)), x_unseen, atol=5e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_are_at_least_as_likely_as_under_the_truth(seed):
    model, z = truth(seed=seed)
    x = binary(seed)
    fit = logistic_pca(x, K, iterations=60)
    assert fit.history[-1] < cross_entropy(model, z, x).mean()


def test_the_gradient_vanishes_at_the_solution():
    x = gray()
    fit = logistic_pca(x, K, iterations=5000, tolerance=1e-14)
    z = codes(fit, x)
    residual = mean(fit, z) - x  # the derivative by the logits
    np.testing.assert_allclose(residual @ fit.weights.T, 0.0, atol=1e-6)
    np.testing.assert_allclose(residual.T @ z / len(x), 0.0, atol=1e-5)
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_codes_are_the_minimum_of_their_convex_problem(scale):
    """Also where logits are so large that Newton's step alone would not descend."""
    model, _ = truth()
    model = model._replace(weights=scale * model.weights, offset=scale * model.offset)
    x = np.concatenate([gray(), binary()[:40].clip(0.001, 0.999)])
    z = codes(model, x)
    np.testing.assert_allclose((mean(model, z) - x) @ model.weights.T / scale, 0.0, atol=1e-5)
    best = cross_entropy(model, z, x)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1.0):
        assert np.all(cross_entropy(model, z + size / scale * rng.normal(size=z.shape), x) > best)


def test_codes_of_an_example_ignore_the_others(monkeypatch):
    x = gray()
    fit = logistic_pca(x, K, iterations=20)
    together = codes(fit, x)
    np.testing.assert_allclose(codes(fit, x[3:4]), together[3:4], atol=1e-9)
    monkeypatch.setattr("aejax.evaluation.logistic_pca.ROWS", 7)
    np.testing.assert_allclose(codes(fit, x), together, atol=1e-9)
    np.testing.assert_allclose(logistic_pca(x, K, iterations=20).history, fit.history, rtol=1e-9)


def test_the_negative_has_the_negative_logits():
    x = gray()
    fit, negative = logistic_pca(x, K, iterations=50), logistic_pca(1 - x, K, iterations=50)
    np.testing.assert_allclose(negative.history, fit.history)
    np.testing.assert_allclose(mean(negative, codes(negative, 1 - x)), 1 - mean(fit, codes(fit, x)), atol=1e-6)


def test_cross_entropy_is_below_that_of_pca_on_data_seen_and_unseen():
    model, z = truth(400)
    x_train, x_test = np.split((np.random.default_rng(3).uniform(size=(400, D)) < mean(model, z)).astype(float), 2)
    fit, linear = logistic_pca(x_train, K, iterations=60), pca(statistics(x_train), K)
    for x in (x_train, x_test):
        p = apply(linear, x).clip(1e-2, 1 - 1e-2)
        of_pca = -np.sum(x * np.log(p) + (1 - x) * np.log1p(-p), axis=1)
        assert cross_entropy(fit, codes(fit, x), x).mean() < 0.95 * of_pca.mean()


def test_pixels_that_never_change_are_told_without_error_in_the_end():
    x = binary()
    x[:, 3], x[:, 5] = 0.0, 1.0
    fit = logistic_pca(x, K, iterations=200)
    p = mean(fit, codes(fit, x))
    assert np.all(p[:, 3] < 0.01)
    assert np.all(p[:, 5] > 0.99)
    assert all(np.all(np.isfinite(a)) for a in (fit.weights, fit.offset))


def test_what_it_cannot_be_of_is_refused():
    with pytest.raises(UsageError, match=r"data in \[0, 1\], but these span \[0, 255\]"):
        logistic_pca(np.array([[0, 255]], np.uint8), 1)
    with pytest.raises(UsageError, match="one component at least"):
        logistic_pca(gray(), 0)
