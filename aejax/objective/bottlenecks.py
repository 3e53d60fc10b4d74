"""Bottlenecks: `(h, axis, step) -> z`, applied to the code between encoder and decoder; the step is None outside training.

A bottleneck selects units and leaves the selected ones unchanged, so gradients flow through these only. Counts and rates may
be schedules of the training step (an Optax schedule works); outside training a schedule has its final value. Ties go to the
first unit, or to the first example of the global batch, so counts are exact and do not depend on the number of devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aejax.collectives import gather, own
from aejax.described import described
from aejax.errors import UsageError
from aejax.kernels.largest import largest
from aejax.objective.schedules import END, Strength, schedule_of
from aejax.types import Axis

Bottleneck = Callable[[Array, str | None, Any], Array]
"""(h [b, ...], axis, step) -> z [b, ...]."""


@described
def top_k(k: Strength, alpha: float | jax.Array = 1.0) -> Bottleneck:
    """Keeps the k largest units of each example and sets the others to zero (Makhzani & Frey 2013).

    The largest values are kept, not the largest absolute values.

    Args:
        k: Number of units kept in training, or a schedule.
        alpha: Outside training `round(alpha * k)` units are kept, at least one and at most all; with a schedule, k is its
            final value.

    Returns:
        A bottleneck `(h, axis, step) -> z`, both [b, ...]; the step is None outside training.

    Raises:
        UsageError: `k` is below 1, or `alpha` is negative.

    Example:
        >>> top_k(2)(jnp.array([[3.0, -5.0, 1.0, 2.0]]), None, 0).tolist()
        [[3.0, 0.0, 0.0, 2.0]]
    """
    at = schedule_of("top_k", "k", k, 1.0, math.inf)
    factor = schedule_of("top_k", "alpha", alpha, 0.0, math.inf)

    def top_k(h: Float[Array, " b *code"], axis: Axis, step: Any) -> Float[Array, " b *code"]:
        count = factor(END) * at(END) if step is None else at(step)
        units = h.reshape(h.shape[0], -1)
        kept = largest(units, _rounded(count, units.shape[1]), 1)
        return jnp.where(kept.reshape(h.shape), h, 0.0)

    return top_k


@described
def winner_take_all(rate: Strength) -> Bottleneck:
    """Lifetime sparsity: each unit keeps its largest activations in the batch (Makhzani & Frey 2015).

    It makes the examples of a batch depend on each other, over all devices. Outside training it is the identity, so the code is
    then denser than in training.

    Args:
        rate: Fraction of the B examples of the global batch in which a unit stays active: `round(rate * B)`, at least one.

    Returns:
        A bottleneck `(h, axis, step) -> z` for rectified codes [b, units].

    Raises:
        UsageError: `rate` is outside [0, 1].

    Example:
        >>> h = jnp.array([[1.0, 2.0], [3.0, 1.0]])
        >>> winner_take_all(0.5)(h, None, 0).tolist()
        [[0.0, 2.0], [3.0, 0.0]]
    """
    at = schedule_of("winner_take_all", "rate", rate, 0.0, 1.0)

    def winner_take_all(h: Float[Array, " b *code"], axis: Axis, step: Any) -> Float[Array, " b *code"]:
        return h if step is None else jnp.where(_winners(h, axis, at(step)), h, 0.0)

    return winner_take_all


@described
def spatial_winner_take_all(rate: Strength | None = None) -> Bottleneck:
    """Keeps the largest activation of each channel over all positions of an example (Makhzani & Frey 2015).

    Like `winner_take_all`, it is the identity outside training.

    Args:
        rate: If given, each channel is also kept only in its largest `round(rate * B)` examples of the global batch.

    Returns:
        A bottleneck `(h, axis, step) -> z` for codes [b, h, w, c], such as those of `ConvEncoder(..., spatial=True)`.

    Raises:
        UsageError: `rate` is outside [0, 1], or the codes are not spatial.

    Example:
        >>> h = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> spatial_winner_take_all()(h, None, 0).ravel().tolist()
        [0.0, 0.0, 0.0, 3.0]
    """
    at = None if rate is None else schedule_of("spatial_winner_take_all", "rate", rate, 0.0, 1.0)

    def spatial_winner_take_all(h: Float[Array, " b *code"], axis: Axis, step: Any) -> Float[Array, " b *code"]:
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


def _winners(h: Float[Array, " b *code"], axis: str | None, rate: Any) -> Bool[Array, " b *code"]:
    """Mask of each unit's round(rate·B) largest activations in the global batch, at least one: the rows of this device."""
    everyone = gather(jax.lax.stop_gradient(h), axis)
    n = len(everyone)
    mask = largest(everyone, _rounded(rate * n, n), 0)
    return own(mask, axis)


def _rounded(count: Any, most: int) -> Int[Array, ""]:
    """The count, rounded and clipped to [1, number of units]; computed on the host if it is a Python number."""
    if isinstance(count, float):
        return jnp.int32(max(round(min(count, most)), 1))
    return jnp.clip(jnp.round(count), 1, most).astype(jnp.int32)
