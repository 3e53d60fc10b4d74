"""The loss that revives dead units of a sparse dictionary (Gao et al. 2024, appendix A.2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from aejax.collectives import gather, mean
from aejax.objective.activations import keep_largest
from aejax.types import Axis


class AuxiliaryLoss(NamedTuple):
    """The loss that revives dead units, of `aejax.models.dictionary`.

    Example:
        >>> AuxiliaryLoss(dead_after=100_000).weight
        0.03125
    """

    k: int | None = None
    """Number of dead units that reconstruct what the others leave; half of the dimensions by default."""
    weight: float = 1 / 32
    dead_after: int = 10_000_000
    """A unit is dead if it has been silent for so many examples."""


def revival(
    a: Float[Array, "b n"],
    dead: Bool[Array, " n"],
    left: Float[Array, "b d"],
    kernel: Float[Array, "n d"],
    k: int,
    axis: Axis,
) -> Float[Array, ""]:
    """‖e − ê‖² relative to the variance of e, where ê is made of the k largest dead units; 0 if no unit is dead.

    Args:
        a: What is compared with zero or a threshold, for each unit.
        dead: Which units are dead.
        left: What the others leave, e = x − x̂; it gets no gradient.
        kernel: The decoder's rows. Its bias is not used.
        k: Number of dead units.
        axis: The axis of devices.

    Returns:
        The mean over the examples of this device.
    """
    e = jax.lax.stop_gradient(left)
    center = mean(jnp.mean(e, axis=0), axis)
    variance = mean(jnp.mean(jnp.sum(jnp.square(e - center[None]), axis=1)), axis)

    def relative() -> Array:
        revived = keep_largest(jnp.where(dead[None], nn.relu(a), 0.0), max(1, min(k, len(kernel))))
        error = jnp.mean(jnp.sum(jnp.square(e - revived @ kernel), axis=1))
        return jnp.where(variance > 0, error / jnp.maximum(variance, 1e-30), 0.0)

    return jax.lax.cond(jnp.any(dead), relative, lambda: jnp.zeros(()))


def silent_for(silent: Float[Array, " n"], z: Float[Array, "b n"], axis: Axis) -> Float[Array, " n"]:
    """For how many examples each unit has been silent after this batch, over all devices."""
    fired = jnp.any(gather(jnp.any(z != 0, axis=0)[None], axis), axis=0)
    b: Any = len(z) if axis is None else len(z) * jax.lax.axis_size(axis)
    return jnp.where(fired, 0.0, silent + b)
