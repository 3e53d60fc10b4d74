"""The variational autoencoder (Kingma & Welling 2013; Rezende et al. 2014), and what is made of it by arguments.

    x ──corrupt──▶ x̃ ──encoder──▶ h ──posterior──▶ z ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + rate(KL(q(z|x̃) ‖ p(z)))

β-VAE is `beta=`, a conditional one `condition=`, a denoising one `corrupt=` (Im et al. 2017). The bound's terms are in nats per
example: `distortion` −E_q log p(x|z), `kl`, and their sum `nelbo`, which is no less than −log p(x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.autoencoders import per_dimension
from aejax.models.latent import Latents, latent_net, variational
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.divergences import Rate, weighted
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior, diagonal
from aejax.objective.priors import Prior, standard_normal
from aejax.types import Model


def vae(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    beta: Any = 1.0,
    prior: Prior = standard_normal(),
    posterior: Posterior = diagonal(),
    rate: Rate | None = None,
    samples: int = 1,
    corrupt: Callable | None = None,
    condition: Callable | None = None,
    penalties: Sequence[Callable] = (),
    couplings: Sequence[Callable] = (),
) -> Model:
    """A variational autoencoder.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, posterior.width(latent)].
        decoder: Linen module, z [b, latent] -> theta [b, *shape, likelihood.width]; for width 1 any shape of that size.
        likelihood: p(x|theta).
        latent: dimensions of z.
        shape: of one example: sampling sees no data.
        beta: weight of the divergence, a number or a schedule of the step (Higgins et al. 2017); evaluation knows no weight.
        prior: p(z), see `aejax.objective.priors`.
        posterior: q(z|x), see `aejax.objective.posteriors`.
        rate: what the divergence costs in training where it is not beta times as much, see `aejax.objective.divergences`.
        samples: draws of z for each example in training.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`; the bound is of the clean x.
        condition: batch -> c [b, ...], labels as `jax.nn.one_hot(batch["label"], n)`; encoder and decoder then see their input
            and c as one row [b, all], so they are MLPs. With a prior that is told c too it is `cvae`.
        penalties: as in `autoencoder`; their code is the posterior's mean, and no closed form is known of its Jacobian.
        couplings: what depends on the whole batch's codes, `(latents, key, step, axis) -> (term [], {name: value})`, see
            `aejax.objective.regularizers`; a term is logged under the coupling's `__name__`.
    """
    if rate is not None and not (isinstance(beta, (int, float)) and beta == 1):
        raise UsageError("beta= and rate= both say what the divergence costs; give one of them")
    if samples < 1:
        raise UsageError(f"vae(samples={samples}): at least one draw")
    if penalties and condition is not None:
        raise UsageError("penalties= look at the encoder as a function of x alone; condition= gives it more")
    names = [f.__name__ for f in (*penalties, *couplings)]
    logged = ("loss", "distortion", "kl", "nelbo", "mse", *names)
    if len(set(logged)) < len(logged):
        raise UsageError(f"terms are logged by name, and two share one: {', '.join(logged)}; rename one")
    cost = weighted(beta) if rate is None else rate
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    parts = latent_net(encoder, decoder, likelihood, latent, shape, prior, posterior, condition)

    def loss(params, extras, batch, key, step, axis):
        k_corrupt, k_draw, k_penalty, k_coupling = jax.random.split(key, 4)
        x, index = batch["x"], batch["index"]
        x_tilde, _ = corrupt_batch(noise, k_corrupt, x, index, step)
        c = parts.condition(batch)
        h = parts.numbers(params, x_tilde, c)
        z, log_q = parts.draw(params, each(k_draw, index), h, samples)
        theta = parts.theta(params, z, c)

        distortion = jnp.mean(parts.nats(theta, x), axis=1)
        kl = parts.kl(params, h, z, log_q, c)
        terms = {
            "distortion": distortion,
            "kl": jnp.sum(kl, axis=1),
            "nelbo": distortion + jnp.sum(kl, axis=1),
            "mse": per_dimension(parts.known(batch, likelihood.mean(theta[:, 0])), x),
        }
        f = lambda one: parts.mean(params, parts.numbers(params, one[None], None))[0]
        for penalty, k in zip(penalties, jax.random.split(k_penalty, len(penalties))):
            found = penalty(f, x_tilde, parts.mean(params, h), each(k, index), axis)
            term, more = found if isinstance(found, tuple) else (found, {})
            terms |= {penalty.__name__: term, **more}
        latents = Latents(z[:, 0], h, c, index, parts, params)
        for coupling, k in zip(couplings, jax.random.split(k_coupling, len(couplings))):
            term, more = coupling(latents, k, step, axis)
            terms |= {coupling.__name__: term, **more}
        means = {name: jnp.mean(term) for name, term in terms.items()}
        objective = jnp.mean(distortion + cost(kl, step, axis))
        return objective + sum(means[name] for name in names), (extras, means)

    return variational(parts, likelihood, loss, corrupt, condition is not None)
