"""Many runs in one program: members that differ in seed or in numbers such as the learning rate, trained together under vmap.

The directory of a group holds `group.json` (the varied arguments and the experiment), a run directory per member, and
`summary.json`: mean ± sd over seeds for each setting. A member draws the same bits as a separate run for its initialization,
the order of its examples and its corruption; its arithmetic may round differently.

An experiment's function is called again within the program, with traced numbers for the varied arguments; models therefore need
no code for groups.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from aejax.data import as_recorded_source, batch_at, batch_loader, describe, drawn, read_as, recorded
from aejax.errors import UsageError
from aejax.files import write_json
from aejax.keys import evaluation_key, run_keys
from aejax.runs.batched import map_examples
from aejax.runs.checkpoint import Damaged, open_checkpoints, refuse_other_config, restore_intact
from aejax.runs.directory import (
    FORMAT,
    GROUP,
    datasets,
    determined,
    is_group,
    make_config,
    members_in,
    read_config,
    read_group,
)
from aejax.runs.experiment import Source, build
from aejax.runs.opening import moved, open_run, rebuild_function, refuse_other_data
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.runs.trusted import remember
from aejax.signals import deferred_signals
from aejax.training.checks import checked
from aejax.training.cost import cost_of
from aejax.training.loop import Program, train_to_end
from aejax.training.recorder import Member
from aejax.training.settings import Settings, layout_of, settings_of
from aejax.training.step import PlacedRunner, chunk, init_state, make_step, on_one_device
from aejax.training.trainer import held_directory, new_directory, say_what_was_found, session, turn_back
from aejax.training.validation import Validation, summary_of, terms_of, validation_split
from aejax.types import Batch, Experiment, TrainState

AXIS = "member"

Function = Callable[..., Experiment]
"""Function of an experiment file, keyword arguments -> Experiment."""


class Variant(NamedTuple):
    """One combination of the varied arguments."""

    name: str
    """Name of its run directory within the group's, e.g. `lr0.001-seed0`."""
    varied: dict[str, int | float]
    """Arguments in which members differ."""
    experiment: Experiment


class Group(NamedTuple):
    """Members that train in one program."""

    function: Function
    """Also called with traced numbers for the varied arguments."""
    arguments: Mapping[str, Any]
    """All of its arguments; the varied ones are replaced."""
    variants: list[Variant]

    @property
    def first(self) -> Experiment:
        return self.variants[0].experiment

    def build_bare(self, varied: Mapping[str, Any]) -> Experiment:
        """The experiment with these numbers, within a compiled program; building it needs no data."""
        bare = recorded(describe(datasets(self.first)))
        return build(self.function, self.arguments, **{**varied, "data": bare})


def train_members(
    function: Function,
    arguments: Mapping[str, Any],
    varied: Mapping[str, Sequence[Any]],
    directory: str | Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
    fixed: Mapping[str, Any] = {},
) -> list[Run]:
    """Trains a member for every combination of `varied` in one program, and returns their runs.

    A member that meets NaN or Inf stops with its last finite checkpoint and without result.json; the others continue.

    Args:
        function: Function of an experiment file, keyword arguments -> Experiment.
        arguments: All of its arguments; the varied ones are replaced.
        varied: Name -> values: `{"seed": range(5), "lr": (1e-3, 3e-4)}` gives ten members.
        directory: Directory of the group.
        settings: As in `train`; several devices share the members.
        source: The experiment's file and arguments, if it came from a file.
        overwrite: Whether to replace the directory if it is a group or a run.
        fixed: Arguments, among those above, by which this group differs from others of a sweep, for the record.

    Returns:
        The runs of the members.

    Raises:
        UsageError: Something is wrong that the user can correct; nothing has been written.
        NonFinite: At the end, with the names of the members that stopped.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; all members are saved and `resume_members` continues.
    """
    directory = Path(directory)
    group = Group(function, arguments, variants_of(function, arguments, varied))
    if settings.devices is None:
        settings = settings._replace(devices=devices_for(len(group.variants)))
    group = group._replace(variants=checked_members(group.variants, settings))
    members = [Member(directory / v.name, _config(v, source, settings, fixed), v.experiment) for v in group.variants]
    with new_directory(directory, overwrite):
        if source is not None:
            remember(Path(source.file), source.sha256)
        data = arguments["data"]
        record = {
            "format": FORMAT,
            "varied": {name: list(values) for name, values in varied.items()},
            "arguments": {**arguments, "data": read_as(data).data},
            "members": [variant.name for variant in group.variants],
            "settings": settings._asdict(),
            "source": None if source is None else source._asdict(),
        }
        write_json(directory / GROUP, record)
        for member in members:
            member.directory.mkdir()
            write_json(member.directory / "config.json", member.config)
        say_what_was_found(members[0].config)
        return train_to_end(program_of(group, settings, 0), members, settings, first_states(group), directory)


