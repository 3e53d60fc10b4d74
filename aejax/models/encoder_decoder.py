"""An encoder and a decoder as functions of their trained parameters, and reductions over the dimensions of an example."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError
from aejax.nets.code import apply, initialized
from aejax.nets.mlp import check_mirror, tie, untie
from aejax.objective.bottlenecks import Bottleneck
from aejax.objective.likelihoods import Likelihood
from aejax.types import Axis, Batch, Extras, Init, Params


class Net(NamedTuple):
    """Encoder and decoder as functions of the trained parameters `{"encoder", "decoder"}`."""

    init: Init
    """As `Model.init`."""
    features: Callable[[Params, Array], Array]
    """(params, x [b, ...]) -> h [b, ...], before the bottleneck."""
    theta: Callable[[Params, Array, Array], Array]
    """(params, z [b, ...], x [b, *shape]) -> theta [b, *shape, likelihood.width]; only the shape of x is used."""


def net(encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, bottleneck: Bottleneck, tied: bool) -> Net:
    """Initialization, encoder and decoder for arguments as in `autoencoder`."""

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_encoder, k_decoder = jax.random.split(key)
        x = batch["x"]
        h, of_encoder = initialized(encoder, k_encoder, x)
        out, of_decoder = initialized(decoder, k_decoder, bottleneck(h, None, None))
        as_theta(out, x.shape[1:], likelihood)
        params = {"encoder": of_encoder, "decoder": of_decoder}
        if tied:
            check_mirror(params["encoder"], params["decoder"])
            params["decoder"] = untie(params["decoder"])
        return params, {}

    def features(params: Params, x: Array) -> Array:
        return apply(encoder, params["encoder"], x)

    def theta(params: Params, z: Array, x: Array) -> Array:
        weights = tie(params["decoder"], params["encoder"]) if tied else params["decoder"]
        return as_theta(apply(decoder, weights, z), x.shape[1:], likelihood)

    return Net(init, features, theta)


def as_theta(out: Float[Array, " b *out"], shape: tuple[int, ...], likelihood: Likelihood) -> Float[Array, " b *theta"]:
    """The decoder's output for examples of this shape, reshaped to theta [b, *shape, likelihood.width]."""
    needed = math.prod(shape) * likelihood.width
    flat = likelihood.width == 1 and math.prod(out.shape[1:]) == needed
    if not flat and out.shape[1:] != (*shape, likelihood.width):
        raise UsageError(
            f"{likelihood.name} needs {needed} numbers from the decoder for an example of shape {shape} "
            f"({likelihood.width} per element), but it gives {out.shape[1:]}; "
            f"end the decoder in the shape {(*shape, likelihood.width)}"
        )
    return out.reshape(-1, *shape, likelihood.width)


def total(values: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    """Sum over the dimensions of each example."""
    if values.ndim == 0:
        raise UsageError("the likelihood's neg_log_prob must return one number per element of x, but returns a scalar")
    rows = values.reshape(values.shape[0], -1)
    # A product with ones: on CPU, XLA fuses a plain sum into the likelihood's loop, which costs a fifth of an MLP's step.
    return jnp.dot(rows, jnp.ones(rows.shape[1], rows.dtype), precision=jax.lax.Precision.HIGHEST)


def per_dimension(
    x_hat: Float[Array, " b *shape"], x: Float[Array, " b *shape"], missing: bool = False
) -> Float[Array, " b"]:
    """Mean squared error over the dimensions of each example; with `missing`, over those that are not NaN."""
    if not missing:
        return total(jnp.square(x_hat - x)) / math.prod(x.shape[1:])
    observed = ~jnp.isnan(x)
    return total(jnp.where(observed, jnp.square(x_hat - x), 0.0)) / jnp.maximum(total(observed.astype(x.dtype)), 1.0)


def filled(likelihood: Likelihood, x: Array) -> Array:
    """An encoder's input: 0, which is the mean of standardized data, in place of missing values."""
    return jnp.where(jnp.isnan(x), 0.0, x) if likelihood.missing else x


def identity(h: Array, axis: Axis, step: Any) -> Array:
    """The identity bottleneck."""
    return h
