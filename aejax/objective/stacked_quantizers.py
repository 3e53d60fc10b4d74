"""Quantizers with several codebooks at each position: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.objective.quantizers import Quantized, Quantizer
from aejax.types import Axis, Extras, Params


@described
def residual(quantizers: Sequence[Quantizer]) -> Quantizer:
    """Residual quantization: each codebook quantizes the remainder left by those before it (Zeghidour et al. 2021).

    Args:
        quantizers: Quantizers of equal width, in the order in which they are applied.

    Returns:
        A quantizer whose vectors are the sum, with one codebook per quantizer.

    Raises:
        UsageError: There is no quantizer, widths differ, or one has several codebooks itself.

    Example:
        >>> quantizer = residual([nearest(64, 8), nearest(64, 8)])
        >>> quantizer.width, quantizer.sizes
        (8, (64, 64))
    """
    _same_width("residual", quantizers)

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        rest, vectors, parts = z, jnp.zeros_like(z), []
        for i, (quantizer, k) in enumerate(zip(quantizers, _keys(key, len(quantizers)))):
            parts.append(quantizer.apply(params[f"book_{i}"], extras[f"book_{i}"], rest, k, step, axis))
            # Losses of later codebooks reach the encoder directly, not through the choices of earlier ones.
            rest = rest - jax.lax.stop_gradient(parts[-1].vectors)
            vectors = vectors + jax.lax.stop_gradient(parts[-1].vectors)
        return _joined(z + jax.lax.stop_gradient(vectors - z), parts)

    def init(key: Key[Array, ""], z: Array) -> tuple[Params, Extras]:
        params, extras = {}, {}
        for i, (quantizer, k) in enumerate(zip(quantizers, jax.random.split(key, len(quantizers)))):
            params[f"book_{i}"], extras[f"book_{i}"] = quantizer.init(k, z)
            z = z - quantizer.apply(params[f"book_{i}"], extras[f"book_{i}"], z, k, None, None).vectors
        return params, extras

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        parts = (
            quantizer.lookup(params[f"book_{i}"], extras[f"book_{i}"], indices[..., i : i + 1])
            for i, quantizer in enumerate(quantizers)
        )
        return reduce(add, parts)

    return Quantizer("residual", quantizers[0].width, _sizes(quantizers), init, apply, lookup)


@described
def grouped(quantizers: Sequence[Quantizer]) -> Quantizer:
    """Grouped quantization: a vector is split into parts, each with its own codebook (Yang et al. 2023).

    Args:
        quantizers: One quantizer per part; their widths add up.

    Returns:
        A quantizer whose vectors are the concatenated parts.

    Raises:
        UsageError: There is no quantizer, or one has several codebooks itself.

    Example:
        >>> quantizer = grouped([nearest(64, 4), nearest(64, 4)])
        >>> quantizer.width, quantizer.sizes
        (8, (64, 64))
    """
    if not quantizers:
        raise UsageError("grouped([]): at least one codebook")
    ends = np.cumsum([quantizer.width for quantizer in quantizers])[:-1].tolist()

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        keys = _keys(key, len(quantizers))
        parts = [
            quantizer.apply(params[f"book_{i}"], extras[f"book_{i}"], part, k, step, axis)
            for i, (quantizer, part, k) in enumerate(zip(quantizers, jnp.split(z, ends, axis=-1), keys))
        ]
        return _joined(jnp.concatenate([part.vectors for part in parts], axis=-1), parts)

    def init(key: Key[Array, ""], z: Array) -> tuple[Params, Extras]:
        keys = jax.random.split(key, len(quantizers))
        made = [quantizer.init(k, part) for quantizer, k, part in zip(quantizers, keys, jnp.split(z, ends, axis=-1))]
        return {f"book_{i}": m[0] for i, m in enumerate(made)}, {f"book_{i}": m[1] for i, m in enumerate(made)}

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        parts = [
            quantizer.lookup(params[f"book_{i}"], extras[f"book_{i}"], indices[..., i : i + 1])
            for i, quantizer in enumerate(quantizers)
        ]
        return jnp.concatenate(parts, axis=-1)

    return Quantizer(
        "grouped", sum(quantizer.width for quantizer in quantizers), _sizes(quantizers), init, apply, lookup
    )


def _keys(key: Key[Array, ""] | None, n: int) -> Sequence[Any]:
    """One key per quantizer; outside training there is no key and none is needed."""
    return [None] * n if key is None else list(jax.random.split(key, n))


def _joined(vectors: Array, parts: Sequence[Quantized]) -> Quantized:
    """The codebooks' codes side by side, their losses added."""
    codes = jnp.concatenate([part.codes for part in parts], axis=-1)
    loss = jnp.sum(jnp.stack([part.loss for part in parts]), axis=0)
    return Quantized(vectors, codes, loss, {f"book_{i}": part.extras for i, part in enumerate(parts)})


def _sizes(quantizers: Sequence[Quantizer]) -> tuple[int, ...]:
    if any(len(quantizer.sizes) != 1 for quantizer in quantizers):
        raise UsageError("residual() and grouped() take quantizers with a single codebook; do not nest them")
    return tuple(quantizer.sizes[0] for quantizer in quantizers)


def _same_width(name: str, quantizers: Sequence[Quantizer]) -> None:
    if not quantizers or len({quantizer.width for quantizer in quantizers}) != 1:
        raise UsageError(
            f"{name}(): at least one codebook, and all of one width, not {[quantizer.width for quantizer in quantizers]}"
        )
