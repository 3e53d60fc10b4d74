"""Denoising autoencoders as generative models (Bengio, Yao, Alain & Vincent 2013).

A denoiser that models the whole distribution p(x|x̃), and not only its mean, defines a Markov chain whose stationary
distribution is the data distribution:

    X̃ ~ C(·|X)        corruption
    X ~ P(·|X̃)        a draw of the likelihood given the decoder's theta

Walkback training runs this chain for a few steps from a training example, and trains the model to reconstruct that example
from every x̃ on the way, so that the chain returns from where it strays. The stationary distribution does not change.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.autoencoders import autoencoder
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import identity, net, per_dimension, total
from aejax.objective.corruptions import corrupt_batch
from aejax.objective.likelihoods import Likelihood
from aejax.objective.schedules import END
from aejax.types import Axis, Batch, Corrupt, Extras, Model, Objective, Params, Temporal


@described
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

    It is `autoencoder(encoder, decoder, likelihood, corrupt)` except for the loss, `chain` and `sample`. It logs `nll` and
    `mse` of the first step, which are those of the denoising autoencoder, and `walkback_nll` of the last step.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, ...].
        decoder: Linen module, h -> theta, as in `autoencoder`.
        likelihood: p(x|x̃), from which the chain draws.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.
        shape: Shape of one example; sampling has no data to take it from.
        walkback: Steps of the chain in training, each a corruption and a reconstruction; 1 is the denoising autoencoder.
        burn_in: Steps of the chain that `sample` discards.

    Returns:
        A `Model`.

    Raises:
        UsageError: `walkback` or `burn_in` is below 1.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, salt_and_pepper
        >>> model = gsn(MLP((), 8), MLP((), (4, 4, 1)), bernoulli(), salt_and_pepper(0.2), (4, 4, 1), burn_in=5)
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.sample)(params, extras, batch, jax.random.key(1)).shape
        (2, 4, 4, 1)
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
        """theta [b, *shape, width] of p(·|x̃), with x̃ ~ C(·|x)."""
        x_tilde, _ = corrupt_batch(corrupt, key, x, index, step)
        return parts.theta(params, parts.features(params, x_tilde), x)

    def draw(key: Key[Array, ""], theta: Float[Array, " b *theta"], index: Int[Array, " b"]) -> Array:
        return jax.vmap(likelihood.draw)(each(key, index), theta)

    def onwards(params: Params, key: Key[Array, ""], theta: Array, index: Array, step: Any = END) -> Array:
        """From theta of one step to that of the next: draw x, corrupt it, denoise it."""
        k_draw, k_corrupt = jax.random.split(key)
        return denoise(params, k_corrupt, jax.lax.stop_gradient(draw(k_draw, theta, index)), index, step)

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        x, index = batch["x"], batch["index"]
        k_corrupt, k_walk = jax.random.split(key)  # as in `autoencoder`, so that the first step has the same noise
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
        """Starts from theta = 0, independent of the data; returns the mean of p(x|x̃), or a draw if that mean lies outside the
        data space.
        """
        index = batch["index"]
        k_walk, k_last = jax.random.split(key)
        start = jnp.zeros((len(index), *shape, likelihood.width))
        step = lambda theta, k: (onwards(params, k, theta, index), None)
        theta, _ = jax.lax.scan(step, start, each(k_walk, jnp.arange(burn_in)))
        return draw(k_last, theta, index) if likelihood.discrete else likelihood.mean(theta)

    return with_collections(base._replace(init=init, loss=loss, sample=sample, sequence=Temporal(chain=chain)))
