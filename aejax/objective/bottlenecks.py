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
from jaxtyping import Array, Bool, Float, Int

from aejax.collectives import gather, own
from aejax.errors import UsageError
from aejax.kernels.largest import largest
from aejax.objective.schedules import END, Strength, schedule_of
from aejax.types import Axis

Bottleneck = Callable[[Array, str | None, Any], Array]
"""(h [b, ...], axis, step) -> z [b, ...]."""


def top_k(k: Strength, alpha: float | jax.Array = 1.0) -> Bottleneck:
    """Keeps the k largest units of each example and sets the others to zero (Makhzani & Frey 2013).

    The largest values are kept, not the largest absolute values.

    Args:
        k: Number of units in training, or a schedule of it.
        alpha: Outside training `round(alpha * k)` units are kept (with a schedule, of its last k), at least one and at most
            all.

    Returns:
        A bottleneck `(h, axis, step) -> z`, both [b, ...]; the step is None outside training.

    Example:
        >>> top_k(2)(jnp.array([[3.0, -5.0, 1.0, 2.0]]), None, 0).tolist()
        [[3.0, 0.0, 0.0, 2.0]]
    """
    at = schedule_of("top_k", "k", k, 1.0, math.inf)
    factor = schedule_of("top_k", "alpha", alpha, 0.0, math.inf)

    def top_k(h: Float[Array, " b *code"], axis: Axis, step: Any) -> Float[Array, " b *code"]:
        count = factor(END) * at(END) if step is None else at(step)
        units = h.reshape(len(h), -1)
        kept = largest(units, _rounded(count, units.shape[1]), 1)
        return jnp.where(kept.reshape(h.shape), h, 0.0)

    return top_k


def winner_take_all(rate: Strength) -> Bottleneck:
    """Lifetime sparsity: each unit keeps its largest activations in the batch (Makhzani & Frey 2015).

    It couples the examples of a batch, over all devices. Outside training it is the identity, so that the code is then denser
    than the one the decoder was trained on.

    Args:
        rate: Fraction of the B examples of the global batch in which a unit stays active; `round(rate * B)`, at least one.

    Returns:
        A bottleneck `(h, axis, step) -> z` for rectified codes [b, units].
    """
    at = schedule_of("winner_take_all", "rate", rate, 0.0, 1.0)

    def winner_take_all(h: Float[Array, " b *code"], axis: Axis, step: Any) -> Float[Array, " b *code"]:
        return h if step is None else jnp.where(_winners(h, axis, at(step)), h, 0.0)

    return winner_take_all


def spatial_winner_take_all(rate: Strength | None = None) -> Bottleneck:
    """Keeps the largest activation of each channel over all positions of an example (Makhzani & Frey 2015).

    Outside training it is the identity, as `winner_take_all` is.

    Args:
        rate: Where given, each channel also keeps only its largest `round(rate * B)` examples of the global batch.

    Returns:
        A bottleneck for rectified spatial codes [b, h, w, channels], as of `ConvEncoder(..., spatial=True)`.
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
    """Of each unit the round(rate·B) largest in the global batch, at least one: this device's rows of the mask."""
    everyone = gather(jax.lax.stop_gradient(h), axis)
    n = len(everyone)
    mask = largest(everyone, _rounded(rate * n, n), 0)
    return own(mask, axis)


def _rounded(count: Any, most: int) -> Int[Array, ""]:
    """Rounded and clipped to between one and the number of units; on the host where it is a number."""
    if isinstance(count, float):
        return jnp.int32(max(round(min(count, most)), 1))
    return jnp.clip(jnp.round(count), 1, most).astype(jnp.int32)
