"""Quantizers: what makes integers of an encoder's vectors, and vectors of them again.

    z_e [..., width] ──nearest code, or rounding──▶ codes int [..., codebooks] ──lookup──▶ z_q [..., width]

The last axis of z_e is a vector; the axes between it and the example's are positions, of an image, a signal or none. The
gradient passes from z_q to z_e as if nothing had been in between (straight through), unless a quantizer says otherwise.
Statistics are of the global batch, and change in training alone. Losses are summed over an example's positions, as nats are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from aejax.collectives import gather, mean
from aejax.errors import UsageError, at_least_one, non_negative
from aejax.types import Axis, Extras, Params

KMEANS_ITERATIONS = 10
"""Rounds of k-means on the first batch's vectors."""

EPSILON = 1e-5
"""Of the Laplace smoothing of counts (van den Oord et al.'s own code, Sonnet)."""


class Quantized(NamedTuple):
    """What a quantizer makes of a batch."""

    vectors: Float[Array, "b *positions width"]
    """z_q, with the gradient that the quantizer gives z_e."""
    codes: Int[Array, "b *positions codebooks"]
    loss: Float[Array, " b"]
    """What it asks for beside the reconstruction: commitment, and the codebook's own."""
    extras: Extras
    """Its statistics after this batch."""


class Quantizer(NamedTuple):
    """As pure functions; params are trained by gradient, extras are not."""

    name: str
    width: int
    """Numbers in a vector."""
    sizes: tuple[int, ...]
    """How many codes each of the codebooks has: a position holds log ∏ sizes nats."""
    init: Callable[[Key[Array, ""], Array], tuple[Params, Extras]]
    """(key, z_e [n, width]) -> (params, extras): a codebook may begin at the first batch's vectors."""
    apply: Callable[[Params, Extras, Array, Key[Array, ""] | None, Any, Axis], Quantized]
    """(params, extras, z_e [b, *positions, width], key, step, axis) -> Quantized. Outside training key and step are None, and
    the statistics stay as they are."""
    lookup: Callable[[Params, Extras, Array], Array]
    """(params, extras, codes [..., codebooks]) -> z_q [..., width]."""


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
    """The nearest of K vectors (van den Oord et al. 2017, eq. 1-3).

    Loss: β‖z_e − sg[e]‖², and without a decay also ‖sg[z_e] − e‖², which is then what moves the codebook.

    Args:
        codes: K.
        width: D.
        commitment: β, on what moves the *encoder*.
        decay: γ of the moving averages of how many vectors a code has and of their sum, whose quotient is the code (their
            Appendix A.1), free of the bias of a start from zero; None trains the codes by gradient.
        expire: a code that has fewer than this fraction of its fair share of a batch's vectors, on moving average, is put
            where one of the batch's vectors is. 0 leaves codes dead. Needs a decay.
        k_means: the codes begin at the centers of the first batch's vectors, else at random ones of N(0, 1/D).
        cosine: vectors and codes are of length 1 (Yu et al. 2022); use a small width.
        rotation: z_e's gradient is z_q's, turned and scaled as e is to z_e (Fifty et al. 2025), in place of straight through.

    Returns:
        A quantizer of vectors of `width` numbers with one codebook.
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
        raise UsageError("nearest(expire=...) looks at the moving averages; give decay= too")
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
        loss = commitment * _squared(z - still(e))
        if decay is None:
            loss = loss + _squared(still(z) - e)
        elif step is not None:
            extras = still(advance(decay, extras, rows, indices, key, axis))
        vectors = _rotated(z, still(e)) if rotation else z + still(e - z)
        return Quantized(vectors, indices.reshape(*z.shape[:-1], 1), loss, extras)

    def advance(
        decay: float, extras: Extras, rows: Array, indices: Array, key: Key[Array, ""] | None, axis: Axis
    ) -> dict[str, Array]:
        # In parts of the batch: a mean over devices is then that of the global one, of whatever size.
        share, sums = mean(jax.tree.map(lambda of_all: of_all / len(rows), _gathered(rows, indices, codes)), axis)
        share = decay * extras["share"] + (1.0 - decay) * share
        sums = decay * extras["sums"] + (1.0 - decay) * sums
        weight = decay * extras["weight"] + (1.0 - decay)
        # Smoothed for the division alone; what has had no vector yet stays where it began.
        smoothed = (share / weight + EPSILON / codes) / (1.0 + EPSILON)
        book = jnp.where((share > 0.0)[:, None], (sums / weight) / smoothed[:, None], extras["codebook"])
        if expire:
            assert key is not None  # every training step has one
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


def finite_scalar(levels: Sequence[int]) -> Quantizer:
    """Finite scalar quantization: each number of a vector is bounded by tanh and rounded (Mentzer et al. 2024).

    There is no codebook and no loss of its own, and all ∏ levels codes can be used. The L levels of a number lie evenly on
    [-1, 1]. For odd L that is the paper's rule; for even L the paper's levels lie half a step to the left, and the shift that
    puts z = 0 on a level leaves two levels with almost no gradient.

    Args:
        levels: Number of levels of each number of a vector.

    Returns:
        A quantizer of vectors of `len(levels)` numbers.
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
        return Quantized(2.0 * rounded / steps - 1.0, index, jnp.zeros(len(z), z.dtype), extras)

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        digits = indices // _as_row(place, indices) % _as_row(n, indices)
        return 2.0 * digits.astype(jnp.float32) / _as_row(n - 1, indices).astype(jnp.float32) - 1.0

    return Quantizer("finite_scalar", len(levels), (int(np.prod(n)),), lambda key, z: ({}, {}), apply, lookup)


