"""What variational autoencoders are made of: encoder, posterior, prior and decoder as functions of the trained parameters, and
what of a model follows from them whatever its loss is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.autoencoders import as_theta, per_dimension, total
from aejax.objective.corruptions import corrupt_batch
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior
from aejax.objective.priors import Encoding, Prior
from aejax.types import DataContract, Latent, Model


class Latents(NamedTuple):
    """What a coupling sees of a batch: one draw for each example, and the posterior it comes from."""

    z: Float[Array, "b d"]
    h: Float[Array, "b width"]
    """The encoder's numbers."""
    c: Array | None
    indices: Int[Array, " b"]
    parts: LatentNet
    params: dict


class LatentNet(NamedTuple):
    """Encoder, posterior, prior and decoder as functions of the trained parameters. `k` counts draws of z."""

    init: Callable
    """As `Model.init`; params are `{"encoder", "decoder", "posterior", "prior"}`."""
    condition: Callable
    """batch -> c [b, ...] or None."""
    numbers: Callable
    """(params, x [b, *shape], c) -> h [b, width]."""
    mean: Callable
    """(params, h) -> [b, d], the deterministic code."""
    moments: Callable | None
    """(params, h) -> (means [b, d], variances [b, d]); None as in `Posterior`."""
    draw: Callable
    """(params, keys [b], h, k) -> (z [b, k, d], log q(z|x) [b, k])."""
    theta: Callable
    """(params, z [b, k, d], c) -> theta [b, k, *shape, likelihood.width]."""
    nats: Callable
    """(theta [b, k, ...], x [b, *shape]) -> -log p(x|z) [b, k]."""
    log_prior: Callable
    """(params, z [b, k, d], c) -> log p(z) [b, k]."""
    draw_prior: Callable
    """(params, keys [n], c) -> z [n, d]."""
    kl: Callable
    """(params, h, z, log_q, c) -> [b, m], in closed form where there is one, else the draws' mean, m = 1."""
    log_weights: Callable
    """(params, h, x, keys, c, k) -> log p(x, z) − log q(z|x), [b, k]."""
    encoding: Callable
    """(params, c) -> Encoding."""
    known: Callable
    """(batch, images [b, *shape]) -> images, in which what the condition shows of the example is as it is."""


def latent_net(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    prior: Prior,
    posterior: Posterior,
    condition: Callable | None,
) -> LatentNet:
    """The arguments as in `vae`."""
    if latent < 1:
        raise UsageError(f"latent={latent}: at least one dimension")

    def given(batch):
        if condition is None:
            return None
        try:
            return condition(batch)
        except KeyError as missing:
            raise UsageError(
                f"the model's condition needs {missing} of an example, which is not there; use data that have it, and to sample "
                "--given or --label"
            ) from None

    def init(key, batch):
        k_encoder, k_decoder, k_posterior, k_prior = jax.random.split(key, 4)
        x, c = batch["x"], given(batch)
        if x.shape[1:] != shape:
            raise UsageError(f"vae(shape={shape}) is given examples of shape {x.shape[1:]}; use train.shape")
        h, encoder_variables = encoder.init_with_output(k_encoder, joined(x, c))
        if h.shape[1:] != (posterior.width(latent),):
            raise UsageError(
                f"{posterior.name}() of {latent} dimensions needs {posterior.width(latent)} numbers from the encoder for an "
                f"example, but it gives {h.shape[1:]}; end the encoder in posterior.width(latent)"
            )
        out, decoder_variables = decoder.init_with_output(k_decoder, joined(jnp.zeros((len(x), latent)), c))
        as_theta(out, shape, likelihood)
        return {
            "encoder": encoder_variables["params"],
            "decoder": decoder_variables["params"],
            "posterior": posterior.init(k_posterior, latent),
            "prior": prior.init(k_prior, latent, x, c),
        }, {}

    def numbers(params, x, c):
        return encoder.apply({"params": params["encoder"]}, joined(x, c))

    def mean(params, h):
        return jax.vmap(lambda one: posterior.mean(params["posterior"], one))(h)

    def moments(params, h):
        return jax.vmap(lambda one: posterior.moments(params["posterior"], one))(h)

    def draw(params, keys: Key[Array, " b"], h, k):
        def one(key, h):
            return jax.vmap(lambda key: posterior.draw(params["posterior"], key, h))(jax.random.split(key, k))

        return jax.vmap(one)(keys, h)

    def theta(params, z, c):
        b, k, d = z.shape
        # Examples' rows are repeated, not broadcast within the net, which knows of no draws.
        rows = None if c is None else jnp.repeat(c, k, axis=0)
        out = decoder.apply({"params": params["decoder"]}, joined(z.reshape(b * k, d), rows))
        return as_theta(out, shape, likelihood).reshape(b, k, *shape, likelihood.width)

    def nats(theta, x):
        k = theta.shape[1]
        one = lambda theta: total(likelihood.nats(theta, x))
        return one(theta[:, 0])[:, None] if k == 1 else jax.vmap(one, 1, 1)(theta)

    def encoding(params, c):
        def numbers_(x):
            if c is not None:
                raise UsageError(
                    "a prior made of the encoder (vamp) has no pseudo-inputs for a condition; use conditional()"
                )
            return numbers(params, x, None)

        return Encoding(numbers_, posterior, params["posterior"])

    def log_prior(params, z, c):
        b, k, d = z.shape
        rows = None if c is None else jnp.repeat(c, k, axis=0)
        return prior.log_prob(params["prior"], encoding(params, c), z.reshape(b * k, d), rows).reshape(b, k)

    def draw_prior(params, keys, c):
        return prior.draw(params["prior"], encoding(params, c), keys, latent, c)

    def kl(params, h, z, log_q, c):
        closed = prior.kl(params["prior"], encoding(params, c), h, c)
        return jnp.mean(log_q - log_prior(params, z, c), axis=1, keepdims=True) if closed is None else closed

    def log_weights(params, h, x, keys, c, k):
        z, log_q = draw(params, keys, h, k)
        return log_prior(params, z, c) - nats(theta(params, z, c), x) - log_q

    def known(batch, images):
        return images

    return LatentNet(
        init, given, numbers, mean, None if posterior.moments is None else moments, draw, theta, nats, log_prior, draw_prior,
        kl, log_weights, encoding, known,
    )  # fmt: skip


