"""The files of a run directory: their content, and how they are read, written and locked.

Nothing in a run directory is executable, and no code is loaded from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from aejax.data import describe
from aejax.errors import UsageError
from aejax.files import json_digest, parsed_object
from aejax.runs.experiment import Source
from aejax.runs.fields import CONFIG, FIELDS, wrong_field
from aejax.types import Dataset, Experiment

GROUP = "group.json"
"""Marks a directory that holds several runs trained together (`aejax.training.groups`)."""

SWEEP = "sweep.json"
"""Marks a directory that holds several groups trained one after the other (`aejax.training.grids`)."""

FORMAT = 2
"""Version of the format of config.json, group.json and eval.json; files of version 0.1 have no number."""

PACKAGES = ("aejax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_config(
    experiment: Experiment,
    source: Source | None,
    settings: Mapping[str, Any],
    started_from: Mapping[str, str] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of config.json, recorded before the first step of a run."""
    return {
        "format": FORMAT,
        "source": None if source is None else source._asdict(),
        "recipe": None if recipe is None else dict(recipe),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": experiment.seed,
        "steps": experiment.steps,
        "batch_size": experiment.batch_size,
        "monitor": experiment.monitor,
        "data": describe(datasets(experiment)),
        "parent": None
        if experiment.parent is None
        else {"run": experiment.parent.directory, "digest": experiment.parent.digest},
        "started_from": None if started_from is None else dict(started_from),
        "member": None,
        "resumed": [],
        "settings": dict(settings),
        **environment(),
    }


def determined(config: Mapping[str, Any]) -> str:
    """Digest of what config.json says of the model, its training and its data: all but paths, times, settings and steps."""
    source, recipe, data = config["source"], config.get("recipe"), config["data"]
    named = {} if recipe is None else {k: v for k, v in recipe.get("named", {}).items() if k != "steps"}
    arguments = {} if source is None else source["arguments"]
    return json_digest(
        {
            **{name: config[name] for name in ("seed", "batch_size", "monitor", "member")},
            "file": None if source is None else source["sha256"],
            "arguments": {name: value for name, value in arguments.items() if name not in ("data", "parent", "steps")},
            "recipe": None if recipe is None else {**recipe, "named": named},
            "data": {name: value for name, value in data.items() if name != "name"},
            **{name: (config.get(name) or {}).get("digest") for name in ("parent", "started_from")},
        }
    )


