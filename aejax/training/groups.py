"""Many runs in one program: members that differ in seed or in numbers such as the learning rate, trained together under vmap.

A group's directory holds `group.json` (what varies, and what makes the experiment), a run directory for each member, and
`summary.json`: mean ± sd over seeds for each setting. A member draws the very bits that a run of its own would draw, for its
initialization, the order of its examples and its corruption; its arithmetic may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.data import Streamed, as_recorded_source
from aejax.errors import UsageError
from aejax.runs.checkpoint import open_checkpoints, restore, save
from aejax.runs.directory import GROUP, make_config, read_config, read_json, write_json
from aejax.runs.experiment import Source
from aejax.runs.metrics_log import metrics_log, truncate_log
from aejax.runs.run import Run, abstract_state, judged_split, means, open_run, rebuild_function
from aejax.training.loop import (
    Clock,
    Interrupted,
    NonFinite,
    Settings,
    refuse_non_finite_judgement,
    refuse_non_finite_state,
    refuse_non_finite_terms,
    stretches_of_members,
)
from aejax.training.progress import show_progress
from aejax.training.signals import noted_signals
from aejax.training.step import on_one_device
from aejax.training.trainer import check, held, means_over, refuse_occupied, result_of, session
from aejax.training.vmapped import Member, init_states, make_members_judge, make_members_runner, members_of
from aejax.types import Experiment, TrainState


def train_members(
    function: Callable[..., Experiment],
    arguments: Mapping[str, Any],
    varied: Mapping[str, Sequence],
    directory: str | Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
) -> list[Run]:
    """Trains a member for every combination of `varied` in one program, and returns their runs.

    Args:
        function: an experiment file's, keyword arguments -> Experiment. It is also called with traced numbers for what varies.
        arguments: all of its arguments; those that vary are replaced.
        varied: name -> values: `{"seed": range(5), "lr": (1e-3, 3e-4)}` are ten members.
        settings: with several devices each has its share of the members.

    A member that meets NaN or Inf is left behind with its last finite checkpoint and no result.json; the others go on.

    Raises:
        UsageError: what the user can mend, before anything is written.
        NonFinite: at the end, naming the members that were left behind.
        Interrupted: SIGINT or SIGTERM; all members are saved, `resume_members` continues.
    """
    directory = Path(directory)
    members = members_of(function, arguments, varied)
    check_members(members, settings)
    group = {
        "varied": {name: list(values) for name, values in varied.items()},
        "arguments": {**arguments, "data": _name_of(arguments["data"])},
        "members": [member.name for member in members],
        "settings": settings._asdict(),
        "source": None if source is None else source._asdict(),
    }
    configs = [_config(member, source, settings) for member in members]

    def begin():
        for member, config in zip(members, configs):
            (directory / member.name).mkdir()
            write_json(directory / member.name / "config.json", config)
        write_json(directory / GROUP, group)

    with held(directory, lambda: refuse_occupied(directory, overwrite), begin, empty=True):
        states = init_states(function, arguments, members)
        return _finish(function, arguments, members, configs, directory, settings, states)


def resume_members(
    directory: str | Path,
    *,
    function: Callable[..., Experiment] | None = None,
    file: str | Path | None = None,
    devices: int | None = None,
    allow_changed: bool = False,
) -> list[Run]:
    """Continues a group from the last step that all its members have saved.

    `function` is needed for a group that was trained from Python without an experiment file.
    """
    directory = Path(directory)
    function, arguments, members, settings = open_group(
        directory, function=function, file=file, allow_changed=allow_changed
    )
    settings = settings if devices is None else settings._replace(devices=devices)
    check_members(members, settings)
    with held(directory):
        configs = [read_config(directory / member.name) for member in members]
        if all((directory / member.name / "result.json").exists() for member in members):
            return [open_run(directory / m.name, experiment=m.experiment) for m in members]
        states, step = _restored(directory, members, settings)
        if states is None:
            states = init_states(function, arguments, members)
        for member, config in zip(members, configs):
            truncate_log(directory / member.name, step)
            config["resumed"].append(session(step, settings))
            write_json(directory / member.name / "config.json", config)
        return _finish(function, arguments, members, configs, directory, settings, states)


def _name_of(data: str | Streamed) -> str:
    return data.name if isinstance(data, Streamed) else data


def _config(member: Member, source: Source | None, settings: Settings) -> dict[str, Any]:
    own = None if source is None else source._replace(arguments={**source.arguments, **member.varied})
    return {**make_config(member.experiment, own, settings._asdict()), "member": member.varied}


def open_group(
    directory: Path,
    *,
    function: Callable[..., Experiment] | None = None,
    file: str | Path | None = None,
    allow_changed: bool = False,
) -> tuple[Callable[..., Experiment], dict[str, Any], list[Member], Settings]:
    """(function, arguments, members with their data, settings) of a group's directory."""
    group = read_json(directory / GROUP, f"{directory} is not a group of runs")
    if function is None:
        function = rebuild_function(directory, group["source"], file=file, allow_changed=allow_changed)
    record = read_config(directory / group["members"][0])["data"]
    arguments = {**group["arguments"], "data": as_recorded_source(record, group["arguments"]["data"])}
    return function, arguments, members_of(function, arguments, group["varied"]), Settings(**group["settings"])


