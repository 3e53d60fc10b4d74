"""Random selection of an exact number of positions: by a threshold, and by sorting as the reference."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Bool, Int, Key

from aejax.errors import UsageError


def exact_count(key: Key[Array, ""], shape: tuple[int, ...], count: Any) -> Bool[Array, "*shape"]:
    """True at exactly `count` positions, all about equally likely; `count` in [0, d] may be traced.

    Each position gets a random number, made unique by the position in its low bits. The `count` smallest are selected by
    searching for their threshold, with Newton steps on the expected density of the numbers, safeguarded by bisection, which
    takes about a dozen passes. Sorting takes four times as long. Half a word per position is enough randomness: ties go to the
    lower position, which changes an inclusion probability by at most 2⁻¹⁷ (up to 2¹⁴ components; it doubles with every further
    doubling, because the bits are shared).
    """
    d = int(np.prod(shape))
    unique, end = _unique(key, d)
    spacing = end / d
    count = jnp.asarray(count, jnp.int32)

    def below(
        threshold: Array,
    ) -> Array:  # counted in float32, exact up to 2²⁴, because integer sums are half as fast on CPU
        return jnp.sum((unique < threshold).astype(jnp.float32)).astype(jnp.int32)

    def search(carry: Any) -> tuple[Array, Array, Array, Array]:
        low, high, threshold, smaller = carry
        low = jnp.where(smaller < count, threshold, low)
        high = jnp.where(smaller > count, threshold, high)
        newton = threshold + ((count - smaller).astype(jnp.float32) * spacing).astype(jnp.int32)
        threshold = jnp.where((newton > low) & (newton < high), newton, low + (high - low) // 2)
        return low, high, threshold, below(threshold)

    start = jnp.minimum((count.astype(jnp.float32) * spacing).astype(jnp.int32), end)
    carry = jnp.int32(-1), jnp.int32(end + 1), start, below(start)
    threshold = jax.lax.while_loop(lambda carry: carry[3] != count, search, carry)[2]
    return (unique < threshold).reshape(shape)


def plain_exact_count(key: Key[Array, ""], shape: tuple[int, ...], count: Any) -> Bool[Array, "*shape"]:
    """The definition: the `count` smallest of d random numbers, by sorting. The same bits as `exact_count`."""
    unique, _ = _unique(key, int(np.prod(shape)))
    rank = jnp.argsort(jnp.argsort(unique))
    return (rank < count).reshape(shape)


def _unique(key: Key[Array, ""], d: int) -> tuple[Int[Array, " d"], int]:
    """A unique random number per position, and an upper bound of them."""
    position_bits = (d - 1).bit_length()
    random_bits = min(16, 30 - position_bits)
    if random_bits < 8:
        raise UsageError(f"exact-count corruption is for examples of up to {2**22} components; x has {d}")
    # Two words per block; jax.random.bits keeps only one of them. The keys are threefry's, which `each` ensures.
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(2 * ((d + 3) // 4), dtype=jnp.uint32))
    halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:d] >> (16 - random_bits)
    unique = ((halves << position_bits) | jnp.arange(d, dtype=jnp.uint32)).astype(jnp.int32)
    return unique, 2 ** (random_bits + position_bits)
