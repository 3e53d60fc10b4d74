"""Training: a run from its first step, or from its last checkpoint, to its end, and the files it leaves.

`metrics.jsonl` grows by a line per log point; a checkpoint is saved, and the validation split judged, every `save_every`
steps, at the end, and on SIGINT and SIGTERM; `result.json` is written when the run is complete.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aejax.checkpoint import digest, open_checkpoints, restore, save
from aejax.data import batch_at, batches_at, in_order
from aejax.errors import UsageError
from aejax.experiment import Source
from aejax.keys import evaluation_key, run_keys
from aejax.metrics_log import metrics_log, truncate_log
from aejax.progress import Progress, show_progress
from aejax.run import (
    Run,
    abstract_batch,
    abstract_state,
    datasets,
    environment,
    is_run,
    locked,
    make_config,
    map_examples,
    means,
    open_run,
    read_config,
    read_json,
    rebuild,
    write_json,
)
from aejax.signals import noted_signals
from aejax.step import init_state, make_runner, on_one_device
from aejax.types import Dataset, Experiment, TrainState

STRETCH_BYTES = 32 * 2**20
"""Upper bound for the batches put on the device at once; two such stretches exist while one is gathered ahead."""

STRETCH_SECONDS = 0.2
"""How long a stretch should take: the reaction time to a signal, and many times the cost of a call (about 1 ms)."""


class NonFinite(Exception):
    """Training met NaN or Inf; the last finite checkpoint is kept."""


class Interrupted(Exception):
    """A signal ended the run early; it was saved and can be resumed."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class Settings(NamedTuple):
    """How a run is carried out; nothing here changes its bits but the number of devices, and that only by rounding."""

    devices: int = 1
    log_every: int = 100
    save_every: int = 1000
    keep: int = 3
    tensorboard: bool = False


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
    run_step = make_runner(experiment.model, experiment.optimizer, settings.devices, experiment.batch_size)
    _refuse_occupied(directory, overwrite)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        _clear(directory)
        config = make_config(experiment, source, settings._asdict())
        write_json(directory / "config.json", config)
        first = batch_at(experiment.train, experiment.seed, 0, experiment.batch_size)
        state = init_state(experiment.model, experiment.optimizer, run_keys(experiment.seed).init, first)
        return _finish(experiment, directory, config, settings, run_step, state, judged=None)


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
    if experiment is None:
        experiment = rebuild(directory, config, file=file, allow_changed=allow_changed)
    settings = Settings(**config["settings"])
    if devices is not None:
        settings = settings._replace(devices=devices)
    check(experiment, settings)
    run_step = make_runner(experiment.model, experiment.optimizer, settings.devices, experiment.batch_size)
    with locked(directory):
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
            first = batch_at(experiment.train, experiment.seed, 0, experiment.batch_size)
            state = init_state(experiment.model, experiment.optimizer, run_keys(experiment.seed).init, first)
        truncate_log(directory, int(state.step))
        config["resumed"].append({"from_step": int(state.step), "devices": settings.devices, **environment()})
        write_json(directory / "config.json", config)
        return _finish(experiment, directory, config, settings, run_step, state, judged)


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
    if not 0 <= experiment.seed < 2**32:
        raise UsageError(f"--seed {experiment.seed}: it must be 0 or more, and below 2³²")
    if settings.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UsageError("--tensorboard needs tensorboardX; pip install 'aejax[tensorboard]'")
    abstract = abstract_state(experiment)
    terms = jax.eval_shape(
        experiment.model.evaluate, abstract.params, abstract.extras, abstract_batch(experiment), jax.random.key(0)
    )
    if experiment.monitor not in terms:
        raise UsageError(f"the experiment monitors {experiment.monitor!r}; its model evaluates {', '.join(terms)}")
    for data in datasets(experiment):
        if data.shape != experiment.train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, {experiment.train.name} of {experiment.train.shape}"
            )
        if experiment.model.check is not None:
            for batch, _ in in_order(data, min(data.size, 8192)):
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
        write = stack.enter_context(metrics_log(directory, settings.tensorboard))
        stopped = stack.enter_context(noted_signals())
        progress = stack.enter_context(show_progress(directory.name, experiment.steps, int(state.step)))
        judge = _make_judge(experiment)
        clock = Clock()

        since_line: list[Mapping[str, np.ndarray]] = []

        for state, reached, terms in stretches(experiment, settings, run_step, state, clock, progress):  # noqa: B020
            try:
                _refuse_non_finite_terms(terms, reached)
                since_line.append(terms)
                if reached % settings.log_every == 0 or reached == experiment.steps:
                    write(reached, "train", _means_over(since_line), clock.rate(experiment.batch_size))
                    since_line = []
                judged = None
                if reached % settings.save_every == 0 or reached == experiment.steps:
                    _refuse_non_finite_state(state)
                    judged = judge(state)
                    write(reached, "validation" if experiment.validation else "test", judged)
                    progress.judged(reached, judged)
                    save(checkpoints, state, judged)
                if stopped() and reached < experiment.steps:
                    if judged is None:
                        _refuse_non_finite_state(state)
                        save(checkpoints, state, None)
                    checkpoints.wait_until_finished()
                    message = (
                        f"stopped at step {reached} of {experiment.steps}; continue with: aejax resume {directory}"
                    )
                    raise Interrupted(message, stopped())
            except NonFinite as error:
                raise NonFinite(f"{error}; {_last_saved(checkpoints, directory)}") from None
        checkpoints.wait_until_finished()
        state = on_one_device(state)
        write_json(
            directory / "result.json",
            {
                "step": int(state.step),
                "digest": digest(state.params, state.extras),
                "metrics": judge(state) if judged is None else dict(judged),
                "seconds": clock.seconds,
                "examples_per_second": clock.total_rate(experiment.batch_size),
            },
        )
    return Run(directory, config, experiment, state)


