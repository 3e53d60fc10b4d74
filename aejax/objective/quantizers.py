"""Quantizers: they map the encoder's vectors to integers, and integers back to vectors.

    z_e [..., width] ──nearest code, or rounding──▶ codes int [..., codebooks] ──lookup──▶ z_q [..., width]

The last axis of z_e is the vector; the axes between the batch and the vector are positions of an image or a signal, if any. The
gradient is copied from z_q to z_e (straight-through) unless a quantizer says otherwise. Statistics are those of the global
batch and change in training only. Losses are summed over the positions of an example, like nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.collectives import gather, mean
from aejax.described import described
from aejax.errors import UsageError, at_least_one, non_negative
from aejax.types import Axis, Extras, Params

KMEANS_ITERATIONS = 10
"""Iterations of k-means on the vectors of the first batch."""

EPSILON = 1e-5
"""Laplace smoothing of counts (as in the code of van den Oord et al., Sonnet)."""


class Quantized(NamedTuple):
    """A quantizer's output for a batch."""

    vectors: Float[Array, "b *positions width"]
    """z_q, whose gradient flows to z_e."""
    codes: Int[Array, "b *positions codebooks"]
    loss: Float[Array, " b"]
    """Loss added to the reconstruction: the commitment, and the codebook's own loss."""
    extras: Extras
    """Statistics after this batch."""


class Quantizer(NamedTuple):
    """A quantizer as pure functions; params are trained by gradient, extras are not.

    Example:
        >>> quantizer = nearest(codes=4, width=2)
        >>> params, extras = quantizer.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (32, 2)))
        >>> quantizer.lookup(params, extras, jnp.array([[0], [3]])).shape
        (2, 2)
    """

    name: str
    width: int
    """Length of a vector."""
    sizes: tuple[int, ...]
    """Number of codes of each codebook; under a uniform prior a position costs log ∏ sizes nats."""
    init: Callable[[Key[Array, ""], Array], tuple[Params, Extras]]
    """(key, z_e [n, width]) -> (params, extras); z_e, from the first batch, may initialize the codebook."""
    apply: Callable[[Params, Extras, Array, Key[Array, ""] | None, Any, Axis], Quantized]
    """(params, extras, z_e [b, *positions, width], key, step, axis) -> Quantized. Outside training key and step are None and
    the statistics do not change."""
    lookup: Callable[[Params, Extras, Array], Array]
    """(params, extras, codes [..., codebooks]) -> z_q [..., width]."""


@described
def nearest(
    codes: int,
    width: int,
    commitment: float = 0.25,
    decay: float | None = 0.99,
    expire: float = 0.0,
    k_means: bool = True,
    cosine: bool = False,
    rotation: bool = False,
) -> Quantizer:
    """Vector quantization with the nearest of K codes (van den Oord et al. 2017, eq. 1-3).

    The loss is β‖z_e − sg[e]‖². Without a decay, ‖sg[z_e] − e‖² is added, which then trains the codebook.

    Args:
        codes: Number of codes K.
        width: Length D of a vector.
        commitment: Weight β of the commitment loss, which acts on the *encoder*.
        decay: Decay γ of the moving averages of each code's count and vector sum, whose ratio is the code (their Appendix A.1),
            with bias correction. None trains the codes by gradient.
        expire: A code whose moving average of counts is below this fraction of its fair share is reset to a random encoder
            output from the batch. 0 never resets codes. It needs a decay.
        k_means: Whether the codes start at the k-means centers of the first batch, or else at draws from N(0, 1/D).
        cosine: Whether vectors and codes are normalized to length 1 (Yu et al. 2022); use a small width.
        rotation: Whether the gradient of z_e is that of z_q rotated and scaled, in place of straight-through (Fifty et al.
            2025).

    Returns:
        A quantizer of vectors [..., width] with one codebook.

    Raises:
        UsageError: A number is out of range, or `expire` is given without a decay.

    Example:
        >>> quantizer = nearest(codes=4, width=2)
        >>> z = jax.random.normal(jax.random.key(1), (32, 2))
        >>> params, extras = quantizer.init(jax.random.key(0), z)
        >>> quantizer.apply(params, extras, z, None, None, None).codes.shape
        (32, 1)
    """
    at_least_one("nearest", "codes", codes)
    at_least_one("nearest", "width", width)
    non_negative("nearest", "commitment", commitment)
    non_negative("nearest", "expire", expire)
    if decay is not None and not 0.0 <= decay < 1.0:
        raise UsageError(
            f"nearest(decay={decay}): a factor from 0 up to, not including, 1; None for codes trained by gradient"
        )
    if expire and decay is None:
        raise UsageError("nearest(expire=...) needs the moving averages; give decay= too")
    unit = _unit if cosine else lambda z: z

    def init(key: Key[Array, ""], z: Array) -> tuple[Params, Extras]:
        z = unit(z)
        start = _k_means(key, z, codes) if k_means else jax.random.normal(key, (codes, width)) / math.sqrt(width)
        start = unit(start)
        if decay is None:
            return {"codebook": start}, {}
        return {}, {
            "codebook": start,
            "share": jnp.zeros(codes),
            "sums": jnp.zeros((codes, width)),
            "weight": jnp.zeros(()),
        }

    def codebook(params: Params, extras: Extras) -> Array:
        return unit(params["codebook"]) if decay is None else extras["codebook"]

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        book = codebook(params, extras)
        z = unit(z)
        rows = z.reshape(-1, width)
        indices = _nearest(rows, book)
        e = book[indices].reshape(z.shape)
        still = jax.lax.stop_gradient
        loss = commitment * squared_norm(z - still(e))
        if decay is None:
            loss = loss + squared_norm(still(z) - e)
        elif step is not None:
            extras = still(advance(decay, extras, rows, indices, key, axis))
        vectors = _rotated(z, still(e)) if rotation else z + still(e - z)
        return Quantized(vectors, indices.reshape(*z.shape[:-1], 1), loss, extras)

    def advance(
        decay: float, extras: Extras, rows: Array, indices: Array, key: Key[Array, ""] | None, axis: Axis
    ) -> dict[str, Array]:
        # As fractions of the batch, so that their mean over devices is that of the global batch.
        share, sums = mean(jax.tree.map(lambda of_all: of_all / rows.shape[0], _gathered(rows, indices, codes)), axis)
        share = decay * extras["share"] + (1.0 - decay) * share
        sums = decay * extras["sums"] + (1.0 - decay) * sums
        weight = decay * extras["weight"] + (1.0 - decay)
        # Smoothed for the division only; a code that never had a vector keeps its initial value.
        smoothed = (share / weight + EPSILON / codes) / (1.0 + EPSILON)
        book = jnp.where((share > 0.0)[:, None], (sums / weight) / smoothed[:, None], extras["codebook"])
        if expire:
            assert key is not None  # training steps always have a key
            everyone = gather(rows, axis)
            dead = share / weight < expire / codes
            other = everyone[jax.random.choice(key, len(everyone), (codes,), replace=len(everyone) < codes)]
            book = jnp.where(dead[:, None], other, book)
            share = jnp.where(dead, weight / codes, share)
            sums = jnp.where(dead[:, None], other * (weight / codes), sums)
        return {"codebook": unit(book), "share": share, "sums": sums, "weight": weight}

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        return codebook(params, extras)[indices[..., 0]]

    return Quantizer("nearest", width, (codes,), init, apply, lookup)


