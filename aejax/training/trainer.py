"""Training a run from its first step, or from its last checkpoint, to its end, and the files that it writes.

`metrics.jsonl` gets a line per log point. Every `save_every` steps, at the end, and on a signal that ends the process, the
validation split is evaluated and a checkpoint saved. `result.json` is written when the run is complete.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from aejax.data import batch_at, batch_loader, drawn, found_line
from aejax.errors import UsageError
from aejax.files import PARTIAL, write_json
from aejax.keys import run_keys
from aejax.runs.checkpoint import Damaged, digest, open_checkpoints, refuse_other_config, restore_intact
from aejax.runs.directory import (
    GROUP,
    SWEEP,
    determined,
    determines,
    environment,
    holds_runs,
    is_run,
    locked,
    make_config,
    read_config,
    read_json,
    refuse_member,
)
from aejax.runs.experiment import Source, recipe_of, with_datasets
from aejax.runs.metrics_log import read_log, truncate_log
from aejax.runs.opening import given, open_run, rebuild
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.runs.trusted import remember
from aejax.signals import deferred_signals
from aejax.training import processes
from aejax.training.callbacks import Callback, early_stopping, without_improvement
from aejax.training.checks import checked
from aejax.training.cost import Cost, cost_of, step_cost
from aejax.training.loop import Program, train_to_end
from aejax.training.recorder import Member
from aejax.training.settings import Settings, layout_of, settings_of
from aejax.training.step import init_state, make_runner, total_devices
from aejax.training.validation import Validation, make_validate, split_name
from aejax.types import Experiment, TrainState


def train(
    experiment: Experiment,
    directory: str | Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    start: Run | None = None,
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
        start: A run of a model with the same parameters, from whose parameters and extras the training starts (a warm start,
            for example with another learning rate or on other data). The optimizer starts anew, at step 0.

    Returns:
        The finished run, with its data.

    Raises:
        UsageError: Something is wrong that the user can correct; nothing has been written.
        NonFinite: A term became NaN or Inf; the last finite checkpoint is kept.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; the run is saved and can be resumed.

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
    if not isinstance(experiment, Experiment):
        raise UsageError(
            f"train() takes an experiment, not a {type(experiment).__name__}; write aejax.train(aejax.fit(model, data), "
            "directory)"
        )
    if not isinstance(settings, Settings):
        raise UsageError(
            f"train(settings=…) is a {type(settings).__name__}; write aejax.Settings(save_every=500), for example"
        )
    directory = Path(directory)
    settings = settings._replace(devices=1) if settings.devices is None else settings
    recipe = recipe_of(experiment) if source is None else None
    experiment = checked(with_datasets(experiment), settings)
    program = program_of(experiment, settings)
    config = make_config(experiment, source, settings._asdict(), _origin(start), recipe)
    processes.agree(determines(directory, config))
    state = first_state(experiment, start)
    with new_directory(directory, overwrite):
        if source is not None:
            processes.first_alone(lambda: remember(Path(source.file), source.sha256))
        processes.first_alone(lambda: write_json(directory / "config.json", config))
        say_what_was_found(config)
        (run,) = train_to_end(
            program(0),
            [Member(directory, config, experiment)],
            settings,
            state,
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
    steps: int | None = None,
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
        steps: More training steps than the run was started with, in all; config.json then records the extension. A learning
            rate that decays over the steps of the experiment jumps to its value on the longer schedule.

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
    if steps is not None and config["source"] is not None:
        config["source"]["arguments"]["steps"] = steps
    if experiment is None:
        built = config if steps is None else {**config, "steps": steps}
        experiment = rebuild(directory, built, file=file, allow_changed=allow_changed, data=data, parent=parent)
    else:
        experiment = given(directory, config, experiment, allow_changed)
        if steps not in (None, experiment.steps):
            raise UsageError(f"the experiment has {experiment.steps} steps and steps={steps}; give one of them")
    settings = settings_of(config["settings"], directory)
    if devices is not None:
        settings = settings._replace(devices=devices)
    experiment = checked(experiment, settings)
    program = program_of(experiment, settings)
    processes.agree(determines(directory, {**config, "settings": settings._asdict(), "steps": experiment.steps}))
    with held_directory(directory):
        if _is_complete(directory, experiment, config):
            try:
                return open_run(directory, experiment=experiment, allow_changed=allow_changed)
            except Damaged:  # it is trained again from the last intact checkpoint
                processes.first_alone(lambda: (directory / "result.json").unlink(missing_ok=True))
        state, validations = _last_state(directory, experiment, settings, config, allow_changed)
        if experiment.steps != config["steps"]:
            _extended(directory, config, int(state.step), experiment.steps)
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


def _extended(directory: Path, config: dict[str, Any], step: int, steps: int) -> None:
    """Records that a run is trained for more steps than it was started with, and that it is not complete."""
    if steps < step or ((directory / "result.json").exists() and steps < config["steps"]):
        raise UsageError(f"{directory} has been trained for {step} steps; --steps {steps} must be more")
    config["extended"] = [
        *config.get("extended", []),
        {"from_step": step, "from_steps": config["steps"], "steps": steps},
    ]
    config["steps"] = steps
    processes.first_alone(lambda: (directory / "result.json").unlink(missing_ok=True))


def _stopping(experiment: Experiment, settings: Settings, past: Sequence[float]) -> list[Callback]:
    return [early_stopping(settings.patience, experiment.monitor, past)] if settings.patience else []


def _validated(directory: Path, experiment: Experiment) -> list[float]:
    """Values of the monitored term in the validations so far."""
    terms = read_log(directory / "metrics.jsonl").get(split_name(experiment), {})
    return list(terms[experiment.monitor][1]) if experiment.monitor in terms else []


def program_of(experiment: Experiment, settings: Settings) -> Callable[[int], Program]:
    """(first step) -> the program of one experiment. Refuses a batch that cannot be split as requested."""
    layout = layout_of(settings)
    draw = drawn(experiment.train)
    runner = make_runner(experiment.model, experiment.optimizer, layout, experiment.batch_size, draw)

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


def first_state(experiment: Experiment, start: Run | None = None) -> TrainState:
    """The state before the first step: initialized, or with the parameters and extras of another run."""
    first = batch_at(experiment.train, experiment.seed, 0, experiment.batch_size)
    state = init_state(experiment.model, experiment.optimizer, run_keys(experiment.seed).init, first)
    if start is None:
        return state
    own, given = ({"params": tree.params, "extras": tree.extras} for tree in (state, start.state))
    shapes = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(t)} for t in (own, given)
    ]
    if shapes[0] != shapes[1]:
        name = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise UsageError(
            f"{start.directory} cannot be the start of this training: its parameter {name} is {shapes[1].get(name)}, here "
            f"{shapes[0].get(name)}; choose the same net"
        )
    return state._replace(**jax.tree.map(jnp.array, given))  # copies, because the step takes over their memory


def _origin(start: Run | None) -> dict[str, str] | None:
    if start is None:
        return None
    return {"run": str(start.directory.resolve()), "digest": digest(start.state.params, start.state.extras)}


def start_of(config: dict[str, Any]) -> Run | None:
    """The run from which a run was started, if any; UsageError if it is gone or has changed."""
    recorded = config.get("started_from")
    if recorded is None:
        return None
    start = open_run(recorded["run"])
    if digest(start.state.params, start.state.extras) != recorded["digest"]:
        raise UsageError(f"{recorded['run']}, from which this run was started, has changed; restore it")
    return start


def _is_complete(directory: Path, experiment: Experiment, config: dict[str, Any]) -> bool:
    result = directory / "result.json"
    if not result.exists():
        return False
    found = read_json(result, "")
    stopped = found.get("stopped_early", False) and experiment.steps == config["steps"]
    return found["step"] == experiment.steps or stopped


def _last_state(
    directory: Path, experiment: Experiment, settings: Settings, config: dict[str, Any], allow_changed: bool
) -> tuple[TrainState, list[Validation] | None]:
    """The last saved state, with its validation if it has one; the initial state of a run killed before its first
    checkpoint.
    """
    with (
        deferred_signals(),
        open_checkpoints(directory / "checkpoints", settings.keep, experiment.monitor) as checkpoints,
    ):
        state = restore_intact(checkpoints, abstract_state(experiment), checkpoints.all_steps())
        if state is None:
            return first_state(experiment, start_of(config)), None
        if not allow_changed:
            refuse_other_config(checkpoints, int(state.step), determined(config))
        metrics = checkpoints.metrics(int(state.step))
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


def refuse_occupied(directory: Path, overwrite: bool) -> None:
    """Refuses a folder that is not empty; `--overwrite` empties a run directory, never another folder."""
    name = str(directory)
    if "\\" in name or name != name.encode("utf-8", "replace").decode():
        raise UsageError(
            f"{name!r}: the path of a run holds no backslash and only UTF-8, or its checkpoints would lie elsewhere"
        )
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if directory.is_dir() and all(entry.name.startswith((".lock", PARTIAL)) for entry in directory.iterdir()):
        # left behind by a disk that was full at the start, or by a kill
        return
    if not is_run(directory) and not holds_runs(directory):
        raise UsageError(f"{directory} exists and is not a run directory; choose another --run")
    if not overwrite:
        raise UsageError(
            f"{directory} exists; resume it with `aejax resume {directory}`, or pass --overwrite to replace it "
            "(in Python overwrite=True)"
        )


def clear(directory: Path) -> None:
    """Empties a run directory that is to be overwritten, except for its lock.

    The file that marks it as one goes last: if the process is killed in between, it can still be overwritten.
    """
    marks = ("config.json", GROUP, SWEEP)
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name in marks):
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
