"""Quantizers without a codebook: the numbers of a vector are rounded, or replaced by their signs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.collectives import mean
from aejax.described import described
from aejax.errors import UsageError, at_least_one
from aejax.objective.quantizers import Quantized, Quantizer, squared_norm
from aejax.types import Axis, Extras, Params


@described
def finite_scalar(levels: Sequence[int]) -> Quantizer:
    """Finite scalar quantization: each number of a vector is bounded by tanh and rounded (Mentzer et al. 2024).

    It has no codebook and no loss, and all ∏ levels codes can be used. The L levels of a number are equally spaced on [-1, 1].
    For odd L this is the paper's rule. For even L the paper's levels lie half a step to the left, and the shift that puts z = 0
    on a level leaves two levels with almost no gradient.

    Args:
        levels: Number of levels of each number of a vector.

    Returns:
        A quantizer of vectors of `len(levels)` numbers.

    Raises:
        UsageError: There are no levels, or a level is not a whole number of at least 2.

    Example:
        >>> quantizer = finite_scalar([3, 5])
        >>> quantizer.sizes
        (15,)
        >>> quantizer.apply({}, {}, jnp.array([[-9.0, 0.0]]), None, None, None).vectors.tolist()
        [[-1.0, 0.0]]
    """
    if not levels or any(not isinstance(n, int) or n < 2 for n in levels):
        raise UsageError(f"finite_scalar(levels={levels}): give whole numbers of at least 2, one for each dimension")
    n = np.asarray(levels, np.int32)
    place = np.concatenate([[1], np.cumprod(n)[:-1]]).astype(np.int32)

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        steps = _as_row(n - 1, z).astype(z.dtype)
        place_on_scale = 0.5 * steps * (jnp.tanh(z) + 1.0)  # in [0, L − 1]
        digits = jnp.round(jax.lax.stop_gradient(place_on_scale))
        rounded = place_on_scale + jax.lax.stop_gradient(digits - place_on_scale)
        index = jnp.sum(digits.astype(jnp.int32) * _as_row(place, z), axis=-1, keepdims=True)
        return Quantized(2.0 * rounded / steps - 1.0, index, jnp.zeros(z.shape[0], z.dtype), extras)

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        digits = indices // _as_row(place, indices) % _as_row(n, indices)
        return 2.0 * digits.astype(jnp.float32) / _as_row(n - 1, indices).astype(jnp.float32) - 1.0

    return Quantizer("finite_scalar", len(levels), (int(np.prod(n)),), lambda key, z: ({}, {}), apply, lookup)


@described
def lookup_free(bits: int, entropy: float = 0.1, commitment: float = 0.25, temperature: float = 1.0) -> Quantizer:
    """Lookup-free quantization: the signs of a vector's numbers (Yu et al. 2024, §3.1), 2^bits codes without a codebook.

    The loss of each position is entropy·(E H(c|z) − H(E c|z)) + commitment·‖z − z_q‖². The first entropy makes assignments
    confident, the second makes all codes equally frequent; p(c|z) ∝ exp(2 c·z / temperature). H(E c|z) is computed bit by bit,
    which is an upper bound.

    Args:
        bits: Length of a vector.
        entropy: Weight of the entropy terms.
        commitment: Weight of the commitment loss.
        temperature: Temperature of p(c|z).

    Returns:
        A quantizer of vectors of `bits` numbers.

    Raises:
        UsageError: `bits` is below 1, or the temperature is not positive.

    Example:
        >>> quantizer = lookup_free(3)
        >>> quantizer.apply({}, {}, jnp.array([[0.2, -4.0, 1.0]]), None, None, None).vectors.tolist()
        [[1.0, -1.0, 1.0]]
    """
    at_least_one("lookup_free", "bits", bits)
    if not temperature > 0.0:
        raise UsageError(f"lookup_free(temperature={temperature}): above 0")
    place = 2 ** np.arange(bits, dtype=np.int32)

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        q = jnp.where(z > 0, 1.0, -1.0).astype(z.dtype)
        positive = (z > 0).astype(jnp.int32)
        index = jnp.sum(positive * _as_row(place, z), axis=-1, keepdims=True)
        logits = 4.0 * z / temperature  # of +1 against −1
        average = mean(jnp.mean(jax.nn.sigmoid(logits).reshape(-1, bits), axis=0), axis)
        sure = jnp.sum(_entropy(logits).reshape(z.shape[0], -1), axis=1)
        positions = math.prod(z.shape[1:-1])
        even = positions * jnp.sum(jax.scipy.special.entr(average) + jax.scipy.special.entr(1.0 - average))
        loss = entropy * (sure - even) + commitment * squared_norm(z - q)
        return Quantized(z + jax.lax.stop_gradient(q - z), index, loss, extras)

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        return 2.0 * (indices // _as_row(place, indices) % 2).astype(jnp.float32) - 1.0

    return Quantizer("lookup_free", bits, (2**bits,), lambda key, z: ({}, {}), apply, lookup)


def _as_row(values: np.ndarray, like: Array) -> Array:
    """One number per component, broadcastable to `like`."""
    return jnp.asarray(values).reshape((1,) * (like.ndim - 1) + (-1,))


def _entropy(logits: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Entropy in nats of a Bernoulli variable with these logits."""
    return jax.nn.softplus(-logits) + logits * jax.nn.sigmoid(-logits)