def _nearest(rows: Float[Array, "n d"], book: Float[Array, "k d"]) -> Int[Array, " n"]:
    """Index of the nearest code of each row; the first of equally near ones."""
    product = jnp.einsum("nd,kd->nk", rows, book, precision=jax.lax.Precision.HIGHEST)
    away = jnp.sum(jnp.square(book), axis=1)[None, :] - 2.0 * product
    # The minimum, then the first index that attains it: on CPU, XLA compiles these two reductions to code several times faster
    # than argmin. (For vectors of NaN no index does; then the last one is returned.)
    place = jnp.arange(len(book), dtype=jnp.int32)[None, :]
    least = jnp.min(away, axis=1, keepdims=True)
    return jnp.min(jnp.where(away <= least, place, len(book) - 1), axis=1)


def _gathered(
    rows: Float[Array, "n d"], indices: Int[Array, " n"], codes: int
) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
    """The number of rows assigned to each code, and their sum."""

    def one_by_one(rows: Array, indices: Array) -> tuple[Array, Array]:
        # On CPU 50 times as fast as the product; on other platforms its order of summation is not fixed.
        ones = jnp.ones(rows.shape[0], rows.dtype)
        return jax.ops.segment_sum(ones, indices, codes), jax.ops.segment_sum(rows, indices, codes)

    def by_product(rows: Array, indices: Array) -> tuple[Array, Array]:
        member = jax.nn.one_hot(indices, codes, dtype=rows.dtype)
        return jnp.sum(member, axis=0), jnp.einsum("nk,nd->kd", member, rows)

    return jax.lax.platform_dependent(rows, indices, cpu=one_by_one, default=by_product)


def _k_means(key: Key[Array, ""], z: Float[Array, "n d"], codes: int) -> Float[Array, "k d"]:
    """Lloyd's algorithm from randomly chosen vectors; a center without vectors stays where it is."""
    chosen = jax.random.choice(key, z.shape[0], (codes,), replace=z.shape[0] < codes)

    def improve(_: Array, centers: Array) -> Array:
        counts, sums = _gathered(z, _nearest(z, centers), codes)
        return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1.0)[:, None], centers)

    return jax.lax.fori_loop(0, KMEANS_ITERATIONS, improve, z[chosen])


def _rotated(z: Float[Array, "*shape d"], e: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """e as a rotation and scaling, held constant, of z: ‖e‖/‖z‖ [z − 2w(wᵀz) + 2ê(ẑᵀz)] with w = (ẑ + ê)/‖ẑ + ê‖."""
    still = jax.lax.stop_gradient
    norm = lambda v: jnp.sqrt(jnp.sum(jnp.square(v), axis=-1, keepdims=True) + 1e-12)
    dot = lambda a, b: jnp.sum(a * b, axis=-1, keepdims=True)
    z_hat, e_hat = still(z / norm(z)), still(e / norm(e))
    w = (z_hat + e_hat) / norm(z_hat + e_hat)
    return still(norm(e) / norm(z)) * (z - 2.0 * w * dot(w, z) + 2.0 * e_hat * dot(z_hat, z))


def _unit(z: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    return z / jnp.sqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + 1e-12)


def squared_norm(difference: Float[Array, " b *rest"]) -> Float[Array, " b"]:
    return jnp.sum(jnp.square(difference).reshape(difference.shape[0], -1), axis=1)
