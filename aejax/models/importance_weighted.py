"""The importance-weighted autoencoder (Burda et al. 2016): a bound of log p(x) by k draws, tighter the more.

L_k = E log 1/k Σ_i w_i,   w_i = p(x, z_i) / q(z_i|x),   z_i ~ q(z|x)
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.bounds import latent_of, variational
from aejax.models.latent import latent_net
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior, diagonal
from aejax.objective.priors import Prior, standard_normal
from aejax.types import Axis, Batch, Condition, Corrupt, Extras, Model, Objective, Params


def iwae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    samples: int,
    doubly_reparametrized: bool = False,
    prior: Prior = standard_normal(),
    posterior: Posterior = diagonal(),
    corrupt: Corrupt | None = None,
    condition: Condition | None = None,
) -> Model:
    """An importance-weighted autoencoder: `vae` with another loss, to which weights and penalties of its own do not apply.

    Logged are `iwae_nll`, −L_k, and of the same draws `nelbo`, `distortion` and `kl`; evaluated are −L_k and the terms of a VAE.

    Args:
        samples: k; with 1 it is the VAE whose divergence is estimated by draws.
        doubly_reparametrized: the encoder's gradient of Tucker et al. (2019, eq. 8): of the same expectation, and it does not
            drown in noise as k grows. The rest are as in `vae`.

    Returns:
        A `Model`.
    """
    if samples < 1:
        raise UsageError(f"iwae(samples={samples}): at least one draw")
    parts = latent_net(encoder, decoder, likelihood, latent, shape, prior, posterior, condition)
    log_q_of = posterior.log_prob
    if doubly_reparametrized and log_q_of is None:
        raise UsageError(
            f"doubly_reparametrized= needs the density of q(z|x), which {posterior.name}() has not; use diagonal()"
        )
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_draw, _, _ = jax.random.split(key, 4)  # as in `vae`: one draw has its very noise
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        x_tilde, _ = corrupt_batch(noise, k_corrupt, x, index, step)
        h = parts.numbers(params, x_tilde, c)
        z, log_q = parts.draw(params, each(k_draw, index), h, samples)

        def weigh(z: Array, log_q: Array) -> tuple[Array, Array]:
            """-log p(x|z), and log q(z|x) − log p(z): [b, k]."""
            return parts.neg_log_prob(parts.theta(params, z, c), x), log_q - parts.log_prior(params, z, c)

        distortion, kl = weigh(z, log_q)
        if doubly_reparametrized:
            # Another call of the same function, which XLA computes once: only what is differentiated is other. Through z alone
            # the encoder is reached (and by a prior that is made of it), and there each draw's weight w̃ counts twice.
            normalized = jax.lax.stop_gradient(jax.nn.softmax(-distortion - kl, axis=1))
            z = _with_gradient_times(z, normalized[:, :, None])
            assert log_q_of is not None  # refused above
            density = partial(log_q_of, jax.lax.stop_gradient(params["posterior"]))
            log_q = jax.vmap(jax.vmap(density, (None, 0)))(jax.lax.stop_gradient(h), z)
            distortion, kl = weigh(z, log_q)
        log_w = -distortion - kl
        terms = {
            "iwae_nll": -log_mean(log_w),
            "distortion": jnp.mean(distortion, axis=1),
            "kl": jnp.mean(kl, axis=1),
            "nelbo": -jnp.mean(log_w, axis=1),
        }
        means = {name: jnp.mean(term) for name, term in terms.items()}
        return means["iwae_nll"], (extras, means)

    base = variational(parts, likelihood, loss, corrupt, condition is not None)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        k_base, k_draw = jax.random.split(key)
        bound = log_mean(latent_of(base).log_weights(params, extras, batch, k_draw, samples))
        return {**base.evaluate(params, extras, batch, k_base), "iwae_nll": -bound}

    def divergences(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return latent_of(base).divergences(params, extras, batch, jax.random.split(key)[0])  # as in `evaluate`

    return base._replace(evaluate=evaluate, latent=latent_of(base)._replace(divergences=divergences))


def log_mean(log_w: Float[Array, "b k"]) -> Float[Array, " b"]:
    """log 1/k Σ_i w_i."""
    return jax.nn.logsumexp(log_w, axis=1) - math.log(log_w.shape[1])


@jax.custom_vjp
def _with_gradient_times(z: Array, factor: Array) -> Array:
    """z, whose gradient is multiplied by the factor."""
    return z


_with_gradient_times.defvjp(lambda z, factor: (z, factor), lambda factor, g: (g * factor, jnp.zeros_like(factor)))
