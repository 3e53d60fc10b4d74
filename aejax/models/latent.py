"""The parts of variational autoencoders: encoder, posterior, prior and decoder as functions of the trained parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError
from aejax.models.encoder_decoder import as_theta, filled, total
from aejax.nets.code import apply, initialized
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior
from aejax.objective.priors import Encoding, Prior
from aejax.types import Batch, Condition, Extras, Init, Params


class LatentNet(NamedTuple):
    """Encoder, posterior, prior and decoder as functions of the trained parameters; `k` is the number of draws of z."""

    init: Init
    """As `Model.init`; params are `{"encoder", "decoder", "posterior", "prior"}`."""
    condition: Condition
    """batch -> c [b, ...] or None."""
    numbers: Callable[[Params, Array, Array | None], Array]
    """(params, x [b, *shape], c) -> h [b, width]."""
    mean: Callable[[Params, Array], Array]
    """(params, h) -> [b, d], the deterministic code."""
    moments: Callable[[Params, Array], tuple[Array, Array]] | None
    """(params, h) -> (means [b, d], variances [b, d]); None if the posterior has none."""
    draw: Callable[[Params, Key[Array, " b"], Array, int], tuple[Array, Array]]
    """(params, keys [b], h, k) -> (z [b, k, d], log q(z|x) [b, k])."""
    theta: Callable[[Params, Array, Array | None], Array]
    """(params, z [b, k, d], c) -> theta [b, k, *shape, likelihood.width]."""
    neg_log_prob: Callable[[Array, Array], Array]
    """(theta [b, k, ...], x [b, *shape]) -> -log p(x|z) [b, k]."""
    log_prior: Callable[[Params, Array, Array | None], Array]
    """(params, z [b, k, d], c) -> log p(z) [b, k]."""
    draw_prior: Callable[[Params, Key[Array, " b"], Array | None], Array]
    """(params, keys [n], c) -> z [n, d]."""
    kl: Callable[[Params, Array, Array, Array, Array | None], Array]
    """(params, h, z, log_q, c) -> KL [b, m]: the closed form if there is one, else the mean over draws, with m = 1."""
    log_weights: Callable[[Params, Array, Array, Key[Array, " b"], Array | None, int], Array]
    """(params, h, x, keys, c, k) -> log p(x, z) − log q(z|x), [b, k]."""
    encoding: Callable[[Params, Array | None], Encoding]
    """(params, c) -> Encoding."""
    keep_observed: Callable[[Batch, Array], Array]
    """(batch, images [b, *shape]) -> images, with the elements that the condition observes set to those of the example."""


def latent_net(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    prior: Prior,
    posterior: Posterior,
    condition: Condition | None,
) -> LatentNet:
    """The parts of a variational autoencoder, for arguments as in `vae`."""
    if latent < 1:
        raise UsageError(f"latent={latent}: at least one dimension")

    def given(batch: Batch) -> Array | None:
        if condition is None:
            return None
        try:
            return condition(batch)
        except KeyError as missing:
            raise UsageError(
                f"the model's condition needs {missing}, which the examples do not have; use data with it; to sample, add "
                "--given or --label"
            ) from None

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_encoder, k_decoder, k_posterior, k_prior = jax.random.split(key, 4)
        x, c = batch["x"], given(batch)
        if x.shape[1:] != shape:
            raise UsageError(f"vae(shape={shape}) is given examples of shape {x.shape[1:]}; use train.shape")
        h, of_encoder = initialized(encoder, k_encoder, joined(x, c))
        if h.shape[1:] != (posterior.width(latent),):
            raise UsageError(
                f"{posterior.name}() of {latent} dimensions needs {posterior.width(latent)} numbers from the encoder for an "
                f"example, but it gives {h.shape[1:]}; end the encoder in posterior.width(latent)"
            )
        out, of_decoder = initialized(decoder, k_decoder, joined(jnp.zeros((x.shape[0], latent)), c))
        as_theta(out, shape, likelihood)
        return {
            "encoder": of_encoder,
            "decoder": of_decoder,
            "posterior": posterior.init(k_posterior, latent),
            "prior": prior.init(k_prior, latent, filled(likelihood, x), c),
        }, {}

    def numbers(params: Params, x: Array, c: Array | None) -> Array:
        return apply(encoder, params["encoder"], joined(filled(likelihood, x), c))

    def mean(params: Params, h: Array) -> Array:
        return jax.vmap(lambda one: posterior.mean(params["posterior"], one))(h)

    def moments(params: Params, h: Array) -> tuple[Array, Array]:
        assert posterior.moments is not None  # `LatentNet.moments` is None otherwise
        return jax.vmap(partial(posterior.moments, params["posterior"]))(h)

    def draw(params: Params, keys: Key[Array, " b"], h: Array, k: int) -> tuple[Array, Array]:
        def one(key: Key[Array, ""], h: Array) -> tuple[Array, Array]:
            return jax.vmap(lambda key: posterior.draw(params["posterior"], key, h))(jax.random.split(key, k))

        return jax.vmap(one)(keys, h)

    def theta(params: Params, z: Array, c: Array | None) -> Array:
        b, k, d = z.shape
        # Rows are repeated because the net has no axis for draws.
        rows = None if c is None else jnp.repeat(c, k, axis=0)
        out = apply(decoder, params["decoder"], joined(z.reshape(b * k, d), rows))
        return as_theta(out, shape, likelihood).reshape(b, k, *shape, likelihood.width)

    def neg_log_prob(theta: Array, x: Array) -> Array:
        k = theta.shape[1]
        one = lambda theta: total(likelihood.neg_log_prob(theta, x))
        return one(theta[:, 0])[:, None] if k == 1 else jax.vmap(one, 1, 1)(theta)

    def encoding(params: Params, c: Array | None) -> Encoding:
        def numbers_(x: Array) -> Array:
            if c is not None:
                raise UsageError("vamp() has no pseudo-inputs for a condition; use conditional()")
            return numbers(params, x, None)

        return Encoding(numbers_, posterior, params["posterior"])

    def log_prior(params: Params, z: Array, c: Array | None) -> Array:
        b, k, d = z.shape
        rows = None if c is None else jnp.repeat(c, k, axis=0)
        return prior.log_prob(params["prior"], encoding(params, c), z.reshape(b * k, d), rows).reshape(b, k)

    def draw_prior(params: Params, keys: Key[Array, " b"], c: Array | None) -> Array:
        return prior.draw(params["prior"], encoding(params, c), keys, latent, c)

    def kl(params: Params, h: Array, z: Array, log_q: Array, c: Array | None) -> Array:
        closed = prior.kl(params["prior"], encoding(params, c), h, c)
        return jnp.mean(log_q - log_prior(params, z, c), axis=1, keepdims=True) if closed is None else closed

    def log_weights(params: Params, h: Array, x: Array, keys: Key[Array, " b"], c: Array | None, k: int) -> Array:
        z, log_q = draw(params, keys, h, k)
        return log_prior(params, z, c) - neg_log_prob(theta(params, z, c), x) - log_q

    def keep_observed(batch: Batch, images: Array) -> Array:
        return images

    return LatentNet(
        init, given, numbers, mean, None if posterior.moments is None else moments, draw, theta, neg_log_prob, log_prior,
        draw_prior, kl, log_weights, encoding, keep_observed,
    )  # fmt: skip


def joined(x: Float[Array, " b *shape"], c: Array | None) -> Array:
    """x itself, or x and its condition as one row [b, all]."""
    return (
        x
        if c is None
        else jnp.concatenate([x.reshape(x.shape[0], -1), c.reshape(c.shape[0], -1).astype(x.dtype)], axis=1)
    )
