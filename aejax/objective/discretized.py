"""Likelihoods of gray levels: the probability that a continuous distribution assigns to the interval around each level."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.objective.likelihoods import Likelihood
from aejax.types import Check, Dataset


@described
def discretized_logistic(levels: int = 256) -> Likelihood:
    """Discretized logistic distribution over the gray values k/(levels - 1) (Kingma et al. 2016; Salimans et al. 2017, eq. 2).

    theta = (m, ρ) per element, on the scale on which the data span [-1, 1], as in the papers: m is the location, and ρ is log s
    up to smooth bounds, which for 256 levels are -7 and 7 (between -3 and 3 the two differ by at most 0.02). Black and white
    include the tails beyond them.

    `mean` is the mean of the logistic clipped to [0, 1], before rounding to a level. It is within half a level of the exact
    mean, and within a hundredth of a level if s is at least one level.

    Args:
        levels: Number of gray levels.

    Returns:
        A likelihood with two numbers per element; its `check` refuses other values.

    Raises:
        UsageError: There are fewer than 2 or more than 65536 levels.

    Example:
        >>> theta = jnp.tile(jnp.array([0.0, -2.0]), (4, 1))
        >>> nats = discretized_logistic(4).neg_log_prob(theta, jnp.arange(4) / 3)
        >>> bool(jnp.isclose(jnp.exp(-nats).sum(), 1.0))  # probabilities of the four levels
        True
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


def gray_levels(data: Dataset) -> int:
    """The number of gray values of a data set: 256 if it is stored as bytes, 17 as in scikit-learn's digits otherwise.

    Args:
        data: Training data. Whether they hold other values than these is checked by the likelihood.

    Returns:
        The number of levels for `discretized_logistic`.

    Example:
        >>> import aejax
        >>> gray_levels(aejax.load("digits")[0])
        17
    """
    return 256 if data.found is not None and data.found.dtype == "uint8" else 17


@described
def discretized_logistic_mixture(components: int, levels: int = 256) -> Likelihood:
    """Mixture of `discretized_logistic(levels)` for each element separately.

    The color channels of a pixel are therefore independent; in Salimans et al. (2017) later channels depend on earlier ones.
    theta holds per element the logits of the components, then their m, then their ρ.

    Args:
        components: Number of components.
        levels: Number of gray levels.

    Returns:
        A likelihood with 3 · `components` numbers per element.

    Raises:
        UsageError: `components` is below 1, or there are fewer than 2 or more than 65536 levels.

    Example:
        >>> discretized_logistic_mixture(5).width
        15
    """
    what = f"discretized_logistic_mixture(components={components}, levels={levels})"
    _refuse_levels(what, levels)
    if components < 1:
        raise UsageError(f"{what}: a mixture needs at least one component")

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
    """Log-probability of the interval around each gray value x in [0, 1]."""
    # σ(b) - σ(a) = σ(b) σ(-a) (1 - exp(a - b)) avoids cancellation for thin levels and in the tails. Black and white are open
    # at one end, where the corresponding factors are 1.
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
    """The scale s.

    At the lower bound, which for 256 levels is that of Salimans et al., a level holds at most 97 % of the probability; the
    bound for other numbers of levels is chosen to match. At the upper bound all levels except black and white are equally
    probable.
    """
    low, high = -7.0 - math.log((levels - 1) / 255), 7.0
    return jnp.exp(high - jax.nn.softplus(high - low - jax.nn.softplus(rho - low)))


def _held_mean(m: Array, rho: Array, levels: int) -> Array:
    """Mean of the logistic clipped to [0, 1]."""
    s, size = _scale(rho, levels), jnp.where(m > 0, m, -m)  # unlike |m|, this has the right derivative at 0
    # Computed for -|m|, where neither argument is large, to avoid cancellation.
    below = s / 2 * (jax.nn.softplus((1 - size) / s) - jax.nn.softplus((-1 - size) / s))
    return jnp.where(m > 0, 1 - below, below)


def _drawn_level(key: Key[Array, ""], m: Array, rho: Array, levels: int) -> Array:
    y = m + _scale(rho, levels) * jax.random.logistic(key, m.shape, m.dtype)
    return jnp.clip(jnp.round((y + 1) / 2 * (levels - 1)), 0, levels - 1) / (levels - 1)


def _every_element(x: np.ndarray) -> int:
    return math.prod(x.shape[1:])


def _refuse_levels(what: str, levels: int) -> None:
    if not 2 <= levels <= 2**16:  # float32 data cannot distinguish more
        raise UsageError(f"{what}: give 2 to 65536 levels of gray")


def _check_levels(name: str, levels: int) -> Check:
    def check(x: np.ndarray, where: str) -> None:
        place = np.asarray(x, np.float64) * (levels - 1)
        off = np.abs(place - np.clip(np.round(place), 0, levels - 1))
        if not np.all(off < 0.01):
            worst = float(np.ravel(x)[np.argmax(off)])
            raise UsageError(
                f"{name}(levels={levels}) admits the gray values k/{levels - 1} from 0 to 1, but {where} holds {worst:g}; "
                "round the data to them, set levels (--levels), or take an experiment with --likelihood gaussian, such as "
                "conv_vae"
            )

    return check
