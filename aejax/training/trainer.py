"""Training a run from its first step, or from its last checkpoint, to its end, and the files that it writes.

`metrics.jsonl` gets a line per log point. Every `save_every` steps, at the end, and on SIGINT and SIGTERM, the validation split
is evaluated and a checkpoint saved. `result.json` is written when the run is complete.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from aejax.data import batch_at, batch_loader, checked_by, eval_batches, found_line
from aejax.errors import UsageError
from aejax.files import write_json
from aejax.keys import run_keys
from aejax.runs.batched import inference_batch
from aejax.runs.checkpoint import open_checkpoints, restore
from aejax.runs.directory import (
    datasets,
    environment,
    is_group,
    is_run,
    locked,
    make_config,
    read_config,
    read_json,
    refuse_member,
)
from aejax.runs.experiment import Source, with_datasets
from aejax.runs.metrics_log import read_log, truncate_log
from aejax.runs.opening import given, open_run, rebuild
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_batch, abstract_state
from aejax.training import processes
from aejax.training.callbacks import Callback, early_stopping, without_improvement
from aejax.training.contract import check_contract
from aejax.training.cost import Cost, cost_of, step_cost
from aejax.training.loop import Program, train_to_end
from aejax.training.recorder import Member
from aejax.training.settings import Settings, layout_of
from aejax.training.step import init_state, make_runner, refuse_coupling, total_devices
from aejax.training.validation import Validation, make_validate, split_name
from aejax.types import Dataset, Experiment, TrainState

GPU_DETERMINISM = "--xla_gpu_deterministic_ops=true"


def train(
    experiment: Experiment,
    directory: str | Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Trains an experiment from its first step into a new run directory.

    Args:
        experiment: Usually from `aejax.fit`.
        directory: Directory to write; it must not exist unless `overwrite` is given.
        settings: Devices, intervals of logs and checkpoints, and other settings that do not belong to the experiment.
        source: The experiment's file and arguments, if it came from a file.
        overwrite: Whether to replace an existing run of that directory.
        callbacks: Functions `(step, split, {term: value}) -> bool | None`, called for every line of the log; True stops the
            training after this step.

    Returns:
        The finished run, with its data.

    Raises:
        UsageError: Something is wrong that the user can correct; nothing has been written.
        NonFinite: A term became NaN or Inf; the last finite checkpoint is kept.
        Interrupted: SIGINT or SIGTERM arrived; the run is saved and can be resumed.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> splits = aejax.load("digits")
        >>> model = autoencoder(MLP((), 16), MLP((), splits[0].shape), bernoulli())
        >>> run = aejax.train(aejax.fit(model, splits, steps=20), "runs/from_python")
        >>> run.step, run.encode(splits[1]).shape
        (20, (359, 16))
    """
    directory = Path(directory)
    settings = settings._replace(devices=1) if settings.devices is None else settings
    experiment = checked(with_datasets(experiment), settings)
    program = program_of(experiment, settings)
    config = make_config(experiment, source, settings._asdict())
    with new_directory(directory, overwrite):
        processes.first_alone(lambda: write_json(directory / "config.json", config))
        say_what_was_found(config)
        (run,) = train_to_end(
            program(0),
            [Member(directory, config, experiment)],
            settings,
            first_state(experiment),
            directory,
            callbacks=[*callbacks, *_stopping(experiment, settings, [])],
        )
    return run


