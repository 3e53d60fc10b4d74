"""Priors p(z), and p(z|c) given a condition c.

All functions take a batch: z [n, d], with one key per draw. `q` is the model's own encoder (`Encoding`), which some priors are
built from; `c` [n, …] is the condition, or None. Log-densities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.described import described
from aejax.errors import UsageError, at_least_one
from aejax.nets.code import apply, initialized
from aejax.objective.posteriors import LOG_2PI, Posterior, bounded
from aejax.types import Params


class Encoding(NamedTuple):
    """An encoder with its parameters: x -> q(z|x)."""

    numbers: Callable[[Array], Array]
    """x [n, *shape] -> h [n, width]."""
    posterior: Posterior
    params: Params
    """Parameters of the posterior."""


class Prior(NamedTuple):
    """A prior p(z) or p(z|c) as pure functions.

    Example:
        >>> prior = standard_normal()
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> prior.draw({}, None, keys, 2, None).shape
        (3, 2)
    """

    name: str
    init: Callable[[Key[Array, ""], int, Array, Array | None], Params]
    """(key, d, x [n, *shape], c) -> params, a dict."""
    log_prob: Callable[[Params, Encoding, Array, Array | None], Array]
    """(params, q, z [n, d], c) -> [n]."""
    draw: Callable[[Params, Encoding, Key[Array, " b"], int, Array | None], Array]
    """(params, q, keys [n], d, c) -> z [n, d]."""
    kl: Callable[[Params, Encoding, Array, Array | None], Array | None]
    """(params, q, h [n, width], c) -> KL(q(z|x) ‖ p) [n, m], one part per dimension if these are independent; None if there is
    no closed form."""


@described
def standard_normal() -> Prior:
    """Standard normal prior N(0, I).

    Returns:
        A prior without parameters.

    Example:
        >>> nats = -standard_normal().log_prob({}, None, jnp.zeros((1, 2)), None)
        >>> round(float(nats[0]), 4)  # log 2π
        1.8379
    """

    def log_prob(params: Params, q: Encoding, z: Array, c: Array | None) -> Array:
        return -0.5 * jnp.sum(jnp.square(z) + LOG_2PI, axis=1)

    def draw(params: Params, q: Encoding, keys: Key[Array, " b"], d: int, c: Array | None) -> Array:
        return _normal(keys, d)

    def kl(params: Params, q: Encoding, h: Array, c: Array | None) -> Array | None:
        closed = q.posterior.kl
        return None if closed is None else jax.vmap(lambda one: closed(q.params, one))(h)

    return Prior("standard_normal", lambda key, d, x, c: {}, log_prob, draw, kl)


@described
def mixture(components: int) -> Prior:
    """Mixture of Gaussians Σ_k π_k N(μ_k, diag σ_k²), trained with the model.

    Args:
        components: Number of Gaussians.

    Returns:
        A prior with trained weights, means and variances.

    Raises:
        UsageError: `components` is below 1.

    Example:
        >>> prior = mixture(10)
        >>> params = prior.init(jax.random.key(0), 2, None, None)
        >>> params["means"].shape, prior.log_prob(params, None, jnp.zeros((5, 2)), None).shape
        ((10, 2), (5,))
    """
    at_least_one("mixture", "components", components)

    def init(key: Key[Array, ""], d: int, x: Array | None, c: Array | None) -> dict[str, Array]:
        return {
            "logits": jnp.zeros(components),
            "means": jax.random.normal(key, (components, d)),
            "log_variances": jnp.zeros((components, d)),
        }

    def log_prob(params: Params, q: Encoding | None, z: Array, c: Array | None) -> Array:
        weights = jax.nn.log_softmax(params["logits"])[None, :]
        log_variances = bounded(params["log_variances"])
        return jax.nn.logsumexp(weights + gaussian_log_prob(z, params["means"], log_variances), axis=1)

    def draw(params: Params, q: Encoding | None, keys: Key[Array, " b"], d: int, c: Array | None) -> Array:
        def one(key: Key[Array, ""]) -> Array:
            k_which, k_noise = jax.random.split(key)
            i = jax.random.categorical(k_which, params["logits"])
            scale = jnp.exp(0.5 * bounded(params["log_variances"][i]))
            return params["means"][i] + scale * jax.random.normal(k_noise, (d,))

        return jax.vmap(one)(keys)

    return Prior("mixture", init, log_prob, draw, _no_closed_form)


@described
def vamp(components: int, low: float = 0.0, high: float = 1.0) -> Prior:
    """VampPrior 1/K Σ_k q(z|u_k): the posterior averaged over K trained pseudo-inputs u_k (Tomczak & Welling 2018, eq. 8).

    The pseudo-inputs start near examples of the first batch, with a little noise that makes all of them different. The
    posterior needs a `log_prob`.

    Args:
        components: Number of pseudo-inputs.
        low: Smallest value of a pseudo-input.
        high: Largest value.

    Returns:
        A prior with trained pseudo-inputs.

    Raises:
        UsageError: `components` is below 1, `low` is not below `high`, or the posterior has no density.

    Example:
        >>> prior = vamp(10)
        >>> prior.init(jax.random.key(0), 2, jnp.zeros((32, 8, 8, 1)), None)["logits"].shape
        (10, 8, 8, 1)
    """
    at_least_one("vamp", "components", components)
    if not low < high:
        raise UsageError(f"vamp(low={low}, high={high}): the range of the data, low below high")

    def init(key: Key[Array, ""], d: int, x: Array, c: Array | None) -> dict[str, Array]:
        chosen = x[jnp.arange(components) % x.shape[0]]
        # Stored as logits: most pixels lie at the ends of the range, where a clipped value would have zero gradient.
        unit = jnp.clip((chosen - low) / (high - low), 0.05, 0.95)
        noise = 0.1 * jax.random.normal(key, chosen.shape, x.dtype)
        return {"logits": jnp.log(unit) - jnp.log1p(-unit) + noise}

    def numbers(params: Params, q: Encoding) -> Array:
        if q.posterior.log_prob is None:
            raise UsageError(
                f"vamp() needs the density of q(z|x), which {q.posterior.name}() does not have; use diagonal()"
            )
        return q.numbers(low + (high - low) * jax.nn.sigmoid(params["logits"]))

    def log_prob(params: Params, q: Encoding, z: Array, c: Array | None) -> Array:
        h = numbers(params, q)
        of_code, density = q.posterior.moments, q.posterior.log_prob
        if of_code is not None:
            means, variances = jax.vmap(lambda one: of_code(q.params, one))(h)
            log_prob_of_each = gaussian_log_prob(z, means, jnp.log(variances))
        else:
            assert density is not None  # checked in `numbers`
            of_one = lambda one, z: density(q.params, one, z)
            log_prob_of_each = jax.vmap(lambda z: jax.vmap(of_one, (0, None))(h, z))(z)
        return jax.nn.logsumexp(log_prob_of_each, axis=1) - math.log(components)

    def draw(params: Params, q: Encoding, keys: Key[Array, " b"], d: int, c: Array | None) -> Array:
        h = numbers(params, q)

        def one(key: Key[Array, ""]) -> Array:
            k_which, k_noise = jax.random.split(key)
            i = jax.random.randint(k_which, (), 0, components)
            return q.posterior.draw(q.params, k_noise, h[i])[0]

        return jax.vmap(one)(keys)

    return Prior("vamp", init, log_prob, draw, _no_closed_form)


@described
def conditional(net: nn.Module) -> Prior:
    """Gaussian prior N(μ(c), diag σ²(c)) that depends on the condition c (Sohn et al. 2015).

    Args:
        net: Linen module, c [n, ...] -> [n, 2d]: the mean and the raw log-variance.

    Returns:
        A prior with the net's parameters.

    Raises:
        UsageError: The model has no condition, or the net's output does not have 2d numbers.

    Example:
        >>> prior = conditional(nn.Dense(4))
        >>> label = jax.nn.one_hot(jnp.array([3, 7]), 10)
        >>> params = prior.init(jax.random.key(0), 2, None, label)
        >>> prior.draw(params, None, jax.random.split(jax.random.key(1), 2), 2, label).shape
        (2, 2)
    """

    def init(key: Key[Array, ""], d: int, x: Array | None, c: Array | None) -> dict[str, dict[str, Array]]:
        if c is None:
            raise UsageError("conditional() is a prior given a condition; pass condition= to the model as well")
        out, params = initialized(net, key, c)
        if out.shape[1:] != (2 * d,):
            raise UsageError(
                f"the net of conditional() has outputs of shape {out.shape[1:]}; a latent of {d} dimensions needs ({2 * d},)"
            )
        return params

    def moments(params: Params, c: Array | None) -> tuple[Array, Array]:
        mu, raw = jnp.split(apply(net, params, c), 2, axis=1)
        return mu, bounded(raw)

    def log_prob(params: Params, q: Encoding, z: Array, c: Array | None) -> Array:
        mu, log_variance = moments(params, c)
        return -0.5 * jnp.sum(jnp.square(z - mu) * jnp.exp(-log_variance) + log_variance + LOG_2PI, axis=1)

    def draw(params: Params, q: Encoding, keys: Key[Array, " b"], d: int, c: Array | None) -> Array:
        mu, log_variance = moments(params, c)
        return mu + jnp.exp(0.5 * log_variance) * _normal(keys, d)

    def kl(params: Params, q: Encoding, h: Array, c: Array | None) -> Array | None:
        of_code = q.posterior.moments
        if of_code is None or q.posterior.kl is None:
            return None
        means, variances = jax.vmap(lambda one: of_code(q.params, one))(h)
        mu, log_variance = moments(params, c)
        ratio = variances * jnp.exp(-log_variance)
        return 0.5 * (jnp.square(means - mu) * jnp.exp(-log_variance) + ratio - jnp.log(ratio) - 1.0)

    return Prior("conditional", init, log_prob, draw, kl)


def gaussian_log_prob(
    z: Float[Array, "n d"], means: Float[Array, "k d"], log_variances: Float[Array, "k d"]
) -> Float[Array, "n k"]:
    """log N(z_i; μ_k, diag σ_k²) of every pair, by matrix products of the expanded square.

    Rounding costs about 1e-7·(distance/σ)² nats per dimension, which is some tenths of a nat at σ = e⁻⁶.
    """
    precisions = jnp.exp(-log_variances)
    # Relative to the mean of the components, to avoid cancellation.
    center = jnp.mean(means, axis=0, keepdims=True)
    z, means = z - center, means - center
    product = lambda a, b: jnp.einsum("nd,kd->nk", a, b, precision=jax.lax.Precision.HIGHEST)
    constant = jnp.sum(jnp.square(means) * precisions + log_variances + LOG_2PI, axis=1)
    return -0.5 * (product(jnp.square(z), precisions) - 2.0 * product(z, means * precisions) + constant[None, :])


def _normal(keys: Key[Array, " n"], d: int) -> Float[Array, "n d"]:
    return jax.vmap(lambda key: jax.random.normal(key, (d,)))(keys)


def _no_closed_form(params: Any, q: Any, h: Any, c: Any) -> None:
    return None
