from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from aejax.errors import UsageError
from aejax.objective.discretized import discretized_logistic, discretized_logistic_mixture
from aejax.objective.likelihoods import (
    bernoulli,
    categorical,
    continuous_bernoulli,
    gaussian,
    gaussian_learned,
    squared_error,
)

REAL = [gaussian(0.7), gaussian_learned(0.05), squared_error()]
GRAY = [discretized_logistic(), discretized_logistic_mixture(2)]
EVERY = [bernoulli(), *REAL, categorical(), continuous_bernoulli(), *GRAY]
names = [lik.name for lik in EVERY]
rng = np.random.default_rng(0)


def softplus(v):
    return np.log1p(np.exp(v))


def test_bernoulli_is_the_cross_entropy_of_its_logits():
    theta, x = jnp.asarray(rng.normal(size=(5, 4, 1)), "f"), rng.uniform(size=(5, 4)).astype("f")
    p = 1 / (1 + np.exp(-np.asarray(theta[..., 0])))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    np.testing.assert_allclose(jax.jit(bernoulli().neg_log_prob)(theta, x), expected, rtol=1e-5)
    np.testing.assert_allclose(bernoulli().mean(theta), p, rtol=1e-6)


def test_bernoulli_survives_extreme_logits():
    theta = jnp.array([[1e4], [-1e4]])
    np.testing.assert_array_equal(bernoulli().neg_log_prob(theta, jnp.array([1.0, 0.0])), 0.0)
    np.testing.assert_array_equal(bernoulli().neg_log_prob(theta, jnp.array([0.0, 1.0])), 1e4)


def test_gaussians_are_scipys_with_every_constant():
    theta, x = rng.normal(size=(5, 4, 2)).astype("f"), rng.normal(size=(5, 4)).astype("f")
    fixed = -stats.norm(theta[..., 0], 0.7).logpdf(x)
    np.testing.assert_allclose(jax.jit(gaussian(0.7).neg_log_prob)(theta[..., :1], x), fixed, rtol=1e-5)
    learned = -stats.norm(theta[..., 0], 0.05 + softplus(theta[..., 1])).logpdf(x)
    np.testing.assert_allclose(jax.jit(gaussian_learned(0.05).neg_log_prob)(theta, x), learned, rtol=1e-4)


def test_squared_error_is_a_gaussian_of_variance_one_half_without_its_constant():
    theta, x = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 4, 1), (5, 4)))
    constant = 0.5 * np.log(np.pi)
    np.testing.assert_allclose(
        squared_error().neg_log_prob(theta, x) + constant,
        gaussian(np.sqrt(0.5)).neg_log_prob(theta, x),
        rtol=1e-4,
        atol=1e-5,
    )


