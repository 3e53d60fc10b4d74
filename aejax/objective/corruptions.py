"""Corruptions: `(key, x of one example) -> (x_tilde, touched)`.

Compose them freely: `masking(0.3)`, `chain(masking(0.1), gaussian_noise(0.05))`. Strengths are numbers or schedules of the
training step (an Optax schedule works). A corruption also knows the moments of its noise, from which `aejax.evaluate`
computes the optimal linear denoiser in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.kernels.exact_count import exact_count
from aejax.keys import each
from aejax.objective.schedules import END, Strength, schedule_of
from aejax.types import Corrupt


class Moments(NamedTuple):
    """Second moments of the componentwise affine noise x_tilde = a ⊙ x + b, with (a, b) independent of x; float64."""

    a: np.ndarray
    """E[a], [d]."""
    b: np.ndarray
    """E[b], [d]."""
    aa: np.ndarray
    """E[a aᵀ], [d, d]."""
    ab: np.ndarray
    """E[a bᵀ], [d, d]."""
    bb: np.ndarray
    """E[b bᵀ], [d, d]."""


class Corruption(NamedTuple):
    """A corruption, called as `(key, x, step=END) -> (x_tilde, touched)`.

    `touched` is a bool array of x's shape that marks the components that were disturbed.

    Example:
        >>> x_tilde, touched = salt_and_pepper(1.0)(jax.random.key(0), jnp.full((2, 2), 0.5))
        >>> x_tilde.shape, bool(touched.all())
        ((2, 2), True)
    """

    name: str
    draw: Callable[[Key[Array, ""], Array, Any], tuple[Array, Array]]
    """(key, x of one example, step) -> (x_tilde, touched)."""
    moments: Callable[[tuple[int, ...]], Moments]
    """(shape of one example) -> Moments, at the end of its schedule."""

    def __call__(self, key: Key[Array, ""], x: Array, step: Any = END) -> tuple[Array, Array]:
        return self.draw(key, x, step)


def corrupt_batch(
    corrupt: Corrupt,
    key: Key[Array, ""],
    x: Float[Array, " b *shape"],
    index: Int[Array, " b"],
    step: Any = END,
) -> tuple[Float[Array, " b *shape"], Bool[Array, " b *shape"]]:
    """Corrupts a batch, each example with its own key, so that the bits do not depend on how a batch is sharded over
    devices."""
    return jax.vmap(partial(corrupt, step=step))(each(key, index), x)


@described
def nothing() -> Corruption:
    """The identity: leaves examples as they are.

    Returns:
        A corruption for one example of any shape; `touched` is False everywhere.

    Example:
        >>> x_tilde, touched = nothing()(jax.random.key(0), jnp.ones(3))
        >>> x_tilde.tolist(), touched.tolist()
        ([1.0, 1.0, 1.0], [False, False, False])
    """

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        return x, jnp.zeros(x.shape, bool)

    def moments(shape: tuple[int, ...]) -> Moments:
        d = int(np.prod(shape))
        return _moments_of_survival(np.ones(d), np.ones((d, d)))

    return Corruption(NOTHING, draw, moments)


NOTHING = "nothing()"


def unless_nothing(corrupt: Corrupt | None) -> Corrupt | None:
    """The corruption, or None if it leaves every example as it is: `nothing()`, and so `masking(0)`."""
    return None if isinstance(corrupt, Corruption) and corrupt.name == NOTHING else corrupt


@described
def masking(rate: Strength) -> Corruption:
    """Masking noise with an exact count: sets `round(rate * d)` of the d components to zero.

    The components are drawn anew for each example at each step (Vincent et al. 2008, §2.3).

    Args:
        rate: Fraction of components to mask, in [0, 1], or a schedule from the training step to one.

    Returns:
        A corruption `(key, x, step) -> (x_tilde, touched)` for one example of any shape.

    Raises:
        UsageError: `rate` is outside [0, 1].

    Example:
        >>> x_tilde, touched = masking(0.25)(jax.random.key(0), jnp.ones(8))
        >>> int(touched.sum())
        2
    """
    strength = schedule_of("masking", "rate", rate, 0.0, 1.0)
    if _is_zero(rate):
        return nothing()

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        touched = exact_count(key, x.shape, _count(strength(step), x.size))
        return jnp.where(touched, 0.0, x), touched

    def moments(shape: tuple[int, ...]) -> Moments:
        keep, keep_both = _exact_survival(shape, strength(END))
        return _moments_of_survival(keep, keep_both)

    return Corruption(_label("masking", rate), draw, moments)


@described
def bernoulli_masking(rate: Strength) -> Corruption:
    """Masks each component independently with probability `rate`.

    The number of masked components varies from example to example; with `masking` it does not.

    Args:
        rate: Probability in [0, 1], or a schedule.

    Returns:
        A corruption for one example of any shape.

    Raises:
        UsageError: `rate` is outside [0, 1].

    Example:
        >>> x_tilde, touched = bernoulli_masking(0.5)(jax.random.key(0), jnp.ones(1000))
        >>> 400 < int(touched.sum()) < 600
        True
    """
    strength = schedule_of("bernoulli_masking", "rate", rate, 0.0, 1.0)
    if _is_zero(rate):
        return nothing()

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        touched = jax.random.bernoulli(key, strength(step), x.shape)
        return jnp.where(touched, 0.0, x), touched

    def moments(shape: tuple[int, ...]) -> Moments:
        d, keep = int(np.prod(shape)), 1.0 - min(max(float(strength(END)), 0.0), 1.0)
        keep_both = np.full((d, d), keep**2)
        np.fill_diagonal(keep_both, keep)
        return _moments_of_survival(np.full(d, keep), keep_both)

    return Corruption(_label("bernoulli_masking", rate), draw, moments)


@described
def fixed_mask(hidden: Bool[np.ndarray, "*shape"]) -> Corruption:
    """Sets the same components of every example to zero, so that the model completes them from the others.

    Args:
        hidden: bool, of an example's shape; True for the components that are set to zero.

    Returns:
        A corruption for one example of this shape.

    Raises:
        UsageError: It is applied to an example of another shape.

    Example:
        >>> x_tilde, _ = fixed_mask(np.array([True, False, True]))(jax.random.key(0), jnp.ones(3))
        >>> x_tilde.tolist()
        [0.0, 1.0, 0.0]
    """

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        if x.shape != hidden.shape:
            raise UsageError(f"fixed_mask() components of examples of shape {hidden.shape}, but x is {x.shape}")
        return jnp.where(hidden, 0.0, x), jnp.asarray(hidden)

    def moments(shape: tuple[int, ...]) -> Moments:
        keep = 1.0 - hidden.reshape(-1).astype(np.float64)
        return _moments_of_survival(keep, np.outer(keep, keep))

    return Corruption(f"fixed_mask({hidden.sum()} of {hidden.size})", draw, moments)


@described
def salt_and_pepper(rate: Strength) -> Corruption:
    """Sets `round(rate * d)` components to 0 or 1, each by a fair coin (Vincent et al. 2010, §3.4).

    Args:
        rate: Fraction of components, in [0, 1], or a schedule.

    Returns:
        A corruption for one example of any shape, with data in [0, 1].

    Raises:
        UsageError: `rate` is outside [0, 1].

    Example:
        >>> x_tilde, touched = salt_and_pepper(0.5)(jax.random.key(0), jnp.full(10, 0.5))
        >>> int(jnp.sum(x_tilde == 0.5))
        5
    """
    strength = schedule_of("salt_and_pepper", "rate", rate, 0.0, 1.0)
    if _is_zero(rate):
        return nothing()

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        k_where, k_coin = jax.random.split(key)
        touched = exact_count(k_where, x.shape, _count(strength(step), x.size))
        coin = jax.random.bernoulli(k_coin, shape=x.shape).astype(x.dtype)
        return jnp.where(touched, coin, x), touched

    def moments(shape: tuple[int, ...]) -> Moments:
        keep, keep_both = _exact_survival(shape, strength(END))
        # With t = 1 - a the indicator that a component is touched, and c the coin: b = t·c and E[c] = E[c²] = 1/2.
        touched_both = 1.0 - keep[:, None] - keep[None, :] + keep_both
        bb = touched_both / 4.0
        np.fill_diagonal(bb, (1.0 - keep) / 2.0)
        return Moments(keep, (1.0 - keep) / 2.0, keep_both, (keep[:, None] - keep_both) / 2.0, bb)

    return Corruption(_label("salt_and_pepper", rate), draw, moments)


@described
def gaussian_noise(sigma: Strength) -> Corruption:
    """Adds N(0, sigma²) to every component (Vincent et al. 2010, §3.4).

    Args:
        sigma: Standard deviation in units of the data, at least 0, or a schedule.

    Returns:
        A corruption for one example of any shape. Every component counts as touched.

    Raises:
        UsageError: `sigma` is negative.

    Example:
        >>> x_tilde, _ = gaussian_noise(0.1)(jax.random.key(0), jnp.zeros(1000))
        >>> round(float(jnp.std(x_tilde)), 1)
        0.1
    """
    strength = schedule_of("gaussian_noise", "sigma", sigma, 0.0, np.inf)
    if _is_zero(sigma):
        return nothing()

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        return x + strength(step) * jax.random.normal(key, x.shape, x.dtype), jnp.ones(x.shape, bool)

    def moments(shape: tuple[int, ...]) -> Moments:
        d = int(np.prod(shape))
        one, zero = np.ones((d, d)), np.zeros((d, d))
        return Moments(np.ones(d), np.zeros(d), one, zero, float(strength(END)) ** 2 * np.eye(d))

    return Corruption(_label("gaussian_noise", sigma), draw, moments)


@described
def patches(size: int, count: int = 1) -> Corruption:
    """Sets `count` squares of `size` × `size` pixels to zero in all channels.

    Each square lies inside the image and is placed independently, so squares may overlap.

    Args:
        size: Side of a square in pixels.
        count: Number of squares.

    Returns:
        A corruption for one image [height, width, channels].

    Raises:
        UsageError: A number is below 1, or it is applied to an example that is not an image or is smaller than a square.

    Example:
        >>> x_tilde, touched = patches(3)(jax.random.key(0), jnp.ones((8, 8, 1)))
        >>> int(touched.sum())
        9
    """
    if size < 1 or count < 1:
        raise UsageError(f"patches(size={size}, count={count}): both must be at least 1")

    def places(shape: tuple[int, ...]) -> tuple[int, int]:
        if len(shape) != 3 or size > min(shape[:2]):
            raise UsageError(
                f"patches({size}) needs images [height, width, channels] of at least {size}×{size}; x is {shape}"
            )
        return shape[0] - size + 1, shape[1] - size + 1

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        corner = jax.random.randint(key, (count, 2), 0, jnp.array([places(x.shape)]))
        inside = [
            (jnp.arange(n)[None, :] >= corner[:, i, None]) & (jnp.arange(n)[None, :] < corner[:, i, None] + size)
            for i, n in enumerate(x.shape[:2])
        ]
        covered = jnp.any(inside[0][:, :, None] & inside[1][:, None, :], axis=0)
        touched = jnp.broadcast_to(covered[:, :, None], x.shape)
        return jnp.where(touched, 0.0, x), touched

    def moments(shape: tuple[int, ...]) -> Moments:
        height, width, channels = shape
        rows, columns = places(shape)
        clear = np.ones((rows, columns, height, width, channels))
        for i in range(rows):
            for j in range(columns):
                clear[i, j, i : i + size, j : j + size] = 0.0
        kept = clear.reshape(rows * columns, -1)
        return _moments_of_survival(kept.mean(axis=0) ** count, (kept.T @ kept / len(kept)) ** count)

    return Corruption(f"patches({size}, {count})", draw, moments)


@described
def chain(*corruptions: Corruption) -> Corruption:
    """Applies corruptions one after the other, each with its own key.

    Args:
        corruptions: Corruptions, in the order in which they are applied.

    Returns:
        A corruption; `touched` is the union of what they touched.

    Raises:
        UsageError: No corruption is given.

    Example:
        >>> noisy = chain(masking(0.5), gaussian_noise(0.1))
        >>> noisy.name
        'chain(masking(0.5), gaussian_noise(0.1))'
    """
    if not corruptions:
        raise UsageError("chain() of no corruptions; use nothing()")

    def draw(key: Key[Array, ""], x: Array, step: Any) -> tuple[Array, Array]:
        touched = jnp.zeros(x.shape, bool)
        for k, corrupt in zip(jax.random.split(key, len(corruptions)), corruptions):
            x, also = corrupt(k, x, step)
            touched = touched | also
        return x, touched

    def moments(shape: tuple[int, ...]) -> Moments:
        first, *rest = (c.moments(shape) for c in corruptions)
        for m in rest:  # a ← a′a and b ← a′b + b′; the primed noise is independent of the noise before it
            cross = m.ab * first.b[:, None]  # E[a′_i b_i b′_j]
            first = Moments(
                m.a * first.a,
                m.a * first.b + m.b,
                m.aa * first.aa,
                m.aa * first.ab + m.ab * first.a[:, None],
                m.aa * first.bb + cross + cross.T + m.bb,
            )
        return first

    return Corruption(f"chain({', '.join(c.name for c in corruptions)})", draw, moments)


def _count(rate: Any, d: int) -> Any:
    """round(rate · d), as a Python int for a constant rate; the value of a schedule is clipped to [0, 1]."""
    if isinstance(rate, float):
        return round(min(max(rate, 0.0), 1.0) * d)
    return jnp.round(jnp.clip(rate, 0.0, 1.0) * d).astype(jnp.int32)


def _exact_survival(shape: tuple[int, ...], rate: Any) -> tuple[np.ndarray, np.ndarray]:
    """P(i survives) [d] and P(i and j survive) [d, d] when exactly m components are masked.

    These are (d - m)/d and (d - m)(d - m - 1)/(d(d - 1)).
    """
    d = int(np.prod(shape))
    kept = d - int(_count(rate, d))
    both = np.full((d, d), kept * (kept - 1) / max(d * (d - 1), 1))
    np.fill_diagonal(both, kept / d)
    return np.full(d, kept / d), both


def _moments_of_survival(keep: np.ndarray, keep_both: np.ndarray) -> Moments:
    """Moments of masking: b = 0, and a is the indicator that a component survives."""
    zero = np.zeros_like(keep_both)
    return Moments(keep, np.zeros_like(keep), keep_both, zero, zero)


def _is_zero(value: Strength) -> bool:
    """Whether the strength is the constant 0; a schedule or a traced number never is."""
    return not callable(value) and not isinstance(value, jax.core.Tracer) and float(value) == 0.0


def _label(name: str, value: Strength) -> str:
    if isinstance(value, jax.core.Tracer):
        return f"{name}(traced)"
    return f"{name}({'schedule' if callable(value) else format(float(value), 'g')})"
