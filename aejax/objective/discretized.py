"""Likelihoods of gray levels: the mass that a continuous distribution has around each level."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError
from aejax.objective.likelihoods import Likelihood
from aejax.types import Check


def discretized_logistic(levels: int = 256) -> Likelihood:
    """Gray values k/(levels - 1), each with the mass that a logistic distribution has around it (Kingma et al. 2016;
    Salimans et al. 2017, eq. 2).

    theta = (m, ρ) per element, on the scale on which the data spans [-1, 1], as in the papers: the location, and ρ = log s
    but for smooth bounds, which for 256 levels are -7 and 7 (between -3 and 3 the two differ by 0.02 at most). Black and white
    have all the mass beyond them.

    `mean` is that of the logistic held within [0, 1], before it is rounded to a level: within half a level of the exact mean,
    and within a hundredth where s is a level or more.

    Args:
        levels: Number of gray levels.

    Returns:
        A likelihood with two numbers per element; its `check` refuses other values.

    Raises:
        UsageError: Fewer than 2 or more than 65536 levels.
    """
    _refuse_levels(f"discretized_logistic(levels={levels})", levels)

    def neg_log_prob(theta: Float[Array, "*shape 2"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        m, rho = jnp.unstack(theta, axis=-1)
        return -_log_mass(x, m, rho, levels)

    def mean(theta: Array) -> Array:
        m, rho = jnp.unstack(theta, axis=-1)
        return _held_mean(m, rho, levels)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        m, rho = jnp.unstack(theta, axis=-1)
        return _drawn_level(key, m, rho, levels)

    check = _check_levels("discretized_logistic", levels)
    return Likelihood("discretized_logistic", neg_log_prob, mean, draw, 2, check, num_discrete_dims=_every_element)


def discretized_logistic_mixture(components: int, levels: int = 256) -> Likelihood:
    """A mixture of `discretized_logistic(levels)` for each element by itself: the colors of a pixel are independent, where
    Salimans et al. 2017 let the later ones depend on the earlier.

    theta holds per element the logits of the components, then their m, then their ρ: 3 · components numbers.

    Args:
        components: Of the mixture.
        levels: Number of gray levels.

    Returns:
        A likelihood with 3 · `components` numbers per element.
    """
    what = f"discretized_logistic_mixture(components={components}, levels={levels})"
    _refuse_levels(what, levels)
    if components < 1:
        raise UsageError(f"{what}: a mixture has at least one component")

    def parts(theta: Array) -> list[Array]:
        """Logits, m and ρ, each [*shape, components]."""
        return jnp.split(theta, 3, axis=-1)

    def neg_log_prob(theta: Float[Array, "*shape _"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        logits, m, rho = parts(theta)
        mass = _log_mass(x[..., None], m, rho, levels)
        return -jax.nn.logsumexp(jax.nn.log_softmax(logits) + mass, axis=-1)

    def mean(theta: Array) -> Array:
        logits, m, rho = parts(theta)
        return jnp.sum(jax.nn.softmax(logits) * _held_mean(m, rho, levels), axis=-1)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        k_component, k_level = jax.random.split(key)
        logits, m, rho = parts(theta)
        chosen = jax.random.categorical(k_component, logits)[..., None]
        m, rho = (jnp.take_along_axis(part, chosen, axis=-1)[..., 0] for part in (m, rho))
        return _drawn_level(k_level, m, rho, levels)

    check = _check_levels("discretized_logistic_mixture", levels)
    return Likelihood(
        "discretized_logistic_mixture",
        neg_log_prob,
        mean,
        draw,
        3 * components,
        check,
        num_discrete_dims=_every_element,
    )


def _log_mass(x: Array, m: Array, rho: Array, levels: int) -> Array:
    """Logarithm of the mass around each of the gray values x in [0, 1]."""
    # With σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)) nothing cancels, however thin the level or far the tail, and what is open at
    # an end lacks the factors that are 1 there.
    s, half = _scale(rho, levels), 1 / (levels - 1)
    middle = 2 * x - 1 - m
    black, white = x < half / 2, x > 1 - half / 2
    below = jax.nn.log_sigmoid((middle + half) / s)
    above = jax.nn.log_sigmoid((half - middle) / s)
    within = jnp.log(-jnp.expm1(-2 * half / s))
    return (
        jnp.where(white, 0.0, below)
        + jnp.where(black, 0.0, above)
        + jnp.where(jnp.logical_or(black, white), 0.0, within)
    )


def _scale(rho: Array, levels: int) -> Array:
    """s. At the lower bound, Salimans' for 256 levels, a level holds 97 % of the mass at most; it is as much for another number
    of them. At the upper one all levels but black and white are alike."""
    low, high = -7.0 - math.log((levels - 1) / 255), 7.0
    return jnp.exp(high - jax.nn.softplus(high - low - jax.nn.softplus(rho - low)))


def _held_mean(m: Array, rho: Array, levels: int) -> Array:
    """Of the logistic with what lies beyond [0, 1] moved to its ends."""
    s, size = _scale(rho, levels), jnp.where(m > 0, m, -m)  # whose derivative at 0 is right, unlike that of |m|
    # Of -|m|, where neither argument grows: their difference would be lost.
    below = s / 2 * (jax.nn.softplus((1 - size) / s) - jax.nn.softplus((-1 - size) / s))
    return jnp.where(m > 0, 1 - below, below)


def _drawn_level(key: Key[Array, ""], m: Array, rho: Array, levels: int) -> Array:
    y = m + _scale(rho, levels) * jax.random.logistic(key, m.shape, m.dtype)
    return jnp.clip(jnp.round((y + 1) / 2 * (levels - 1)), 0, levels - 1) / (levels - 1)


def _every_element(x: np.ndarray) -> int:
    return math.prod(x.shape[1:])


def _refuse_levels(what: str, levels: int) -> None:
    if not 2 <= levels <= 2**16:  # float32 data tells no more apart
        raise UsageError(f"{what}: give 2 to 65536 levels of gray")


def _check_levels(name: str, levels: int) -> Check:
    def check(x: np.ndarray, where: str) -> None:
        place = np.asarray(x, np.float64) * (levels - 1)
        off = np.abs(place - np.clip(np.round(place), 0, levels - 1))
        if not np.all(off < 0.01):
            worst = float(np.ravel(x)[np.argmax(off)])
            raise UsageError(
                f"{name}(levels={levels}) admits the gray values k/{levels - 1} from 0 to 1, but {where} holds {worst:g}; "
                "round the data to them, or set levels (--levels)"
            )

    return check
