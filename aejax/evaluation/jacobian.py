"""The encoder's Jacobian at data: its spectrum, and the directions of local charts (Rifai et al. 2011)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aejax.errors import UsageError
from aejax.objective.penalties import narrow_side, pullback, unit

JACOBIAN_BYTES = 64 * 2**20
"""Upper bound on the bytes of Jacobians in memory, of as many examples as fit, at least one."""

LARGE = 0.05
"""Singular values above this fraction of the largest are counted, as the directions to which a code is sensitive."""


def spectrum(encode: Callable[[Any], Array], x: Float[np.ndarray, " n *shape"]) -> Float[np.ndarray, "n r"]:
    """The singular values of the encoder's Jacobian at each example, [n, r], largest first; r is the smaller of its two widths.

    Their mean over examples is the curve of Rifai et al. (2011): a contractive code has few large ones, as many as directions
    in which the data vary.

    Args:
        encode: x [b, *shape] -> codes [b, ...], each a function of its own example.
        x: Examples.
    """
    return np.concatenate([_singular_values(j) for j in _jacobians(encode, x)])


def _singular_values(j: Float[np.ndarray, "b code d"]) -> Float[np.ndarray, "b r"]:
    """Square roots of the eigenvalues of JJᵀ or JᵀJ, whichever is smaller: 30 times faster than decomposing J.

    In double precision, where squaring loses nothing that J had in single precision.
    """
    j = j.astype(np.float64)
    if j.shape[1] > j.shape[2]:
        j = np.swapaxes(j, 1, 2)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(j @ np.swapaxes(j, 1, 2))[:, ::-1], 0.0))


def charts(
    encode: Callable[[Any], Array], x: Float[np.ndarray, " n *shape"], directions: int
) -> Float[np.ndarray, "n directions *shape"]:
    """The leading right singular vectors of the Jacobian at each example, of unit length and in the shape of x.

    They are the directions to which the code is most sensitive, which are tangent to the data manifold if the encoder has
    learned it (Rifai et al. 2011). The sign of a singular vector is arbitrary; here its largest component in magnitude is
    positive.
    """
    signed = []
    for j in _jacobians(encode, x):
        if not 1 <= directions <= min(j.shape[1:]):
            raise UsageError(f"charts of {directions} directions: a Jacobian {j.shape[1:]} has 1 to {min(j.shape[1:])}")
        vectors = np.linalg.svd(j, full_matrices=False)[2][:, :directions]
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=2)[:, :, None], axis=2)
        signed.append(vectors * np.sign(largest))
    return np.concatenate(signed).reshape(len(x), directions, *x.shape[1:])


def _jacobians(
    encode: Callable[[Any], Array], x: Float[np.ndarray, " n *shape"]
) -> Iterator[Float[np.ndarray, "b code d"]]:
    """Batch by batch, all of one size except the last; by rows or by columns, whichever are fewer."""
    if len(x) == 0:
        raise UsageError("the Jacobian of an encoder at no examples; give at least one")
    d = math.prod(x.shape[1:])
    code = jax.eval_shape(encode, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    size = min(len(x), max(1, JACOBIAN_BYTES // (4 * d * code.size)))

    @jax.jit
    def jacobian(x: Array) -> Array:
        h, pull = pullback(encode, x)
        side, like = narrow_side(pull, h, x)
        columns = jax.lax.map(lambda i: side(unit(i, like)).reshape(len(x), -1), jnp.arange(like[0].size))
        return jnp.moveaxis(columns, 0, 1 if like is h else 2)

    for start in range(0, len(x), size):
        batch = x[start : start + size]
        # One size, one compilation.
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        yield np.asarray(jacobian(jnp.asarray(padded)))[: len(batch)]
