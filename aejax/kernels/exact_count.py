"""Choosing an exact number of positions at random: by a threshold, and plainly by sorting."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Bool, Int, Key

from aejax.errors import UsageError


def exact_count(key: Key[Array, ""], shape: tuple[int, ...], count: Any) -> Bool[Array, "*shape"]:
    """True at exactly `count` positions, every position about as likely as any other; `count` in [0, d] may be traced.

    Each position gets a random number made unique by the position in its low bits; the `count` smallest are chosen by
    searching the threshold. Newton's step on the expected density of the numbers, with bisection as its safeguard, ends
    after about a dozen countings. Sorting costs four times as much. Half a word a position is enough randomness: a tie of
    the halves goes to the lower position, which moves an inclusion probability by at most 2⁻¹⁷ (up to 2¹⁴ components; each
    further doubling of them doubles it, as the bits are shared).
    """
    d = int(np.prod(shape))
    unique, end = _unique(key, d)
    spacing = end / d
    count = jnp.asarray(count, jnp.int32)

    def below(
        threshold: Array,
    ) -> Array:  # counted in float32, exact up to 2²⁴: the sum of integers is half as fast on CPU
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
    """The definition: the `count` smallest of as many random numbers as there are positions, by sorting. The same bits."""
    unique, _ = _unique(key, int(np.prod(shape)))
    rank = jnp.argsort(jnp.argsort(unique))
    return (rank < count).reshape(shape)


def _unique(key: Key[Array, ""], d: int) -> tuple[Int[Array, " d"], int]:
    """A random number for each position, no two equal, and what all are below."""
    position_bits = (d - 1).bit_length()
    random_bits = min(16, 30 - position_bits)
    if random_bits < 8:
        raise UsageError(f"exact-count corruption is for examples of up to {2**22} components; x has {d}")
    # Two words a block; jax.random.bits keeps one of them. The keys are threefry's, each() sees to that.
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(2 * ((d + 3) // 4), dtype=jnp.uint32))
    halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:d] >> (16 - random_bits)
    unique = ((halves << position_bits) | jnp.arange(d, dtype=jnp.uint32)).astype(jnp.int32)
    return unique, 2 ** (random_bits + position_bits)