def check_members(members: list[Member], settings: Settings) -> None:
    """Refuses at the edge what cannot be trained as a group."""
    if jax.process_count() > 1:
        raise UsageError("--seeds and --sweep train in one process; leave --coordinator out, or train runs one by one")
    if settings.exact_reduce:
        raise UsageError("--exact-reduce is for one run over several devices; members are not cut, leave it out")
    if settings.devices > jax.local_device_count():
        raise UsageError(
            f"{settings.devices} devices asked for, but JAX sees {jax.local_device_count()}; lower --devices"
        )
    if len(members) % settings.devices:
        raise UsageError(
            f"{len(members)} members cannot be shared by {settings.devices} devices; use a divisor for --devices"
        )
    for member in members:
        check(member.experiment, settings._replace(devices=1))


def _restored(directory: Path, members: list[Member], settings: Settings) -> tuple[TrainState | None, int]:
    """The stacked states of the last step that all members have saved, and the step; None and 0 where there is none."""
    with ExitStack() as stack:
        every = [
            stack.enter_context(
                open_checkpoints(directory / m.name / "checkpoints", settings.keep, m.experiment.monitor)
            )
            for m in members
        ]
        common = set.intersection(*(set(checkpoints.all_steps()) for checkpoints in every))
        if not common:
            return None, 0
        step = max(common)
        states = [restore(c, abstract_state(m.experiment), step) for c, m in zip(every, members)]
        for checkpoints in every:
            for later in [s for s in checkpoints.all_steps() if s > step]:
                checkpoints.delete(later)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), step


def _finish(
    function: Callable,
    arguments: Mapping[str, Any],
    members: list[Member],
    configs: list[dict[str, Any]],
    directory: Path,
    settings: Settings,
    states: TrainState,
) -> list[Run]:
    """From `states` to the last step."""
    first = members[0].experiment
    run_step = make_members_runner(function, arguments, members, settings)
    judge = make_members_judge(function, arguments, members)
    lost: dict[int, NonFinite] = {}
    with ExitStack() as stack:
        checkpoints = [
            stack.enter_context(
                open_checkpoints(directory / m.name / "checkpoints", settings.keep, m.experiment.monitor)
            )
            for m in members
        ]
        writes = [stack.enter_context(metrics_log(directory / m.name, settings.tensorboard)) for m in members]
        progress = stack.enter_context(show_progress(directory.name, first.steps, int(states.step[0])))
        clock = Clock(stack.enter_context(noted_signals()))
        since_line: list[Mapping[str, np.ndarray]] = []
        trace = directory / "profile" if settings.profile else None
        judged: list[dict[str, float]] = []

        def going() -> list[int]:
            return [i for i in range(len(members)) if i not in lost]

        def each_going(act: Callable[[int], None]) -> None:
            for i in going():
                try:
                    act(i)
                except NonFinite as error:
                    lost[i] = error

        def keep(host: TrainState, metrics: list[dict[str, float]] | None) -> None:
            def one(i):
                state = _member_state(host, i)
                refuse_non_finite_state(state)
                save(checkpoints[i], state, None if metrics is None else metrics[i])

            each_going(one)

        for states, reached, terms in stretches_of_members(  # noqa: B020
            [m.experiment for m in members], settings, run_step, states, clock, progress, trace
        ):
            mine = [{name: values[:, i] for name, values in terms.items()} for i in range(len(members))]
            each_going(lambda i: refuse_non_finite_terms(mine[i], reached))  # noqa: B023
            since_line.append(terms)
            if reached % settings.log_every == 0 or reached == first.steps:
                for i in going():
                    parts = [{name: values[:, i] for name, values in part.items()} for part in since_line]
                    writes[i](reached, "train", means_over(parts), clock.rate(first.batch_size))
                since_line = []
            judged = []
            if going() and (reached % settings.save_every == 0 or reached == first.steps):
                found = judge(states)
                judged = [terms for terms, _ in found]
                each_going(lambda i: refuse_non_finite_judgement(judged[i], judged_split(first).name, reached))  # noqa: B023
                for i in going():
                    writes[i](reached, "validation" if first.validation else "test", {**judged[i], **found[i][1]})
                if going():
                    progress.judged(reached, _means_over_members([judged[i] for i in going()]))
                keep(jax.tree.map(np.asarray, states), judged)
            if clock.signal and reached < first.steps:
                if not judged:
                    keep(jax.tree.map(np.asarray, states), None)
                for one in checkpoints:
                    one.wait_until_finished()
                told = f"stopped at step {reached} of {first.steps}; continue with: aejax resume {directory}"
                raise Interrupted(told, clock.signal)
            if not going():
                break
        for one in checkpoints:
            one.wait_until_finished()
    host = jax.tree.map(np.asarray, states)
    judged = judged or [terms for terms, _ in judge(states)]
    runs = []
    for i in going():
        state = on_one_device(_member_state(host, i))
        write_json(directory / members[i].name / "result.json", result_of(state, judged[i], clock, first.batch_size))
        runs.append(Run(directory / members[i].name, configs[i], members[i].experiment, state))
    if lost:
        told = "; ".join(f"{members[i].name}: {error}" for i, error in lost.items())
        raise NonFinite(f"{told}; {len(runs)} of {len(members)} members went on to the end")
    return runs


def _member_state(host: TrainState, i: int) -> TrainState:
    return jax.tree.map(lambda leaf: np.asarray(leaf[i]), host)


def _means_over_members(terms: list[dict[str, float]]) -> dict[str, float]:
    return means({name: np.array([one[name] for one in terms]) for name in terms[0]})
