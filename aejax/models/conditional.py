"""The conditional variational autoencoder (Sohn et al. 2015): p(x|c) by a latent whose prior is conditioned on c too.

    c ──prior net──▶ p(z|c)      x, c ──encoder──▶ q(z|x, c) ──▶ z      z, c ──decoder──▶ θ ──likelihood──▶ −log p(x|θ)

The condition is a label, or a part of the image itself: the rest is then what is modeled, and scored. α = 1 is the conditional
variational autoencoder, α = 0 the Gaussian stochastic neural network, whose z is of the prior in training too, and between
lie the paper's hybrids.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.autoencoders import per_dimension
from aejax.models.bounds import latent_of, variational
from aejax.models.latent import LatentNet, latent_net
from aejax.nets.code import apply
from aejax.objective.likelihoods import Likelihood, restrict
from aejax.objective.posteriors import diagonal
from aejax.objective.priors import conditional
from aejax.types import Axis, Batch, Condition, Extras, Model, Objective, Params


def cvae(
    encoder: nn.Module,
    prior: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    condition: Condition | None = None,
    observed: Bool[np.ndarray, "*shape"] | None = None,
    alpha: float = 1.0,
) -> Model:
    """A conditional variational autoencoder of x given a condition, or of the rest of x given a part of it.

    Minimizes α·(distortion + kl) + (1 − α)·gsnn (Sohn et al. 2015, eq. 4, 5 and 7), where `gsnn` is −E log p(x|z, c) for z ~
    p(z|c). All three are logged and evaluated; with α = 0 there is no encoder, the bound is the `gsnn` term, the code the prior's
    mean, and `log_weights` are of the prior's draws.

    Args:
        encoder: MLP, (x, c) [b, all] -> h [b, 2·latent].
        prior: Linen module, c [b, ...] -> [b, 2·latent], mean and raw log-variance of p(z|c), see `conditional`.
        decoder: MLP, (z, c) [b, all] -> theta [b, *shape, likelihood.width]; for width 1 any shape of that size.
        likelihood: p(x|theta).
        latent: dimensions of z.
        shape: of one example.
        condition: batch -> c [b, ...], labels as `jax.nn.one_hot(batch["label"], n)`. Left out, c is the observed part of x, 0
            elsewhere.
        observed: which elements of x are given and not scored; in what the model gives back they are as they were. None of
            them without it.
        alpha: in [0, 1].

    Returns:
        A `Model`.
    """
    if not 0.0 <= alpha <= 1.0:
        raise UsageError(f"cvae(alpha={alpha}): it must be between 0 and 1")
    if condition is None and observed is None:
        raise UsageError("cvae() needs condition=, observed=, or both")
    given = np.zeros(shape, bool) if observed is None else np.asarray(observed)
    if given.shape != shape or given.all():
        raise UsageError(
            f"cvae(observed=) marks elements of one example, of shape {shape}, and leaves some to be modeled; this marks "
            f"{given.sum()} of {given.shape}"
        )
    shown = (lambda batch: jnp.where(given[None], batch["x"], 0.0)) if condition is None else condition
    scored = likelihood if observed is None else restrict(likelihood, ~given)
    parts = latent_net(encoder, decoder, scored, latent, shape, conditional(prior), diagonal(), shown)
    parts = parts._replace(keep_observed=lambda batch, images: jnp.where(given[None], batch["x"], images))
    if observed is None:
        parts = parts._replace(keep_observed=lambda batch, images: images)
    by_prior = stochastic_net(parts, prior)

    def gsnn(params: Params, batch: Batch, keys: Key[Array, " b"]) -> Array:
        """−log p(x|z, c) [b] for one z ~ p(z|c) each."""
        c = parts.condition(batch)
        z, _ = by_prior.draw(params, keys, by_prior.numbers(params, batch["x"], c), 1)
        return parts.neg_log_prob(parts.theta(params, z, c), batch["x"])[:, 0]

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_draw, k_prior = jax.random.split(key)
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        terms = {"gsnn": gsnn(params, batch, each(k_prior, index))}
        if alpha > 0.0:
            h = parts.numbers(params, x, c)
            z, log_q = parts.draw(params, each(k_draw, index), h, 1)
            theta = parts.theta(params, z, c)
            distortion = parts.neg_log_prob(theta, x)[:, 0]
            kl = jnp.sum(parts.kl(params, h, z, log_q, c), axis=1)
            center = parts.keep_observed(batch, likelihood.mean(theta[:, 0]))
            terms |= {"distortion": distortion, "kl": kl, "nelbo": distortion + kl, "mse": per_dimension(center, x)}
        means = {name: jnp.mean(term) for name, term in terms.items()}
        hybrid = (1.0 - alpha) * means["gsnn"] + (alpha * means["nelbo"] if alpha > 0.0 else 0.0)
        return hybrid, (extras, means)

    base = variational(by_prior if alpha == 0.0 else parts, scored, loss, conditional=True)

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        params, extras = base.init(key, batch)
        return {name: net for name, net in params.items() if name != "encoder" or alpha > 0.0}, extras

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        k_base, k_prior = jax.random.split(key)
        terms = base.evaluate(params, extras, batch, k_base)
        return {**terms, "gsnn": gsnn(params, batch, each(k_prior, batch["index"]))}

    def divergences(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return latent_of(base).divergences(params, extras, batch, jax.random.split(key)[0])  # as in `evaluate`

    return base._replace(init=init, evaluate=evaluate, latent=latent_of(base)._replace(divergences=divergences))


def stochastic_net(parts: LatentNet, prior: nn.Module) -> LatentNet:
    """The same with q(z|x, c) = p(z|c) (Sohn et al. 2015, §3.2): the prior net's numbers are those of a diagonal Gaussian."""
    return parts._replace(numbers=lambda params, x, c: apply(prior, params["prior"], c))
