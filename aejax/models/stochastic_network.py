"""Denoising autoencoders as generative models (Bengio, Yao, Alain & Vincent 2013).

A denoiser that knows all of p(x|x̃), not only its mean, defines a Markov chain, whose stationary law is the data law:

    X̃ ~ C(·|X)        the corruption
    X ~ P(·|X̃)        a draw of the likelihood at the decoder's theta

Walkback training follows this chain from a training example for a few steps, and asks every x̃ on the way for the example it
came from: where the chain strays to, the model learns the way back. It leaves the stationary law where it is.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.autoencoders import autoencoder, identity, net, per_dimension, total
from aejax.objective.corruptions import corrupt_batch
from aejax.objective.likelihoods import Likelihood
from aejax.objective.schedules import END
from aejax.types import Axis, Batch, Corrupt, Extras, Model, Objective, Params, Temporal


def gsn(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    corrupt: Corrupt,
    shape: tuple[int, ...],
    walkback: int = 1,
    burn_in: int = 100,
) -> Model:
    """A denoising autoencoder with the Markov chain that it defines.

    It is `autoencoder(encoder, decoder, likelihood, corrupt)` but for the loss, `chain` and `sample`. Logged are `nll` and
    `mse` of the walk's first step, which are the denoising autoencoder's, and `walkback_nll` of its last.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, ...].
        decoder: Linen module, h -> theta, as in `autoencoder`.
        likelihood: p(x|x̃), which the chain draws from.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.
        shape: of one example: sampling sees no data.
        walkback: steps of the chain in training, each a corruption and a reconstruction; 1 is the denoising autoencoder.
        burn_in: steps of the chain before `sample` looks at it.

    Returns:
        A `Model`.
    """
    if walkback < 1 or burn_in < 1:
        raise UsageError(f"gsn(walkback={walkback}, burn_in={burn_in}): both count steps and must be at least 1")
    base = autoencoder(encoder, decoder, likelihood, corrupt=corrupt)
    parts = net(encoder, decoder, likelihood, identity, tied=False)

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        if batch["x"].shape[1:] != shape:
            raise UsageError(f"gsn(shape={shape}) is given examples of shape {batch['x'].shape[1:]}; use train.shape")
        return base.init(key, batch)

    def denoise(
        params: Params, key: Key[Array, ""], x: Float[Array, " b *shape"], index: Int[Array, " b"], step: Any = END
    ) -> Array:
        """theta [b, *shape, width] of p(·|x̃) for x̃ ~ C(·|x)."""
        x_tilde, _ = corrupt_batch(corrupt, key, x, index, step)
        return parts.theta(params, parts.features(params, x_tilde), x)

    def draw(key: Key[Array, ""], theta: Float[Array, " b *theta"], index: Int[Array, " b"]) -> Array:
        return jax.vmap(likelihood.draw)(each(key, index), theta)

    def onwards(params: Params, key: Key[Array, ""], theta: Array, index: Array, step: Any = END) -> Array:
        """From p(·|x̃) to that of the next step: draw x, corrupt it, denoise it."""
        k_draw, k_corrupt = jax.random.split(key)
        return denoise(params, k_corrupt, jax.lax.stop_gradient(draw(k_draw, theta, index)), index, step)

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        x, index = batch["x"], batch["index"]
        k_corrupt, k_walk = jax.random.split(key)  # as in `autoencoder`: the first step has its very noise
        walk = [denoise(params, k_corrupt, x, index, step)]
        for k in jax.random.split(k_walk, walkback - 1):
            walk.append(onwards(params, k, walk[-1], index, step))
        nll = [total(likelihood.neg_log_prob(theta, x)) for theta in walk]  # -log P(x|x̃_i) [b], always of the first x
        terms = {"nll": nll[0], "mse": per_dimension(likelihood.mean(walk[0]), x), "walkback_nll": nll[-1]}
        return jnp.mean(jnp.stack(nll)), (extras, {name: jnp.mean(term) for name, term in terms.items()})

    def chain(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], n: int) -> Array:
        """The first of the n states is `x` itself."""
        index = batch["index"]

        def advance(x: Array, k: Key[Array, ""]) -> tuple[Array, Array]:
            k_corrupt, k_draw = jax.random.split(k)
            return draw(k_draw, denoise(params, k_corrupt, x, index), index), x

        return jnp.moveaxis(jax.lax.scan(advance, batch["x"], each(key, jnp.arange(n)))[1], 0, 1)

    def sample(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        """From theta = 0, which knows nothing of the data; at the end the mean of p(x|x̃), or a draw where the mean of
        discrete data is no datum."""
        index = batch["index"]
        k_walk, k_last = jax.random.split(key)
        start = jnp.zeros((len(index), *shape, likelihood.width))
        step = lambda theta, k: (onwards(params, k, theta, index), None)
        theta, _ = jax.lax.scan(step, start, each(k_walk, jnp.arange(burn_in)))
        return draw(k_last, theta, index) if likelihood.discrete else likelihood.mean(theta)

    return base._replace(init=init, loss=loss, sample=sample, sequence=Temporal(chain=chain))
