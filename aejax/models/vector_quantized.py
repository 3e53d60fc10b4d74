"""The vector-quantized autoencoder (van den Oord et al. 2017), and relatives with other quantizers.

    x ──corrupt──▶ x̃ ──encoder──▶ z_e ──quantizer──▶ codes, z_q ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + the quantizer's
    loss

The posterior of the codes is deterministic, and their prior in training is uniform. The KL is therefore the constant Σ log K
over positions, and `nelbo` = `distortion` + `kl` bounds −log p(x) as it does for a variational autoencoder. A prior trained on
the codes (`code_prior`) lowers it later.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.collectives import mean
from aejax.described import described
from aejax.errors import UsageError
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import as_theta, per_dimension, total
from aejax.nets.code import apply, initialized
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.quantizers import Quantized, Quantizer
from aejax.types import Axis, Batch, Corrupt, DataContract, Discrete, Extras, Model, Objective, Params

QUANTIZER = "quantiser"
"""Its name in parameters and extras, spelled as in the checkpoints of early versions."""


@described
def vqvae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    quantizer: Quantizer,
    shape: tuple[int, ...],
    corrupt: Corrupt | None = None,
) -> Model:
    """A vector-quantized autoencoder.

    Its `codes` are int [b, *positions, codebooks], `encode` returns their vectors, and `decode` accepts either.

    Args:
        encoder: Linen module, x [b, ...] -> z_e [b, *positions, quantizer.width].
        decoder: Linen module, z_q -> theta [b, *shape, likelihood.width]; for width 1 any shape of that size.
        likelihood: Likelihood of the clean x given theta.
        quantizer: A quantizer, see `aejax.objective.quantizers`.
        shape: Shape of one example.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.

    Returns:
        A `Model`.

    Raises:
        UsageError: At initialization, the encoder's width is not the quantizer's, or the decoder's output does not fit.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, nearest
        >>> model = vqvae(MLP((64,), 8), MLP((64,), (28, 28, 1)), bernoulli(), nearest(16, 8), (28, 28, 1))
        >>> batch = {"x": jnp.zeros((2, 28, 28, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.discrete.codes)(params, extras, batch, jax.random.key(1)).shape
        (2, 1)
    """
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_encoder, k_decoder, k_codes = jax.random.split(key, 3)
        z, of_encoder = initialized(encoder, k_encoder, batch["x"])
        if z.shape[-1] != quantizer.width:
            raise UsageError(
                f"{quantizer.name}() quantizes vectors of {quantizer.width} numbers, but the encoder gives {z.shape[1:]}; "
                "end the encoder in quantizer.width"
            )
        out, of_decoder = initialized(decoder, k_decoder, z)
        as_theta(out, shape, likelihood)
        book, statistics = quantizer.init(k_codes, z.reshape(-1, quantizer.width))
        return {"encoder": of_encoder, "decoder": of_decoder, QUANTIZER: book}, {QUANTIZER: statistics}

    def quantized(
        params: Params, extras: Extras, x: Array, key: Key[Array, ""] | None = None, step: Any = None, axis: Axis = None
    ) -> Quantized:
        z = apply(encoder, params["encoder"], x)
        return quantizer.apply(params[QUANTIZER], extras[QUANTIZER], z, key, step, axis)

    def theta_of(params: Params, vectors: Array) -> Array:
        return as_theta(apply(decoder, params["decoder"], vectors), shape, likelihood)

    def bound_of(params: Params, q: Quantized, x: Array) -> dict[str, Array]:
        return terms_of(likelihood, theta_of(params, q.vectors), x, code_length(q.codes, quantizer.sizes), q.loss)

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_codes = jax.random.split(key)
        x = batch["x"]
        x_tilde, _ = corrupt_batch(noise, k_corrupt, x, batch["index"], step)
        q = quantized(params, extras, x_tilde, k_codes, step, axis)
        means = {name: jnp.mean(term) for name, term in bound_of(params, q, x).items()}
        means["perplexity"] = perplexity(q.codes, quantizer.sizes, axis)
        return means["distortion"] + means["commitment"], ({QUANTIZER: q.extras}, means)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        x = batch["x"]
        terms = bound_of(params, quantized(params, extras, x), x)
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, key, x, batch["index"])
            restored = bound_of(params, quantized(params, extras, x_tilde), x)
            terms |= {f"denoising_{name}": term for name, term in restored.items()}
        return terms

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return quantized(params, extras, batch["x"]).vectors

    def codes(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return quantized(params, extras, batch["x"]).codes

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        vectors = quantizer.lookup(params[QUANTIZER], extras[QUANTIZER], z) if z.dtype.kind == "i" else z
        return likelihood.mean(theta_of(params, vectors))

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    return with_collections(
        Model(
            init=init,
            loss=loss,
            evaluate=evaluate,
            encode=encode,
            decode=decode,
            reconstruct=reconstruct,
            data=DataContract(check=likelihood.check, corrupt=corrupt, num_discrete_dims=likelihood.num_discrete_dims),
            discrete=Discrete(codes, quantizer.sizes),
        )
    )


def code_length(codes: Int[Array, "b *positions codebooks"], sizes: tuple[int, ...]) -> float:
    """log of the number of possible codes of one example."""
    return math.prod(codes.shape[1:-1]) * sum(math.log(size) for size in sizes)


def terms_of(
    likelihood: Likelihood,
    theta: Float[Array, " b *theta"],
    x: Float[Array, " b *shape"],
    kl: float,
    commitment: Float[Array, " b"],
) -> dict[str, Float[Array, " b"]]:
    """The bound of x and its parts, with codes that cost `kl` nats."""
    distortion = total(likelihood.neg_log_prob(theta, x))
    cost = jnp.full(x.shape[0], kl)
    return {
        "distortion": distortion,
        "kl": cost,
        "nelbo": distortion + cost,
        "mse": per_dimension(likelihood.mean(theta), x),
        "commitment": commitment,
    }


def perplexity(
    codes: Int[Array, "b *positions codebooks"], sizes: tuple[int, ...], axis: str | None
) -> Float[Array, ""]:
    """exp of the entropy of the codes' frequencies in the global batch, averaged over codebooks."""
    rows = codes.reshape(-1, len(sizes))
    of_each = []
    for i, size in enumerate(sizes):
        share = mean(jnp.zeros(size).at[rows[:, i]].add(1.0 / rows.shape[0]), axis)
        of_each.append(jnp.exp(jnp.sum(jax.scipy.special.entr(share))))
    return jnp.mean(jnp.stack(of_each))