def resume(
    directory: str | Path,
    *,
    file: str | Path | None = None,
    experiment: Experiment | None = None,
    devices: int | None = None,
    allow_changed: bool = False,
    data: str | os.PathLike[str] | None = None,
    parent: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Continues a run from its last checkpoint, to the same bits as without the interruption.

    Args:
        directory: Directory of the run.
        file: As in `open_run`.
        experiment: As in `open_run`.
        devices: Number of devices, if it is to change; by default as before.
        allow_changed: As in `open_run`.
        data: As in `open_run`.
        parent: As in `open_run`.
        callbacks: As in `train`.

    Returns:
        The finished run. A run that is already complete is opened and returned.

    Raises:
        UsageError: The directory cannot be resumed, or its experiment or data have changed.
        NonFinite: As in `train`.
        Interrupted: As in `train`.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> splits = aejax.load("digits")
        >>> model = autoencoder(MLP((), 16), MLP((), splits[0].shape), bernoulli())
        >>> experiment = aejax.fit(model, splits, steps=20)
        >>> run = aejax.train(experiment, "runs/interrupted")
        >>> aejax.resume("runs/interrupted", experiment=experiment).step
        20
    """
    directory = Path(directory)
    config = read_config(directory)
    refuse_member(directory, config, "resume")
    if experiment is None:
        experiment = rebuild(directory, config, file=file, allow_changed=allow_changed, data=data, parent=parent)
    else:
        experiment = given(directory, config, experiment, allow_changed)
    settings = Settings(**config["settings"])
    if devices is not None:
        settings = settings._replace(devices=devices)
    experiment = checked(experiment, settings)
    program = program_of(experiment, settings)
    with held_directory(directory):
        if _is_complete(directory, experiment):
            return open_run(directory, experiment=experiment, allow_changed=allow_changed)
        state, validations = _last_state(directory, experiment, settings)
        config["resumed"].append(session(int(state.step), settings))
        processes.first_alone(lambda: turn_back(directory, config, int(state.step)))
        say_what_was_found(config)
        past = _validated(directory, experiment)
        (run,) = train_to_end(
            program(int(state.step)),
            [Member(directory, config, experiment)],
            settings,
            state,
            directory,
            validations,
            callbacks=[*callbacks, *_stopping(experiment, settings, past)],
            stopped=validations is not None and 0 < settings.patience <= without_improvement(past),
        )
    return run


def _stopping(experiment: Experiment, settings: Settings, past: Sequence[float]) -> list[Callback]:
    return [early_stopping(settings.patience, experiment.monitor, past)] if settings.patience else []


def _validated(directory: Path, experiment: Experiment) -> list[float]:
    """Values of the monitored term in the validations so far."""
    terms = read_log(directory / "metrics.jsonl").get(split_name(experiment), {})
    return list(terms[experiment.monitor][1]) if experiment.monitor in terms else []


def program_of(experiment: Experiment, settings: Settings) -> Callable[[int], Program]:
    """(first step) -> the program of one experiment. Refuses a batch that cannot be split as requested."""
    layout = layout_of(settings)
    runner = make_runner(experiment.model, experiment.optimizer, layout, experiment.batch_size)

    def cost(lowered: Any) -> Cost:
        if layout.parts > 1 or layout.shards is not None:  # XLA counts the body of the loop over parts once
            return step_cost(experiment)
        return cost_of(lowered).times(total_devices(layout))

    def program(start: int) -> Program:
        train, seed, batch_size = experiment.train, experiment.seed, experiment.batch_size
        return Program(
            runner,
            run_keys(seed).run,
            batch_loader(train, seed, start, batch_size, share=processes.share()),
            make_validate(experiment),
            unstacked=lambda state: lambda i: state,
            terms_of=lambda terms, i: terms,
            cost=cost,
        )

    return program


def say_what_was_found(config: dict[str, Any]) -> None:
    """Prints one line about the data before training, in the first process."""
    if processes.is_first() and config["settings"].get("verbose", True):
        print(found_line(config["data"]), file=sys.stderr, flush=True)
        size = next(iter(config["data"]["splits"].values()))["size"]
        if config["batch_size"] > size:
            print(
                f"a batch of {config['batch_size']} is more than the {size} training examples, so it repeats some of them",
                file=sys.stderr,
                flush=True,
            )


def session(step: int, settings: Settings) -> dict[str, Any]:
    """The entry in config.json about a resumption."""
    return {"from_step": step, "devices": settings.devices, **environment()}


def turn_back(directory: Path, config: dict[str, Any], step: int) -> None:
    """Restores the files to their state at a step; lines logged after it are trained again."""
    truncate_log(directory, step)
    write_json(directory / "config.json", config)


def first_state(experiment: Experiment) -> TrainState:
    first = batch_at(experiment.train, experiment.seed, 0, experiment.batch_size)
    return init_state(experiment.model, experiment.optimizer, run_keys(experiment.seed).init, first)


def _is_complete(directory: Path, experiment: Experiment) -> bool:
    result = directory / "result.json"
    if not result.exists():
        return False
    found = read_json(result, "")
    return found["step"] == experiment.steps or found.get("stopped_early", False)


def _last_state(
    directory: Path, experiment: Experiment, settings: Settings
) -> tuple[TrainState, list[Validation] | None]:
    """The last saved state, with its validation if it has one; the initial state of a run killed before its first
    checkpoint.
    """
    with open_checkpoints(directory / "checkpoints", settings.keep, experiment.monitor) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            return first_state(experiment), None
        metrics = checkpoints.metrics(step)
        state = restore(checkpoints, abstract_state(experiment), step)
        return state, None if metrics is None else [Validation(dict(metrics), {})]


@contextmanager
def new_directory(directory: Path, overwrite: bool) -> Iterator[None]:
    """Locks a new, empty run directory while a run is written, in the first process for all of them."""
    with ExitStack() as stack:

        def hold() -> None:
            refuse_occupied(directory, overwrite)
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(directory))
            clear(directory)

        processes.first_alone(hold)
        yield


@contextmanager
def held_directory(directory: Path) -> Iterator[None]:
    """Locks an existing run directory."""
    with ExitStack() as stack:
        processes.first_alone(lambda: stack.enter_context(locked(directory)))
        yield


def checked(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment, with all examples of its data checked; streamed data are checked when they are read.

    It refuses what would fail inside jit, or silently train something else.
    """
    for name, value in [
        ("--steps", experiment.steps),
        ("--batch-size", experiment.batch_size),
        ("--log-every", settings.log_every),
        ("--save-every", settings.save_every),
        ("--keep", settings.keep),
    ]:
        if value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
    if settings.patience < 0:
        raise UsageError(f"--patience {settings.patience}: it must be a number of validations, or 0 for none")
    if settings.patience and experiment.validation is None:
        raise UsageError("--patience needs a validation split; otherwise the test split would end the training")
    if settings.profile < 0:
        raise UsageError(f"--profile {settings.profile}: it must be a number of steps, or 0 for none")
    if (
        settings.deterministic
        and jax.default_backend() == "gpu"
        and GPU_DETERMINISM not in os.environ.get("XLA_FLAGS", "")
    ):
        raise UsageError(f"deterministic kernels need XLA_FLAGS={GPU_DETERMINISM} before JAX starts; set it")
    if not 0 <= experiment.seed < 2**32:
        raise UsageError(f"--seed {experiment.seed}: it must be 0 or more, and below 2³²")
    if settings.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UsageError("--tensorboard needs tensorboardX; pip install 'aejax[tensorboard]'")
    _check_model(experiment, settings)
    return _with_checked_data(experiment)


def _check_model(experiment: Experiment, settings: Settings) -> None:
    check_contract(experiment)
    state, batch = abstract_state(experiment), abstract_batch(experiment)
    refuse_coupling(experiment.model, layout_of(settings), state.params, state.extras, batch)


def _with_checked_data(experiment: Experiment) -> Experiment:
    train, check = experiment.train, experiment.model.data.check
    for data in datasets(experiment):
        if data.shape != train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, {train.name} of {train.shape}; give one shape to all"
            )
    if check is None:
        return experiment

    def of(data: Dataset) -> Dataset:
        data = checked_by(data, check, inference_batch(data))
        if data.read is not None:  # data in memory have been examined completely; of streamed data, the first examples
            next(eval_batches(data, inference_batch(data)))
        return data

    validation = None if experiment.validation is None else of(experiment.validation)
    return experiment._replace(train=of(train), validation=validation, test=of(experiment.test))


def refuse_occupied(directory: Path, overwrite: bool) -> None:
    """Refuses a folder that is not empty; `--overwrite` empties a run directory, never another folder."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    leftovers = directory.is_dir() and {entry.name for entry in directory.iterdir()} <= {".lock", "config.json.tmp"}
    if leftovers:  # left behind by a disk that was full at the start
        return
    if not is_run(directory) and not is_group(directory):
        raise UsageError(f"{directory} exists and is not a run directory; choose another --run")
    if not overwrite:
        raise UsageError(
            f"{directory} exists; resume it with `aejax resume {directory}`, or pass --overwrite to replace it"
        )


def clear(directory: Path) -> None:
    """Empties a run directory that is to be overwritten, except for its lock."""
    for entry in directory.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
