"""From a run directory to a Run: the experiment built again from its file and recorded arguments, the state restored.

Nothing in the directory is executable, and no code is loaded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aejax.data import as_recorded_source, describe, recorded
from aejax.errors import UsageError
from aejax.runs.checkpoint import digest, open_checkpoints, restore
from aejax.runs.directory import datasets, read_config
from aejax.runs.experiment import build, load_file, sha256
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.types import Experiment, Parent


def open_run(
    directory: str | Path,
    *,
    file: str | Path | None = None,
    experiment: Experiment | None = None,
    checkpoint: str = "last",
    with_data: bool = False,
    allow_changed: bool = False,
) -> Run:
    """Opens a run directory.

    Args:
        directory: as `aejax train` left it.
        file: the experiment file, if it is no longer where `config.json` says.
        experiment: the experiment itself, for a run that was trained from Python without a file.
        checkpoint: `last`, or `best` by the monitored validation metric.
        with_data: also load the data sets (and refuse if they have changed); otherwise only their recorded shapes.
        allow_changed: accept an experiment file whose sha256 is not the recorded one.
    """
    directory = Path(directory)
    config = read_config(directory)
    if experiment is None:
        experiment = rebuild(directory, config, file=file, with_data=with_data, allow_changed=allow_changed)
    if checkpoint not in ("last", "best"):
        raise UsageError(f"checkpoint {checkpoint!r}: choose last or best")
    if not (directory / "checkpoints").is_dir():
        raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
    with open_checkpoints(directory / "checkpoints", monitor=experiment.monitor, read_only=True) as checkpoints:
        step = checkpoints.latest_step() if checkpoint == "last" else checkpoints.best_step()
        if step is None:
            raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
        state = restore(checkpoints, abstract_state(experiment), step)
    return Run(directory, config, experiment, state)


def open_parent(directory: str | Path) -> Parent:
    """The run that an experiment builds on. To open the experiment's own run it must still be where it was."""
    run = open_run(directory)
    if not (run.directory / "result.json").exists():
        raise UsageError(f"{directory} is not complete, and no parent yet; finish it with: aejax resume {directory}")
    if run.config["source"] is None:
        raise UsageError(f"{directory} was trained from Python, without an experiment file; a parent needs one")
    state = run.state
    return Parent(
        directory=str(directory),
        digest=digest(state.params, state.extras),
        model=run.experiment.model,
        params=state.params,
        extras=state.extras,
        arguments=run.config["source"]["arguments"],
    )


def rebuild(
    directory: Path,
    config: Mapping[str, Any],
    *,
    file: str | Path | None = None,
    with_data: bool = True,
    allow_changed: bool = False,
) -> Experiment:
    """The experiment of a run, from the file and the arguments in its configuration."""
    function = rebuild_function(directory, config["source"], file=file, allow_changed=allow_changed)
    arguments = config["source"]["arguments"]
    data = as_recorded_source(config["data"], arguments["data"]) if with_data else recorded(config["data"])
    experiment = build(function, arguments, data=data)
    if experiment.parent is not None and experiment.parent.digest != config["parent"]["digest"]:
        raise UsageError(
            f"{directory} was trained on top of another state of {experiment.parent.directory} (other digest); "
            "restore that run"
        )
    if with_data and not allow_changed:
        for name, split in describe(datasets(experiment))["splits"].items():
            if split["fingerprint"] != config["data"]["splits"].get(name, {}).get("fingerprint"):
                raise UsageError(
                    f"the data {name} is not what {directory} was trained on (other fingerprint); restore it"
                )
    return experiment


def rebuild_function(
    directory: Path,
    source: Mapping[str, Any] | None,
    *,
    file: str | Path | None = None,
    allow_changed: bool = False,
) -> Callable[..., Experiment]:
    """The function of the experiment file that a configuration names."""
    if source is None:
        raise UsageError(
            f"{directory} was trained from Python, without an experiment file; pass open_run(..., experiment=…)"
        )
    path = Path(file or source["file"])
    if path.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"{path} lies in the run directory, from which no code is loaded; keep experiment files elsewhere"
        )
    if not path.is_file():
        raise UsageError(f"{directory} was trained from {path}, which is not there; say where it is with --file")
    _, function = load_file(path)
    if sha256(path) != source["sha256"] and not allow_changed:
        raise UsageError(
            f"{path} has changed since {directory} was started; restore it, or pass --allow-changed if that is harmless"
        )
    return function
