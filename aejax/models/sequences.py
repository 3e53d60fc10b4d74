"""What models of sequences share: steps, lengths and windows, evaluation, and rollouts.

A sequence is x [t, *frame]. Shorter sequences of a batch are padded at the end, and `batch["length"]` [b] is the number of
valid frames; without it all frames are valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from aejax.keys import each
from aejax.models.encoder_decoder import per_dimension
from aejax.objective.corruptions import corrupt_batch
from aejax.objective.likelihoods import Likelihood
from aejax.types import (
    Batch,
    Corrupt,
    DataContract,
    Extras,
    Init,
    Latent,
    LogWeights,
    Loss,
    Model,
    Params,
    Temporal,
    Terms,
)


def model_of(
    init: Init,
    loss: Loss,
    log_weights: LogWeights,
    shape: tuple[int, ...],
    likelihood: Likelihood,
    corrupt: Corrupt | None,
    stepwise: Callable[[Params, Key[Array, " b"], Array, Array], tuple[Array, Array]],
    states: Callable[[Params, Array], Array],
    current: Callable[[Params, Key[Array, " b"], Array, Array], Array],
    onward: Callable[[Params, Key[Array, " b"], Array, Array], Array],
    theta: Callable[[Params, Array], Array],
    further: Callable[[Params, Batch, Array, Key[Array, ""]], Terms] = lambda params, batch, x_seen, key: {},
) -> Model:
    """A model of sequences that is trained by `loss` and evaluated by its bound at every step, with rollouts.

    Args:
        init: As `Model.init`.
        loss: As `Model.loss`.
        log_weights: As `Latent.log_weights`.
        shape: Shape of a sequence, (T, *frame).
        likelihood: p(x_t|theta) of one frame.
        corrupt: Corruption of training sequences, or None.
        stepwise: (params, keys [b], x_seen, x [b, t, *frame]) -> the two parts of the bound at every step, [b, t] each:
            −log p(x_t|z_t) and the KL term, of x when the states are inferred from x_seen.
        states: (params, x) -> z [b, t, d], the deterministic code of every step.
        current: (params, keys [b], x [b, t, *frame], n [b]) -> z [b, d], a draw of the state after the first n frames.
        onward: (params, keys [b], z, δ []) -> z, a draw of the state δ steps later.
        theta: (params, z [n, d]) -> theta of the frames at these states.
        further: (params, batch, x_seen, key) -> {name: [b]}, more terms to evaluate.

    Returns:
        A `Model`.
    """

    def terms_given(params: Params, batch: Batch, x_seen: Array, key: Key[Array, ""], name: str) -> dict[str, Array]:
        k_steps, k_further = jax.random.split(key)
        x, n = batch["x"], lengths(batch)
        x_hat = decode(params, {}, states(params, x_seen), batch)
        x_hat = jnp.where(over_frames(counted(n, x.shape[1]), x), x_hat, x)
        terms = {
            **bound(stepwise(params, each(k_steps, batch["index"]), x_seen, x), n),
            **further(params, batch, x_seen, k_further),
            "mse": per_dimension(x_hat, x) * x.shape[1] / n.astype(x.dtype),
        }
        return {f"{name}{term}": values for term, values in terms.items()}

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        k_clean, k_corrupt, k_denoise = jax.random.split(key, 3)
        terms = terms_given(params, batch, batch["x"], k_clean, "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, k_corrupt, batch["x"], batch["index"])
            terms |= terms_given(params, batch, x_tilde, k_denoise, "denoising_")
        return terms

    def divergences(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        k_clean, _, _ = jax.random.split(key, 3)  # as in `evaluate`, so that these are the parts of the same KL
        return terms_given(params, batch, batch["x"], k_clean, "")["kl"][:, None]

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return states(params, batch["x"])

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return likelihood.mean(theta(params, z.reshape(-1, z.shape[-1]))).reshape(*z.shape[:2], *shape[1:])

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, states(params, batch["x"]), batch)

    def go_on(params: Params, keys: Key[Array, " b"], z: Array, gaps: Array) -> Array:
        """Frames [b, g, *frame], each one gap after the previous one."""
        k_states, k_draws = halves(keys)

        def advance(z: Array, step: Any) -> tuple[Array, Array]:
            i, delta = step
            z = onward(params, folded(k_states, i), z, delta)
            theta_z = theta(params, z)
            frame = likelihood.mean(theta_z)
            if likelihood.discrete:
                frame = jax.vmap(likelihood.draw)(folded(k_draws, i), theta_z)
            return z, frame

        _, frames = jax.lax.scan(advance, z, (jnp.arange(len(gaps)), gaps))
        return jnp.swapaxes(frames, 0, 1)

    def sample(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        """Sequences from the first frame on: the mean of p(x_t|z_t), or a draw if that mean lies outside the data space."""
        k_state, k_steps = halves(each(key, batch["index"]))
        b = len(batch["index"])
        z = current(params, k_state, jnp.zeros((b, 1, *shape[1:])), jnp.zeros(b, jnp.int32))
        return go_on(params, k_steps, z, jnp.ones(shape[0], jnp.int32))

    def rollout(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], gaps: Array) -> Array:
        k_state, k_steps = halves(each(key, batch["index"]))
        z = current(params, k_state, batch["x"], lengths(batch))
        return go_on(params, k_steps, z, gaps)

    return Model(
        init=init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        sample=sample,
        data=DataContract(check=likelihood.check, corrupt=corrupt, num_discrete_dims=likelihood.num_discrete_dims),
        latent=Latent(log_weights, divergences),
        sequence=Temporal(rollout=rollout),
    )


def bound(parts: tuple[Float[Array, "b t"], Float[Array, "b t"]], n: Int[Array, " b"]) -> dict[str, Float[Array, " b"]]:
    """The bound of a whole sequence: the sums of its two parts over the n valid frames."""
    frames = counted(n, parts[0].shape[1])
    distortion, kl = (jnp.sum(jnp.where(frames, part, 0.0), axis=1) for part in parts)
    nelbo = distortion + kl
    return {"distortion": distortion, "kl": kl, "nelbo": nelbo, "nelbo_per_step": nelbo / n.astype(kl.dtype)}


def lengths(batch: Batch) -> Int[Array, " b"]:
    """The number of valid frames of each sequence."""
    b, t = batch["x"].shape[:2]
    return batch["length"] if "length" in batch else jnp.full(b, t, jnp.int32)


def counted(n: Int[Array, " b"], t: int) -> Bool[Array, "b t"]:
    """bool [b, t]: which of the t frames are valid."""
    return jnp.arange(t, dtype=n.dtype)[None, :] < n[:, None]


def over_frames(per_frame: Array, x: Array) -> Array:
    """[b, t] reshaped so that it broadcasts over the frames of x [b, t, *frame]."""
    return per_frame.reshape(*per_frame.shape, *([1] * (x.ndim - 2)))


def window(
    length: int, keys: Key[Array, " b"], x: tuple[Float[Array, "b t *frame"], ...], n: Int[Array, " b"]
) -> tuple[tuple[Float[Array, "b length *frame"], ...], Int[Array, " b"]]:
    """`length` frames of each sequence, from a random start that keeps as many valid frames as possible; alike for all in x."""
    if length >= x[0].shape[1]:
        return x, n

    def one(key: Key[Array, ""], n: Array, *x: Any) -> tuple[Any, ...]:
        start = jax.random.randint(key, (), 0, jnp.maximum(n - length, 0) + 1, n.dtype)
        return tuple(jax.lax.dynamic_slice_in_dim(sequence, start, length) for sequence in x)

    return jax.vmap(one)(keys, n, *x), jnp.minimum(n, length)


def halves(keys: Key[Array, " b"]) -> tuple[Key[Array, " b"], Key[Array, " b"]]:
    """Each key, split in two."""
    split = jax.vmap(jax.random.split)(keys)
    return split[:, 0], split[:, 1]


def folded(keys: Key[Array, " b"], step: Any) -> Key[Array, " b"]:
    """Each key, folded with the number of a step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)


def of_steps(keys: Key[Array, " b"], t: int) -> Key[Array, "b t"]:
    """One key per step of each sequence, which does not depend on the number of steps."""
    return jax.vmap(lambda key: jax.vmap(lambda step: jax.random.fold_in(key, step))(jnp.arange(t)))(keys)
