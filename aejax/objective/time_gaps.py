"""Jumps in time: how far training jumps, and the embedding of a gap that nets see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from aejax.errors import UsageError


class Gap(NamedTuple):
    """How far training jumps."""

    draw: Callable[[Key[Array, ""], Any], Array]
    """(key, step of training) -> the number of steps from t1 to t2, int."""
    most: int


def uniform(low: int, high: int) -> Gap:
    """From low to high steps, all as probable."""
    return mixed([(1.0, (low, high))])


def mixed(parts: Sequence[tuple[float, tuple[int, int]]]) -> Gap:
    """One of several such ranges with the probability before it, as `[(.8, (1, 10)), (.2, (1, 120))]`."""
    if not parts or any(p < 0 or not 1 <= low <= high for p, (low, high) in parts) or sum(p for p, _ in parts) <= 0:
        raise UsageError(f"gap {list(parts)}: ranges of steps from 1 up, with their probabilities")
    # In NumPy: a default argument is made while the module is imported, when JAX must not start yet.
    share = np.array([math.log(p) if p > 0 else -math.inf for p, _ in parts], np.float32)
    low, high = np.array([steps for _, steps in parts], np.int32).T

    def draw(key: Key[Array, ""], step: Any) -> Array:
        k_part, k_steps = jax.random.split(key)
        part = jax.random.categorical(k_part, share)
        return jax.random.randint(k_steps, (), jnp.asarray(low)[part], jnp.asarray(high)[part] + 1, jnp.int32)

    return Gap(draw, max(high for _, (_, high) in parts))


def growing(first: Gap, last: Gap, start: int, end: int) -> Gap:
    """As `first` until the step `start` of training, as `last` from `end` on, and the more often so between.

    Where beliefs do not know yet how fast a sequence goes on, long jumps ask for states that say as little as possible.
    """
    if not 0 <= start <= end:
        raise UsageError(
            f"growing(start={start}, end={end}): steps of training from 0 up, the end no sooner than the start"
        )

    def draw(key: Key[Array, ""], step: Any) -> Array:
        k_which, k_first, k_last = jax.random.split(key, 3)
        share = jnp.clip((step - start) / max(end - start, 1), 0.0, 1.0)
        return jnp.where(jax.random.uniform(k_which) < share, last.draw(k_last, step), first.draw(k_first, step))

    return Gap(draw, max(first.most, last.most))


def embedding(delta: Int[Array, " n"], most: int) -> Float[Array, "n 9"]:
    """A gap as the nets see it: as a share of the longest, with the sines and cosines of 1, 2, 4 and 8 half turns of it."""
    share = delta.astype(jnp.result_type(float))[:, None] / most
    angle = jnp.pi * share * jnp.array([[1.0, 2.0, 4.0, 8.0]], share.dtype)
    return jnp.concatenate([share, jnp.sin(angle), jnp.cos(angle)], axis=1)
