"""Time gaps of TD-VAE: how far training jumps, and the embedding of a gap that the nets receive."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from aejax.described import described
from aejax.errors import UsageError


class Gap(NamedTuple):
    """A distribution of time gaps in training."""

    draw: Callable[[Key[Array, ""], Any], Array]
    """(key, training step) -> the number of steps from t1 to t2, int."""
    most: int


@described
def uniform(low: int, high: int) -> Gap:
    """Gaps of `low` to `high` steps, all equally probable.

    Args:
        low: Shortest gap, at least 1.
        high: Longest gap.

    Returns:
        A gap.

    Raises:
        UsageError: `low` is below 1 or above `high`.

    Example:
        >>> uniform(1, 4).most
        4
    """
    return mixed([(1.0, (low, high))])


@described
def mixed(parts: Sequence[tuple[float, tuple[int, int]]]) -> Gap:
    """A mixture of uniform ranges of gaps.

    Args:
        parts: (probability, (low, high)) of each range, such as `[(.8, (1, 10)), (.2, (1, 120))]`.

    Returns:
        A gap.

    Raises:
        UsageError: There is no range, a probability is negative, or a range does not start at 1 or above.

    Example:
        >>> mixed([(0.8, (1, 10)), (0.2, (1, 120))]).most
        120
    """
    if not parts or any(p < 0 or not 1 <= low <= high for p, (low, high) in parts) or sum(p for p, _ in parts) <= 0:
        raise UsageError(f"gap {list(parts)}: ranges of steps from 1 up, with their probabilities")
    # NumPy, because this may run as a default argument during import, when JAX must not be initialized yet.
    share = np.array([math.log(p) if p > 0 else -math.inf for p, _ in parts], np.float32)
    low, high = np.array([steps for _, steps in parts], np.int32).T

    def draw(key: Key[Array, ""], step: Any) -> Array:
        k_part, k_steps = jax.random.split(key)
        part = jax.random.categorical(k_part, share)
        return jax.random.randint(k_steps, (), jnp.asarray(low)[part], jnp.asarray(high)[part] + 1, jnp.int32)

    return Gap(draw, max(high for _, (_, high) in parts))


@described
def growing(first: Gap, last: Gap, start: int, end: int) -> Gap:
    """Gaps drawn from `first` before the step `start`, from `last` after the step `end`, and from a changing mixture in
    between.

    While beliefs do not yet know how a sequence continues, long jumps favor states that carry as little information as
    possible.

    Args:
        first: Gaps at the start of training.
        last: Gaps at its end.
        start: Step at which gaps of `last` begin to be drawn.
        end: Step from which all gaps are drawn from `last`.

    Returns:
        A gap.

    Raises:
        UsageError: `start` is negative, or `end` is below `start`.

    Example:
        >>> gaps = growing(uniform(1, 1), uniform(1, 8), start=0, end=1000)
        >>> int(gaps.draw(jax.random.key(0), 0))
        1
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
    """The embedding of a gap: its fraction of the longest gap, with sines and cosines of 1, 2, 4 and 8 half periods.

    Args:
        delta: Gaps in steps, [n].
        most: The longest gap.

    Returns:
        Embeddings [n, 9].
    """
    share = delta.astype(jnp.result_type(float))[:, None] / most
    angle = jnp.pi * share * jnp.array([[1.0, 2.0, 4.0, 8.0]], share.dtype)
    return jnp.concatenate([share, jnp.sin(angle), jnp.cos(angle)], axis=1)
