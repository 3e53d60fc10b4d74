"""The importance-weighted autoencoder (Burda et al. 2016): a lower bound on log p(x) from k draws, tighter for larger k.

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

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.bounds import latent_of, variational
from aejax.models.collections import with_collections
from aejax.models.latent import latent_net
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior, diagonal
from aejax.objective.priors import Prior, standard_normal
from aejax.types import Axis, Batch, Condition, Corrupt, Extras, Model, Objective, Params


@described
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
    """An importance-weighted autoencoder: `vae` with another loss, without KL weights and penalties.

    It logs `iwae_nll` = −L_k and, from the same draws, `nelbo`, `distortion` and `kl`. It evaluates −L_k and the terms of a
    VAE.

    Args:
        encoder: As in `vae`.
        decoder: As in `vae`.
        likelihood: As in `vae`.
        latent: As in `vae`.
        shape: As in `vae`.
        samples: Number of draws k; k = 1 is a VAE whose KL is estimated from draws.
        doubly_reparametrized: Whether to use the encoder gradient of Tucker et al. (2019, eq. 8), which has the same
            expectation and does not become noisier as k grows.
        prior: As in `vae`.
        posterior: As in `vae`.
        corrupt: As in `vae`.
        condition: As in `vae`.

    Returns:
        A `Model`.

    Raises:
        UsageError: `samples` is below 1, or the posterior has no density while `doubly_reparametrized` needs it.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> model = iwae(MLP((32,), 2 * 4), MLP((32,), (4, 4, 1)), bernoulli(), 4, (4, 4, 1), samples=5)
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> sorted(jax.jit(model.evaluate)(params, extras, batch, jax.random.key(1)))
        ['distortion', 'iwae_nll', 'kl', 'mse', 'nelbo']
    """
    if samples < 1:
        raise UsageError(f"iwae(samples={samples}): at least one draw")
    parts = latent_net(encoder, decoder, likelihood, latent, shape, prior, posterior, condition)
    log_q_of = posterior.log_prob
    if doubly_reparametrized and log_q_of is None:
        raise UsageError(
            f"doubly_reparametrized= needs the density of q(z|x), which {posterior.name}() does not have; use diagonal()"
        )
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_draw, _, _ = jax.random.split(key, 4)  # as in `vae`, so that one draw uses the same noise
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        x_tilde, _ = corrupt_batch(noise, k_corrupt, x, index, step)
        h = parts.numbers(params, x_tilde, c)
        z, log_q = parts.draw(params, each(k_draw, index), h, samples)

        def weigh(z: Array, log_q: Array) -> tuple[Array, Array]:
            """−log p(x|z), and log q(z|x) − log p(z): [b, k]."""
            return parts.neg_log_prob(parts.theta(params, z, c), x), log_q - parts.log_prior(params, z, c)

        distortion, kl = weigh(z, log_q)
        if doubly_reparametrized:
            # The same function with other derivatives; XLA computes its value once. The encoder (and a prior built from it) is
            # reached only through z, where each draw's normalized weight w̃ enters twice: in log_mean and in this factor.
            normalized = jax.lax.stop_gradient(jax.nn.softmax(-distortion - kl, axis=1))
            z = _with_gradient_times(z, normalized[:, :, None])
            assert log_q_of is not None  # checked above
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

    return with_collections(base._replace(evaluate=evaluate, latent=latent_of(base)._replace(divergences=divergences)))


def log_mean(log_w: Float[Array, "b k"]) -> Float[Array, " b"]:
    """log 1/k Σ_i w_i."""
    return jax.nn.logsumexp(log_w, axis=1) - math.log(log_w.shape[1])


@jax.custom_vjp
def _with_gradient_times(z: Array, factor: Array) -> Array:
    """z, with its gradient multiplied by the factor."""
    return z


_with_gradient_times.defvjp(lambda z, factor: (z, factor), lambda factor, g: (g * factor, jnp.zeros_like(factor)))
