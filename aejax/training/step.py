"""The training step, and how it runs: on one device under jit, on several devices and processes under pmap.

A call runs any number of steps over a chunk of batches on the device. The number is an argument of the compiled program, not a
constant in it. How steps are grouped into calls (for the progress bar, a signal, an evaluation) therefore changes neither bits
nor compilation. If each group size were compiled separately, a resumed run could fuse its arithmetic differently from the
original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PyTree

from aejax.collectives import gather, mean
from aejax.errors import UsageError
from aejax.types import Axis, Batch, Extras, Model, TrainState

AXIS = "batch"


@runtime_checkable
class Runner(Protocol):
    """A compiled `chunk`: (state, run key, batches, n) -> (state, metrics). The state is donated."""

    def __call__(
        self, state: TrainState, key: Any, batches: Batch, n: Any, /
    ) -> tuple[TrainState, dict[str, Array]]: ...

    def lower(self, state: TrainState, key: Any, batches: Batch, n: Any, /) -> Any:
        """The program as from `jax.jit(f).lower(…)`; the next call with such arguments uses it."""


class PlacedRunner(NamedTuple):
    """A compiled function whose arguments are first placed on its devices."""

    place: Callable[..., tuple[Any, ...]]
    compiled: Any

    def __call__(self, state: TrainState, key: Any, batches: Batch, n: Any, /) -> tuple[TrainState, dict[str, Array]]:
        return self.compiled(*self.place(state, key, batches, n))

    def lower(self, state: TrainState, key: Any, batches: Batch, n: Any, /) -> Any:
        return self.compiled.lower(*self.place(state, key, batches, n))


NOWHERE = "part of a batch"
"""Axis name for a model that sees a part of its device's batch. No axis has this name, so a model that gathers or averages over
the batch fails when it is traced, instead of training on the statistics of a part."""


class Layout(NamedTuple):
    """How a global batch is split over devices and time."""

    devices: int = 1
    """Number of devices in each process."""
    parts: int = 1
    """Number of parts into which a device splits its batch, so that activations of only one part are in memory."""
    shards: int | None = None
    """Number of virtual shards of the global batch, whose gradients are added in a fixed tree: the same bits on any number of
    devices."""


def init_state(model: Model, optimizer: optax.GradientTransformation, key: Key[Array, ""], batch: Batch) -> TrainState:
    """The state before the first step. Always under jit: eager initialization gives other bits and shares leaves."""

    @jax.jit
    def init(key: Key[Array, ""], batch: Batch) -> TrainState:
        params, extras = model.init(key, batch)
        return TrainState(jnp.int32(0), params, extras, optimizer.init(params))

    return init(key, batch)


Gradient = Callable[[Batch, Axis], tuple[PyTree, Extras]]
"""(batch, axis) -> (tree to average, extras)."""

Average = Callable[[Gradient, Batch, Axis], tuple[PyTree, Extras]]

Step = Callable[[TrainState, Any, Batch], tuple[TrainState, dict[str, Array]]]


Draw = Callable[[Batch], Batch]
"""From what the loader gives to a batch, see `aejax.data.drawn`."""


def make_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    axis: Axis = None,
    layout: Layout = Layout(),
    draw: Draw = lambda batch: batch,
) -> Step:
    """(state, run key, batch) -> (state, metrics); metrics are means over the global batch by name, including `loss`.

    The objective is the mean over devices of the result of `model.loss`, so gradients are averaged, never summed. Extras are
    already global and are not averaged.
    """
    average: Average = plain_mean if layout.shards is None else exact_mean(layout.shards // total_devices(layout))
    average = average if layout.parts == 1 else in_parts(layout.parts)

    def step(state: TrainState, run_key: Key[Array, ""], batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(run_key, state.step)

        def gradient(batch: Batch, axis: Axis) -> tuple[PyTree, Extras]:
            (loss, (extras, metrics)), grads = jax.value_and_grad(model.loss, has_aux=True)(
                state.params, state.extras, draw(batch), key, state.step, axis
            )
            return (grads, {"loss": loss, **metrics}), extras

        (grads, metrics), extras = average(gradient, batch, axis)
        with jax.numpy_dtype_promotion("standard"):  # optimizers mix the integer step count with floats
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), extras, opt_state), metrics

    return step


def plain_mean(gradient: Gradient, batch: Batch, axis: Axis) -> tuple[PyTree, Extras]:
    """Each device's batch at once."""
    averaged, extras = gradient(batch, axis)
    return mean(averaged, axis), extras


