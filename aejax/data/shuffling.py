"""Orders of examples: a permutation, without memory for its positions where there are very many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

STORED = 2**24
"""Most positions of a permutation that is kept in memory, of 8 bytes each."""

ROUNDS = 6


def shuffled(size: int, seed: tuple[int, ...] | int) -> Callable[[Int[np.ndarray, " n"]], Int[np.ndarray, " n"]]:
    """A permutation of `size` positions as a function of positions [n]."""
    if size <= STORED:
        order = np.random.default_rng(seed).permutation(size)
        order.flags.writeable = False
        return lambda positions: order[positions]
    keys = np.random.default_rng(seed).integers(0, 2**64, ROUNDS, np.uint64)
    return lambda positions: _in_rounds(np.asarray(positions), size, keys)


def _in_rounds(positions: Int[np.ndarray, " n"], size: int, keys: np.ndarray) -> Int[np.ndarray, " n"]:
    """A Feistel network: a one-to-one map of the numbers of 2h bits, however halves are mixed. Where it leads beyond the last
    position it is applied again, which leaves a one-to-one map of the positions (Black & Rogaway 2002).
    """
    half = np.uint64(-(-int(size - 1).bit_length() // 2))
    low = np.uint64((1 << int(half)) - 1)
    x = positions.astype(np.uint64)
    outside = np.ones(len(x), bool)
    while outside.any():
        left, right = x[outside] >> half, x[outside] & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        x[outside] = (left << half) | right
        outside = x >= size
    return x.astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
