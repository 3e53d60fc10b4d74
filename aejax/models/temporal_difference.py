"""The temporal-difference variational autoencoder (Gregor et al. 2019): beliefs about a state, trained across jumps in time.

    x_1 … x_t ──forward net──▶ b_t ──▶ p_B(z_t|b_t),      z_t2 ~ p_B(·|b_t2), then z_t1 ~ q(·|z_t2, b_t1, b_t2)

    log p(x_t2|x_≤t1) ≥ E[log p(x_t2|z_t2) + log p_B(z_t1|b_t1) + log p(z_t2|z_t1) − log p_B(z_t2|b_t2) − log q(z_t1|…)]   (eq.
    6)

Summed over jumps of one step from every t, this bounds log p(x_1 … x_T), since there is also a belief b_0 before any frame.
Training uses jumps of random length; evaluation reports the sum. `distortion` is −log p(x_t2|z_t2), `kl` the rest, in nats.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import as_theta, total
from aejax.models.layered import joined, layered
from aejax.models.sequences import counted, halves, lengths, model_of, of_steps
from aejax.models.sequences import window as window_of
from aejax.nets.code import apply, initialized
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.divergences import weighted
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior, diagonal
from aejax.objective.time_gaps import Gap, embedding, uniform
from aejax.types import Axis, Batch, Corrupt, Extras, Model, Objective, Params

TRAINED = np.iinfo(np.int32).max
"""A step after the end of any training."""


@described
def tdvae(
    beliefs: nn.Module,
    state: nn.Module,
    smoothing: nn.Module,
    transition: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    gap: Gap = uniform(1, 4),
    layers: int = 1,
    pairs: int = 1,
    window: int | None = None,
    beta: Any = 1.0,
    posterior: Posterior = diagonal(),
    corrupt: Corrupt | None = None,
) -> Model:
    """A TD-VAE.

    The inputs of its nets are rows, concatenated in the order given; their outputs are the `posterior.width(latent)` parameters
    of a distribution. Sequences of unequal length are padded at the end, and `batch["length"]` is the number of valid frames.

    Args:
        beliefs: Linen module, x [b, t, *frame] -> b [b, t + 1, width], see `aejax.nets.Beliefs`.
        state: b_t and the layers above -> parameters of p_B(z_t|b_t).
        smoothing: z_t2, δ, b_t1, b_t2 and the layers above -> parameters of q(z_t1|…).
        transition: z_t1, δ and the layers above -> parameters of p(z_t2|z_t1). The gap δ is embedded by `time_gaps.embedding`.
        decoder: z_t [b, layers · latent] -> theta of a frame.
        likelihood: p(x_t|theta) of one frame.
        latent: Dimensions of each layer of z.
        shape: Shape of a sequence, (T, *frame).
        gap: Lengths of jumps in training, which may depend on the step; `uniform(1, 1)` is the sequential objective.
        layers: Layers of z, each with its own nets.
        pairs: Pairs (t1, t2) per sequence and training step.
        window: Frames per sequence and training step, from a random start and treated as the whole sequence; None for all.
        beta: Weight of `kl` in training, a number or a schedule. With warm-up, states learn to describe frames before beliefs
            have to predict them.
        posterior: Kind of all distributions of z; exact beliefs with correlated dimensions need `full_rank()`.
        corrupt: `(key, x of one sequence, step) -> (x_tilde, touched)`, the beliefs' input in training.

    Returns:
        A `Model`.

    Example:
        >>> from aejax.nets import GRU, MLP, Beliefs, Gated
        >>> from aejax.objective import bernoulli
        >>> from aejax.objective.time_gaps import uniform
        >>> beliefs, numbers = Beliefs(MLP((), 3 * 8), GRU(8)), Gated(8, 2 * 4)
        >>> nets = beliefs, numbers, numbers, numbers, MLP((), (4, 4))
        >>> model = tdvae(*nets, bernoulli(), latent=4, shape=(6, 4, 4), gap=uniform(1, 3))
        >>> batch = {"x": jnp.zeros((2, 6, 4, 4)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.eval_shape(model.sample, params, extras, batch, jax.random.key(1)).shape
        (2, 6, 4, 4)
    """
    if pairs < 1:
        raise UsageError(f"tdvae(pairs={pairs}): at least one")
    seen = shape[0] if window is None else window
    if not 1 <= seen <= shape[0]:
        raise UsageError(f"tdvae(window={window}): from 1 to the {shape[0]} frames of a sequence")
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    p_b = layered(state, posterior, latent, layers, "state")
    q = layered(smoothing, posterior, latent, layers, "smoothing")
    p = layered(transition, posterior, latent, layers, "transition")
    frame, cost = shape[1:], weighted(beta)

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_beliefs, k_state, k_smoothing, k_transition, k_decoder = jax.random.split(key, 5)
        b, of_beliefs = initialized(beliefs, k_beliefs, batch["x"])
        b, z, delta = b[:, 0], jnp.zeros((len(b), layers * latent)), jnp.ones(len(b), jnp.int32)
        out, of_decoder = initialized(decoder, k_decoder, z)
        as_theta(out, frame, likelihood)
        return {
            "beliefs": of_beliefs,
            "state": p_b.init(k_state, b),
            "smoothing": q.init(k_smoothing, joined(z, embedding(delta, gap.most), b, b)),
            "transition": p.init(k_transition, joined(z, embedding(delta, gap.most))),
            "decoder": of_decoder,
        }, {}

    def believed(params: Params, x: Array) -> Array:
        return apply(beliefs, params["beliefs"], x)

    def theta(params: Params, z: Array) -> Array:
        return as_theta(apply(decoder, params["decoder"], z), frame, likelihood)

    def jump(
        params: Params, keys: Key[Array, " b"], b1: Array, b2: Array, delta: Array, x2: Array
    ) -> tuple[Array, Array]:
        """Rows: −log p(x_t2|z_t2) and the KL term of the bound, from one draw each."""
        k1, k2 = halves(keys)
        delta = embedding(delta, gap.most)
        z2, log_b2 = p_b.draw(params["state"], k2, b2)
        z1, log_q = q.draw(params["smoothing"], k1, joined(z2, delta, b1, b2))
        log_b1 = p_b.log_prob(params["state"], b1, z1)
        log_p = p.log_prob(params["transition"], joined(z1, delta), z2)
        return total(likelihood.neg_log_prob(theta(params, z2), x2)), log_b2 + log_q - log_b1 - log_p

    def jumpy(
        params: Params, key: Key[Array, ""], index: Array, x_seen: Array, x: Array, n: Array, step: Any
    ) -> list[Array]:
        """[b]: the mean over pairs of the two terms of a jump."""
        rows = jnp.arange(x.shape[0])[:, None]
        keys = jax.vmap(lambda key: jax.random.split(key, pairs))(each(key, index))
        t1, t2, k_jump = jax.vmap(jax.vmap(ends, (0, None, None)), (0, 0, None))(keys, n, step)
        b = believed(params, x_seen)
        terms = jump(
            params,
            k_jump.reshape(-1),
            b[rows, t1].reshape(-1, b.shape[-1]),
            b[rows, t2].reshape(-1, b.shape[-1]),
            (t2 - t1).reshape(-1),
            x[rows, t2 - 1].reshape(-1, *frame),
        )
        return [jnp.mean(term.reshape(-1, pairs), axis=1) for term in terms]

    def ends(key: Key[Array, ""], n: Array, step: Any) -> tuple[Array, Array, Key[Array, ""]]:
        """(t1, t2, key) of a jump within n frames, with δ drawn from `gap` and cut to what fits."""
        k_gap, k_end, k_jump = jax.random.split(key, 3)
        delta = jnp.minimum(gap.draw(k_gap, step), n)
        t2 = jax.random.randint(k_end, (), delta, n + 1, n.dtype)
        return t2 - delta, t2, k_jump

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_window, k_jump = jax.random.split(key, 3)
        index = batch["index"]
        x_tilde, _ = corrupt_batch(noise, k_corrupt, batch["x"], index, step)
        n = lengths(batch)
        (x_tilde, x), n = window_of(seen, each(k_window, index), (x_tilde, batch["x"]), n)
        distortion, kl = jumpy(params, k_jump, index, x_tilde, x, n, step)
        terms = {"jumpy_distortion": distortion, "jumpy_kl": kl, "jumpy_nelbo": distortion + kl}
        objective = jnp.mean(distortion + cost(kl[:, None], step, axis))
        return objective, (extras, {name: jnp.mean(term) for name, term in terms.items()})

    def stepwise(params: Params, keys: Key[Array, " b"], x_seen: Array, x: Array) -> tuple[Array, Array]:
        """The two terms of every step, [b, t] each; the noise of a step does not depend on the number of steps."""
        b, t = believed(params, x_seen), x.shape[1]
        flat = lambda v: v.reshape(-1, *v.shape[2:])
        one = jnp.ones(x.shape[0] * t, jnp.int32)
        terms = jump(params, flat(of_steps(keys, t)), flat(b[:, :-1]), flat(b[:, 1:]), one, flat(x))
        distortion, kl = (term.reshape(-1, t) for term in terms)
        return distortion, kl

    def states(params: Params, x: Array) -> Array:
        b = believed(params, x)[:, 1:]
        return p_b.mean(params["state"], b.reshape(-1, b.shape[-1])).reshape(*b.shape[:2], -1)

    def log_weights(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], k: int) -> Array:
        x, keys = batch["x"], jax.vmap(lambda key: jax.random.split(key, k))(each(key, batch["index"]))
        frames = counted(lengths(batch), x.shape[1])
        one = lambda keys: jnp.where(frames, -sum(stepwise(params, keys, x, x)), 0.0)
        return jax.vmap(one, 1, 1)(keys)

    def further(params: Params, batch: Batch, x_seen: Array, key: Key[Array, ""]) -> dict[str, Array]:
        distortion, kl = jumpy(params, key, batch["index"], x_seen, batch["x"], lengths(batch), TRAINED)
        return {"jumpy_nelbo": distortion + kl}

    def current(params: Params, keys: Key[Array, " b"], x: Array, n: Array) -> Array:
        b = believed(params, x)
        return p_b.draw(params["state"], keys, b[jnp.arange(x.shape[0]), n])[0]

    def onward(params: Params, keys: Key[Array, " b"], z: Array, delta: Array) -> Array:
        delta = embedding(jnp.full(z.shape[0], delta, jnp.int32), gap.most)
        return p.draw(params["transition"], keys, joined(z, delta))[0]

    return with_collections(
        model_of(init, loss, log_weights, shape, likelihood, corrupt, stepwise, states, current, onward, theta, further)
    )