def in_parts(parts: int) -> Average:
    """Gradient accumulation: a device processes its batch in parts. Equal to `plain_mean` up to rounding."""

    def average(gradient: Gradient, batch: Batch, axis: Axis) -> tuple[PyTree, Extras]:
        cut = _cut(batch, parts)
        shapes = jax.eval_shape(lambda: gradient(jax.tree.map(lambda leaf: leaf[0], cut), NOWHERE))
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def add(carry: Any, part: Batch) -> tuple[Any, None]:
            terms, extras = gradient(part, NOWHERE)
            return (jax.tree.map(jnp.add, carry[0], terms), extras), None

        (summed, extras), _ = jax.lax.scan(add, nothing, cut)
        return mean(jax.tree.map(lambda leaf: leaf / parts, summed), axis), extras

    return average


def exact_mean(parts: int) -> Average:
    """The same bits on any number of devices: `parts` virtual shards per device, one after the other, and one fixed tree.

    Adding pairs of neighbors, then pairs of the results, does not depend on the boundaries between devices if each holds a
    power of two of shards. A device has at least two: XLA would unroll a loop of one and fuse its arithmetic differently.
    """

    def average(gradient: Gradient, batch: Batch, axis: Axis) -> tuple[PyTree, Extras]:
        terms, extras = jax.lax.map(lambda part: gradient(part, NOWHERE), _cut(batch, parts))
        summed = gather(jax.tree.map(lambda leaf: _sum_of_pairs(leaf)[None], terms), axis)
        count = parts * jax.tree.leaves(summed)[0].shape[0]
        averaged = jax.tree.map(lambda leaf: _sum_of_pairs(leaf) / count, summed)
        # Compiled separately from the tree, which depends on the number of devices. (XLA for CPUs ignores the barrier and
        # gives the same bits without it, which the tests check.)
        return jax.lax.optimization_barrier(averaged), jax.tree.map(lambda leaf: leaf[0], extras)

    return average


def _cut(batch: Batch, parts: int) -> Batch:
    return jax.tree.map(lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch)


def _sum_of_pairs(leaf: Array) -> Array:
    """The sum over the first axis, whose length is a power of two, by neighboring pairs."""
    while leaf.shape[0] > 1:
        leaf = leaf[0::2] + leaf[1::2]
    return leaf[0]


def chunk(step: Step) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """The step, run over the first n of `batches` (leaves [t, ...]); metrics are [t, ...], NaN beyond n."""

    def run(
        state: TrainState, run_key: Key[Array, "*members"], batches: Batch, n: Int[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        def at(i: Any) -> Batch:
            return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), batches)

        def body(i: Any, carry: Any) -> Any:
            state, log = carry
            state, metrics = step(state, run_key, at(i))
            return state, jax.tree.map(lambda row, value: row.at[i].set(value), log, metrics)

        capacity = jax.tree.leaves(batches)[0].shape[0]
        _, metrics = jax.eval_shape(step, state, run_key, at(0))
        log = jax.tree.map(lambda m: jnp.full((capacity, *m.shape), jnp.nan, m.dtype), metrics)
        return jax.lax.fori_loop(0, n, body, (state, log))

    return run


def jit_runner(
    model: Model, optimizer: optax.GradientTransformation, layout: Layout = Layout(), draw: Draw = lambda batch: batch
) -> Runner:
    """`chunk` compiled for one device. The state is donated."""
    return jax.jit(chunk(make_step(model, optimizer, None, layout, draw)), donate_argnums=0)