def resume_members(
    directory: str | Path,
    *,
    function: Function | None = None,
    file: str | Path | None = None,
    devices: int | None = None,
    allow_changed: bool = False,
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
) -> list[Run]:
    """Continues a group from the last step that all its members have saved.

    `function` is needed for a group that was trained from Python without an experiment file.
    """
    directory = Path(directory)
    group, settings = open_group(
        directory, function=function, file=file, allow_changed=allow_changed, data=data, parent=parent
    )
    settings = settings if devices is None else settings._replace(devices=devices)
    group = group._replace(variants=checked_members(group.variants, settings))
    with held_directory(directory):
        folders = [directory / v.name for v in group.variants]
        if all((folder / "result.json").exists() for folder in folders):
            try:
                return [
                    open_run(folder, experiment=v.experiment, allow_changed=allow_changed)
                    for folder, v in zip(folders, group.variants)
                ]
            except Damaged:  # they are trained again from the last checkpoints that are intact
                for folder in folders:
                    (folder / "result.json").unlink()
        members = [Member(f, read_config(f), v.experiment) for f, v in zip(folders, group.variants)]
        states, step = _last_states(members, settings, allow_changed)
        for member in members:
            member.config["resumed"].append(session(step, settings))
            turn_back(member.directory, member.config, step)
        states = first_states(group) if states is None else states
        say_what_was_found(members[0].config)
        return train_to_end(program_of(group, settings, step), members, settings, states, directory)


def has_begun(directory: Path) -> bool:
    """Whether the directory is a group all of whose members were recorded, and not what a kill left before that."""
    return is_group(directory) and all((member / "config.json").exists() for member in members_in(directory))


def open_group(
    directory: Path,
    *,
    function: Function | None = None,
    file: str | Path | None = None,
    allow_changed: bool = False,
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
) -> tuple[Group, Settings]:
    """The members of a group's directory with their data, and how they were trained."""
    record = read_group(directory)
    if not has_begun(directory):
        raise UsageError(f"{directory} was stopped before its first step; start it again with --overwrite")
    if function is None:
        function = rebuild_function(directory, record["source"], file=file, allow_changed=allow_changed)
    arguments = moved(directory, record["arguments"], True, data, parent)
    first = read_config(directory / record["members"][0])
    arguments["data"] = as_recorded_source(first["data"], arguments["data"])
    variants = variants_of(function, arguments, record["varied"])
    if not allow_changed:
        refuse_other_data(directory, first["data"], variants[0].experiment)
    return Group(function, arguments, variants), settings_of(record["settings"], directory)


