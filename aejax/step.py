"""The training step, once, and how it runs: on one device under jit, on several under pmap.

A call runs any number of steps over a stretch of batches that was put on the device. The number is an argument of the
compiled program, not part of it, so that how steps are grouped into calls (for the progress bar, a signal, an
evaluation) changes neither the bits nor the compilation; where each group size compiled a program of its own, a resumed run
could fuse its arithmetic otherwise than the run it continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key

from aejax.collectives import mean
from aejax.errors import UsageError
from aejax.types import Batch, Model, TrainState

AXIS = "batch"


def init_state(model: Model, optimizer: optax.GradientTransformation, key: Key[Array, ""], batch: Batch) -> TrainState:
    """The state before the first step. Always under jit: eager initialisation gives other bits and shared leaves."""

    @jax.jit
    def init(key, batch):
        params, extras = model.init(key, batch)
        return TrainState(jnp.int32(0), params, extras, optimizer.init(params))

    return init(key, batch)


def make_step(model: Model, optimizer: optax.GradientTransformation, axis: str | None = None) -> Callable:
    """(state, run key, batch) -> (state, metrics), with metrics means over the global batch by name, `loss` among them.

    The objective is the mean over devices of what `model.loss` returns, so gradients are averaged, never summed; extras are
    global already and left alone.
    """

    def step(state: TrainState, run_key: Key[Array, ""], batch: Batch) -> tuple[TrainState, dict]:
        (loss, (extras, metrics)), grads = jax.value_and_grad(model.loss, has_aux=True)(
            state.params, state.extras, batch, jax.random.fold_in(run_key, state.step), state.step, axis
        )
        grads, metrics = mean((grads, {"loss": loss, **metrics}), axis)
        with jax.numpy_dtype_promotion("standard"):  # optimisers mix the integer count with floats
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), extras, opt_state), metrics

    return step


def stretch(step: Callable) -> Callable:
    """The step run over the first n of the batches in `batches` (leaves [t, ...]); metrics are [t], NaN beyond the n."""

    def run(state: TrainState, run_key: Key[Array, ""], batches: Batch, n: Int[Array, ""]) -> tuple[TrainState, dict]:
        def at(i):
            return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), batches)

        def body(i, carry):
            state, log = carry
            state, metrics = step(state, run_key, at(i))
            return state, jax.tree.map(lambda row, value: row.at[i].set(value), log, metrics)

        capacity = jax.tree.leaves(batches)[0].shape[0]
        _, metrics = jax.eval_shape(step, state, run_key, at(0))
        log = jax.tree.map(lambda m: jnp.full((capacity,), jnp.nan, m.dtype), metrics)
        return jax.lax.fori_loop(0, n, body, (state, log))

    return run


def one(model: Model, optimizer: optax.GradientTransformation) -> Callable:
    """`stretch` compiled for one device. The state is donated."""
    return jax.jit(stretch(make_step(model, optimizer)), donate_argnums=0)


def many(model: Model, optimizer: optax.GradientTransformation, devices: list) -> Callable:
    """`stretch` under pmap, with the same arguments: each device takes its share of every batch, the state is not stacked."""
    run = jax.pmap(
        stretch(make_step(model, optimizer, AXIS)),
        axis_name=AXIS,
        in_axes=(None, None, 1, None),
        out_axes=None,
        devices=devices,
        donate_argnums=0,
    )
    everywhere = NamedSharding(jax.sharding.Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())

    def share(leaf):
        t, b = leaf.shape[:2]
        return leaf.reshape(t, len(devices), b // len(devices), *leaf.shape[2:])

    def sharded(state, run_key, batches, n):
        # Without the replicated placement the second call would compile again.
        state, run_key = jax.device_put((state, run_key), everywhere)
        return run(state, run_key, jax.tree.map(share, batches), n)

    return sharded


def make_runner(model: Model, optimizer: optax.GradientTransformation, devices: int, batch_size: int) -> Callable:
    """`one` or `many`, after checking that the batch can be shared out."""
    if devices < 1 or devices > jax.local_device_count():
        raise UsageError(
            f"{devices} devices asked for, but JAX sees {jax.local_device_count()} ({jax.default_backend()}); "
            "lower --devices"
        )
    if batch_size % devices:
        raise UsageError(
            f"batch size {batch_size} is not divisible by {devices} devices; use a multiple of {devices} for --batch-size"
        )
    return one(model, optimizer) if devices == 1 else many(model, optimizer, jax.local_devices()[:devices])


def on_one_device(tree: Any) -> Any:
    """A replicated tree on the first device, for what is not parallel (evaluation, inference)."""
    return jax.device_put(tree, jax.local_devices()[0])