def test_categorical_is_the_cross_entropy_of_a_softmax_and_its_draws_are_one_hot():
    theta, labels = rng.normal(size=(5, 4, 3, 1)).astype("f"), rng.integers(3, size=(5, 4))
    p = np.exp(theta[..., 0]) / np.exp(theta[..., 0]).sum(axis=-1, keepdims=True)
    theta, x = jnp.asarray(theta), jnp.eye(3)[labels]
    expected = -np.log(np.take_along_axis(p, labels[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(jax.jit(categorical().neg_log_prob)(theta, x).sum(axis=-1), expected, rtol=1e-5)
    np.testing.assert_allclose(categorical().mean(theta), p, rtol=1e-5)
    np.testing.assert_allclose(
        categorical().neg_log_prob(theta + 7.0, x), categorical().neg_log_prob(theta, x), atol=1e-5
    )
    drawn = np.asarray(categorical().draw(jax.random.key(0), theta))
    categorical().check(drawn, "the draw")
    assert drawn.shape == x.shape
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_array_equal(categorical().neg_log_prob(jnp.array([[1e4], [-1e4]]), jnp.array([1.0, 0.0])), 0.0)


def test_categories_that_do_not_sum_to_one_are_refused_by_name():
    categorical().check(np.array([[0.25, 0.75], [1.0, 0.0]], np.float32), "x")
    for wrong in ([[1.0, 1.0]], [[0.0, 0.0]], [[2.0, -1.0]], [[np.nan, 1.0]]):
        with pytest.raises(UsageError, match=r"categorical.*digits:train.*one-hot"):
            categorical().check(np.array(wrong), "digits:train")


@pytest.mark.parametrize("likelihood", EVERY[:-1], ids=names[:-1])  # those of the mixture are counted below
def test_draws_have_the_mean_and_the_nats_are_lowest_there(likelihood):
    theta = jnp.asarray(rng.normal(size=(3, likelihood.width)).astype("f"))
    draws = jax.jit(jax.vmap(likelihood.draw, (0, None)))(jax.random.split(jax.random.key(0), 20_000), theta)
    np.testing.assert_allclose(jnp.mean(draws, axis=0), likelihood.mean(theta), atol=0.05)
    # The mean over draws of the nats is lower under the theta that made them than under another.
    nats = jax.jit(jax.vmap(likelihood.neg_log_prob, (None, 0)))
    here, there = (float(jnp.mean(nats(t, draws))) for t in (theta, theta + jnp.array([[0.5], [0.0], [-0.5]])))
    assert here < there


@pytest.mark.parametrize("likelihood", EVERY, ids=names)
def test_nats_are_elementwise(likelihood):
    theta = jnp.zeros((2, 3, 4, likelihood.width))
    assert jax.eval_shape(likelihood.neg_log_prob, theta, jnp.ones((2, 3, 4))).shape == (2, 3, 4)


def grid(levels):
    return np.linspace(0, 1, levels, dtype=np.float32)


@partial(jax.jit, static_argnums=(0, 2))
def masses(nats, theta, levels):
    """Of every level for rows of theta [n, width]: [n, levels]."""
    x = jnp.broadcast_to(grid(levels), (len(theta), levels))
    return jnp.exp(-nats(jnp.broadcast_to(theta[:, None], (*x.shape, theta.shape[1])), x))


def scale(rho, levels):
    """s = exp ρ within smooth bounds."""
    low = -7 - np.log((levels - 1) / 255)
    return np.exp(7 - np.logaddexp(0, 7 - low - np.logaddexp(0, rho - low)))


# m and ρ: within, at the ends and beyond, from thinner than a level to flat, and beyond both bounds.
SPREAD = np.array([[0.1, -1], [0.1, -6], [-1, -4], [1, 0], [3, -3], [-40, -7], [0, 5], [0.5, -1e4], [-0.5, 1e4]], "f")


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_masses_of_the_levels_are_those_of_the_logistic_and_sum_to_one(levels):
    edges = np.concatenate([[-np.inf], 2 * (np.arange(levels - 1) + 0.5) / (levels - 1) - 1, [np.inf]])
    m, rho = SPREAD.astype(np.float64).T
    expected = np.diff(stats.logistic(m[:, None], scale(rho, levels)[:, None]).cdf(edges))
    found = masses(discretized_logistic(levels).neg_log_prob, SPREAD, levels)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)
    mixed = masses(discretized_logistic_mixture(3, levels).neg_log_prob, rng.normal(size=(4, 9)).astype("f"), levels)
    for each in (found, mixed):
        np.testing.assert_allclose(np.sum(each, axis=1), 1.0, rtol=1e-4)


def test_fine_levels_are_the_density_of_the_logistic():
    levels = 2**16
    x = grid(levels)[[5, 20_000, 40_001, 60_000, 100]]
    theta = np.array([[0.3, -2.0], [0.3, -2.0], [-0.2, -4.0], [0.9, -3.0], [0.5, 4.0]], "f")
    density = stats.logistic(theta[:, 0], scale(theta[:, 1], levels)).logpdf(2 * x.astype(np.float64) - 1) + np.log(2)
    nats = jax.jit(discretized_logistic(levels).neg_log_prob)(theta, x) - np.log(levels - 1)
    np.testing.assert_allclose(nats, -density, rtol=1e-4, atol=1e-4)
    assert np.abs(np.log(scale(theta[:4, 1], levels)) - theta[:4, 1]).max() < 1e-2  # the bounds are far


@pytest.mark.parametrize("likelihood", GRAY, ids=[lik.name for lik in GRAY])
def test_nothing_of_the_logistic_overflows(likelihood):
    of = {2: [0, 1], 6: [0, 0, 0, 0, 1, 1]}[likelihood.width]  # which of m and ρ; the logits are as m
    values = jnp.array([-1e30, -1e6, -40, -7.5, -0.3, 0, 0.3, 7.5, 40, 1e6, 1e30])
    pairs = jnp.stack([part.ravel() for part in jnp.meshgrid(values, values)], axis=1)

    def f(t, x):
        nats, mean = likelihood.neg_log_prob(t, x), likelihood.mean(t)
        return nats + mean, (nats, mean)

    every = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(f, has_aux=True), (0, None)), (None, 0)))
    (_, (nats, mean)), slopes = every(pairs[:, jnp.asarray(of)], jnp.array([0.0, 1 / 255, 0.4, 1.0]))
    assert np.all(np.isfinite(nats))
    assert np.all(np.isfinite(slopes))
    assert np.all(nats >= 0)
    assert np.all((mean >= 0) & (mean <= 1))