def variants_of(function: Function, arguments: Mapping[str, Any], varied: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """A variant for every combination of the values in `varied`; seeds and floats may vary.

    Raises:
        UsageError: The experiment lacks an argument, an argument shapes the program (only `seed` and numbers given as floats
            may differ within one program), or a member occurs twice.
    """
    for name, values in varied.items():
        if name not in arguments:
            raise UsageError(f"the experiment has no argument {name!r} to vary; it has {', '.join(arguments)}")
        if name != "seed" and not isinstance(arguments[name], float):
            raise UsageError(
                f"{name} cannot vary within one program, only seeds and floats can; use aejax train --sweep {name}=…"
            )
        if len(set(values)) < len(values):
            raise UsageError(f"{name} has a value twice among {', '.join(map(str, values))}; give each once")
    variants = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values))
        name = "-".join(
            f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}" for key, value in chosen.items()
        )
        variants.append(Variant(name, chosen, build(function, {**arguments, **chosen})))
    if len({variant.name for variant in variants}) < len(variants):
        raise UsageError("two members would have the same name; vary by more than the sixth digit")
    return variants


def devices_for(members: int) -> int:
    """As many of this process's devices as divide the number of members."""
    return max(n for n in range(1, jax.local_device_count() + 1) if members % n == 0)


def checked_members(variants: list[Variant], settings: Settings) -> list[Variant]:
    """The variants, with all examples of their data checked; refuses what cannot be trained as a group."""
    if jax.process_count() > 1:
        raise UsageError("--seeds and --sweep train in one process; leave --coordinator out, or train runs one by one")
    if settings.patience:
        raise UsageError("--patience is for single runs; the members of one program all train to the end, leave it out")
    if settings.exact_reduce:
        raise UsageError("--exact-reduce is for one run over several devices; members are not cut, leave it out")
    devices = settings.devices or 1
    if devices > jax.local_device_count():
        raise UsageError(f"{devices} devices asked for, but JAX sees {jax.local_device_count()}; lower --devices")
    if len(variants) % devices:
        raise UsageError(f"{len(variants)} members cannot be shared by {devices} devices; use a divisor for --devices")
    one = settings._replace(devices=1)
    return [variant._replace(experiment=checked(variant.experiment, one)) for variant in variants]


def program_of(group: Group, settings: Settings, start: int) -> Program:
    """The members' program from a step on: leaves of the state are [m, ...], batches [t, m, b, ...], terms [t, m]."""
    experiments = [variant.experiment for variant in group.variants]
    loaders = {e.seed: batch_loader(e.train, e.seed, start, e.batch_size) for e in experiments}

    def next_batches(n: int) -> Batch:
        by_seed = {seed: batches(n) for seed, batches in loaders.items()}
        return {
            name: np.stack([by_seed[e.seed][name] for e in experiments], axis=1)
            for name in by_seed[experiments[0].seed]
        }

    def unstacked(states: TrainState) -> Callable[[int], TrainState]:
        host = jax.tree.map(np.asarray, states)
        return lambda i: jax.tree.map(lambda leaf: np.asarray(leaf[i]), host)

    return Program(
        _runner(group, settings),
        jnp.stack([run_keys(e.seed).run for e in experiments]),
        next_batches,
        _validate(group),
        unstacked,
        terms_of=lambda terms, i: {name: values[:, i] for name, values in terms.items()},
        cost=lambda lowered: cost_of(lowered).times(settings.devices or 1),
    )


