"""The variational autoencoder (Kingma & Welling 2013; Rezende et al. 2014) and its variants by argument.

    x ──corrupt──▶ x̃ ──encoder──▶ h ──posterior──▶ z ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + kl_cost(KL(q(z|x̃) ‖ p(z)))

β-VAE is `beta=`, a conditional VAE `condition=`, a denoising VAE `corrupt=` (Im et al. 2017). The terms of the bound are in
nats per example: `distortion` −E_q log p(x|z), `kl`, and their sum `nelbo`, which is at least −log p(x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.bounds import variational
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import filled, per_dimension
from aejax.models.latent import latent_net
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.divergences import KLCost, weighted
from aejax.objective.likelihoods import Likelihood
from aejax.objective.penalties import Penalty
from aejax.objective.posteriors import Posterior, diagonal
from aejax.objective.priors import Prior, standard_normal
from aejax.objective.regularizers import Latents, Regularizer
from aejax.types import Axis, Batch, Condition, Corrupt, Extras, Model, Objective, Params


@described
def vae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    beta: Any = 1.0,
    prior: Prior = standard_normal(),
    posterior: Posterior = diagonal(),
    kl_cost: KLCost | None = None,
    samples: int = 1,
    corrupt: Corrupt | None = None,
    condition: Condition | None = None,
    penalties: Sequence[Penalty] = (),
    regularizers: Sequence[Regularizer] = (),
) -> Model:
    """A variational autoencoder.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, posterior.width(latent)].
        decoder: Linen module, z [b, latent] -> theta [b, *shape, likelihood.width]; for width 1 any shape of that size.
        likelihood: p(x|theta).
        latent: Dimensions of z.
        shape: Shape of one example; sampling has no data to take it from.
        beta: Weight of the KL term in training, a number or a schedule (Higgins et al. 2017); evaluation uses weight 1.
        prior: p(z), see `aejax.objective.priors`.
        posterior: q(z|x), see `aejax.objective.posteriors`.
        kl_cost: Weight of the KL term in training if it is not `beta`, see `aejax.objective.divergences`.
        samples: Draws of z per example in training.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`; the bound is that of the clean x.
        condition: batch -> c [b, ...]; for labels `jax.nn.one_hot(batch["label"], n)`. Encoder and decoder then receive their
            input and c as one row [b, all], so they are MLPs. If the prior depends on c too, use `cvae`.
        penalties: As in `autoencoder`; the code is the posterior mean, whose Jacobian has no closed form.
        regularizers: Terms of the whole batch's codes, see `aejax.objective.regularizers`; logged under their `__name__`.

    Returns:
        A `Model`. It evaluates `distortion`, `kl` and `nelbo`, in nats per example, and `mse`, per dimension.

    Raises:
        UsageError: `beta` and `kl_cost` are both given, penalties are combined with a condition, two terms share a name, a
            number is out of range, or, at initialization, shapes do not match.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> model = vae(MLP((64,), 2 * 8), MLP((64,), (28, 28, 1)), bernoulli(), latent=8, shape=(28, 28, 1))
        >>> batch = {"x": jnp.zeros((2, 28, 28, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> sorted(jax.jit(model.evaluate)(params, extras, batch, jax.random.key(1)))
        ['distortion', 'kl', 'mse', 'nelbo']
    """
    if kl_cost is not None and not (isinstance(beta, (int, float)) and beta == 1):
        raise UsageError("beta= and kl_cost= both weight the KL term; give one of them")
    if samples < 1:
        raise UsageError(f"vae(samples={samples}): at least one draw")
    if penalties and condition is not None:
        raise UsageError("penalties= need an encoder of x only; with condition= it receives the condition too")
    names = [f.__name__ for f in (*penalties, *regularizers)]
    logged = ("loss", "distortion", "kl", "nelbo", "mse", *names)
    if len(set(logged)) < len(logged):
        raise UsageError(f"two terms share a name: {', '.join(logged)}; rename one")
    cost = weighted(beta) if kl_cost is None else kl_cost
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    parts = latent_net(encoder, decoder, likelihood, latent, shape, prior, posterior, condition)

    def latents_of(params: Params, key: Key[Array, ""], h: Array, z: Array, c: Array | None, index: Array) -> Latents:
        """The input of regularizers; XLA computes only the parts that they use."""
        means, variances = (None, None) if parts.moments is None else parts.moments(params, h)
        again, _ = parts.draw(params, each(jax.random.split(key)[0], index), h, 1)
        return Latents(z, means, variances, again[:, 0], parts.draw_prior(params, each(key, index), c))

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_draw, k_penalty, k_regularizer = jax.random.split(key, 4)
        x, index = batch["x"], batch["index"]
        x_tilde = filled(likelihood, corrupt_batch(noise, k_corrupt, x, index, step)[0])
        c = parts.condition(batch)
        h = parts.numbers(params, x_tilde, c)
        z, log_q = parts.draw(params, each(k_draw, index), h, samples)
        theta = parts.theta(params, z, c)

        distortion = jnp.mean(parts.neg_log_prob(theta, x), axis=1)
        kl = parts.kl(params, h, z, log_q, c)
        terms = {
            "distortion": distortion,
            "kl": jnp.sum(kl, axis=1),
            "nelbo": distortion + jnp.sum(kl, axis=1),
            "mse": per_dimension(parts.keep_observed(batch, likelihood.mean(theta[:, 0])), x, likelihood.missing),
        }
        f = lambda one: parts.mean(params, parts.numbers(params, one[None], None))[0]
        for penalty, k in zip(penalties, jax.random.split(k_penalty, len(penalties))):
            penalized = penalty(f, x_tilde, parts.mean(params, h), each(k, index), axis)
            term, more = penalized if isinstance(penalized, tuple) else (penalized, {})
            terms |= {penalty.__name__: term, **more}
        for regularizer, k in zip(regularizers, jax.random.split(k_regularizer, len(regularizers))):
            term, more = regularizer(latents_of(params, k, h, z[:, 0], c, index), params, k, step, axis)
            terms |= {regularizer.__name__: term, **more}
        means = {name: jnp.mean(term) for name, term in terms.items()}
        objective = jnp.mean(distortion + cost(kl, step, axis))
        return objective + sum(means[name] for name in names), (extras, means)

    return with_collections(variational(parts, likelihood, loss, corrupt, condition is not None))