def test_the_gradient_of_the_logistic_is_the_difference_of_the_masses():
    def nats(m, rho, x):  # in double precision
        low = np.where(x == 0, -np.inf, 2 * x - 1 - 1 / 255)
        high = np.where(x == 1, np.inf, 2 * x - 1 + 1 / 255)
        mirrored = 2 * x - 1 > m  # a difference of small numbers
        low, high = np.where(mirrored, [2 * m - high, 2 * m - low], [low, high])
        law = stats.logistic(m, scale(rho, 256))
        return -np.log(law.cdf(high) - law.cdf(low))

    m, rho, x = (part.ravel() for part in np.meshgrid([-0.9, 0.1, 0.6], [-3.0, -2.0, 1.0], [0.0, 128 / 255, 1.0]))
    e = 1e-5
    expected = np.array([nats(m + e, rho, x) - nats(m - e, rho, x), nats(m, rho + e, x) - nats(m, rho - e, x)]) / (
        2 * e
    )
    theta = jnp.asarray(np.stack([m, rho], axis=1), jnp.float32)
    found = jax.jit(jax.vmap(jax.grad(discretized_logistic().neg_log_prob)))(theta, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found.T, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [8, 256])
def test_means_of_gray_levels_are_near_the_exact_ones(levels):
    likelihood = discretized_logistic(levels)
    exact = np.asarray(masses(likelihood.neg_log_prob, SPREAD, levels)) @ grid(levels)
    wide = scale(SPREAD[:, 1], levels) >= 2 / (levels - 1)
    assert np.any(wide)
    assert not np.all(wide)
    away = np.abs(np.asarray(jax.jit(likelihood.mean)(SPREAD)) - exact) * (levels - 1)
    assert np.all(away < np.where(wide, 0.0105, 0.5) + 1e-4 * levels)  # but for rounding
    slopes = jax.jit(jax.vmap(jax.grad(likelihood.mean)))(np.array([[0.0, -1.0], [1e-3, -1.0], [-1e-3, -1.0]], "f"))
    np.testing.assert_allclose(slopes[1:, 0], slopes[0, 0], rtol=1e-4)  # black is to white as white is to black


@pytest.mark.parametrize("likelihood", [discretized_logistic(5), discretized_logistic_mixture(3, 5)])
def test_gray_levels_are_drawn_as_often_as_their_mass_says(likelihood):
    theta, n = rng.normal(size=(1, likelihood.width)).astype("f"), 20_000
    drawn = np.asarray(jax.jit(likelihood.draw)(jax.random.key(0), np.tile(theta, (n, 1))))
    likelihood.check(drawn, "the draw")
    counts = np.bincount(np.round(4 * drawn).astype(int), minlength=5)
    expected = np.asarray(masses(likelihood.neg_log_prob, theta, 5)[0], np.float64)
    assert stats.chisquare(counts, n * expected / expected.sum()).pvalue > 1e-3


def test_a_mixture_of_one_or_of_equals_is_the_logistic():
    theta, x = rng.normal(size=(40, 2)).astype("f"), rng.choice(grid(256), size=40)
    both = lambda likelihood: jax.jit(
        lambda theta: (likelihood.neg_log_prob(theta, jnp.asarray(x)), likelihood.mean(theta))
    )
    for k in (1, 3):
        alike = np.concatenate([rng.normal(size=(40, k)).astype("f"), np.repeat(theta, k, axis=1)], axis=1)
        mixed, plain = both(discretized_logistic_mixture(k))(alike), both(discretized_logistic())(theta)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), mixed, plain)


LOGITS = np.array([-200, -60, -8, -1.001, -0.999, -0.1, -1e-3, -1e-6, 0, 1e-6, 1e-3, 0.1, 0.999, 1.001, 8, 60, 200])


def test_the_continuous_bernoulli_is_its_quadrature():
    likelihood, eta = continuous_bernoulli(), jnp.asarray(LOGITS, jnp.float32)[:, None]

    def integral(f, a):  # of f exp(a t - max(a, 0)), where the exponential is not small
        low, high = (max(0.0, 1 - 80 / a) if a > 0 else 0.0), (min(1.0, -80 / a) if a < 0 else 1.0)
        return integrate.quad(lambda t: f(t) * np.exp(a * t - max(a, 0)), low, high, epsabs=0, epsrel=1e-12)[0]

    exact = LOGITS.astype(np.float32).astype(np.float64)
    total = np.array([integral(lambda t: 1.0, a) for a in exact])
    mean = np.array([integral(lambda t: t, a) for a in exact]) / total
    variance = np.array([integral(lambda t, m=m: (t - m) ** 2, a) for a, m in zip(exact, mean)]) / total
    for_each = jax.vmap(jax.vmap(jax.value_and_grad(likelihood.neg_log_prob), (0, None)), (None, 0))
    x = np.array([0.0, 0.3, 0.5, 1.0])
    nats, slope = jax.jit(for_each)(eta, jnp.asarray(x, jnp.float32))
    expected = -exact * x[:, None] + np.maximum(exact, 0) + np.log(total)
    np.testing.assert_allclose(nats, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slope[..., 0], mean - x[:, None], rtol=2e-6, atol=3e-7)
    means, spread = jax.jit(jax.vmap(jax.value_and_grad(likelihood.mean)))(eta)
    np.testing.assert_allclose(means, mean, rtol=2e-6)
    np.testing.assert_allclose(spread[:, 0], variance, rtol=1e-4)
    # At even odds the cross-entropy is that of a coin, the density that of a uniform number.
    np.testing.assert_array_equal(nats[:, LOGITS == 0], 0.0)


