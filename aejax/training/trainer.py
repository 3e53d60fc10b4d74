"""Training: a run from its first step, or from its last checkpoint, to its end, and the files it leaves.

`metrics.jsonl` grows by a line per log point; a checkpoint is saved, and the validation split judged, every `save_every`
steps, at the end, and on SIGINT and SIGTERM; `result.json` is written when the run is complete.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.data import batch_at, in_order
from aejax.errors import UsageError
from aejax.keys import evaluation_key, run_keys
from aejax.runs.checkpoint import digest, open_checkpoints, restore, save
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
    write_json,
)
from aejax.runs.experiment import Source
from aejax.runs.metrics_log import metrics_log, truncate_log
from aejax.runs.run import (
    Run,
    abstract_batch,
    abstract_state,
    inference_batch,
    judged_examples,
    judged_split,
    judgement,
    map_examples,
    means,
    open_run,
    rebuild,
)
from aejax.training import processes
from aejax.training.loop import (
    Clock,
    Interrupted,
    NonFinite,
    Settings,
    layout_of,
    refuse_non_finite_judgement,
    refuse_non_finite_state,
    refuse_non_finite_terms,
    stretches,
)
from aejax.training.progress import Progress, show_progress
from aejax.training.signals import noted_signals
from aejax.training.step import init_state, make_runner, on_one_device, refuse_coupling
from aejax.types import Experiment, TrainState

GPU_DETERMINISM = "--xla_gpu_deterministic_ops=true"


def train(
    experiment: Experiment,
    directory: str | Path,
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
) -> Run:
    """Trains an experiment from its first step into a new run directory.

    Raises:
        UsageError: what the user can mend, before anything is written.
        NonFinite: a term became NaN or Inf.
        Interrupted: SIGINT or SIGTERM; the run is saved.
    """
    directory = Path(directory)
    check(experiment, settings)
    run_step = make_runner(experiment.model, experiment.optimizer, layout_of(settings), experiment.batch_size)
    config = make_config(experiment, source, settings._asdict())

    def begin():
        write_json(directory / "config.json", config)

    with held(directory, lambda: refuse_occupied(directory, overwrite), begin, empty=True):
        return _finish(experiment, directory, config, settings, run_step, _first_state(experiment), judged=None)


def resume(
    directory: str | Path,
    *,
    file: str | Path | None = None,
    experiment: Experiment | None = None,
    devices: int | None = None,
    allow_changed: bool = False,
) -> Run:
    """Continues a run from its last checkpoint, to the bits it would have had without the interruption."""
    directory = Path(directory)
    config = read_config(directory)
    refuse_member(directory, config, "resume")
    if experiment is None:
        experiment = rebuild(directory, config, file=file, allow_changed=allow_changed)
    settings = Settings(**config["settings"])
    if devices is not None:
        settings = settings._replace(devices=devices)
    check(experiment, settings)
    run_step = make_runner(experiment.model, experiment.optimizer, layout_of(settings), experiment.batch_size)
    with held(directory):
        if (directory / "result.json").exists() and read_json(directory / "result.json", "")[
            "step"
        ] == experiment.steps:
            return open_run(directory, experiment=experiment)
        with open_checkpoints(directory / "checkpoints", settings.keep, experiment.monitor) as checkpoints:
            step = checkpoints.latest_step()
            judged = None
            if step is not None:
                state = restore(checkpoints, abstract_state(experiment), step)
                judged = checkpoints.metrics(step)
        if step is None:  # killed before the first checkpoint
            state = _first_state(experiment)
        config["resumed"].append(session(int(state.step), settings))
        processes.first_alone(lambda: _turn_back(directory, config, int(state.step)))
        return _finish(experiment, directory, config, settings, run_step, state, judged)


def session(step: int, settings: Settings) -> dict[str, Any]:
    """What config.json records of a resumption."""
    return {"from_step": step, "devices": settings.devices, **environment()}


def _turn_back(directory: Path, config: Mapping[str, Any], step: int) -> None:
    truncate_log(directory, step)
    write_json(directory / "config.json", config)


def _first_state(experiment: Experiment) -> TrainState:
    first = batch_at(experiment.train, experiment.seed, 0, experiment.batch_size)
    return init_state(experiment.model, experiment.optimizer, run_keys(experiment.seed).init, first)


@contextmanager
def held(
    directory: Path,
    may: Callable[[], None] = lambda: None,
    begin: Callable[[], None] = lambda: None,
    empty: bool = False,
) -> Iterator[None]:
    """Holds a directory while a run is written, in the first process for all of them.

    Args:
        may: raises UsageError where the directory must not be written.
        begin: is called once it is held (and emptied, with `empty`).
    """
    with ExitStack() as stack:

        def hold():
            may()
            if empty:
                directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(directory))
            if empty:
                clear(directory)
            begin()

        processes.first_alone(hold)
        yield


def check(experiment: Experiment, settings: Settings) -> None:
    """Refuses at the edge what would fail inside jit, or silently train something else."""
    for name, value in [
        ("--steps", experiment.steps),
        ("--batch-size", experiment.batch_size),
        ("--log-every", settings.log_every),
        ("--save-every", settings.save_every),
        ("--keep", settings.keep),
    ]:
        if value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
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
    abstract = abstract_state(experiment)
    terms = jax.eval_shape(
        experiment.model.evaluate, abstract.params, abstract.extras, abstract_batch(experiment), jax.random.key(0)
    )
    refuse_coupling(experiment.model, layout_of(settings), abstract.params, abstract.extras, abstract_batch(experiment))
    if experiment.monitor not in terms:
        raise UsageError(f"the experiment monitors {experiment.monitor!r}; its model evaluates {', '.join(terms)}")
    for data in datasets(experiment):
        if data.shape != experiment.train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, {experiment.train.name} of {experiment.train.shape}"
            )
        if experiment.model.check is not None:
            batches = in_order(data, inference_batch(data))
            # All that is in memory; of what is read from the disk, a first look.
            for batch, _ in batches if data.read is None else itertools.islice(batches, 1):
                experiment.model.check(batch["x"], data.name)


def _finish(
    experiment: Experiment,
    directory: Path,
    config: dict[str, Any],
    settings: Settings,
    run_step: Callable,
    state: TrainState,
    judged: Mapping[str, float] | None,
) -> Run:
    """From `state` to the last step; `judged` are the validation terms at that state, if it was judged."""
    with ExitStack() as stack:
        checkpoints = stack.enter_context(
            open_checkpoints(directory / "checkpoints", settings.keep, experiment.monitor)
        )
        write, progress = _silent, Progress(_silent, _silent)
        if processes.is_first():
            write = stack.enter_context(metrics_log(directory, settings.tensorboard))
            progress = stack.enter_context(show_progress(directory.name, experiment.steps, int(state.step)))
        clock = Clock(stack.enter_context(noted_signals()))
        judge = make_judge(experiment)
        trace = directory / "profile" if settings.profile and processes.is_first() else None

        since_line: list[Mapping[str, np.ndarray]] = []

        for state, reached, terms in stretches(experiment, settings, run_step, state, clock, progress, trace):  # noqa: B020
            try:
                refuse_non_finite_terms(terms, reached)
                since_line.append(terms)
                if reached % settings.log_every == 0 or reached == experiment.steps:
                    write(reached, "train", means_over(since_line), clock.rate(experiment.batch_size))
                    since_line = []
                judged = None
                if reached % settings.save_every == 0 or reached == experiment.steps:
                    refuse_non_finite_state(state)
                    judged, activity = judge(state)
                    write(reached, "validation" if experiment.validation else "test", {**judged, **activity})
                    progress.judged(reached, judged)
                    save(checkpoints, state, judged)
                if clock.signal and reached < experiment.steps:
                    if judged is None:
                        refuse_non_finite_state(state)
                        save(checkpoints, state, None)
                    checkpoints.wait_until_finished()
                    message = (
                        f"stopped at step {reached} of {experiment.steps}; continue with: aejax resume {directory}"
                    )
                    raise Interrupted(message, clock.signal)
            except NonFinite as error:
                raise NonFinite(f"{error}; {_last_saved(checkpoints, directory)}") from None
        checkpoints.wait_until_finished()
        state = on_one_device(state)
        result = result_of(state, judge(state)[0] if judged is None else judged, clock, experiment.batch_size)
        processes.first_alone(lambda: write_json(directory / "result.json", result))
    return Run(directory, config, experiment, state)


def _silent(*_: Any) -> None:
    """What processes other than the first write."""


def result_of(state: TrainState, judged: Mapping[str, float], clock: Clock, batch_size: int) -> dict[str, Any]:
    """What result.json holds."""
    return {
        "step": int(state.step),
        "digest": digest(state.params, state.extras),
        "metrics": dict(judged),
        "seconds": clock.seconds,
        "examples_per_second": clock.total_rate(batch_size),
    }


def make_judge(experiment: Experiment) -> Callable[[TrainState], tuple[dict[str, float], dict[str, list[int]]]]:
    """state -> `judgement` over the validation split (the test split where there is none)."""
    data = judged_split(experiment)
    evaluate = jax.jit(judged_examples(experiment.model))
    key = evaluation_key(experiment.seed, "terms")

    def judge(state: TrainState) -> tuple[dict[str, float], dict[str, list[int]]]:
        local = on_one_device(state)
        found = judgement(map_examples(lambda batch: evaluate(local.params, local.extras, batch, key), data))
        refuse_non_finite_judgement(found[0], data.name, int(state.step))
        return found

    return judge


def _last_saved(checkpoints: Any, directory: Path) -> str:
    checkpoints.wait_until_finished()
    step = checkpoints.latest_step()
    kept = "no checkpoint was saved before" if step is None else f"the checkpoint of step {step} is kept in {directory}"
    return f"{kept}; lower the learning rate or look at the data"


def means_over(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The mean of each training term [n] over the steps of several stretches."""
    return means({name: np.concatenate([terms[name] for terms in parts]) for name in parts[0]})


def refuse_occupied(directory: Path, overwrite: bool) -> None:
    """A folder that holds anything is left alone; `--overwrite` empties a run directory, never another folder."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    leftovers = directory.is_dir() and {entry.name for entry in directory.iterdir()} <= {".lock", "config.json.tmp"}
    if leftovers:  # of a disk that was full at the very start
        return
    if not is_run(directory) and not is_group(directory):
        raise UsageError(f"{directory} exists and is not a run directory; choose another --run")
    if not overwrite:
        raise UsageError(
            f"{directory} exists; resume it with `aejax resume {directory}`, or pass --overwrite to replace it"
        )


def clear(directory: Path) -> None:
    """Empties a run directory that is to be overwritten, all but its lock."""
    for entry in directory.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
