"""A hierarchy of vector-quantized autoencoders (VQ-VAE-2, Razavi et al. 2019, §3.1) with any number of levels.

    x ─▶ encoder 0 ─▶ h₀ ─▶ encoder 1 ─▶ h₁ ─▶ …          upwards, each level coarser; level 0 is next to x
    s₁ = z₁ = quantized(h₁) at the top
    c₀ = decoder 1 (s₁),  z₀ = quantized(join [h₀, c₀]),  s₀ = [z₀, c₀]          downwards
    θ = decoder 0 (s₀)

A level is quantized given the levels above it, so it need not repeat their information, and x is decoded from all levels. The
codes' prior is uniform until one is trained (`code_prior`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import as_theta
from aejax.models.vector_quantized import code_length, perplexity, terms_of
from aejax.nets.code import apply, initialized
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.quantizers import Quantized, Quantizer
from aejax.types import Axis, Batch, Corrupt, DataContract, Discrete, Extras, Model, Objective, Params

QUANTIZERS = "quantisers"  # in parameters and extras, spelled as in the checkpoints of early versions


@described
def vqvae2(
    encoders: Sequence[nn.Module],
    decoders: Sequence[nn.Module],
    likelihood: Likelihood,
    quantizers: Sequence[Quantizer],
    shape: tuple[int, ...],
    corrupt: Corrupt | None = None,
) -> Model:
    """A vector-quantized autoencoder with codes at several levels; all sequences are ordered from level 0 up.

    Its `codes` are a tuple of int [b, *positions, codebooks], one per level; `encode` returns the vectors of all levels as one
    row, [b, all]; `decode` accepts either.

    Args:
        encoders: Linen modules. The first receives x, the others the features below them, [b, *positions, channels]. The last
            one's output has its quantizer's width.
        decoders: Linen modules. The first returns theta [b, *shape, likelihood.width] (for width 1 any shape of that size);
            decoder i returns [b, *positions of level i − 1, any number] from the levels i and above.
        likelihood: Likelihood of the clean x given theta.
        quantizers: One per level.
        shape: Shape of one example.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.

    Returns:
        A `Model`.

    Raises:
        UsageError: The sequences differ in length, or, at initialization, shapes do not match.

    Example:
        >>> from aejax.nets import ConvDecoder, ConvEncoder
        >>> from aejax.objective import bernoulli, nearest
        >>> encoders = [ConvEncoder((8,), 8, blocks=0, spatial=True) for _ in range(2)]
        >>> decoders = [ConvDecoder((8,), shape, blocks=0) for shape in ((8, 8, 1), (4, 4, 8))]
        >>> model = vqvae2(encoders, decoders, bernoulli(), [nearest(16, 8)] * 2, (8, 8, 1))
        >>> batch = {"x": jnp.zeros((2, 8, 8, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> codes = jax.eval_shape(model.discrete.codes, params, extras, batch, jax.random.key(1))
        >>> [level.shape for level in codes]
        [(2, 4, 4, 1), (2, 2, 2, 1)]
    """
    if not len(encoders) == len(decoders) == len(quantizers) >= 1:
        raise UsageError(
            f"vqvae2 needs as many encoders ({len(encoders)}) as decoders ({len(decoders)}) and quantizers ({len(quantizers)})"
        )
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    names, top = [f"level_{i}" for i in range(len(quantizers))], len(quantizers) - 1
    sizes = tuple(q.sizes for q in quantizers)
    joins = [nn.Dense(q.width) for q in quantizers[:-1]]

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        x, h = batch["x"], list[Array]()
        params: Params = {"encoders": {}, "decoders": {}, "joins": {}, QUANTIZERS: {}}
        extras: Extras = {QUANTIZERS: {}}
        k_encode, k_decode, k_join, k_codes = (jax.random.split(k, len(names)) for k in jax.random.split(key, 4))
        for name, encoder, k in zip(names, encoders, k_encode):
            features, params["encoders"][name] = initialized(encoder, k, h[-1] if h else x)
            h.append(features)
        above: Any = None
        for i in reversed(range(len(names))):
            name, z, q = names[i], h[i], quantizers[i]
            if above is not None:
                if above.shape[:-1] != z.shape[:-1]:
                    raise UsageError(
                        f"decoder {i + 1} gives {above.shape[1:]}; end it in the positions {z.shape[1:-1]} of level {i}"
                    )
                z, params["joins"][name] = initialized(joins[i], k_join[i], jnp.concatenate([z, above], axis=-1))
            elif z.shape[-1] != q.width:
                raise UsageError(
                    f"{q.name}() quantizes vectors of {q.width} numbers; end the last encoder in these, not in {z.shape[1:]}"
                )
            rows = z.reshape(-1, q.width)
            params[QUANTIZERS][name], extras[QUANTIZERS][name] = q.init(k_codes[i], rows)
            vectors = q.apply(params[QUANTIZERS][name], extras[QUANTIZERS][name], z, None, None, None).vectors
            above, params["decoders"][name] = initialized(decoders[i], k_decode[i], _beside(vectors, above))
        as_theta(above, shape, likelihood)
        return params, extras

    def upwards(params: Params, x: Array) -> list[Array]:
        h = [x]
        for name, encoder in zip(names, encoders):
            h.append(apply(encoder, params["encoders"][name], h[-1]))
        return h[1:]

    def decoded(params: Params, i: int, vectors: Array, above: Array | None) -> Array:
        """Output of decoder i, given the vectors of its level and the output of the level above."""
        return apply(decoders[i], params["decoders"][names[i]], _beside(vectors, above))

    def quantized(
        params: Params, extras: Extras, x: Array, key: Key[Array, ""] | None = None, step: Any = None, axis: Axis = None
    ) -> tuple[list[Quantized], Array]:
        """Each level's quantizer output for x, and theta."""
        h = upwards(params, x)
        above: Any = None
        parts: list[Quantized] = []
        keys = [None] * len(names) if key is None else jax.random.split(key, len(names))
        for i in reversed(range(len(names))):
            z = h[i]
            if i < top:
                z = apply(joins[i], params["joins"][names[i]], jnp.concatenate([z, above], axis=-1))
            book, statistics = params[QUANTIZERS][names[i]], extras[QUANTIZERS][names[i]]
            parts.insert(0, quantizers[i].apply(book, statistics, z, keys[i], step, axis))
            above = decoded(params, i, parts[0].vectors, above)
        return parts, as_theta(above, shape, likelihood)

    def bound_of(parts: list[Quantized], theta: Array, x: Array) -> dict[str, Array]:
        kl = reduce(add, (code_length(q.codes, of_level) for q, of_level in zip(parts, sizes)))
        return terms_of(likelihood, theta, x, kl, reduce(add, (q.loss for q in parts)))

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_codes = jax.random.split(key)
        x = batch["x"]
        x_tilde, _ = corrupt_batch(noise, k_corrupt, x, batch["index"], step)
        parts, theta = quantized(params, extras, x_tilde, k_codes, step, axis)
        means = {name: jnp.mean(term) for name, term in bound_of(parts, theta, x).items()}
        means |= {f"perplexity_{i}": perplexity(q.codes, sizes[i], axis) for i, q in enumerate(parts)}
        extras = {QUANTIZERS: {name: q.extras for name, q in zip(names, parts)}}
        return means["distortion"] + means["commitment"], (extras, means)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        x = batch["x"]
        terms = bound_of(*quantized(params, extras, x), x)
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, key, x, batch["index"])
            restored = bound_of(*quantized(params, extras, x_tilde), x)
            terms |= {f"denoising_{name}": term for name, term in restored.items()}
        return terms

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        parts, _ = quantized(params, extras, batch["x"])
        return jnp.concatenate([q.vectors.reshape(len(q.vectors), -1) for q in parts], axis=1)

    def codes(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> tuple[Array, ...]:
        return tuple(q.codes for q in quantized(params, extras, batch["x"])[0])

    def decode(params: Params, extras: Extras, z: Any, batch: Batch) -> Array:
        if isinstance(z, tuple):
            by_level = zip(quantizers, names, z)
            vectors = [q.lookup(params[QUANTIZERS][n], extras[QUANTIZERS][n], codes) for q, n, codes in by_level]
        else:
            vectors = apart(params, z)
        above: Any = None
        for i in reversed(range(len(names))):
            above = decoded(params, i, vectors[i], above)
        return likelihood.mean(as_theta(above, shape, likelihood))

    def apart(params: Params, rows: Array) -> list[Array]:
        """The levels' vectors [b, *positions, width], given rows as `encode` returns them."""
        h = jax.eval_shape(upwards, params, jax.ShapeDtypeStruct((rows.shape[0], *shape), rows.dtype))
        shapes = [(*level.shape[:-1], q.width) for level, q in zip(h, quantizers)]
        ends = [sum(math.prod(s[1:]) for s in shapes[: i + 1]) for i in range(top)]
        return [part.reshape(s) for part, s in zip(jnp.split(rows, ends, axis=1), shapes)]

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return likelihood.mean(quantized(params, extras, batch["x"])[1])

    return with_collections(
        Model(
            init=init,
            loss=loss,
            evaluate=evaluate,
            encode=encode,
            decode=decode,
            reconstruct=reconstruct,
            data=DataContract(check=likelihood.check, corrupt=corrupt, num_discrete_dims=likelihood.num_discrete_dims),
            discrete=Discrete(codes, sizes),
        )
    )


def _beside(vectors: jax.Array, above: jax.Array | None) -> jax.Array:
    return vectors if above is None else jnp.concatenate([vectors, above], axis=-1)