def pmap_runner(
    model: Model, optimizer: optax.GradientTransformation, layout: Layout, draw: Draw = lambda batch: batch
) -> Runner:
    """`chunk` under pmap, with the same arguments: each device takes its share of every batch, and the state is not stacked.

    With several processes, each passes its own rows of the batches.
    """
    run = jax.pmap(
        chunk(make_step(model, optimizer, AXIS, layout, draw)),
        axis_name=AXIS,
        in_axes=(None, None, 1, None),
        out_axes=None,
        devices=_devices(layout),
        donate_argnums=0,
    )
    # pmap takes and returns arrays that are local to its process.
    here = jax.local_devices()[: layout.devices]
    everywhere = NamedSharding(jax.sharding.Mesh(np.asarray(here), (AXIS,)), PartitionSpec())

    def share(leaf: Any) -> Any:
        t, b = leaf.shape[:2]
        return leaf.reshape(t, layout.devices, b // layout.devices, *leaf.shape[2:])

    def place(state: TrainState, run_key: Any, batches: Batch, n: Any) -> tuple[Any, ...]:
        # Without the replicated placement, the second call would compile again.
        state, run_key, n = jax.device_put((state, run_key, n), everywhere)
        return state, run_key, jax.tree.map(share, batches), n

    return PlacedRunner(place, run)


def total_devices(layout: Layout) -> int:
    """Number of devices of all processes."""
    return layout.devices * jax.process_count()


def _devices(layout: Layout) -> list[jax.Device]:
    """The first devices of each process, in the order of the processes, like the rows of a batch."""
    everyone = [[d for d in jax.devices() if d.process_index == p] for p in range(jax.process_count())]
    return [device for local in everyone for device in local[: layout.devices]]


def on_one_device(tree: Any) -> Any:
    """A replicated tree on this process's first device, for computation that is not parallel (evaluation, inference)."""
    return jax.device_put(tree, jax.local_devices()[0])


def make_runner(
    model: Model,
    optimizer: optax.GradientTransformation,
    layout: Layout | int,
    batch_size: int,
    draw: Draw = lambda batch: batch,
) -> Runner:
    """`jit_runner` or `pmap_runner`, after checking that the batch can be split; a number means that many devices."""
    layout = Layout(layout) if isinstance(layout, int) else layout
    refuse_layout(layout, batch_size)
    runner = jit_runner if total_devices(layout) == 1 else pmap_runner
    return runner(model, optimizer, layout, draw)


def refuse_layout(layout: Layout, batch_size: int) -> None:
    """UsageError if a batch cannot be split over devices, parts or virtual shards."""
    devices, parts, shards = layout
    if devices < 1 or devices > jax.local_device_count():
        raise UsageError(
            f"{devices} devices asked for, but JAX sees {jax.local_device_count()} ({jax.default_backend()}); "
            "lower --devices"
        )
    total = total_devices(layout)
    if batch_size % total:
        raise UsageError(
            f"batch size {batch_size} is not divisible by {total} devices; use a multiple of {total} for --batch-size"
        )
    if parts < 1 or batch_size // total % parts:
        raise UsageError(
            f"--accumulate {parts} does not divide the {batch_size // total} examples of a device; "
            f"use a divisor of {batch_size // total}"
        )
    if shards is None:
        return
    if parts > 1:
        raise UsageError(
            "--exact-reduce already works through a batch shard by shard; leave --accumulate out, "
            "and raise --virtual-shards to lower memory"
        )
    if total & (total - 1):
        raise UsageError(f"--exact-reduce on {total} devices: their number must be a power of two; change --devices")
    if shards < 2 * total or shards & (shards - 1):
        raise UsageError(
            f"--exact-reduce with {shards} virtual shards on {total} devices: it must be a power of two, with two shards or "
            f"more to a device; use --virtual-shards {max(2 * total, 2 ** (shards - 1).bit_length())}"
        )
    if batch_size % shards:
        raise UsageError(
            f"batch size {batch_size} is not divisible by {shards} virtual shards; use a multiple of {shards} for "
            "--batch-size, or fewer --virtual-shards"
        )


def refuse_coupling(model: Model, layout: Layout, params: PyTree, extras: PyTree, batch: Batch) -> None:
    """UsageError for a model whose terms depend on the whole batch, if the layout shows it only a part at a time.

    It takes shapes and dtypes (`jax.ShapeDtypeStruct`) and computes nothing.
    """
    if layout.parts == 1 and layout.shards is None:
        return
    flag = "--exact-reduce" if layout.shards is not None else "--accumulate"

    def loss(params: PyTree, extras: PyTree, batch: Batch) -> Any:
        return model.loss(params, extras, batch, jax.random.key(0), jnp.int32(0), NOWHERE)

    try:
        jax.eval_shape(loss, params, extras, batch)
    except NameError as error:
        if NOWHERE not in str(error):
            raise
        raise UsageError(
            f"{flag} cuts a batch into parts, but the terms of this model depend on the whole batch; leave {flag} out"
        ) from error
