"""State-space models trained by the bound of a whole sequence, the baselines of TD-VAE (Gregor et al. 2019, §5.1).

    log p(x_1 … x_T) ≥ E_q Σ_t [log p(x_t|z_t) + log p(z_t|z_{t−1}) − log q(z_t|…)],   z_0 = 0

Filtering: q(z_t|z_{t−1}, b_t), where the belief b_t summarizes the frames up to t. Mean field: q(z_t|b_t), each step
independently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import as_theta, total
from aejax.models.layered import joined, layered
from aejax.models.sequences import bound, folded, lengths, model_of
from aejax.models.sequences import window as window_of
from aejax.nets.code import apply, initialized
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.divergences import weighted
from aejax.objective.likelihoods import Likelihood
from aejax.objective.posteriors import Posterior, diagonal
from aejax.types import Axis, Batch, Corrupt, Extras, Model, Objective, Params


@described
def state_space(
    beliefs: nn.Module,
    filtering: nn.Module,
    transition: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    latent: int,
    shape: tuple[int, ...],
    mean_field: bool = False,
    layers: int = 1,
    window: int | None = None,
    beta: Any = 1.0,
    posterior: Posterior = diagonal(),
    corrupt: Corrupt | None = None,
) -> Model:
    """A state-space model.

    The inputs of its nets are rows, concatenated in the order given; their outputs are the `posterior.width(latent)` parameters
    of a distribution.

    Args:
        beliefs: Linen module, x [b, t, *frame] -> b [b, t + 1, width], see `aejax.nets.Beliefs`.
        filtering: z_{t−1} (not with `mean_field`), b_t and the layers above -> parameters of q(z_t|…).
        transition: z_{t−1} and the layers above -> parameters of p(z_t|z_{t−1}).
        decoder: z_t [b, layers · latent] -> theta of a frame.
        likelihood: p(x_t|theta) of one frame.
        latent: Dimensions of each layer of z.
        shape: Shape of a sequence, (T, *frame).
        mean_field: Whether q treats each step independently.
        layers: As in `tdvae`.
        window: As in `tdvae`.
        beta: As in `tdvae`.
        posterior: As in `tdvae`.
        corrupt: As in `tdvae`.

    Returns:
        A `Model`.

    Example:
        >>> from aejax.nets import GRU, MLP, Beliefs, Gated
        >>> from aejax.objective import bernoulli
        >>> beliefs, numbers = Beliefs(MLP((), 3 * 8), GRU(8)), Gated(8, 2 * 4)
        >>> model = state_space(beliefs, numbers, numbers, MLP((), (4, 4)), bernoulli(), 4, (6, 4, 4))
        >>> batch = {"x": jnp.zeros((2, 6, 4, 4)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.eval_shape(model.sample, params, extras, batch, jax.random.key(1)).shape
        (2, 6, 4, 4)
    """
    seen = shape[0] if window is None else window
    if not 1 <= seen <= shape[0]:
        raise UsageError(f"state_space(window={window}): from 1 to the {shape[0]} frames of a sequence")
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    q = layered(filtering, posterior, latent, layers, "filtering")
    p = layered(transition, posterior, latent, layers, "transition")
    frame, cost = shape[1:], weighted(beta)

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_beliefs, k_filtering, k_transition, k_decoder = jax.random.split(key, 4)
        b, of_beliefs = initialized(beliefs, k_beliefs, batch["x"])
        b, z = b[:, 0], jnp.zeros((len(b), layers * latent))
        out, of_decoder = initialized(decoder, k_decoder, z)
        as_theta(out, frame, likelihood)
        return {
            "beliefs": of_beliefs,
            "filtering": q.init(k_filtering, given(b, z)),
            "transition": p.init(k_transition, z),
            "decoder": of_decoder,
        }, {}

    def given(b: Array, z: Array) -> Array:
        return b if mean_field else joined(z, b)

    def believed(params: Params, x: Array) -> Array:
        return apply(beliefs, params["beliefs"], x)

    def theta(params: Params, z: Array) -> Array:
        return as_theta(apply(decoder, params["decoder"], z), frame, likelihood)

    def filtered(params: Params, choose: Callable[[Any, Array], tuple[Array, Array]], x: Array) -> tuple[Array, Array]:
        """(states [b, t, d], log q − log p [b, t]), with `choose(i, seen)` -> (z, log q) at every step."""
        b = jnp.swapaxes(believed(params, x)[:, 1:], 0, 1)

        def advance(z: Array, step: Any) -> tuple[Array, tuple[Array, Array]]:
            i, b = step
            following, log_q = choose(i, given(b, z))
            return following, (following, log_q - p.log_prob(params["transition"], z, following))

        start = jnp.zeros((x.shape[0], layers * latent), x.dtype)
        _, states = jax.lax.scan(advance, start, (jnp.arange(len(b)), b))
        z, log_q = (jnp.swapaxes(leaf, 0, 1) for leaf in states)
        return z, log_q

    def drawn(params: Params, keys: Key[Array, " b"], x: Array) -> tuple[Array, Array]:
        return filtered(params, lambda i, seen: q.draw(params["filtering"], folded(keys, i), seen), x)

    def states(params: Params, x: Array) -> Array:
        def choose(i: Array, seen: Array) -> tuple[Array, Array]:
            z = q.mean(params["filtering"], seen)
            return z, jnp.zeros(z.shape[0], z.dtype)

        return filtered(params, choose, x)[0]

    def stepwise(params: Params, keys: Key[Array, " b"], x_seen: Array, x: Array) -> tuple[Array, Array]:
        """(−log p(x_t|z_t), log q − log p) of every step, [b, t] each, from one draw of the states."""
        z, kl = drawn(params, keys, x_seen)
        rows = x.reshape(-1, *frame)
        return total(likelihood.neg_log_prob(theta(params, z.reshape(rows.shape[0], -1)), rows)).reshape(kl.shape), kl

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_window, k_draw = jax.random.split(key, 3)
        index = batch["index"]
        x_tilde, _ = corrupt_batch(noise, k_corrupt, batch["x"], index, step)
        (x_tilde, x), n = window_of(seen, each(k_window, index), (x_tilde, batch["x"]), lengths(batch))
        terms = bound(stepwise(params, each(k_draw, index), x_tilde, x), n)
        objective = jnp.mean(terms["distortion"] + cost(terms["kl"][:, None], step, axis))
        return objective, (extras, {name: jnp.mean(term) for name, term in terms.items()})

    def log_weights(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], k: int) -> Array:
        x, n = batch["x"], lengths(batch)
        keys = jax.vmap(lambda key: jax.random.split(key, k))(each(key, batch["index"]))
        return jax.vmap(lambda keys: -bound(stepwise(params, keys, x, x), n)["nelbo"], 1, 1)(keys)

    def current(params: Params, keys: Key[Array, " b"], x: Array, n: Array) -> Array:
        z, _ = drawn(params, keys, x)
        z = jnp.concatenate([jnp.zeros_like(z[:, :1]), z], axis=1)
        return z[jnp.arange(x.shape[0]), n]

    def onward(params: Params, keys: Key[Array, " b"], z: Array, delta: Array) -> Array:
        step = lambda i, z: p.draw(params["transition"], folded(keys, i), z)[0]
        return jax.lax.fori_loop(0, delta, step, z)

    return with_collections(
        model_of(init, loss, log_weights, shape, likelihood, corrupt, stepwise, states, current, onward, theta)
    )
