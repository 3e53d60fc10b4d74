"""The programs of a group of members: experiments that differ in seed or in numbers, as one program under vmap.

An experiment's function is called again within the program, with traced numbers for what varies; so nothing in a family
knows of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aejax.data import batch_at, describe, recorded
from aejax.errors import UsageError
from aejax.keys import evaluation_key, run_keys
from aejax.runs.directory import datasets
from aejax.runs.experiment import build
from aejax.runs.run import judged_examples, judged_split, judgement, map_examples
from aejax.training.loop import Settings, layout_of
from aejax.training.step import init_state, make_step, on_one_device, stretch
from aejax.types import Experiment, TrainState

AXIS = "member"


class Member(NamedTuple):
    """One of a group."""

    name: str
    """Of its run directory within the group's: what tells it from the others, as in `lr0.001-seed0`."""
    varied: dict[str, int | float]
    """The arguments in which members differ."""
    experiment: Experiment


def members_of(
    function: Callable[..., Experiment], arguments: Mapping[str, Any], varied: Mapping[str, Sequence]
) -> list[Member]:
    """A member for every combination of the values in `varied`, in which seeds and floats may vary.

    Raises:
        UsageError: for an argument that the experiment lacks, one that shapes the program (only `seed` and numbers given as
            floats can differ within one), or the same member twice.
    """
    for name, values in varied.items():
        if name not in arguments:
            raise UsageError(f"the experiment has no argument {name!r} to vary; it has {', '.join(arguments)}")
        if name != "seed" and not isinstance(arguments[name], float):
            raise UsageError(
                f"{name} cannot vary within one program, only seeds and floats can; train a run for each {name}"
            )
        if len(set(values)) < len(values):
            raise UsageError(f"{name} has a value twice among {', '.join(map(str, values))}; give each once")
    members = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values))
        name = "-".join(
            f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}" for key, value in chosen.items()
        )
        members.append(Member(name, chosen, build(function, {**arguments, **chosen})))
    if len({member.name for member in members}) < len(members):
        raise UsageError("two members would have the same name; vary by more than the sixth digit")
    return members


def init_states(function: Callable, arguments: Mapping[str, Any], members: list[Member]) -> TrainState:
    """The members' first states, stacked: each the one that a run of its own would begin with, by one compiled program."""
    bare = recorded(describe(datasets(members[0].experiment)))

    @jax.jit
    def init(varied, key, batch):
        made = build(function, arguments, **{**varied, "data": bare})
        return init_state(made.model, made.optimizer, key, batch)

    def first(member, varied):
        e = member.experiment
        return init(varied, run_keys(e.seed).init, batch_at(e.train, e.seed, 0, e.batch_size))

    varied = _stacked(members)
    states = [first(member, {name: v[i] for name, v in varied.items()}) for i, member in enumerate(members)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def make_members_runner(
    function: Callable[..., Experiment], arguments: Mapping[str, Any], members: list[Member], settings: Settings
) -> Callable:
    """`aejax.training.step.stretch` for all members at once: states [m, ...], keys [m], batches [t, m, b, ...], terms [t, m]."""
    first = members[0].experiment
    bare = recorded(describe(datasets(first)))  # building the experiment anew needs no data
    layout = layout_of(settings)._replace(devices=1)

    def step(varied, state, key, batch):
        made = build(function, arguments, **{**varied, "data": bare})
        return make_step(made.model, made.optimizer, None, layout)(state, key, batch)

    def run(varied, states, keys, batches, n):
        def together(states, keys, batch):
            return jax.vmap(step)(varied, states, keys, batch)

        return stretch(together)(states, keys, batches, n)

    mesh = Mesh(np.asarray(jax.local_devices()[: settings.devices]), (AXIS,))
    each, within, everywhere = PartitionSpec(AXIS), PartitionSpec(None, AXIS), PartitionSpec()
    shared = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(each, each, each, within, everywhere),
        out_specs=(each, within),
        check_vma=False,
    )
    compiled = jax.jit(shared, donate_argnums=1)
    varied = jax.device_put(_stacked(members), NamedSharding(mesh, each))

    def runner(states, keys, batches, n):
        states, keys = jax.device_put((states, keys), NamedSharding(mesh, each))
        return compiled(varied, states, keys, batches, n)

    return runner


def make_members_judge(function: Callable, arguments: Mapping[str, Any], members: list[Member]) -> Callable:
    """states -> for each member the `judgement` over the validation split, all in one program."""
    first = members[0].experiment
    bare = recorded(describe(datasets(first)))
    varied, keys = _stacked(members), jnp.stack([evaluation_key(m.experiment.seed, "terms") for m in members])

    @jax.jit
    def evaluate(states, batch):
        def one(varied, state, key):
            made = build(function, arguments, **{**varied, "data": bare})
            return judged_examples(made.model)(state.params, state.extras, batch, key)

        return jax.vmap(one, out_axes=1)(varied, states, keys)

    def judge(states: TrainState) -> list[tuple[dict[str, float], dict[str, list[int]]]]:
        local = on_one_device(states)
        terms = map_examples(lambda batch: evaluate(local, batch), judged_split(first))  # [n, m]
        return [judgement({name: values[:, i] for name, values in terms.items()}) for i in range(len(members))]

    return judge


def _stacked(members: list[Member]) -> dict[str, jax.Array]:
    """What varies, [m] by name: seeds and float32 numbers. The seed in the program serves only what an experiment computes
    from it; the keys are made outside."""
    names = members[0].varied
    kind = {name: np.uint32 if name == "seed" else np.float32 for name in names}
    return {name: jnp.asarray([member.varied[name] for member in members], kind[name]) for name in names}
