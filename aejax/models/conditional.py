"""The conditional variational autoencoder (Sohn et al. 2015): p(x|c) with a latent whose prior also depends on c.

    c ──prior net──▶ p(z|c)      x, c ──encoder──▶ q(z|x, c) ──▶ z      z, c ──decoder──▶ θ ──likelihood──▶ −log p(x|θ)

The condition is a label or a part of the image; in the latter case only the rest is modeled and scored. α = 1 is the
conditional variational autoencoder. α = 0 is the Gaussian stochastic neural network, which draws z from the prior in training
too. Values in between are the paper's hybrids.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.bounds import latent_of, variational
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import per_dimension
from aejax.models.latent import LatentNet, latent_net
from aejax.nets.code import apply
from aejax.objective.likelihoods import Likelihood, restrict
from aejax.objective.posteriors import diagonal
from aejax.objective.priors import conditional
from aejax.types import Axis, Batch, Condition, Extras, Model, Objective, Params


@described
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

    It minimizes α·(distortion + kl) + (1 − α)·gsnn (Sohn et al. 2015, eq. 4, 5 and 7), where `gsnn` is −E log p(x|z, c) with
    z ~ p(z|c). All three are logged and evaluated. With α = 0 there is no encoder: the bound is the `gsnn` term, the code is
    the prior's mean, and `log_weights` are those of draws from the prior.

    Args:
        encoder: MLP, (x, c) [b, all] -> h [b, 2·latent].
        prior: Linen module, c [b, ...] -> [b, 2·latent], mean and raw log-variance of p(z|c), see `conditional`.
        decoder: MLP, (z, c) [b, all] -> theta [b, *shape, likelihood.width]; for width 1 any shape of that size.
        likelihood: p(x|theta).
        latent: Dimensions of z.
        shape: Shape of one example.
        condition: batch -> c [b, ...]; for labels `jax.nn.one_hot(batch["label"], n)`. By default c is the observed part of x,
            with 0 elsewhere.
        observed: bool, of an example's shape; True for elements that are given. They are not scored, and outputs keep their
            values. By default there are none.
        alpha: α in [0, 1].

    Returns:
        A `Model`.

    Raises:
        UsageError: `alpha` is outside [0, 1], there is neither a condition nor an observed part, or everything is observed.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> label = lambda batch: jax.nn.one_hot(batch["label"], 10)
        >>> nets = MLP((32,), 2 * 4), MLP((32,), 2 * 4), MLP((32,), (4, 4, 1))
        >>> model = cvae(*nets, bernoulli(), latent=4, shape=(4, 4, 1), condition=label)
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "label": jnp.array([3, 7]), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.sample)(params, extras, batch, jax.random.key(1)).shape
        (2, 4, 4, 1)
    """
    if not 0.0 <= alpha <= 1.0:
        raise UsageError(f"cvae(alpha={alpha}): it must be between 0 and 1")
    if condition is None and observed is None:
        raise UsageError("cvae() needs condition=, observed=, or both")
    given = np.zeros(shape, bool) if observed is None else np.asarray(observed)
    if given.shape != shape or given.all():
        raise UsageError(
            f"cvae(observed=) must have an example's shape {shape} and leave some elements to be modeled; it has shape "
            f"{given.shape} and marks {given.sum()}"
        )
    shown = (lambda batch: jnp.where(given[None], batch["x"], 0.0)) if condition is None else condition
    scored = likelihood if observed is None else restrict(likelihood, ~given)
    parts = latent_net(encoder, decoder, scored, latent, shape, conditional(prior), diagonal(), shown)
    parts = parts._replace(keep_observed=lambda batch, images: jnp.where(given[None], batch["x"], images))
    if observed is None:
        parts = parts._replace(keep_observed=lambda batch, images: images)
    by_prior = stochastic_net(parts, prior)

    def gsnn(params: Params, batch: Batch, keys: Key[Array, " b"]) -> Array:
        """−log p(x|z, c) [b] for one draw z ~ p(z|c) per example."""
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

    return with_collections(
        base._replace(init=init, evaluate=evaluate, latent=latent_of(base)._replace(divergences=divergences))
    )


def stochastic_net(parts: LatentNet, prior: nn.Module) -> LatentNet:
    """The same net with q(z|x, c) = p(z|c) (Sohn et al. 2015, §3.2): the prior net gives a diagonal Gaussian."""
    return parts._replace(numbers=lambda params, x, c: apply(prior, params["prior"], c))
