import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from aejax.errors import UsageError
from aejax.likelihoods import bernoulli, categorical, gaussian, gaussian_learned, squared_error

REAL = [gaussian(0.7), gaussian_learned(0.05), squared_error()]
EVERY = [bernoulli(), *REAL, categorical()]
names = [lik.name for lik in EVERY]
rng = np.random.default_rng(0)


def softplus(v):
    return np.log1p(np.exp(v))


def test_bernoulli_is_the_cross_entropy_of_its_logits():
    theta, x = rng.normal(size=(5, 4, 1)).astype("f"), rng.uniform(size=(5, 4)).astype("f")
    p = 1 / (1 + np.exp(-theta[..., 0]))
    expected = -(x * np.log(p) + (1 - x) * np.log(1 - p))
    np.testing.assert_allclose(jax.jit(bernoulli().nats)(theta, x), expected, rtol=1e-5)
    np.testing.assert_allclose(bernoulli().mean(theta), p, rtol=1e-6)


def test_bernoulli_survives_extreme_logits():
    theta = jnp.array([[1e4], [-1e4]])
    np.testing.assert_array_equal(bernoulli().nats(theta, jnp.array([1.0, 0.0])), 0.0)
    np.testing.assert_array_equal(bernoulli().nats(theta, jnp.array([0.0, 1.0])), 1e4)


def test_gaussians_are_scipys_with_every_constant():
    theta, x = rng.normal(size=(5, 4, 2)).astype("f"), rng.normal(size=(5, 4)).astype("f")
    fixed = -stats.norm(theta[..., 0], 0.7).logpdf(x)
    np.testing.assert_allclose(jax.jit(gaussian(0.7).nats)(theta[..., :1], x), fixed, rtol=1e-5)
    learned = -stats.norm(theta[..., 0], 0.05 + softplus(theta[..., 1])).logpdf(x)
    np.testing.assert_allclose(jax.jit(gaussian_learned(0.05).nats)(theta, x), learned, rtol=1e-4)


def test_squared_error_is_a_gaussian_of_variance_one_half_without_its_constant():
    theta, x = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((5, 4, 1), (5, 4)))
    constant = 0.5 * np.log(np.pi)
    np.testing.assert_allclose(
        squared_error().nats(theta, x) + constant, gaussian(np.sqrt(0.5)).nats(theta, x), rtol=1e-4, atol=1e-5
    )


def test_categorical_is_the_cross_entropy_of_a_softmax_and_its_draws_are_one_hot():
    theta, labels = rng.normal(size=(5, 4, 3, 1)).astype("f"), rng.integers(3, size=(5, 4))
    p = np.exp(theta[..., 0]) / np.exp(theta[..., 0]).sum(axis=-1, keepdims=True)
    theta, x = jnp.asarray(theta), jnp.eye(3)[labels]
    expected = -np.log(np.take_along_axis(p, labels[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(jax.jit(categorical().nats)(theta, x).sum(axis=-1), expected, rtol=1e-5)
    np.testing.assert_allclose(categorical().mean(theta), p, rtol=1e-5)
    np.testing.assert_allclose(categorical().nats(theta + 7.0, x), categorical().nats(theta, x), atol=1e-5)
    drawn = np.asarray(categorical().draw(jax.random.key(0), theta))
    categorical().check(drawn, "the draw")
    assert drawn.shape == x.shape
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_array_equal(categorical().nats(jnp.array([[1e4], [-1e4]]), jnp.array([1.0, 0.0])), 0.0)


def test_categories_that_do_not_sum_to_one_are_refused_by_name():
    categorical().check(np.array([[0.25, 0.75], [1.0, 0.0]], np.float32), "x")
    for wrong in ([[1.0, 1.0]], [[0.0, 0.0]], [[2.0, -1.0]], [[np.nan, 1.0]]):
        with pytest.raises(UsageError, match=r"categorical.*digits:train.*one-hot"):
            categorical().check(np.array(wrong), "digits:train")


@pytest.mark.parametrize("likelihood", EVERY, ids=names)
def test_draws_have_the_mean_and_the_nats_are_lowest_there(likelihood):
    theta = jnp.asarray(rng.normal(size=(3, likelihood.width)).astype("f"))
    draws = jax.vmap(likelihood.draw, (0, None))(jax.random.split(jax.random.key(0), 20_000), theta)
    np.testing.assert_allclose(jnp.mean(draws, axis=0), likelihood.mean(theta), atol=0.05)
    # The mean over draws of the nats is lower under the theta that made them than under another.
    nats = jax.vmap(likelihood.nats, (None, 0))
    here, there = (float(jnp.mean(nats(t, draws))) for t in (theta, theta + jnp.array([[0.5], [0.0], [-0.5]])))
    assert here < there


@pytest.mark.parametrize("likelihood", EVERY, ids=names)
def test_nats_are_elementwise(likelihood):
    theta = jnp.zeros((2, 3, 4, likelihood.width))
    assert likelihood.nats(theta, jnp.ones((2, 3, 4))).shape == (2, 3, 4)


def test_data_outside_the_range_is_refused_by_name():
    with pytest.raises(UsageError, match=r"bernoulli.*digits:train.*\[-3, 2\]"):
        bernoulli().check(np.array([[-3.0, 2.0]]), "digits:train")
    bernoulli().check(np.array([[0.0, 1.0]]), "digits:train")
    for likelihood in REAL:
        likelihood.check(np.array([[-3.0, 2.0]]), "x")
        with pytest.raises(UsageError, match=f"{likelihood.name}.*NaN"):
            likelihood.check(np.array([[np.nan]]), "x")


@pytest.mark.parametrize(
    "make", [lambda: gaussian(0.0), lambda: gaussian(float("nan")), lambda: gaussian_learned(-1.0)]
)
def test_impossible_scales_are_refused(make):
    with pytest.raises(UsageError):
        make()
