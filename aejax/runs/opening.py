"""Opens a run directory: the experiment is built again from its file and recorded arguments, and the state is restored.

Nothing in the directory is executable, and no code is loaded from it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax.data import Name, as_recorded_source, describe, is_missing, load, located, recorded
from aejax.described import NotDescribed, made_of
from aejax.errors import UsageError
from aejax.runs.checkpoint import Damaged, digest, open_checkpoints, refuse_other_config, restore
from aejax.runs.directory import datasets, determined, holds_runs, read_config, read_json
from aejax.runs.experiment import build, fit, is_shipped, load_file, sha256, shipped, with_datasets
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.runs.trusted import is_remembered, remember
from aejax.signals import deferred_signals
from aejax.types import Experiment, Parent, TrainState


def open_run(
    directory: str | Path,
    *,
    file: str | Path | None = None,
    experiment: Experiment | None = None,
    checkpoint: str = "last",
    with_data: bool = False,
    allow_changed: bool = False,
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
) -> Run:
    """Opens a run directory.

    Args:
        directory: Directory that `aejax train` or `aejax.train` wrote.
        file: The experiment file, if it is no longer at the path in `config.json`.
        experiment: The experiment itself, for a run that was trained from Python without a file.
        checkpoint: `last`, or `best` by the monitored validation term.
        with_data: Whether to load the data sets too, and refuse them if they have changed. By default only their recorded
            shapes are used.
        allow_changed: Whether to accept an experiment file with another sha256, data that have changed, and inputs in other
            units than the training data.
        data: Where the data are, if they are no longer at the recorded path; they must be the same data.
        parent: Where the run that this one builds on is, if it was moved.

    Returns:
        The run.

    Raises:
        UsageError: The directory is not a run, its experiment or data cannot be found or have changed, or its checkpoint does
            not fit the experiment.

    Example:
        >>> run = aejax.open_run("runs/mine", with_data=True)
        >>> run.encode(run.experiment.test).shape
        (359, 16)
    """
    directory = Path(directory)
    config = read_config(directory)
    if experiment is None:
        experiment = rebuild(
            directory, config, file=file, with_data=with_data, allow_changed=allow_changed, data=data, parent=parent
        )
    else:
        experiment = given(directory, config, experiment, allow_changed)
    if checkpoint not in ("last", "best"):
        raise UsageError(f"checkpoint {checkpoint!r}: choose last or best")
    if checkpoint == "best" and experiment.validation is None:
        raise UsageError(
            f"{directory} has no validation split, so its best checkpoint would be chosen on the test split; use "
            "--checkpoint last"
        )
    if not (directory / "checkpoints").is_dir():
        raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
    with (
        deferred_signals(),
        open_checkpoints(directory / "checkpoints", monitor=experiment.monitor, read_only=True) as checkpoints,
    ):
        step = checkpoints.latest_step() if checkpoint == "last" else checkpoints.best_step()
        if step is None:
            raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
        state = restore(checkpoints, _shapes_of(directory, experiment), step)
        if not allow_changed:
            refuse_other_config(checkpoints, step, determined(config))
    _refuse_other_result(directory, state)
    return Run(directory, config, experiment, state, any_units=allow_changed)


def _shapes_of(directory: Path, experiment: Experiment) -> TrainState:
    """Shapes of the state; UsageError where the recorded arguments make no model."""
    try:
        return abstract_state(experiment)
    except UsageError:
        raise
    except Exception as error:  # whatever Flax and JAX raise
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the model of {directory} cannot be built with its recorded arguments ({type(error).__name__}: {reason}); restore "
            "its config.json from a copy"
        ) from error


def _refuse_other_result(directory: Path, state: TrainState) -> None:
    """Raises Damaged if the last state of a finished run is not the one that result.json describes."""
    if not (directory / "result.json").exists():
        return
    result = read_json(directory / "result.json", "")
    if result.get("step") == int(state.step) and result.get("digest") != digest(state.params, state.extras):
        raise Damaged(f"{directory / 'checkpoints'}/{int(state.step)}", "result.json describes other parameters")


def open_parent(directory: str | Path) -> Parent:
    """The run that an experiment builds on.

    It must still exist when a run of the experiment is opened.

    Args:
        directory: Directory of a finished run.

    Returns:
        A `Parent`.

    Raises:
        UsageError: The directory is not a finished run.
    """
    run = open_run(directory)
    if not (run.directory / "result.json").exists():
        raise UsageError(
            f"{directory} is not complete, so it cannot be a parent yet; finish it with: aejax resume {directory}"
        )
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
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
) -> Experiment:
    """The experiment of a run, built from the file and the arguments in its configuration, or by the calls that made it."""
    if config["source"] is None and file is None and "call" in (config.get("recipe") or {}):
        return _rebuild_from_recipe(directory, config, with_data, allow_changed, data)
    if config["source"] is None:
        why = (config.get("recipe") or {}).get("missing", "")
        raise UsageError(
            f"{directory} was trained from Python{f', and {why}' if why else ''}; open it there with open_run(..., experiment=…)"
        )
    function = rebuild_function(directory, config["source"], file=file, allow_changed=allow_changed)
    arguments = moved(directory, config["source"]["arguments"], with_data, data, parent)
    given = as_recorded_source(config["data"], arguments["data"]) if with_data else recorded(config["data"])
    experiment = build(function, arguments, data=given)
    if experiment.parent is not None and experiment.parent.digest != config["parent"]["digest"]:
        raise UsageError(
            f"{directory} was trained on top of another state of {experiment.parent.directory} (other digest); "
            "restore that run"
        )
    if with_data and not allow_changed:
        refuse_other_data(directory, config["data"], experiment)
    return experiment


def _rebuild_from_recipe(
    directory: Path,
    config: Mapping[str, Any],
    with_data: bool,
    allow_changed: bool,
    data: str | os.PathLike[str] | None,
) -> Experiment:
    """The experiment of a run that was trained from Python, whose parts aejax's own functions made."""
    record = config["data"]
    source = located(os.fspath(data)) if data is not None else record["name"]
    if with_data and data is None and source == "array":
        raise UsageError(
            f"{directory} was trained on arrays in memory; save them as .npy or .npz and pass that file with --data"
        )
    if with_data and is_missing(source):
        raise UsageError(f"{directory} was trained on {source}, which is not here; say where it is with --data PATH")
    read = as_recorded_source(record, source) if with_data else recorded(record)
    splits = load(read, tuple(record["splits"]))
    known = {name: value for name, value in config["recipe"]["named"].items() if name != "steps"}
    try:
        experiment = fit(
            splits=splits, steps=config["steps"], **{name: made_of(value) for name, value in known.items()}
        )
    except (NotDescribed, TypeError) as error:
        raise UsageError(
            f"{directory} was made with another version of aejax ({error}); pass open_run(..., experiment=…)"
        ) from error
    if with_data and not allow_changed:
        refuse_other_data(directory, record, experiment)
    return experiment