def variational(
    parts: LatentNet,
    likelihood: Likelihood,
    loss: Callable,
    corrupt: Callable | None = None,
    conditional: bool = False,
) -> Model:
    """The model of these parts that is trained by `loss`, as in `Model`, and judged by its bound."""

    def image(params, z, c, batch):
        return parts.known(batch, likelihood.mean(parts.theta(params, z[:, None], c)[:, 0]))

    def judge(params, x_seen, batch, c, keys, name):
        """Per example: the bound of x by one draw, and the squared error of the mean, given what the encoder saw."""
        x, h = batch["x"], parts.numbers(params, x_seen, c)
        z, log_q = parts.draw(params, keys, h, 1)
        distortion = parts.nats(parts.theta(params, z, c), x)[:, 0]
        kl = jnp.sum(parts.kl(params, h, z, log_q, c), axis=1)
        center = image(params, parts.mean(params, h), c, batch)
        return {
            f"{name}distortion": distortion,
            f"{name}kl": kl,
            f"{name}nelbo": distortion + kl,
            f"{name}mse": per_dimension(center, x),
        }

    def evaluate(params, extras, batch, key):
        k_draw, k_corrupt, k_denoise = jax.random.split(key, 3)
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        terms = judge(params, x, batch, c, each(k_draw, index), "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, k_corrupt, x, index)
            terms |= judge(params, x_tilde, batch, c, each(k_denoise, index), "denoising_")
        return terms

    def encode(params, extras, batch, key):
        return parts.mean(params, parts.numbers(params, batch["x"], parts.condition(batch)))

    def decode(params, extras, z, batch):
        return image(params, z, parts.condition(batch), batch)

    def reconstruct(params, extras, batch, key):
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def sample(params, extras, batch, key):
        """The mean of p(x|z) for z from the prior, or a draw where the mean of discrete data is no datum."""
        k_prior, k_draw = jax.random.split(key)
        index, c = batch["index"], parts.condition(batch)
        z = parts.draw_prior(params, each(k_prior, index), c)
        if not likelihood.discrete:
            return image(params, z, c, batch)
        theta = parts.theta(params, z[:, None], c)[:, 0]
        return parts.known(batch, jax.vmap(likelihood.draw)(each(k_draw, index), theta))

    def log_weights(params, extras, batch, key, k):
        x, c = batch["x"], parts.condition(batch)
        return parts.log_weights(params, parts.numbers(params, x, c), x, each(key, batch["index"]), c, k)

    def divergences(params, extras, batch, key):
        k_draw, _, _ = jax.random.split(key, 3)  # as in `evaluate`: the parts of its very divergence
        c = parts.condition(batch)
        h = parts.numbers(params, batch["x"], c)
        return parts.kl(params, h, *parts.draw(params, each(k_draw, batch["index"]), h, 1), c)

    def moments(params, extras, batch, key):
        return parts.moments(params, parts.numbers(params, batch["x"], parts.condition(batch)))

    return Model(
        init=parts.init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        sample=sample,
        data=DataContract(
            check=likelihood.check,
            corrupt=corrupt,
            condition=parts.condition if conditional else None,
            num_discrete_dims=likelihood.symbols,
        ),
        latent=Latent(log_weights, divergences, None if parts.moments is None else moments),
    )


def latent_of(model: Model) -> Latent:
    """The latent of a model that `variational` made."""
    assert model.latent is not None
    return model.latent


def joined(x: Float[Array, "b *shape"], c: Array | None) -> Array:
    """x as it is, or with its condition as one row [b, all]."""
    return x if c is None else jnp.concatenate([x.reshape(len(x), -1), c.reshape(len(c), -1).astype(x.dtype)], axis=1)
