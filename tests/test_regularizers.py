"""Terms of the aggregate posterior: against closed forms of linear-Gaussian encoders, brute force, and the prior itself."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.models import vae
from aejax.nets import MLP
from aejax.objective.likelihoods import bernoulli
from aejax.objective.regularizers import (
    Latents,
    decompose,
    dip,
    minibatch_stratified,
    minibatch_weighted,
    mmd,
    squared_discrepancy,
    total_correlation,
)
from tiny import batch_of

D, K = 5, 3


def latents(means, variances, z):
    rng = np.random.default_rng(9)
    second, prior = means + np.sqrt(variances) * rng.normal(size=means.shape), rng.normal(size=means.shape)
    return Latents(*(jnp.float32(part) for part in (z, means, variances, second, prior)))


def codes(n, seed=0):
    """Means, variances and draws [n, K] of a linear-Gaussian encoder whose dimensions depend on one another."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(K, K))
    means = rng.normal(size=(n, K)) @ w
    variances = np.tile([0.3, 0.5, 0.8], (n, 1))
    return means, variances, means + np.sqrt(variances) * rng.normal(size=(n, K)), w


def test_the_three_parts_are_those_of_a_linear_gaussian_encoder():
    means, variances, z, w = codes(3000)
    found = [float(v) for v in decompose(latents(means, variances, z), 3000, minibatch_stratified, None)]
    q, total = np.diag(variances[0]), w.T @ w + np.diag(variances[0])
    mutual = 0.5 * (np.linalg.slogdet(total)[1] - np.linalg.slogdet(q)[1])
    correlation = 0.5 * (np.log(np.diag(total)).sum() - np.linalg.slogdet(total)[1])
    dimensions = 0.5 * (np.diag(total) - np.log(np.diag(total)) - 1.0).sum()
    np.testing.assert_allclose(found, [mutual, correlation, dimensions], atol=0.15)
    kl = 0.5 * (np.trace(total) - np.log(variances[0]).sum() - K)
    np.testing.assert_allclose(mutual + correlation + dimensions, kl, rtol=1e-9)
    np.testing.assert_allclose(sum(found), kl, atol=0.2)


@pytest.mark.parametrize(("weights", "total"), [(minibatch_weighted, 1 / 40), (minibatch_stratified, 1.0)])
def test_the_whole_data_as_a_batch_are_the_mixture_written_out(weights, total):
    """With B = N all examples weigh the same; the published weights of the first kind sum to 1/N."""
    means, variances, z, _ = codes(40)
    np.testing.assert_allclose(np.exp(weights(40, 40)).sum(axis=1), total, rtol=1e-5)
    nats = -0.5 * ((z[:, None] - means) ** 2 / variances + np.log(2 * np.pi * variances))
    log_q = np.log(total * np.exp(nats.sum(axis=2)).mean(axis=1)).mean()
    log_marginals = np.log(total * np.exp(nats).mean(axis=1)).sum(axis=1).mean()
    log_prior = -0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1).mean()
    expected = [np.einsum("iik->i", nats).mean() - log_q, log_q - log_marginals, log_marginals - log_prior]
    np.testing.assert_allclose(decompose(latents(means, variances, z), 40, weights, None), expected, rtol=1e-4)


def test_stratified_weights_estimate_the_mixture_without_bias():
    """Mean over batches of one example and all choices of the others = q(z), over the data."""
    rng = np.random.default_rng(0)
    n, b = 6, 3
    density = rng.uniform(size=n)  # q(z_0|x_j), of one z
    found = []
    for others in combinations(range(1, n), b - 1):
        w = np.exp(minibatch_stratified(n, b)[0])
        found.append(w @ density[[0, *others]])
    np.testing.assert_allclose(np.mean(found), density.mean(), rtol=1e-6)
    assert np.diag(minibatch_stratified(n, b)) == pytest.approx(-np.log(n))


@pytest.mark.parametrize("aggregate", [False, True])
def test_dip_is_its_formula_and_zero_at_the_identity(aggregate):
    means, variances, z, _ = codes(50)
    term, _ = dip(2.0, 3.0, aggregate)(latents(means, variances, z), {}, jax.random.key(0), 0, None)
    c = np.cov(means.T, bias=True) + (np.diag(variances.mean(axis=0)) if aggregate else 0.0)
    expected = 2.0 * (c**2).sum() - 2.0 * (np.diag(c) ** 2).sum() + 3.0 * ((np.diag(c) - 1) ** 2).sum()
    np.testing.assert_allclose(term, expected, rtol=1e-4)


def test_the_discrepancy_is_zero_on_the_prior_and_positive_elsewhere():
    draw = lambda seed, shift=0.0: jax.random.normal(jax.random.key(seed), (400, 32, K)) + shift
    f = jax.jit(jax.vmap(partial(squared_discrepancy, c=2.0 * K)))
    same = np.asarray(f(draw(0), draw(1)))
    assert abs(same.mean()) < 4 * same.std() / np.sqrt(len(same))
    assert same.min() < 0
    assert np.asarray(f(draw(0), draw(1, 1.0))).mean() > 20 * same.std() / np.sqrt(len(same))


def test_info_vae_without_weights_is_the_vae():
    """α = 0, λ = 1: β = 1 and no discrepancy (Zhao et al. 2019)."""
    make = lambda **more: vae(MLP((4,), 2 * K), MLP((4,), (D,)), bernoulli(), K, (D,), **more)
    x = jnp.float32(np.random.default_rng(0).uniform(size=(8, D)))
    seen = batch_of(x)
    params, _ = jax.jit(make().init)(jax.random.key(0), seen)
    loss = lambda model: jax.jit(model.loss, static_argnums=5)(params, {}, seen, jax.random.key(1), 0, None)[0]
    np.testing.assert_allclose(loss(make(regularizers=(mmd(0.0),))), loss(make()), rtol=1e-6)
    assert float(loss(make(beta=0.5, regularizers=(mmd(10.0),)))) != float(loss(make(beta=0.5)))


@pytest.mark.parametrize(
    "regularizer",
    [total_correlation(2.0, 1000), total_correlation(2.0, 1000, minibatch_stratified), dip(1.0, 2.0, True), mmd(5.0)],
)
def test_devices_share_one_batch(regularizer):
    """The term and its gradient, averaged over devices as the step does it, are those of one device."""
    means, variances, z, _ = codes(8)
    whole = latents(means, variances, z)
    key = jax.random.key(3)

    def term(of, axis):
        return regularizer(of, {}, key, 0, axis)[0]

    one, slope = jax.value_and_grad(term)(whole, None)
    split = jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), whole)
    many, slopes = jax.vmap(jax.value_and_grad(partial(term, axis="batch")), axis_name="batch")(split)
    np.testing.assert_allclose(many, np.full(4, one), rtol=1e-5, atol=1e-6)
    # vmap transposes a gather into a sum over devices; the step averages.
    for ours, theirs in zip(slope, slopes):
        np.testing.assert_allclose(theirs.reshape(ours.shape) / 4, ours, rtol=1e-4, atol=1e-5)


def test_other_posteriors_and_numbers_are_refused():
    seen = latents(*codes(4)[:3])._replace(means=None, variances=None)
    for regularizer in (total_correlation(1.0, 10), dip(1.0, 1.0, False)):
        with pytest.raises(UsageError, match=r"use diagonal\(\)"):
            regularizer(seen, {}, jax.random.key(0), 0, None)
    with pytest.raises(UsageError, match="at least 0"):
        mmd(-1.0)
    with pytest.raises(UsageError, match="at least 2"):
        minibatch_stratified(10, 1)