def test_the_continuous_bernoulli_survives_extreme_logits():
    likelihood, eta = continuous_bernoulli(), np.array([[1e30], [1e10], [-1e10], [-1e30]], "f")
    nats = jax.jit(likelihood.neg_log_prob)(eta, np.array([1, 1, 0, 0], "f"))
    np.testing.assert_allclose(nats, -np.log(np.abs(eta[:, 0])), rtol=1e-6)
    f = lambda t: jnp.stack([likelihood.mean(t), likelihood.neg_log_prob(t, jnp.float32(0.5))])
    found, slopes = jax.jit(jax.vmap(lambda t: (f(t), jax.jacrev(f)(t))))(eta)
    np.testing.assert_allclose(found[:, 0], [1.0, 1, 0, 0], atol=1e-9)
    assert np.all(np.isfinite(slopes))


def test_draws_of_the_continuous_bernoulli_follow_its_distribution_function():
    likelihood, n = continuous_bernoulli(), 10_000
    logits = np.array([-1e3, -9.0, -0.5, 0.0, 1e-7, 0.5, 9.0, 1e3])
    theta = np.tile(logits.astype("f")[:, None, None], (1, n, 1))
    draws = jax.jit(jax.vmap(likelihood.draw))(jax.random.split(jax.random.key(0), len(logits)), theta)
    likelihood.check(np.asarray(draws), "the draw")
    for a, drawn in zip(logits, np.asarray(draws, np.float64)):
        below = drawn if a < 0 else 1 - drawn  # of -|a|
        uniform = below if abs(a) < 1e-6 else np.expm1(-abs(a) * below) / np.expm1(-abs(a))
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_bits_per_dimension_are_of_discrete_data_alone():
    gray, bits, one_hot = (np.array(x, np.float32) for x in ([[0.2, 1, 0]], [[0, 1, 1]], [[[0, 1, 0], [1, 0, 0]]]))
    assert [bernoulli().num_discrete_dims(x) for x in (gray, bits, one_hot)] == [None, 3, 6]
    assert [categorical().num_discrete_dims(x) for x in (gray, one_hot)] == [None, 2]
    assert all(likelihood.num_discrete_dims(one_hot) == 6 for likelihood in GRAY)
    assert all(likelihood.num_discrete_dims is None for likelihood in [*REAL, continuous_bernoulli()])


def test_data_outside_the_range_is_refused_by_name():
    with pytest.raises(UsageError, match=r"bernoulli.*digits:train.*\[-3, 2\]"):
        bernoulli().check(np.array([[-3.0, 2.0]]), "digits:train")
    bernoulli().check(np.array([[0.0, 1.0]]), "digits:train")
    with pytest.raises(UsageError, match=r"continuous_bernoulli.*\[0, 0\], with missing values"):
        continuous_bernoulli().check(np.array([[0.0, np.nan]]), "x")
    for likelihood in (discretized_logistic(4), discretized_logistic_mixture(2, 4)):
        likelihood.check(grid(4)[None], "x")
        for wrong in (0.5, 4 / 3, -1 / 3, np.nan):
            with pytest.raises(UsageError, match=f"{likelihood.name}.levels=4.*k/3.*digits:train holds.*levels"):
                likelihood.check(np.array([[0.0, wrong]]), "digits:train")
    discretized_logistic().check(np.arange(256, dtype=np.uint8)[None] / np.float32(255), "x")
    for likelihood in REAL:
        likelihood.check(np.array([[-3.0, 2.0]]), "x")
        with pytest.raises(UsageError, match=f"{likelihood.name}.*NaN"):
            likelihood.check(np.array([[np.nan]]), "x")


@pytest.mark.parametrize(
    "make",
    [
        lambda: gaussian(0.0),
        lambda: gaussian(float("nan")),
        lambda: gaussian_learned(-1.0),
        lambda: discretized_logistic(1),
        lambda: discretized_logistic_mixture(2, 2**17),
        lambda: discretized_logistic_mixture(0),
    ],
)
def test_impossible_numbers_are_refused(make):
    with pytest.raises(UsageError):
        make()