def determines(directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's configuration several processes must have in common: all but paths, times and the machine."""
    source, data, parent = config["source"], config["data"], config["parent"]
    return {
        "run": str(directory),
        **{name: config[name] for name in ("seed", "steps", "batch_size", "monitor", "recipe", "versions")},
        "settings": {name: value for name, value in config["settings"].items() if name != "verbose"},
        "data": {split: about["fingerprint"] for split, about in data["splits"].items()},
        "parent": None if parent is None else parent["digest"],
        "file": None if source is None else source["sha256"],
        "argument": {}
        if source is None
        else {k: v for k, v in source["arguments"].items() if k not in ("data", "parent")},
    }


def datasets(experiment: Experiment) -> tuple[Dataset, ...]:
    return tuple(d for d in (experiment.train, experiment.validation, experiment.test) if d is not None)


def environment() -> dict[str, Any]:
    """Versions and platform, which determine where the same bits can be expected."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "platform": {
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "processes": jax.process_count(),
            "processor": _processor(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "prng": str(jax.config.jax_default_prng_impl),  # type: ignore[attr-defined]
        },
    }


def _processor() -> str:
    """Name of the processor, and its vector instructions where two kinds share a name.

    Another processor may round differently, and training then gives other bits.
    """
    with contextlib.suppress(OSError):
        found: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
        if "model name" in found:
            vectors = [name for flag, name in VECTORS.items() if flag in found.get("flags", "").split()]
            return ", ".join([found["model name"], *vectors[:1]])
    return platform.processor() or platform.machine()


VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""Flag of a processor -> its vector instructions, the widest first."""


def read_config(directory: Path) -> dict[str, Any]:
    if is_group(directory):
        names = ", ".join(read_group(directory)["members"])
        raise UsageError(
            f"{directory} is a group of runs; give one of {names} in it, or resume, evaluate, report or verify it"
        )
    config = read_json(directory / "config.json", f"{directory} is not a run directory")
    if not is_run(directory):
        raise UsageError(
            f"{directory} is not a run directory: its config.json is another program's; give a run of aejax"
        )
    return modernized(with_fields(config, CONFIG, directory / "config.json", f"{directory} is not a run directory"))


def read_group(directory: Path) -> dict[str, Any]:
    """The content of group.json."""
    return modernized(read_json(directory / GROUP, f"{directory} is not a group of runs"))


def read_evaluation(directory: Path) -> dict[str, Any]:
    """The content of eval.json; a section that an earlier version did not compute is None."""
    return modernized(read_json(directory / "eval.json", f"{directory} was not evaluated"))


ARGUMENTS = {"quantiser": "quantizer", "doubly_reparametrised": "doubly_reparametrized"}
"""Arguments of the shipped experiments that version 0.1 named differently: old name -> new name."""

EVALUATION = {
    "activity": "sparsity",
    "nearest_neighbours": "nearest_neighbors",
    "books": "codebooks",
    "seen": "prefix",
    "one": "rollout_mse",
    "mean": "mean_rollout_mse",
    "held": "last_frame_mse",
}
"""Keys of eval.json that version 0.1 named differently: old name -> new name."""


def modernized(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a run or group of an earlier version with the current names."""
    if "tensorboard" in record.get("settings", {}):
        settings = {name: value for name, value in record["settings"].items() if name != "tensorboard"}
        settings["track"] = "tensorboard" if record["settings"]["tensorboard"] else "none"
        record = {**record, "settings": settings}

    def renamed(value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(part, names) for key, part in value.items()}
        return [renamed(part, names) for part in value] if isinstance(value, list) else value

    if "terms" in record:  # an eval.json of version 0.1, which has no format number
        return record if "format" in record else {**renamed(record, EVALUATION), "format": FORMAT}
    if "format" in record or record.get("source") is None:
        return record

    def present(arguments: dict[str, Any]) -> dict[str, Any]:
        arguments = renamed(arguments, ARGUMENTS)
        return arguments if arguments.get("rate", 0.0) is not None else {**arguments, "rate": 0.0}  # no corruption

    source = record["source"]
    record = {**record, "source": {**source, "arguments": present(source["arguments"])}}
    return {**record, "arguments": present(record["arguments"])} if "arguments" in record else record


def is_run(directory: Path) -> bool:
    """Whether config.json is one of ours; other programs use the same file name."""
    config = None
    with contextlib.suppress(OSError):
        config = parsed_object((directory / "config.json").read_text("utf-8", "replace"))
    return config is not None and {"source", "settings", "monitor", "versions"} <= config.keys()


def is_group(directory: Path) -> bool:
    """Whether the directory holds runs that were trained together."""
    return (directory / GROUP).is_file()


def is_sweep(directory: Path) -> bool:
    """Whether the directory holds groups of runs that differ in arguments which shape the program."""
    return (directory / SWEEP).is_file()


def read_sweep(directory: Path) -> dict[str, Any]:
    """The content of sweep.json."""
    return read_json(directory / SWEEP, f"{directory} is not a sweep")


def holds_runs(directory: Path) -> bool:
    """Whether the directory is a group or a sweep, and not a run."""
    return is_group(directory) or is_sweep(directory)


def members_in(directory: Path) -> list[Path]:
    """The run directories of a group, or of all groups of a sweep that have begun."""
    if is_sweep(directory):
        groups = [directory / name for name in read_sweep(directory)["groups"]]
        return [run for group in groups if is_group(group) for run in members_in(group)]
    return [directory / name for name in read_group(directory)["members"]]


def finished_in(group: Path) -> list[Path]:
    """The complete runs of a group or a sweep; a run that diverged or was interrupted has no result."""
    finished = [run for run in members_in(group) if (run / "result.json").exists()]
    if not finished:
        raise UsageError(f"no member of {group} is complete; resume it with: aejax resume {group}")
    return finished


def refuse_member(directory: Path, config: Mapping[str, Any], what: str) -> None:
    """Refuses a member of a group: its bits come from the group's program, and trained alone it would round differently."""
    group = directory.resolve().parent
    if config["member"] is not None and is_group(group):
        raise UsageError(f"{directory} was trained together with others; {what} all of them: aejax {what} {group}")


def read_json(file: Path, otherwise: str) -> dict[str, Any]:
    """A JSON object with the fields that a file of this name has (FIELDS), or a UsageError that starts with `otherwise`."""
    otherwise = otherwise or f"{file.parent} cannot be used"
    try:
        value = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{otherwise}: it has no {file.name}; give a directory that `aejax train` made") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:  # also of bytes that are not UTF-8
        raise UsageError(f"{otherwise}: {file} is damaged ({error}); restore it from a copy") from None
    if not isinstance(value, dict):
        raise UsageError(f"{otherwise}: {file} is damaged (it is not an object); restore it from a copy")
    return with_fields(value, FIELDS.get(file.name, {}), file, otherwise)


def with_fields(value: dict[str, Any], fields: Mapping[str, Any], file: Path, otherwise: str) -> dict[str, Any]:
    """The JSON object, or a UsageError if it lacks one of the fields."""
    wrong = wrong_field(value, fields)
    if wrong is not None:
        raise UsageError(f"{otherwise}: {file} is damaged ({wrong}); restore it from a copy")
    return value


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Locks the run directory, so that two processes never write one run. The lock ends with the process in any case."""
    with open(directory / ".lock", "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{directory} is being written by another process; wait for it, or choose another --run"
            ) from None
        yield