def lookup_free(bits: int, entropy: float = 0.1, commitment: float = 0.25, temperature: float = 1.0) -> Quantizer:
    """The signs of a vector's numbers (Yu et al. 2024, §3.1): 2^bits codes without a codebook.

    Loss, for each position: entropy·(E H(c|z) − H(E c|z)) + commitment·‖z − z_q‖². The first entropy makes a vector sure of its
    code, the second makes codes equally frequent; p(c|z) ∝ exp(2 c·z / temperature). H(E c|z) is taken bit by bit, an upper
    bound.

    Args:
        bits: Numbers of a vector.
        entropy: Weight of the entropy terms.
        commitment: Weight of the commitment.
        temperature: Of p(c|z).

    Returns:
        A quantizer of vectors of `bits` numbers.
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
        sure = jnp.sum(_entropy(logits).reshape(len(z), -1), axis=1)
        positions = math.prod(z.shape[1:-1])
        even = positions * jnp.sum(jax.scipy.special.entr(average) + jax.scipy.special.entr(1.0 - average))
        loss = entropy * (sure - even) + commitment * _squared(z - q)
        return Quantized(z + jax.lax.stop_gradient(q - z), index, loss, extras)

    def lookup(params: Params, extras: Extras, indices: Array) -> Array:
        return 2.0 * (indices // _as_row(place, indices) % 2).astype(jnp.float32) - 1.0

    return Quantizer("lookup_free", bits, (2**bits,), lambda key, z: ({}, {}), apply, lookup)


def residual(quantizers: Sequence[Quantizer]) -> Quantizer:
    """Residual quantization: each codebook quantizes what those before it left over (Zeghidour et al. 2021).

    Args:
        quantizers: In this order, all of one width.

    Returns:
        A quantizer whose output is the sum, and whose codes have one codebook for each quantizer.
    """
    _same_width("residual", quantizers)

    def apply(params: Params, extras: Extras, z: Array, key: Key[Array, ""] | None, step: Any, axis: Axis) -> Quantized:
        rest, vectors, parts = z, jnp.zeros_like(z), []
        for i, (quantizer, k) in enumerate(zip(quantizers, _keys(key, len(quantizers)))):
            parts.append(quantizer.apply(params[f"book_{i}"], extras[f"book_{i}"], rest, k, step, axis))
            # The later codebooks' losses move the encoder directly, not through what the earlier ones chose.
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


def grouped(quantizers: Sequence[Quantizer]) -> Quantizer:
    """Grouped quantization: a vector is split into parts, each with a codebook of its own (Yang et al. 2023).

    Args:
        quantizers: One for each part; the widths add up.

    Returns:
        A quantizer whose output is the parts, concatenated.
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
    """Outside training there is none, and none is needed."""
    return [None] * n if key is None else list(jax.random.split(key, n))


def _joined(vectors: Array, parts: Sequence[Quantized]) -> Quantized:
    """The codebooks' codes side by side, their losses added."""
    codes = jnp.concatenate([part.codes for part in parts], axis=-1)
    loss = jnp.sum(jnp.stack([part.loss for part in parts]), axis=0)
    return Quantized(vectors, codes, loss, {f"book_{i}": part.extras for i, part in enumerate(parts)})


