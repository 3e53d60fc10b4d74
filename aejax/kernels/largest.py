"""An exact number of the largest values along an axis: by a threshold, and by sorting as the reference."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def largest(h: Float[Array, "*shape"], count: Int[Array, ""], axis: int) -> Bool[Array, "*shape"]:
    """True at exactly `count` positions along the axis, those of the largest values; ties go to the first.

    `count` in [0, n] may be traced. There is no gradient. The threshold is found bit by bit in 32 passes, and the first of
    equal values, where there are more than are wanted, in as many passes as a position has bits, whatever the count; sorting
    takes thirty times as long.
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(h == 0, 0.0, h).astype(jnp.float32), jnp.int32)  # -0 becomes 0
    order = jnp.where(bits < 0, bits ^ np.int32(np.iinfo(np.int32).max), bits)  # integers ordered like the floats
    threshold = _threshold(order, count, axis, np.iinfo(np.int32).min, 32)
    reaching, above = order >= threshold, order > threshold
    # Counted in float32, exact up to 2²⁴, because integer sums are half as fast on CPU.
    many = jnp.sum(reaching.astype(jnp.float32), axis=axis, keepdims=True).astype(jnp.int32) > count

    def first() -> Bool[Array, "*shape"]:
        n = h.shape[axis]
        position = jax.lax.broadcasted_iota(jnp.int32, h.shape, axis % h.ndim)
        from_the_end = jnp.where(order == threshold, n - position, 0)
        left = count - jnp.sum(above, axis=axis, keepdims=True, dtype=jnp.int32)
        return above | (from_the_end >= _threshold(from_the_end, left, axis, 0, n.bit_length()))

    return jax.lax.cond(jnp.any(many), first, lambda: reaching)


def largest_of_row(h: Float[Array, "b n"], k: int) -> Bool[Array, "b n"]:
    """True at exactly k positions of each row, as `largest`: for few of many, where k is not traced."""
    _, positions = jax.lax.top_k(h, k)
    return jnp.zeros(h.shape, bool).at[jnp.arange(len(h))[:, None], positions].set(True)


def _threshold(values: Int[Array, "*shape"], count: Any, axis: int, lowest: int, bits: int) -> Int[Array, "*ones"]:
    """The largest of the integers from `lowest`, `bits` bits wide, that at least `count` values along the axis reach."""

    def decide(i: Array, threshold: Array) -> Array:
        candidate = threshold + (jnp.int32(1) << (bits - 1 - i))
        reaching = jnp.sum((values >= candidate).astype(jnp.float32), axis=axis, keepdims=True)
        return jnp.where(reaching.astype(jnp.int32) >= count, candidate, threshold)

    shape = [1 if i == axis % values.ndim else side for i, side in enumerate(values.shape)]
    return jax.lax.fori_loop(0, bits, decide, jnp.full(shape, lowest, jnp.int32))


def plain_largest(h: Float[Array, "*shape"], count: Any, axis: int) -> Bool[Array, "*shape"]:
    """The definition: a stable sort, where ties go to the first."""
    rank = jnp.argsort(jnp.argsort(-jnp.where(h == 0, 0.0, h), axis=axis, stable=True), axis=axis)
    return rank < count
