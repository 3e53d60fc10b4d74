"""Sweeps over arguments that shape the program, such as widths or choices: one group after the other.

Seeds and floats vary within one program (`aejax.training.groups`); every combination of the other arguments is a group of its
own. The directory of a sweep holds `sweep.json`, a directory per group, and `summary.json` over all of them.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax.data import as_recorded_source, read_as
from aejax.errors import UsageError
from aejax.files import write_json
from aejax.runs.directory import FORMAT, SWEEP, read_config, read_group, read_sweep
from aejax.runs.experiment import Source, written
from aejax.runs.opening import moved, rebuild_function
from aejax.runs.run import Run
from aejax.training.groups import Function, has_begun, resume_members, train_members, variants_of
from aejax.training.recorder import NonFinite
from aejax.training.settings import Settings, settings_of
from aejax.training.trainer import held_directory, new_directory

Values = Mapping[str, Sequence[Any]]
"""Name of an argument -> its values."""

Resumed = Callable[[Path], "list[Run] | None"]
"""Directory of a group -> its runs, trained to the end; None if it has not begun."""


def apart_and_together(arguments: Mapping[str, Any], varied: Values) -> tuple[Values, Values]:
    """The varied arguments that need a program for each value, and those that vary within one: seeds and floats."""
    within = lambda name: name == "seed" or isinstance(arguments.get(name), float)
    apart = {name: values for name, values in varied.items() if not within(name)}
    return apart, {name: values for name, values in varied.items() if within(name)}


def train_grid(
    function: Function,
    arguments: Mapping[str, Any],
    varied: Values,
    directory: Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
) -> list[Run]:
    """Trains a group for every combination of the arguments that need a program of their own; arguments as in `train_members`.

    All combinations are checked before the first one is trained.
    """
    apart, together = apart_and_together(arguments, varied)
    for name, values in apart.items():
        if len(set(values)) < len(values):
            raise UsageError(f"{name} has a value twice among {', '.join(map(str, values))}; give each once")
    for chosen in combinations(apart).values():
        variants_of(function, {**arguments, **chosen}, together)
    record = sweep_record(apart, together, arguments, settings, source)
    with new_directory(directory, overwrite):
        write_json(directory / SWEEP, {**record, "groups": list(combinations(apart))})
        return _train_each(directory, *resumed_sweep(directory, function=function))


def resume_grid(directory: Path, **given: Any) -> list[Run]:
    """Continues a sweep: groups that have begun are resumed, the others are trained; arguments as in `resume_members`."""
    with held_directory(directory):
        return _train_each(directory, *resumed_sweep(directory, **given))


def sweep_record(
    apart: Values, together: Values, arguments: Mapping[str, Any], settings: Settings, source: Source | None
) -> dict[str, Any]:
    """The content of sweep.json before the first group."""
    return {
        "format": FORMAT,
        "apart": {name: list(values) for name, values in apart.items()},
        "together": {name: list(values) for name, values in together.items()},
        "arguments": {**arguments, "data": read_as(arguments["data"]).data},
        "reading": read_as(arguments["data"])._replace(data=None)._asdict(),
        "groups": [],
        "settings": settings._asdict(),
        "source": None if source is None else source._asdict(),
    }


def resumed_sweep(
    directory: Path,
    *,
    function: Function | None = None,
    file: str | Path | None = None,
    devices: int | None = None,
    allow_changed: bool = False,
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
) -> tuple[Function, dict[str, Any], Settings, Source | None, Resumed]:
    """What sweep.json says of how its groups are trained, and a function that resumes a group which has begun."""
    record = read_sweep(directory)
    if function is None:
        function = rebuild_function(directory, record["source"], file=file, allow_changed=allow_changed)
    arguments = moved(directory, record["arguments"], True, data, parent)
    arguments["data"] = read_as(arguments["data"], {k: v for k, v in record["reading"].items() if k != "data"})
    begun = [directory / name for name in record["groups"] if has_begun(directory / name)]
    if begun:
        first = read_config(begun[0] / read_group(begun[0])["members"][0])
        arguments["data"] = as_recorded_source(first["data"], read_as(arguments["data"]).data)
    settings = settings_of(record["settings"], directory)
    settings = settings if devices is None else settings._replace(devices=devices)
    source = None if record["source"] is None else Source(**record["source"])

    def resumed(folder: Path) -> list[Run] | None:
        if not has_begun(folder):
            return None
        return resume_members(
            folder, function=function, devices=devices, allow_changed=allow_changed, data=data, parent=parent
        )

    return function, arguments, settings, source, resumed


def train_group(
    function: Function,
    arguments: Mapping[str, Any],
    chosen: Mapping[str, Any],
    together: Values,
    folder: Path,
    settings: Settings,
    source: Source | None,
) -> list[Run]:
    """Trains the group of a sweep that has these chosen arguments; replaces what a kill left of it."""
    own = None if source is None else source._replace(arguments={**source.arguments, **chosen})
    given, overwrite = {**arguments, **chosen}, folder.exists()
    return train_members(function, given, together, folder, settings, own, overwrite=overwrite, fixed=chosen)


def combinations(apart: Values) -> dict[str, dict[str, Any]]:
    """Name of a group -> its arguments."""
    every = [dict(zip(apart, values)) for values in itertools.product(*apart.values())]
    return {"-".join(f"{name}{written(value)}" for name, value in chosen.items()): chosen for chosen in every}


def _train_each(
    directory: Path,
    function: Function,
    arguments: Mapping[str, Any],
    settings: Settings,
    source: Source | None,
    resumed: Resumed,
) -> list[Run]:
    runs, stopped, record = [], [], read_sweep(directory)
    every = combinations(record["apart"])
    for i, (name, chosen) in enumerate(every.items(), 1):
        if settings.verbose:
            print(f"sweep {i} of {len(every)}: {name}", file=sys.stderr, flush=True)
        try:
            done = resumed(directory / name)
            if done is None:
                done = train_group(function, arguments, chosen, record["together"], directory / name, settings, source)
            runs += done
        except NonFinite as error:
            stopped.append(f"{name}: {error}")
    if stopped:
        raise NonFinite("; ".join(stopped))
    return runs
