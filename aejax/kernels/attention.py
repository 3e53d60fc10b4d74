"""Attention with one head, whose bits on CPUs do not depend on the number of examples."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attention(q: Float[Array, "b n c"], k: Float[Array, "b n c"], v: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
    """softmax(q kᵀ / √c) v, with the softmax in float32.

    On CPUs it goes example by example: then XLA fuses the exponentials alike however many examples a device has, and one matrix
    of n×n weights is in memory at a time.
    """
    return jax.lax.platform_dependent(q, k, v, cpu=_one_by_one, default=plain_attention)


def _one_by_one(q: Array, k: Array, v: Array) -> Array:
    return jax.lax.map(lambda one: plain_attention(*(part[None] for part in one))[0], (q, k, v))


def plain_attention(
    q: Float[Array, "b n c"], k: Float[Array, "b n c"], v: Float[Array, "b n c"]
) -> Float[Array, "b n c"]:
    """The definition."""
    weights = jax.nn.softmax((q @ k.swapaxes(1, 2)).astype(jnp.float32) / math.sqrt(q.shape[-1]), axis=-1)
    return weights.astype(v.dtype) @ v