def stretches(
    experiment: Experiment, settings: Settings, run_step: Callable, state: TrainState, clock: Clock, progress: Progress
) -> Iterator[tuple[TrainState, int, dict[str, np.ndarray]]]:
    """Yields (state, step reached, {term: [n]}) after each stretch.

    The host gathers the next stretch while the device computes this one. How many steps a stretch has is measured: as many
    as take STRETCH_SECONDS, up to the next log or save point and the memory bound. The bits do not depend on it.
    """
    seed, batch_size, data = experiment.seed, experiment.batch_size, experiment.train
    key = run_keys(seed).run
    example_bytes = 4 * math.prod(data.shape)
    capacity = max(1, min(settings.log_every, experiment.steps, STRETCH_BYTES // (batch_size * example_bytes)))

    def length(step: int) -> int:
        points = (settings.log_every, settings.save_every)
        boundary = min(experiment.steps, *(step - step % every + every for every in points))
        return max(1, min(boundary - step, capacity, clock.steps_in(STRETCH_SECONDS)))

    def fetch(step: int) -> tuple[int, dict[str, np.ndarray]]:
        n = length(step)
        return n, {name: _padded(leaf, capacity) for name, leaf in batches_at(data, seed, step, batch_size, n).items()}

    step = int(state.step)
    fetched = fetch(step) if step < experiment.steps else None
    while fetched is not None:
        n, batches = fetched
        clock.start()
        state, terms = run_step(state, key, batches, np.int32(n))
        step += n
        fetched = fetch(step) if step < experiment.steps else None
        terms = {name: np.asarray(values)[:n] for name, values in terms.items()}  # waits for the device
        clock.stop(n)
        progress.advance(step, float(terms["loss"][-1]), clock.rate(batch_size))
        yield state, step, terms


def _padded(leaf: np.ndarray, capacity: int) -> np.ndarray:
    """Leaves [n, ...] as [capacity, ...]: one shape, one compilation. The rest is never read."""
    if len(leaf) == capacity:
        return leaf
    padded = np.zeros((capacity, *leaf.shape[1:]), leaf.dtype)
    padded[: len(leaf)] = leaf
    return padded


class Clock:
    """Time spent training, without compiling, judging and saving: the first stretch compiles and does not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timed_steps = 0
        self._timed_seconds = 0.0
        self._latest = 0.0
        self._calls = 0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self, steps: int) -> None:
        elapsed = time.perf_counter() - self._started
        self.seconds += elapsed
        self._calls += 1
        if self._calls > 1:
            self._timed_steps += steps
            self._timed_seconds += elapsed
            self._latest = elapsed / steps

    def steps_in(self, seconds: float) -> int:
        """One step until something has been timed."""
        return int(seconds / self._latest) if self._latest else 1

    def rate(self, batch_size: int) -> float | None:
        """Examples per second in the latest stretch; None before the second."""
        return batch_size / self._latest if self._latest else None

    def total_rate(self, batch_size: int) -> float | None:
        return batch_size * self._timed_steps / self._timed_seconds if self._timed_steps else None


def _make_judge(experiment: Experiment) -> Callable[[TrainState], dict[str, float]]:
    """state -> the means of the model's terms over the validation split (the test split where there is none)."""
    data: Dataset = experiment.test if experiment.validation is None else experiment.validation
    evaluate = jax.jit(experiment.model.evaluate)
    key = evaluation_key(experiment.seed, "terms")

    def judge(state: TrainState) -> dict[str, float]:
        local = on_one_device(state)
        terms = means(map_examples(lambda batch: evaluate(local.params, local.extras, batch, key), data))
        if bad := [name for name, value in terms.items() if not math.isfinite(value)]:
            raise NonFinite(f"non-finite {', '.join(bad)} on {data.name} after step {int(state.step)}")
        return terms

    return judge


def _refuse_non_finite_terms(terms: Mapping[str, np.ndarray], reached: int) -> None:
    """Names the step and the terms [n] that were the first to be NaN or Inf."""
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in terms.items()}
    firsts = {name: int(where[0]) for name, where in bad.items() if len(where)}
    if firsts:
        first = min(firsts.values())
        names = ", ".join(name for name, i in firsts.items() if i == first)
        raise NonFinite(f"non-finite {names} at step {reached - len(terms['loss']) + first + 1}")


def _refuse_non_finite_state(state: TrainState) -> None:
    """A finite loss does not yet make finite parameters: the last update may have ruined them."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(np.isfinite(leaf)):
            raise NonFinite(f"non-finite {jax.tree_util.keystr(path)} after step {int(state.step)}")


def _last_saved(checkpoints: Any, directory: Path) -> str:
    checkpoints.wait_until_finished()
    step = checkpoints.latest_step()
    kept = "no checkpoint was saved before" if step is None else f"the checkpoint of step {step} is kept in {directory}"
    return f"{kept}; lower the learning rate or look at the data"


def _means_over(parts: list[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The mean of each training term [n] over the steps of several stretches."""
    return means({name: np.concatenate([terms[name] for terms in parts]) for name in parts[0]})


def _refuse_occupied(directory: Path, overwrite: bool) -> None:
    """A folder that holds anything is left alone; `--overwrite` empties a run directory, never another folder."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    leftovers = directory.is_dir() and {entry.name for entry in directory.iterdir()} <= {".lock", "config.json.tmp"}
    if leftovers:  # of a disk that was full at the very start
        return
    if not is_run(directory):
        raise UsageError(f"{directory} exists and is not a run directory; choose another --run")
    if not overwrite:
        raise UsageError(
            f"{directory} exists; resume it with `aejax resume {directory}`, or pass --overwrite to replace it"
        )


def _clear(directory: Path) -> None:
    """Empties a run directory that is to be overwritten, all but its lock."""
    for entry in directory.iterdir():
        if entry.name != ".lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
