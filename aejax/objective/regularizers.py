"""Terms that depend on the codes of the whole batch: `(latents, params, key, step, axis) -> (term [], {name: value})`.

Pass them to `vae(regularizers=...)`. They concern the aggregate posterior q(z) = 1/N Σ_n q(z|x_n), of which a batch holds B
samples. Rows are gathered over devices, so a term does not depend on their number. Terms are in nats, except those of `dip` and
`mmd`. Those that need independent Gaussian dimensions (`total_correlation`, `dip`) go with the posterior `diagonal()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.collectives import gather
from aejax.described import described
from aejax.errors import UsageError, non_negative
from aejax.objective.posteriors import LOG_2PI
from aejax.types import Axis, Params, Terms


class Latents(NamedTuple):
    """What a regularizer receives for a batch of b examples.

    Example:
        >>> z = jnp.zeros((8, 2))
        >>> Latents(z, means=z, variances=jnp.ones((8, 2)), second=z, prior=z).z.shape
        (8, 2)
    """

    z: Float[Array, "b d"]
    """One draw from each posterior."""
    means: Float[Array, "b d"] | None
    """Means of the posterior; None, like the variances, unless its dimensions are independent Gaussians."""
    variances: Float[Array, "b d"] | None
    second: Float[Array, "b d"]
    """A second draw from each posterior."""
    prior: Float[Array, "b d"]
    """Draws from the prior, one per example."""


Regularizer = Callable[[Latents, Params, Key[Array, ""], Any, Axis], tuple[Array, Terms]]
"""(latents, the model's params, key, step, axis) -> (term [], {name: value})."""

Weights = Callable[[int, int], np.ndarray]
"""(training examples N, batch size B) -> log-weights [B, B]; row i weights the densities of z_i under each q(·|x_j)."""


def minibatch_weighted(n: int, b: int) -> np.ndarray:
    """Minibatch-weighted sampling: log 1/(N·B) for every pair (Chen et al. 2018, eq. 5 and S3), as published.

    It underestimates densities, by the factor N if the batch is the whole data set. Its gradients and differences are
    meaningful, the values of the parts are not.

    Args:
        n: Number N of training examples.
        b: Size B of the batch.

    Returns:
        Log-weights float32 [B, B]; row i holds the weights of the densities of z_i under each q(·|x_j).

    Example:
        >>> bool(np.allclose(np.exp(minibatch_weighted(100, 4)), 1 / 400))
        True
    """
    return np.full((b, b), -math.log(n * b), np.float32)


def minibatch_stratified(n: int, b: int) -> np.ndarray:
    """Minibatch-stratified sampling, which estimates q(z), though not its logarithm, without bias (after Chen et al. 2018, S4).

    The weight of z_i's own example is 1/N. Each of the B − 1 others stands for (N − 1)/(B − 1) examples, so its weight is
    (N − 1)/(N (B − 1)). The paper gives one of the others a different weight with the same sum, which is just as noisy.

    Args:
        n: Number N of training examples.
        b: Size B of the batch, at least 2.

    Returns:
        Log-weights float32 [B, B]; row i holds the weights of the densities of z_i under each q(·|x_j).

    Raises:
        UsageError: The batch has fewer than 2 examples.

    Example:
        >>> weights = np.exp(minibatch_stratified(100, 4))
        >>> bool(np.allclose(weights.sum(axis=1), 1.0)), round(float(weights[0, 0]), 4)
        (True, 0.01)
    """
    if b < 2:
        raise UsageError(f"minibatch_stratified() needs a batch of at least 2 examples, this one has {b}")
    weights = np.full((b, b), math.log((n - 1) / (n * (b - 1))) if n > 1 else -np.inf, np.float32)
    np.fill_diagonal(weights, -math.log(n))
    return weights


@described
def total_correlation(strength: float | jax.Array, examples: int, weights: Weights = minibatch_weighted) -> Regularizer:
    """Total correlation strength · KL(q(z) ‖ Π_j q(z_j)), estimated from the batch (Chen et al. 2018, eq. 2 and 5).

    Added to an ELBO with β = 1 it gives β-TCVAE with β = 1 + strength. It logs `mutual_information` and `dimension_kl`, which
    with the unweighted `total_correlation_nats` add up to the KL to N(0, I), whatever the model's prior is. These estimates may
    be negative.

    Args:
        strength: Weight, at least 0.
        examples: Number N of training examples.
        weights: `minibatch_weighted` or `minibatch_stratified`.

    Returns:
        A regularizer with one term for the whole batch, [].

    Raises:
        UsageError: `strength` is negative, `examples` is below 1, or the posterior is not `diagonal()`.

    Example:
        >>> z = jax.random.normal(jax.random.key(0), (8, 2))
        >>> latents = Latents(z, means=z, variances=jnp.ones((8, 2)), second=z, prior=z)
        >>> term, logged = total_correlation(5.0, examples=100)(latents, {}, None, 0, None)
        >>> sorted(logged)
        ['dimension_kl', 'mutual_information', 'total_correlation_nats']
    """
    strength = non_negative("total_correlation", "strength", strength)
    if examples < 1:
        raise UsageError(f"total_correlation(examples={examples}): the number of training examples, at least 1")

    def total_correlation(
        latents: Latents, params: Params, key: Key[Array, ""], step: Any, axis: Axis
    ) -> tuple[Array, Terms]:
        mutual, correlation, dimensions = decompose(latents, examples, weights, axis)
        logged = {"mutual_information": mutual, "total_correlation_nats": correlation, "dimension_kl": dimensions}
        return strength * correlation, logged

    return total_correlation


def decompose(latents: Latents, examples: int, weights: Weights, axis: Axis) -> tuple[Array, Array, Array]:
    """Estimates, [] each, of the three parts of E KL(q(z|x) ‖ N(0, I)) (Chen et al. 2018, eq. 2).

    They are the mutual information of x and z, the total correlation of z, and Σ_j KL(q(z_j) ‖ N(0, 1)).
    """
    means, variances = _moments("total_correlation", latents)
    z, means, variances = gather((latents.z, means, variances), axis)
    log_w = weights(examples, z.shape[0])
    # [B, B, d]: the density of z_i under each q(·|x_j), per dimension.
    difference = jnp.square(z[:, None, :] - means[None, :, :]) / variances[None, :, :]
    log_prob = -0.5 * (difference + jnp.log(variances)[None, :, :] + LOG_2PI)
    log_q_given_x = jnp.trace(jnp.sum(log_prob, axis=2)) / z.shape[0]
    log_q = jnp.mean(jax.nn.logsumexp(jnp.sum(log_prob, axis=2) + log_w, axis=1))
    log_marginals = jnp.mean(jnp.sum(jax.nn.logsumexp(log_prob + log_w[:, :, None], axis=1), axis=1))
    log_prior = -0.5 * jnp.mean(jnp.sum(jnp.square(z) + LOG_2PI, axis=1))
    return log_q_given_x - log_q, log_q - log_marginals, log_marginals - log_prior


@described
def dip(off_diagonal: float | jax.Array, diagonal: float | jax.Array, aggregate: bool) -> Regularizer:
    """DIP-VAE's penalty λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii - 1)² on the covariance of the codes (Kumar et al. 2018, eq. 6-7).

    Args:
        off_diagonal: λ_od, at least 0.
        diagonal: λ_d, at least 0. The paper uses 10 λ_od for kind I and λ_od for kind II.
        aggregate: False for DIP-VAE-I, where C is the covariance of the posterior means over the batch; True for DIP-VAE-II,
            where C is the covariance of the aggregate posterior, Cov(μ) + E[σ²].

    Returns:
        A regularizer with one term for the whole batch, [].

    Raises:
        UsageError: A weight is negative, or the posterior is not `diagonal()`.

    Example:
        >>> z = jnp.array([[1.0, 1.0], [-1.0, -1.0]])  # covariance: all ones
        >>> latents = Latents(z, means=z, variances=jnp.zeros((2, 2)), second=z, prior=z)
        >>> dip(10.0, 1.0, aggregate=False)(latents, {}, None, 0, None)[0].tolist()
        20.0
    """
    off_diagonal = non_negative("dip", "off_diagonal", off_diagonal)
    diagonal = non_negative("dip", "diagonal", diagonal)

    def dip(latents: Latents, params: Params, key: Key[Array, ""], step: Any, axis: Axis) -> tuple[Array, Terms]:
        means, variances = gather(_moments("dip", latents), axis)
        centered = means - jnp.mean(means, axis=0, keepdims=True)
        c = jnp.einsum("bi,bj->ij", centered, centered) / len(means)
        c = c + jnp.diag(jnp.mean(variances, axis=0)) if aggregate else c
        own = jnp.diagonal(c)
        crossed = jnp.sum(jnp.square(c)) - jnp.sum(jnp.square(own))
        return off_diagonal * crossed + diagonal * jnp.sum(jnp.square(own - 1.0)), {}

    return dip


@described
def mmd(strength: float | jax.Array, scale: float | None = None) -> Regularizer:
    """Squared maximum mean discrepancy strength · MMD²(q(z), p(z)) (Tolstikhin et al. 2018, Algorithm 2).

    It is a U-statistic of the batch's codes and as many draws of the prior, with the kernel C / (C + ‖z - z'‖²). Its
    expectation is 0 if the codes follow the prior, so single values may be negative. With β = 0 the objective is WAE-MMD; with
    β = 1 - α and strength α + λ - 1 it is InfoVAE (Zhao et al. 2019, eq. 6).

    Args:
        strength: Weight, at least 0.
        scale: C; by default 2d, the paper's choice for a prior of variance 1.

    Returns:
        A regularizer with one term for the whole batch, [].

    Raises:
        UsageError: `strength` is negative, `scale` is not positive, or the batch has fewer than 2 examples.

    Example:
        >>> k_z, k_prior = jax.random.split(jax.random.key(0))
        >>> z, prior = (jax.random.normal(k, (500, 2)) for k in (k_z, k_prior))
        >>> latents = Latents(z, means=None, variances=None, second=z, prior=prior)
        >>> abs(float(mmd(1.0)(latents, {}, None, 0, None)[0])) < 0.01  # both samples are of N(0, I)
        True
    """
    strength = non_negative("mmd", "strength", strength)
    if scale is not None and not scale > 0.0:
        raise UsageError(f"mmd(scale={scale}): the kernel's C must be above 0")

    def mmd(latents: Latents, params: Params, key: Key[Array, ""], step: Any, axis: Axis) -> tuple[Array, Terms]:
        d = latents.z.shape[1]
        z, prior = gather((latents.z, latents.prior), axis)
        return strength * squared_discrepancy(z, prior, 2.0 * d if scale is None else scale), {}

    return mmd


def squared_discrepancy(a: Float[Array, "n d"], b: Float[Array, "n d"], c: float) -> Float[Array, ""]:
    """The unbiased MMD² of two samples of n ≥ 2, with the inverse multiquadratic kernel C/(C + ‖·‖²)."""
    n = len(a)
    if n < 2 or len(b) != n:
        raise UsageError(f"mmd() compares two samples of one size of at least 2, these have {n} and {len(b)}")
    kernel = lambda s, t: c / (c + jnp.sum(jnp.square(s[:, None, :] - t[None, :, :]), axis=2))
    within = lambda s: (jnp.sum(kernel(s, s)) - n) / (n * (n - 1))
    return within(a) + within(b) - 2.0 * jnp.mean(kernel(a, b))


def _moments(name: str, latents: Latents) -> tuple[Array, Array]:
    """The posterior's means and variances, [b, d] each."""
    if latents.means is None or latents.variances is None:
        raise UsageError(f"{name}() needs a posterior of independent Gaussian dimensions; use diagonal()")
    return latents.means, latents.variances