def given(directory: Path, config: Mapping[str, Any], experiment: Experiment, allow_changed: bool) -> Experiment:
    """The experiment that a user of Python gives for a run, with the data that the run was trained on."""
    experiment = with_datasets(experiment)
    if not allow_changed:
        refuse_other_data(directory, config["data"], experiment)
    return experiment


def refuse_other_data(directory: Path, record: Mapping[str, Any], experiment: Experiment) -> None:
    """Raises UsageError if the data are not those that a run recorded."""
    now = describe(datasets(experiment))
    for name, split in now["splits"].items():
        if split["fingerprint"] != record["splits"].get(name, {}).get("fingerprint"):
            raise UsageError(
                f"the data {now['name']}:{name} are not what {directory} was trained on (other fingerprint); restore them, or "
                "say where they are with --data PATH"
            )


def moved(
    directory: Path,
    arguments: Mapping[str, Any],
    with_data: bool,
    data: str | os.PathLike[str] | None,
    parent: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """A run's arguments with its data and its parent at their present paths; UsageError if they are not there."""
    arguments = dict(arguments)
    if data is not None:
        arguments["data"] = located(os.fspath(data))
    elif os.sep not in arguments["data"] and not os.path.splitext(arguments["data"])[1]:
        arguments["data"] = Name(arguments["data"])  # paths are recorded as absolute
    if parent is not None:
        arguments["parent"] = os.path.abspath(parent)
    if with_data and is_missing(arguments["data"]):
        raise UsageError(
            f"{directory} was trained on {arguments['data']}, which is not there; say where it is with --data PATH"
        )
    below = arguments.get("parent")
    if below and not os.path.isdir(below):
        # Runs that were moved together are still side by side; the parent's digest is compared in any case.
        arguments["parent"] = below = os.path.join(os.path.dirname(os.path.abspath(directory)), os.path.basename(below))
    if below and not os.path.isdir(below):
        raise UsageError(
            f"{directory} was trained on top of a run {os.path.basename(below)}, which is not there and not beside it; say "
            "where it is with --parent RUN"
        )
    return arguments


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
            f"{directory} was trained from Python, without an experiment file; pass function= to the function that resumes it"
        )
    path = Path(file or source["file"])
    ours = shipped().get(path.stem)
    if file is None and ours is not None and sha256(ours) == source["sha256"]:
        return load_file(ours)[1]  # the same file, wherever the run comes from
    if any(path.resolve().is_relative_to(folder) for folder in _run_directories(directory.resolve())):
        raise UsageError(
            f"{path} lies in the run directory, from which no code is loaded; keep experiment files elsewhere"
        )
    if not path.is_file() or (file is None and not path.is_absolute()):
        raise UsageError(f"{directory} was trained from {path}, which is not there; say where it is with --file")
    # Read once, and compared before it is executed.
    content = path.read_bytes()
    content_digest = hashlib.sha256(content).hexdigest()
    if content_digest != source["sha256"] and not allow_changed:
        raise UsageError(
            f"{path} has changed since {directory} was started; restore it, or pass --allow-changed if that is harmless"
        )
    if file is not None:
        remember(path, content_digest)
    elif not is_remembered(path, content_digest, allow_changed) and not is_shipped(path):
        raise UsageError(
            f"opening {directory} executes {path} (sha256 {content_digest[:12]}…), which you have not trained with on this "
            f"machine; if you trust it, pass --file {path}"
        )
    return load_file(path, content)[1]


def _run_directories(directory: Path) -> Iterator[Path]:
    """The directory of a run, and of the group and the sweep that it belongs to."""
    yield directory
    for folder in directory.parents[:2]:
        if holds_runs(folder):
            yield folder