def first_states(group: Group) -> TrainState:
    """The members' initial states, stacked, each equal to that of a separate run; made by one compiled program."""

    @jax.jit
    def init(varied: dict[str, Array], key: Key[Array, ""], batch: Batch) -> TrainState:
        made = group.build_bare(varied)
        return init_state(made.model, made.optimizer, key, batch)

    varied, states = _stacked(group.variants), []
    for i, e in enumerate(variant.experiment for variant in group.variants):
        numbers = {name: values[i] for name, values in varied.items()}
        states.append(init(numbers, run_keys(e.seed).init, batch_at(e.train, e.seed, 0, e.batch_size)))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _runner(group: Group, settings: Settings) -> PlacedRunner:
    """`aejax.training.step.chunk` for all members at once; devices share the members."""
    layout, draw = layout_of(settings)._replace(devices=1), drawn(group.variants[0].experiment.train)

    def step(varied: dict[str, Array], state: TrainState, key: Key[Array, ""], batch: Batch) -> Any:
        made = group.build_bare(varied)
        return make_step(made.model, made.optimizer, None, layout, draw)(state, key, batch)

    def run(varied: dict[str, Array], states: TrainState, keys: Any, batches: Batch, n: Any) -> Any:
        return chunk(lambda states, keys, batch: jax.vmap(step)(varied, states, keys, batch))(states, keys, batches, n)

    mesh = Mesh(np.asarray(jax.local_devices()[: settings.devices]), (AXIS,))
    each, within, everywhere = PartitionSpec(AXIS), PartitionSpec(None, AXIS), PartitionSpec()
    shared = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(each, each, each, within, everywhere),
        out_specs=(each, within),
        check_vma=False,
    )
    varied = jax.device_put(_stacked(group.variants), NamedSharding(mesh, each))

    def place(states: TrainState, keys: Any, batches: Batch, n: Any) -> tuple[Any, ...]:
        states, keys = jax.device_put((states, keys), NamedSharding(mesh, each))
        return varied, states, keys, batches, n

    return PlacedRunner(place, jax.jit(shared, donate_argnums=1))


def _validate(group: Group) -> Callable[[TrainState], list[Validation]]:
    """states -> each member's validation, all in one program."""
    varied = _stacked(group.variants)
    keys = jnp.stack([evaluation_key(variant.experiment.seed, "terms") for variant in group.variants])

    @jax.jit
    def terms(states: TrainState, batch: Batch) -> dict[str, Array]:
        def one(varied: dict[str, Array], state: TrainState, key: Key[Array, ""]) -> dict[str, Array]:
            return terms_of(group.build_bare(varied).model)(state.params, state.extras, batch, key)

        return jax.vmap(one, out_axes=1)(varied, states, keys)

    def validate(states: TrainState) -> list[Validation]:
        local = on_one_device(states)
        values = map_examples(lambda batch: terms(local, batch), validation_split(group.first))  # [n, m]
        return [summary_of({k: v[:, i] for k, v in values.items()}) for i in range(len(group.variants))]

    return validate


def _stacked(variants: list[Variant]) -> dict[str, jax.Array]:
    """The varied arguments, [m] by name: seeds and float32 numbers.

    The seed inside the program only serves what an experiment computes from it; keys are made outside.
    """
    names = variants[0].varied
    kind = {name: np.uint32 if name == "seed" else np.float32 for name in names}
    return {name: jnp.asarray([variant.varied[name] for variant in variants], kind[name]) for name in names}


def _last_states(members: list[Member], settings: Settings, allow_changed: bool) -> tuple[TrainState | None, int]:
    """The stacked states of the last step that all members have saved, and the step; None and 0 if there is none."""
    with deferred_signals(), ExitStack() as stack:
        every = [
            stack.enter_context(open_checkpoints(m.directory / "checkpoints", settings.keep, m.experiment.monitor))
            for m in members
        ]
        states: list[TrainState] | None = None
        while states is None:
            common = set.intersection(*(set(checkpoints.all_steps()) for checkpoints in every))
            if not common:
                return None, 0
            step = max(common)
            found = [restore_intact(c, abstract_state(m.experiment), [step]) for c, m in zip(every, members)]
            intact = [state for state in found if state is not None]
            states = intact if len(intact) == len(members) else None
        for checkpoints, member in zip(every, members):
            if not allow_changed:
                refuse_other_config(checkpoints, step, determined(member.config))
            for later in [s for s in checkpoints.all_steps() if s > step]:
                checkpoints.delete(later)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), step


def _config(variant: Variant, source: Source | None, settings: Settings, fixed: Mapping[str, Any]) -> dict[str, Any]:
    own = None if source is None else source._replace(arguments={**source.arguments, **variant.varied})
    return {**make_config(variant.experiment, own, settings._asdict()), "member": {**fixed, **variant.varied}}
