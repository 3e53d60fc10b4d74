"""The image autoencoder of latent diffusion with a KL term (Rombach et al. 2022): latents in which another model generates."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.described import described
from aejax.errors import UsageError, non_negative
from aejax.keys import each
from aejax.models.encoder_decoder import per_dimension, total
from aejax.nets.code import apply, initialized
from aejax.types import Axis, Batch, Extras, Model, Objective, Params

LOWEST, HIGHEST = -30.0, 20.0
"""Bounds of log σ² (as in Stable Diffusion)."""


@described
def kl_autoencoder(
    encoder: nn.Module,
    decoder: nn.Module,
    shape: tuple[int, ...],
    kl_weight: Any = 1e-6,
    scaling: float = 1.0,
    shift: float = 0.0,
) -> Model:
    """An autoencoder of images with latents [h', w', c], trained with Σ|x − x̂| + kl_weight · KL(q(z|x) ‖ N(0, I)).

    The net sees images in [-1, 1]; data, reconstructions and terms in data range are in [0, 1].

    Args:
        encoder: Linen module, x [b, h, w, c] -> moments [b, h', w', 2c']: means, then log σ²; `aejax.nets.KLEncoder`.
        decoder: Linen module, z [b, h', w', c'] -> x [b, h, w, c]; `aejax.nets.KLDecoder`.
        shape: Shape of an image.
        kl_weight: Weight of the KL term.
        scaling: Codes are (z − shift) · scaling, so that those of a trained model have variance 1 (.18215 for Stable
            Diffusion); `decode` takes them back.
        shift: See `scaling`.

    Returns:
        A `Model`, whose code is the scaled mean. It evaluates `nll`, the absolute error summed over the image in [-1, 1], `kl` in
        nats per example, and `mse`, per dimension.

    Raises:
        UsageError: The weight is negative, scaling is 0, or, at initialization, the decoder gives images of another size.

    Example:
        >>> from aejax.nets import KLDecoder, KLEncoder
        >>> model = kl_autoencoder(KLEncoder((8, 16), 4, groups=4), KLDecoder((8, 16), 1, groups=4), (28, 28, 1))
        >>> batch = {"x": jnp.zeros((2, 28, 28, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.encode)(params, extras, batch, jax.random.key(1)).shape
        (2, 14, 14, 4)
    """
    non_negative("kl_autoencoder", "kl_weight", kl_weight)
    if scaling == 0:
        raise UsageError("kl_autoencoder(scaling=0): codes would all be zero")

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_encoder, k_decoder = jax.random.split(key)
        h, of_encoder = initialized(encoder, k_encoder, _signed(batch["x"]))
        x_hat, of_decoder = initialized(decoder, k_decoder, jnp.split(h, 2, axis=-1)[0])
        if x_hat.shape[1:] != shape:
            raise UsageError(
                f"images of {shape} become latents of {h.shape[1:3]} and images of {x_hat.shape[1:]}; give sides that are "
                "divisible by 2 for each level but the last (--image-size)"
            )
        return {"encoder": of_encoder, "decoder": of_decoder}, {}

    def moments(params: Params, x: Array) -> tuple[Array, Array]:
        """Means and log σ² of the latents."""
        mean, log_variance = jnp.split(apply(encoder, params["encoder"], _signed(x)), 2, axis=-1)
        return mean, jnp.clip(log_variance, LOWEST, HIGHEST)

    def image(params: Params, z: Array) -> Array:
        return apply(decoder, params["decoder"], z)

    def terms_of(x: Array, x_hat: Array, mean: Array, log_variance: Array) -> dict[str, Array]:
        kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1.0)
        return {
            "nll": total(jnp.abs(_signed(x) - x_hat)),
            "kl": total(kl),
            "mse": per_dimension(_unsigned(x_hat), x),
        }

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        mean, log_variance = moments(params, batch["x"])
        epsilon = jax.vmap(lambda k: jax.random.normal(k, mean.shape[1:]))(each(key, batch["index"]))
        z = mean + jnp.exp(0.5 * log_variance) * epsilon
        terms = terms_of(batch["x"], image(params, z), mean, log_variance)
        means = {name: jnp.mean(term) for name, term in terms.items()}
        return means["nll"] + kl_weight * means["kl"], (extras, means)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        mean, log_variance = moments(params, batch["x"])
        return terms_of(batch["x"], image(params, mean), mean, log_variance)

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return (moments(params, batch["x"])[0] - shift) * scaling

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return _unsigned(image(params, z / scaling + shift))

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    return Model(init=init, loss=loss, evaluate=evaluate, encode=encode, decode=decode, reconstruct=reconstruct)


def _signed(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return 2.0 * x - 1.0


def _unsigned(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return 0.5 * (x + 1.0)
