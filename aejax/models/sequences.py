"""What models of sequences share: steps, lengths and windows, and how they go on from what they have seen.

A sequence is x [t, *frame]. Those of a batch that are shorter are padded at the end, and `batch["length"]` [b] tells how many
frames count; where a batch has no such thing, all do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from aejax.keys import each
from aejax.likelihoods import Likelihood
from aejax.types import Batch


class Continued(NamedTuple):
    """`Model.sample` and `Model.rollout`."""

    sample: Callable
    rollout: Callable


def continued(
    shape: tuple[int, ...], likelihood: Likelihood, state: Callable, onward: Callable, theta: Callable
) -> Continued:
    """How a model goes on.

    Args:
        shape: of a sequence, (T, *frame).
        state: (params, keys [b], x [b, t, *frame], n [b]) -> z [b, d], a draw of the state after the first n frames.
        onward: (params, keys [b], z, δ []) -> z, a draw of the state δ steps later.
        theta: (params, z) -> theta of the frames at these states.
    """

    def go_on(params, keys, z, gaps):
        """Frames [b, g, *frame], each a gap after the one before it."""
        k_states, k_draws = halves(keys)

        def advance(z, step):
            i, delta = step
            z = onward(params, folded(k_states, i), z, delta)
            found = theta(params, z)
            frame = likelihood.mean(found)
            if likelihood.discrete:
                frame = jax.vmap(likelihood.draw)(folded(k_draws, i), found)
            return z, frame

        _, frames = jax.lax.scan(advance, z, (jnp.arange(len(gaps)), gaps))
        return jnp.swapaxes(frames, 0, 1)

    def sample(params, extras, batch, key):
        """Sequences from the first frame on: the mean of p(x_t|z_t), or a draw where the mean of discrete data is no datum."""
        k_state, k_steps = halves(each(key, batch["index"]))
        b = len(batch["index"])
        z = state(params, k_state, jnp.zeros((b, 1, *shape[1:])), jnp.zeros(b, jnp.int32))
        return go_on(params, k_steps, z, jnp.ones(shape[0], jnp.int32))

    def rollout(params, extras, batch, key, gaps):
        k_state, k_steps = halves(each(key, batch["index"]))
        z = state(params, k_state, batch["x"], lengths(batch))
        return go_on(params, k_steps, z, gaps)

    return Continued(sample, rollout)


def lengths(batch: Batch) -> Int[Array, " b"]:
    """How many frames of each sequence count."""
    b, t = batch["x"].shape[:2]
    return batch["length"] if "length" in batch else jnp.full(b, t, jnp.int32)


def counted(n: Int[Array, " b"], t: int) -> Bool[Array, "b t"]:
    """Which of t frames count."""
    return jnp.arange(t, dtype=n.dtype)[None, :] < n[:, None]


def over_frames(per_frame: Array, x: Array) -> Array:
    """[b, t] as an array that broadcasts over frames of x [b, t, *frame]."""
    return per_frame.reshape(*per_frame.shape, *([1] * (x.ndim - 2)))


def window(
    length: int, keys: Key[Array, " b"], x: tuple[Float[Array, "b t *frame"], ...], n: Int[Array, " b"]
) -> tuple[tuple[Float[Array, "b length *frame"], ...], Int[Array, " b"]]:
    """So many frames of each sequence, from a random start at which as many count as there can be; the same of all in x."""
    if length >= x[0].shape[1]:
        return x, n

    def one(key, n, *x):
        start = jax.random.randint(key, (), 0, jnp.maximum(n - length, 0) + 1, n.dtype)
        return tuple(jax.lax.dynamic_slice_in_dim(sequence, start, length) for sequence in x)

    return jax.vmap(one)(keys, n, *x), jnp.minimum(n, length)


def halves(keys: Key[Array, " b"]) -> tuple[Key[Array, " b"], Key[Array, " b"]]:
    """Two keys of each."""
    split = jax.vmap(jax.random.split)(keys)
    return split[:, 0], split[:, 1]


def folded(keys: Key[Array, " b"], step: Any) -> Key[Array, " b"]:
    """Each folded with the number of a step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)


def of_steps(keys: Key[Array, " b"], t: int) -> Key[Array, "b t"]:
    """A key for each step of each sequence, which does not depend on how many there are."""
    return jax.vmap(lambda key: jax.vmap(lambda step: jax.random.fold_in(key, step))(jnp.arange(t)))(keys)
