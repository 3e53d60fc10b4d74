"""Evaluation of a latent-variable model, whatever its loss is: the bound, codes, samples and importance weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.keys import each
from aejax.models.encoder_decoder import per_dimension
from aejax.models.latent import LatentNet
from aejax.objective.corruptions import corrupt_batch
from aejax.objective.likelihoods import Likelihood
from aejax.types import Batch, Corrupt, DataContract, Extras, Latent, Loss, Model, Params


def variational(
    parts: LatentNet,
    likelihood: Likelihood,
    loss: Loss,
    corrupt: Corrupt | None = None,
    conditional: bool = False,
) -> Model:
    """A `Model` of these parts that is trained by `loss` and evaluated by its bound."""

    def image(params: Params, z: Array, c: Array | None, batch: Batch) -> Array:
        return parts.keep_observed(batch, likelihood.mean(parts.theta(params, z[:, None], c)[:, 0]))

    def terms_given(
        params: Params, x_seen: Array, batch: Batch, c: Array | None, keys: Key[Array, " b"], name: str
    ) -> dict[str, Array]:
        """Per example: the bound of x from one draw, and the mean's squared error, given the encoder's input."""
        x, h = batch["x"], parts.numbers(params, x_seen, c)
        z, log_q = parts.draw(params, keys, h, 1)
        distortion = parts.neg_log_prob(parts.theta(params, z, c), x)[:, 0]
        kl = jnp.sum(parts.kl(params, h, z, log_q, c), axis=1)
        center = image(params, parts.mean(params, h), c, batch)
        return {
            f"{name}distortion": distortion,
            f"{name}kl": kl,
            f"{name}nelbo": distortion + kl,
            f"{name}mse": per_dimension(center, x, likelihood.missing),
        }

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        k_draw, k_corrupt, k_denoise = jax.random.split(key, 3)
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        terms = terms_given(params, x, batch, c, each(k_draw, index), "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, k_corrupt, x, index)
            terms |= terms_given(params, x_tilde, batch, c, each(k_denoise, index), "denoising_")
        return terms

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return parts.mean(params, parts.numbers(params, batch["x"], parts.condition(batch)))

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return image(params, z, parts.condition(batch), batch)

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def sample(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        """The mean of p(x|z) with z from the prior; a draw if the mean of discrete data lies outside the data space."""
        k_prior, k_draw = jax.random.split(key)
        index, c = batch["index"], parts.condition(batch)
        z = parts.draw_prior(params, each(k_prior, index), c)
        if not likelihood.discrete:
            return image(params, z, c, batch)
        theta = parts.theta(params, z[:, None], c)[:, 0]
        return parts.keep_observed(batch, jax.vmap(likelihood.draw)(each(k_draw, index), theta))

    def log_weights(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], k: int) -> Array:
        x, c = batch["x"], parts.condition(batch)
        return parts.log_weights(params, parts.numbers(params, x, c), x, each(key, batch["index"]), c, k)

    def divergences(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        k_draw, _, _ = jax.random.split(key, 3)  # as in `evaluate`, so that these are the parts of the same KL
        c = parts.condition(batch)
        h = parts.numbers(params, batch["x"], c)
        return parts.kl(params, h, *parts.draw(params, each(k_draw, batch["index"]), h, 1), c)

    def moments(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Array]:
        assert parts.moments is not None  # `Model.latent.moments` is None otherwise
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
            num_discrete_dims=likelihood.num_discrete_dims,
        ),
        latent=Latent(log_weights, divergences, None if parts.moments is None else moments),
    )


def latent_of(model: Model) -> Latent:
    """The latent variable of a model that `variational` returned."""
    assert model.latent is not None
    return model.latent
