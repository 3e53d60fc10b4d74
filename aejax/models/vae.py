"""The variational autoencoder (Kingma & Welling 2013; Rezende et al. 2014), and what is made of it by arguments.

    x ──corrupt──▶ x̃ ──encoder──▶ h ──posterior──▶ z ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + rate(KL(q(z|x̃) ‖ p(z)))

β-VAE is `beta=`, a conditional one `condition=`, a denoising one `corrupt=` (Im et al. 2017). The bound's terms are in nats per
example: `distortion` −E_q log p(x|z), `kl`, and their sum `nelbo`, which is no less than −log p(x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.corrupt import corrupt_batch, nothing
from aejax.errors import UsageError
from aejax.keys import each
from aejax.likelihoods import Likelihood
from aejax.models.autoencoder import as_theta, per_dimension, total
from aejax.posteriors import Posterior, diagonal
from aejax.priors import Encoding, Prior, standard_normal
from aejax.rates import Rate, weighted
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
        prior: p(z), see `aejax.priors`.
        posterior: q(z|x), see `aejax.posteriors`.
        rate: what the divergence costs in training where it is not beta times as much, see `aejax.rates`.
        samples: draws of z for each example in training.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`; the bound is of the clean x.
        condition: batch -> c [b, ...], labels as `jax.nn.one_hot(batch["label"], n)`; encoder and decoder then see their input
            and c as one row [b, all], so they are MLPs. `aejax evaluate` and `report` show a model x alone in places, and
            refuse one that needs more.
        penalties: as in `autoencoder`; their code is the posterior's mean, and no closed form is known of its Jacobian.
        couplings: what depends on the whole batch's codes, `(latents, key, step, axis) -> (term [], {name: value})`, see
            `aejax.couplings`; a term is logged under the coupling's `__name__`.
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
            "mse": per_dimension(likelihood.mean(theta[:, 0]), x),
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

    def judge(params, x_seen, x, c, keys, name):
        """Per example: the bound of x by one draw, and the squared error of the mean, given what the encoder saw."""
        h = parts.numbers(params, x_seen, c)
        z, log_q = parts.draw(params, keys, h, 1)
        distortion = parts.nats(parts.theta(params, z, c), x)[:, 0]
        kl = jnp.sum(parts.kl(params, h, z, log_q, c), axis=1)
        centre = likelihood.mean(parts.theta(params, parts.mean(params, h)[:, None], c)[:, 0])
        return {
            f"{name}distortion": distortion,
            f"{name}kl": kl,
            f"{name}nelbo": distortion + kl,
            f"{name}mse": per_dimension(centre, x),
        }

    def evaluate(params, extras, batch, key):
        k_draw, k_corrupt, k_denoise = jax.random.split(key, 3)
        x, index, c = batch["x"], batch["index"], parts.condition(batch)
        terms = judge(params, x, x, c, each(k_draw, index), "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, k_corrupt, x, index)
            terms |= judge(params, x_tilde, x, c, each(k_denoise, index), "denoising_")
        return terms

    def encode(params, extras, batch, key):
        return parts.mean(params, parts.numbers(params, batch["x"], parts.condition(batch)))

    def decode(params, extras, z, batch):
        return likelihood.mean(parts.theta(params, z[:, None], parts.condition(batch))[:, 0])

    def reconstruct(params, extras, batch, key):
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def sample(params, extras, batch, key):
        """The mean of p(x|z) for z from the prior, or a draw where the mean of discrete data is no datum."""
        k_prior, k_draw = jax.random.split(key)
        index, c = batch["index"], parts.condition(batch)
        z = parts.draw_prior(params, each(k_prior, index), c)
        theta = parts.theta(params, z[:, None], c)[:, 0]
        return jax.vmap(likelihood.draw)(each(k_draw, index), theta) if likelihood.discrete else likelihood.mean(theta)

    def log_weights(params, extras, batch, key, k):
        x, c = batch["x"], parts.condition(batch)
        return parts.log_weights(params, parts.numbers(params, x, c), x, each(key, batch["index"]), c, k)

    def rates(params, extras, batch, key):
        k_draw, _, _ = jax.random.split(key, 3)  # as in `evaluate`: the parts of its very divergence
        c = parts.condition(batch)
        h = parts.numbers(params, batch["x"], c)
        return parts.kl(params, h, *parts.draw(params, each(k_draw, batch["index"]), h, 1), c)

    return Model(
        init=parts.init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        sample=sample,
        log_weights=log_weights,
        rates=rates,
        corrupt=corrupt,
        symbols=likelihood.symbols,
        check=likelihood.check,
    )


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
            raise UsageError(f"the model's condition needs {missing} of a batch, which this one has not") from None

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

    return LatentNet(init, given, numbers, mean, draw, theta, nats, log_prior, draw_prior, kl, log_weights, encoding)


def joined(x: Float[Array, "b *shape"], c: Array | None) -> Array:
    """x as it is, or with its condition as one row [b, all]."""
    return x if c is None else jnp.concatenate([x.reshape(len(x), -1), c.reshape(len(c), -1).astype(x.dtype)], axis=1)