def _sizes(quantizers: Sequence[Quantizer]) -> tuple[int, ...]:
    if any(len(quantizer.sizes) != 1 for quantizer in quantizers):
        raise UsageError("residual() and grouped() are made of single codebooks; do not nest them")
    return tuple(quantizer.sizes[0] for quantizer in quantizers)


def _same_width(name: str, quantizers: Sequence[Quantizer]) -> None:
    if not quantizers or len({quantizer.width for quantizer in quantizers}) != 1:
        raise UsageError(
            f"{name}(): at least one codebook, and all of one width, not {[quantizer.width for quantizer in quantizers]}"
        )


def _as_row(values: np.ndarray, like: Array) -> Array:
    """A number for each component, with as many axes as what it is combined with."""
    return jnp.asarray(values).reshape((1,) * (like.ndim - 1) + (-1,))


def _nearest(rows: Float[Array, "n d"], book: Float[Array, "k d"]) -> Int[Array, " n"]:
    """Of equally near ones the first."""
    product = jnp.einsum("nd,kd->nk", rows, book, precision=jax.lax.Precision.HIGHEST)
    away = jnp.sum(jnp.square(book), axis=1)[None, :] - 2.0 * product
    # The smallest, then the first that is as small: two plain reductions, which XLA makes several times faster on CPU than the
    # one of pairs that argmin is. (Of vectors that are not numbers none is; then the last.)
    place = jnp.arange(len(book), dtype=jnp.int32)[None, :]
    least = jnp.min(away, axis=1, keepdims=True)
    return jnp.min(jnp.where(away <= least, place, len(book) - 1), axis=1)


def _gathered(
    rows: Float[Array, "n d"], indices: Int[Array, " n"], codes: int
) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
    """How many rows have a code, and their sum."""

    def one_by_one(
        rows: Array, indices: Array
    ) -> tuple[Array, Array]:  # fifty times as fast as the product on CPU; of no fixed order elsewhere
        ones = jnp.ones(len(rows), rows.dtype)
        return jax.ops.segment_sum(ones, indices, codes), jax.ops.segment_sum(rows, indices, codes)

    def by_product(rows: Array, indices: Array) -> tuple[Array, Array]:
        member = jax.nn.one_hot(indices, codes, dtype=rows.dtype)
        return jnp.sum(member, axis=0), jnp.einsum("nk,nd->kd", member, rows)

    return jax.lax.platform_dependent(rows, indices, cpu=one_by_one, default=by_product)


def _k_means(key: Key[Array, ""], z: Float[Array, "n d"], codes: int) -> Float[Array, "k d"]:
    """Lloyd's algorithm from vectors chosen at random; a center that loses all its vectors stays."""
    chosen = jax.random.choice(key, len(z), (codes,), replace=len(z) < codes)

    def improve(_: Array, centers: Array) -> Array:
        counts, sums = _gathered(z, _nearest(z, centers), codes)
        return jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1.0)[:, None], centers)

    return jax.lax.fori_loop(0, KMEANS_ITERATIONS, improve, z[chosen])


def _rotated(z: Float[Array, "*shape d"], e: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    """e, as a rotation and scaling of z that is held constant: ‖e‖/‖z‖ [z − 2w(wᵀz) + 2ê(ẑᵀz)], w = (ẑ + ê)/‖ẑ + ê‖."""
    still = jax.lax.stop_gradient
    norm = lambda v: jnp.sqrt(jnp.sum(jnp.square(v), axis=-1, keepdims=True) + 1e-12)
    dot = lambda a, b: jnp.sum(a * b, axis=-1, keepdims=True)
    z_hat, e_hat = still(z / norm(z)), still(e / norm(e))
    w = (z_hat + e_hat) / norm(z_hat + e_hat)
    return still(norm(e) / norm(z)) * (z - 2.0 * w * dot(w, z) + 2.0 * e_hat * dot(z_hat, z))


def _unit(z: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
    return z / jnp.sqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + 1e-12)


def _squared(difference: Float[Array, " b *rest"]) -> Float[Array, " b"]:
    return jnp.sum(jnp.square(difference).reshape(len(difference), -1), axis=1)


def _entropy(logits: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Of a coin with these log-odds, nats."""
    return jax.nn.softplus(-logits) + logits * jax.nn.sigmoid(-logits)
