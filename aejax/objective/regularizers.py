"""Terms of the whole batch's codes: `(latents, params, key, step, axis) -> (term [], {name: value})`, for `vae(regularizers=)`.

They look at the aggregate posterior q(z) = 1/N Σ_n q(z|x_n), of which a batch shows B codes: rows are gathered over devices, so
a term is the same on any number of them. Terms are in nats but for the moments' and the discrepancy's. Where the posterior's
dimensions must be independent Gaussians (`total_correlation`, `dip`), use `diagonal()`.
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
from aejax.errors import UsageError, non_negative
from aejax.objective.posteriors import LOG_2PI
from aejax.types import Axis, Params, Terms


class Latents(NamedTuple):
    """What a regularizer sees of a batch of b examples."""

    z: Float[Array, "b d"]
    """A draw of each example's posterior."""
    means: Float[Array, "b d"] | None
    """Of the posterior; None, as the variances, where its dimensions are not independent Gaussians."""
    variances: Float[Array, "b d"] | None
    second: Float[Array, "b d"]
    """A second draw of each posterior."""
    prior: Float[Array, "b d"]
    """Draws of the prior, one for each example."""


Regularizer = Callable[[Latents, Params, Key[Array, ""], Any, Axis], tuple[Array, Terms]]
"""(latents, the model's params, key, step, axis) -> (term [], {name: value})."""

Weights = Callable[[int, int], np.ndarray]
"""(examples in the data, in the batch B) -> log-weights [B, B]: row i for the densities of z_i under q(·|x_j)."""


def minibatch_weighted(n: int, b: int) -> np.ndarray:
    """log 1/(N·B) for every pair (Chen et al. 2018, eq. 5 and S3), as published.

    A density is estimated too low, by the factor N where the batch is all the data: look at the gradient and at differences, not
    at the parts' values.
    """
    return np.full((b, b), -math.log(n * b), np.float32)


def minibatch_stratified(n: int, b: int) -> np.ndarray:
    """1/N on the diagonal, for z_i's own example, and the rest for the others of the batch (after Chen et al. 2018, S4): the
    estimate of q(z), though not of its logarithm, is without bias.

    Each of the B − 1 others stands for (N − 1)/(B − 1) of the data's, so its weight is (N − 1)/(N (B − 1)). The paper gives
    one of them another weight than the rest, with the same sum: no less noise.
    """
    if b < 2:
        raise UsageError(f"minibatch_stratified() needs a batch of at least 2 examples, this one has {b}")
    weights = np.full((b, b), math.log((n - 1) / (n * (b - 1))) if n > 1 else -np.inf, np.float32)
    np.fill_diagonal(weights, -math.log(n))
    return weights


