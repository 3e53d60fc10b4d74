"""Bottlenecks: `(h, axis, step) -> z`, what a code passes on its way to the decoder. The step is None outside training.

Each is a small function's small result: `top_k(25)`, `winner_take_all(0.05)`. They select units and leave the selected as
they are, so gradients flow through these alone. Numbers of units and rates may be schedules of the training step (an Optax
schedule serves); outside training a schedule has run its course. Of equal units the first wins, of equal examples the first
in the global batch: counts are exact, and the same on any number of devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aejax.collectives import gather, own
from aejax.errors import UsageError
from aejax.objective.corruptions import END

Bottleneck = Callable[[Array, str | None, Any], Array]
"""(h [b, ...], axis, step) -> z [b, ...]."""

Schedule = int | float | jax.Array | Callable[[Any], Any]
"""A number, or step -> number. A traced number is one that varies between members of one program."""


def top_k(k: Schedule, alpha: float | jax.Array = 1.0) -> Bottleneck:
    """Keeps the k largest units of each example and sets the others to zero (Makhzani & Frey 2013).

    The largest, not the largest in modulus. Outside training alpha·k are kept, rounded, of a schedule its last k; always at
    least one and at most all of them.
    """
    at = _schedule("top_k", "k", k, 1.0, math.inf)
    factor = _schedule("top_k", "alpha", alpha, 0.0, math.inf)

    def top_k(h: Float[Array, "b *code"], axis, step) -> Float[Array, "b *code"]:
        count = factor(END) * at(END) if step is None else at(step)
        units = h.reshape(len(h), -1)
        kept = largest(units, _whole(count, units.shape[1]), 1)
        return jnp.where(kept.reshape(h.shape), h, 0.0)

    return top_k


def winner_take_all(rate: Schedule) -> Bottleneck:
    """Lifetime sparsity: of each unit keeps the largest round(rate·B) activations, at least one, among the B examples of the
    global batch; the identity outside training (Makhzani & Frey 2015). For rectified codes.

    Couples the examples of a batch, and what the decoder gets outside training is denser than what it was trained on.
    """
    at = _schedule("winner_take_all", "rate", rate, 0.0, 1.0)

    def winner_take_all(h: Float[Array, "b *code"], axis, step) -> Float[Array, "b *code"]:
        return h if step is None else jnp.where(_winners(h, axis, at(step)), h, 0.0)

    return winner_take_all


def spatial_winner_take_all(rate: Schedule | None = None) -> Bottleneck:
    """Of each example's channel keeps the largest activation over all positions; then, with a rate, the channel's largest
    round(rate·B) of these among the B examples of the global batch (Makhzani & Frey 2015).

    For spatial codes, `ConvEncoder(..., spatial=True)`, rectified. The identity outside training: see `winner_take_all`.
    """
    at = None if rate is None else _schedule("spatial_winner_take_all", "rate", rate, 0.0, 1.0)

    def spatial_winner_take_all(h: Float[Array, "b *code"], axis, step) -> Float[Array, "b *code"]:
        if h.ndim != 4:
            raise UsageError(
                f"spatial_winner_take_all() needs codes [h, w, c] and has {h.shape[1:]}; "
                "use ConvEncoder(..., spatial=True), or winner_take_all() for flat codes"
            )
        if step is None:
            return h
        b, c = h.shape[0], h.shape[3]
        positions = h.reshape(b, -1, c)
        kept = largest(positions, jnp.int32(1), 1)
        if at is not None:
            kept = kept & _winners(jnp.max(positions, axis=1), axis, at(step))[:, None]
        return jnp.where(kept.reshape(h.shape), h, 0.0)

    return spatial_winner_take_all


def _winners(h: Float[Array, "b *code"], axis: str | None, rate: Any) -> Bool[Array, "b *code"]:
    """Of each unit the round(rate·B) largest in the global batch, at least one: this device's rows of the mask."""
    everyone = gather(jax.lax.stop_gradient(h), axis)
    n = len(everyone)
    mask = largest(everyone, _whole(rate * n, n), 0)
    return own(mask, axis)


def largest(h: Float[Array, "*shape"], count: Int[Array, ""], axis: int) -> Bool[Array, "*shape"]:
    """True at exactly `count` positions along the axis, those of the largest values, of equals the first. `count` in [0, n]
    may be traced.

    No gradient. The threshold is found bit by bit in 32 countings, and the first of equals in as many as a position has
    bits, whatever the count; sorting takes thirty times as long.
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(h == 0, 0.0, h).astype(jnp.float32), jnp.int32)  # -0 is 0
    order = jnp.where(bits < 0, bits ^ np.int32(np.iinfo(np.int32).max), bits)  # integers in the order of the floats
    threshold = _threshold(order, count, axis, np.iinfo(np.int32).min, 32)
    above = order > threshold
    n = h.shape[axis]
    position = jax.lax.broadcasted_iota(jnp.int32, h.shape, axis % h.ndim)
    from_the_end = jnp.where(order == threshold, n - position, 0)
    left = count - jnp.sum(above, axis=axis, keepdims=True, dtype=jnp.int32)
    first = _threshold(from_the_end, left, axis, 0, n.bit_length())
    return above | (from_the_end >= first)


def _threshold(values: Int[Array, "*shape"], count: Any, axis: int, lowest: int, bits: int) -> Int[Array, "*ones"]:
    """The largest of the integers from `lowest`, so many bits wide, that at least `count` values along the axis reach."""

    def decide(i, threshold):
        candidate = threshold + (jnp.int32(1) << (bits - 1 - i))
        # Counted in float32, exact up to 2²⁴: the sum of integers is half as fast on CPU.
        reaching = jnp.sum((values >= candidate).astype(jnp.float32), axis=axis, keepdims=True)
        return jnp.where(reaching.astype(jnp.int32) >= count, candidate, threshold)

    shape = [1 if i == axis % values.ndim else side for i, side in enumerate(values.shape)]
    return jax.lax.fori_loop(0, bits, decide, jnp.full(shape, lowest, jnp.int32))


def _whole(count: Any, most: int) -> Int[Array, ""]:
    """Rounded, at least one, at most so many; on the host where it is a number."""
    if isinstance(count, float):
        return jnp.int32(max(round(min(count, most)), 1))
    return jnp.clip(jnp.round(count), 1, most).astype(jnp.int32)


def _schedule(name: str, what: str, value: Schedule, low: float, high: float) -> Callable[[Any], Any]:
    """As a function of the step; a number outside [low, high] is refused here, at the edge."""
    if callable(value):

        def schedule(step):
            with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix the integer step with floats
                return jnp.asarray(value(step), jnp.float32)

        return schedule
    if isinstance(value, jax.core.Tracer):  # each member's number was looked at when its experiment was built
        return lambda step: value.astype(jnp.float32)
    if not low <= float(value) <= high:  # also refuses NaN
        raise UsageError(f"{name}({what}={value}): {what} must lie in [{low:g}, {high:g}]")
    return lambda step: float(value)
