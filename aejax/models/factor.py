"""FactorVAE (Kim & Mnih 2018): a variational autoencoder with a penalty on the total correlation of its code, estimated by a
discriminator.

    loss = −ELBO + γ·E log D(z)/(1 − D(z))  +  cross-entropy of D, with z ~ q(z) against z̄ ~ Π_j q(z_j)

Both are trained by one objective and one step: the discriminator's parameters are constants in the first part, z is constant in
the second. An optimizer that treats them differently finds the discriminator under `params["discriminator"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.collectives import gather, own
from aejax.described import described
from aejax.errors import UsageError, non_negative
from aejax.models.collections import with_collections
from aejax.models.variational import vae
from aejax.nets.code import apply, initialized
from aejax.objective.likelihoods import Likelihood
from aejax.objective.regularizers import Latents, Regularizer
from aejax.types import Axis, Batch, Extras, Model, Params, Terms


@described
def factor_vae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    gamma: float | jax.Array,
    discriminator: nn.Module,
    regularizers: Sequence[Regularizer] = (),
    **options: Any,
) -> Model:
    """A variational autoencoder with γ·KL(q(z) ‖ Π_j q(z_j)) added to its loss (Kim & Mnih 2018, eq. 2-3, Algorithm 2).

    It logs `total_correlation_nats`, the discriminator's estimate on the batch, which may be negative; `discriminator`, its
    cross-entropy in nats, which is log 2 at chance; and `discriminator_accuracy`. `factor_vae` is the sum that is added to the
    loss.

    Args:
        encoder: As in `vae`.
        decoder: As in `vae`.
        likelihood: As in `vae`.
        latent: As in `vae`.
        shape: As in `vae`.
        gamma: Weight γ of the total correlation, at least 0; a traced number may differ between members of one program.
        discriminator: Linen module, z [b, latent] -> [b, 1], the logit log D/(1 − D) that z is a code and not a permuted one.
        regularizers: Further regularizers, as in `vae`.
        options: Other arguments of `vae`.

    Returns:
        A `Model`.

    Raises:
        UsageError: `gamma` is negative.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> nets = MLP((32,), 2 * 4), MLP((32,), (4, 4, 1))
        >>> model = factor_vae(*nets, bernoulli(), 4, (4, 4, 1), gamma=10.0, discriminator=MLP((32,), 1))
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> sorted(params)
        ['decoder', 'discriminator', 'encoder', 'posterior', 'prior']
    """
    gamma = non_negative("factor_vae", "gamma", gamma)
    term = adversary(gamma, discriminator)
    model = vae(encoder, decoder, likelihood, latent, shape, regularizers=(term, *regularizers), **options)

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_model, k_discriminator = jax.random.split(key)
        params, extras = model.init(k_model, batch)
        out, of_discriminator = initialized(discriminator, k_discriminator, jnp.zeros((1, latent)))
        if out.shape != (1, 1):
            raise UsageError(
                f"factor_vae()'s discriminator gives {out.shape[1:]} numbers for an example; end it in one logit"
            )
        return {**params, "discriminator": of_discriminator}, extras

    return with_collections(model._replace(init=init))


def adversary(gamma: float | jax.Array, discriminator: nn.Module) -> Regularizer:
    """The regularizer, as in `aejax.objective.regularizers`; its parameters are `params["discriminator"]`.

    The paper permutes the codes of a second batch of examples. Here the permuted codes are a second draw of z for the same
    batch, so the encoder runs once. The discriminator's target is the same: each dimension of a permuted row comes from a
    different example.
    """

    def factor_vae(latents: Latents, params: Params, key: Key[Array, ""], step: Any, axis: Axis) -> tuple[Array, Terms]:
        _, k_order = jax.random.split(key)
        independent = own(permuted(k_order, gather(latents.second, axis)), axis)
        trained, constant = params["discriminator"], jax.lax.stop_gradient
        logit = lambda params, z: apply(discriminator, params, z)[:, 0]

        correlation = jnp.mean(logit(constant(trained), latents.z))
        real, fake = logit(trained, constant(latents.z)), logit(trained, constant(independent))
        cross_entropy = 0.5 * jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
        logged = {
            "total_correlation_nats": correlation,
            "discriminator": cross_entropy,
            "discriminator_accuracy": 0.5 * (jnp.mean(real > 0.0) + jnp.mean(fake <= 0.0)),
        }
        return gamma * correlation + cross_entropy, logged

    return factor_vae


def permuted(key: Key[Array, ""], z: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """z with the rows of each dimension permuted independently (Kim & Mnih 2018, Algorithm 1)."""
    return jax.vmap(jax.random.permutation, (0, 1), 1)(jax.random.split(key, z.shape[1]), z)