def total_correlation(strength: float | jax.Array, examples: int, weights: Weights = minibatch_weighted) -> Regularizer:
    """strength·KL(q(z) ‖ Π_j q(z_j)), estimated from the batch (Chen et al. 2018, eq. 2 and 5).

    On top of a bound with β = 1 this is β-TCVAE with its β = 1 + strength. Logs `mutual_information` and `dimension_kl`,
    which with the (unweighted) `total_correlation_nats` make up the divergence to N(0, I), whatever the model's prior is;
    estimates may be negative.

    Args:
        strength: weight, at least 0.
        examples: N, of the training split.
        weights: `minibatch_weighted` or `minibatch_stratified`.

    Returns:
        A regularizer with one term for the batch, [].
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
    """Estimates, [] each, of the three parts of E KL(q(z|x) ‖ N(0, I)) (Chen et al. 2018, eq. 2): mutual information of x
    and z, total correlation of z, and Σ_j KL(q(z_j) ‖ N(0, 1))."""
    means, variances = _moments("total_correlation", latents)
    z, means, variances = gather((latents.z, means, variances), axis)
    log_w = weights(examples, len(z))
    # [B, B, d]: z_i's density under each q(·|x_j), dimension by dimension.
    difference = jnp.square(z[:, None, :] - means[None, :, :]) / variances[None, :, :]
    log_prob = -0.5 * (difference + jnp.log(variances)[None, :, :] + LOG_2PI)
    log_q_given_x = jnp.trace(jnp.sum(log_prob, axis=2)) / len(z)
    log_q = jnp.mean(jax.nn.logsumexp(jnp.sum(log_prob, axis=2) + log_w, axis=1))
    log_marginals = jnp.mean(jnp.sum(jax.nn.logsumexp(log_prob + log_w[:, :, None], axis=1), axis=1))
    log_prior = -0.5 * jnp.mean(jnp.sum(jnp.square(z) + LOG_2PI, axis=1))
    return log_q_given_x - log_q, log_q - log_marginals, log_marginals - log_prior


def dip(off_diagonal: float | jax.Array, diagonal: float | jax.Array, aggregate: bool) -> Regularizer:
    """DIP-VAE's penalty λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii - 1)² on the covariance of the codes (Kumar et al. 2018, eq. 6-7).

    Args:
        off_diagonal: λ_od, at least 0.
        diagonal: λ_d, at least 0. The paper takes 10 λ_od for kind I and λ_od for kind II.
        aggregate: False for DIP-VAE-I, where C is the covariance over the batch of the posterior's means; True for
            DIP-VAE-II, where C is the covariance of the aggregate posterior, Cov(μ) + E[σ²].

    Returns:
        A regularizer with one term for the batch, [].
    """
    off_diagonal = non_negative("dip", "off_diagonal", off_diagonal)
    diagonal = non_negative("dip", "diagonal", diagonal)

    def dip(latents: Latents, params: Params, key: Key[Array, ""], step: Any, axis: Axis) -> tuple[Array, Terms]:
        means, variances = gather(_moments("dip", latents), axis)
        centerd = means - jnp.mean(means, axis=0, keepdims=True)
        c = jnp.einsum("bi,bj->ij", centerd, centerd) / len(means)
        c = c + jnp.diag(jnp.mean(variances, axis=0)) if aggregate else c
        own = jnp.diagonal(c)
        crossed = jnp.sum(jnp.square(c)) - jnp.sum(jnp.square(own))
        return off_diagonal * crossed + diagonal * jnp.sum(jnp.square(own - 1.0)), {}

    return dip


def mmd(strength: float | jax.Array, scale: float | None = None) -> Regularizer:
    """Squared maximum mean discrepancy strength · MMD²(q(z), p(z)) (Tolstikhin et al. 2018, Algorithm 2).

    A U-statistic of the batch's codes and as many draws of the prior, with the kernel C / (C + ‖z - z'‖²). Its expectation is
    0 where codes follow the prior, so it is negative at times. With β = 0 the objective is WAE-MMD; with β = 1 - α and a
    strength of α + λ - 1 it is InfoVAE (Zhao et al. 2019, eq. 6).

    Args:
        strength: Weight, at least 0.
        scale: C; by default 2d, the paper's for a prior of variance 1.

    Returns:
        A regularizer with one term for the batch, [].
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
    """The unbiased MMD² of two samples, n ≥ 2, with the inverse multiquadratic kernel C/(C + ‖·‖²)."""
    n = len(a)
    if n < 2 or len(b) != n:
        raise UsageError(f"mmd() compares two samples of one size of at least 2, these have {n} and {len(b)}")
    kernel = lambda s, t: c / (c + jnp.sum(jnp.square(s[:, None, :] - t[None, :, :]), axis=2))
    within = lambda s: (jnp.sum(kernel(s, s)) - n) / (n * (n - 1))
    return within(a) + within(b) - 2.0 * jnp.mean(kernel(a, b))


def _moments(name: str, latents: Latents) -> tuple[Array, Array]:
    """Means and variances [b, d] of the posterior."""
    if latents.means is None or latents.variances is None:
        raise UsageError(f"{name}() needs a posterior of independent Gaussian dimensions; use diagonal()")
    return latents.means, latents.variances
