"""The loop of training: stretch after stretch of steps, the next one gathered while the device computes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.data import cache_folder, feed
from aejax.keys import run_keys
from aejax.training import processes
from aejax.training.progress import Progress
from aejax.training.step import Layout
from aejax.types import Batch, Experiment, TrainState

STRETCH_BYTES = 32 * 2**20
"""Upper bound for the batches put on the device at once; two such stretches exist while one is gathered ahead."""

STRETCH_SECONDS = 1.0
"""How long a stretch should take: the reaction time to a signal, and many times the cost of a call: 1 ms, and on CPU 0.4 ms for
each MiB that a step works in, which is new memory in every call."""


class Settings(NamedTuple):
    """How a run is carried out. Its bits depend on `devices` by rounding only, and with `exact_reduce` not at all."""

    devices: int = 1
    """Of each process."""
    log_every: int = 100
    save_every: int = 1000
    keep: int = 3
    tensorboard: bool = False
    accumulate: int = 1
    """Parts into which each device cuts its share of a batch, one after the other."""
    exact_reduce: bool = False
    """Add gradients in a fixed tree: the same bits on any number of devices and processes."""
    virtual_shards: int = 16
    """Of a batch under `exact_reduce`; part of what the bits depend on."""
    deterministic: bool = False
    """Run under XLA's deterministic kernels, which GPUs need for the same bits twice."""
    profile: int = 0
    """Steps to trace for TensorBoard and Perfetto, after the first stretch."""


def layout_of(settings: Settings) -> Layout:
    return Layout(settings.devices, settings.accumulate, settings.virtual_shards if settings.exact_reduce else None)


def stretches(
    experiment: Experiment,
    settings: Settings,
    run_step: Callable,
    state: TrainState,
    clock: Clock,
    progress: Progress,
    trace: Path | None = None,
) -> Iterator[tuple[TrainState, int, dict[str, np.ndarray]]]:
    """Yields (state, step reached, {term: [n]}) after each stretch. `trace` is the folder for the settings' profile."""
    next_batches = feed(
        experiment.train, experiment.seed, int(state.step), experiment.batch_size, share=processes.share()
    )
    return _stretches(
        experiment, settings, run_step, state, run_keys(experiment.seed).run, next_batches, 1, clock, progress, trace
    )


def stretches_of_members(
    experiments: list[Experiment],
    settings: Settings,
    run_step: Callable,
    states: TrainState,
    clock: Clock,
    progress: Progress,
    trace: Path | None = None,
) -> Iterator[tuple[TrainState, int, dict[str, np.ndarray]]]:
    """The same for members that train together, each on batches of its own seed: leaves of `states` are [m, ...],
    terms [n, m]."""
    first, start = experiments[0], int(states.step[0])
    feeds = {e.seed: feed(e.train, e.seed, start, e.batch_size) for e in experiments}

    def next_batches(n: int) -> Batch:
        by_seed = {seed: batches(n) for seed, batches in feeds.items()}
        return {name: np.stack([by_seed[e.seed][name] for e in experiments], axis=1) for name in by_seed[first.seed]}

    keys = jax.numpy.stack([run_keys(e.seed).run for e in experiments])
    return _stretches(first, settings, run_step, states, keys, next_batches, len(experiments), clock, progress, trace)


def _stretches(
    experiment: Experiment,
    settings: Settings,
    run_step: Callable,
    state: TrainState,
    key: Any,
    next_batches: Callable[[int], Batch],
    members: int,
    clock: Clock,
    progress: Progress,
    trace: Path | None,
) -> Iterator[tuple[TrainState, int, dict[str, np.ndarray]]]:
    """How many steps a stretch has is measured: as many as take STRETCH_SECONDS, up to the next log or save point and the
    memory bound. The bits do not depend on it."""
    batch_bytes = 4 * math.prod(experiment.train.shape) * experiment.batch_size * members // jax.process_count()
    capacity = max(1, min(settings.log_every, experiment.steps, STRETCH_BYTES // batch_bytes))
    start = step = int(np.ravel(state.step)[0])
    traced = range(start + 1, start + 1 + settings.profile)  # after the step that compiles

    def length(step: int) -> int:
        points = (settings.log_every, settings.save_every)
        boundary = min(experiment.steps, *(step - step % every + every for every in points))
        if step in traced:
            boundary = min(boundary, traced.stop)
        return max(1, min(boundary - step, capacity, clock.steps_in(STRETCH_SECONDS)))

    def fetch(step: int) -> tuple[int, dict[str, np.ndarray]]:
        n = length(step)
        return n, {name: _padded(leaf, capacity) for name, leaf in next_batches(n).items()}

    tracing = False
    fetched = fetch(step) if step < experiment.steps else None
    try:
        while fetched is not None:
            n, batches = fetched
            if trace is not None and traced and step == traced.start:
                jax.profiler.start_trace(str(trace), create_perfetto_trace=True)
                tracing = True
            clock.start()
            state, terms = run_step(state, key, batches, np.int32(n))
            step += n
            fetched = fetch(step) if step < experiment.steps else None
            terms = {name: np.asarray(values)[:n] for name, values in terms.items()}  # waits for the device
            clock.stop(n)
            if tracing and step >= traced.stop:
                jax.profiler.stop_trace()
                tracing = False
            progress.advance(step, float(np.mean(terms["loss"][-1])), clock.rate(experiment.batch_size * members))
            yield state, step, terms
    finally:
        if tracing:  # the run ended within the steps to trace
            jax.profiler.stop_trace()


def _padded(leaf: np.ndarray, capacity: int) -> np.ndarray:
    """Leaves [n, ...] as [capacity, ...]: one shape, one compilation. The rest is never read."""
    if len(leaf) == capacity:
        return leaf
    padded = np.zeros((capacity, *leaf.shape[1:]), leaf.dtype)
    padded[: len(leaf)] = leaf
    return padded


class Clock:
    """Time spent training, without compiling, judging and saving: the first stretch compiles and does not count.

    All processes read the same time, the slowest's, so that all choose stretches of the same length.
    """

    def __init__(self, noted: Callable[[], int] = lambda: 0) -> None:
        self.seconds = 0.0
        self.signal = 0
        """What any process was told to stop by, as of the last stretch."""
        self._noted = noted
        self._timed_steps = 0
        self._timed_seconds = 0.0
        self._latest = 0.0
        self._calls = 0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self, steps: int) -> None:
        elapsed, signal = processes.most([time.perf_counter() - self._started, float(self._noted())])
        self.signal = int(signal)
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


class NonFinite(Exception):
    """Training met NaN or Inf; the last finite checkpoint is kept."""


def keep_compiled() -> None:
    """Compiled programs are kept between processes, in the user's own cache folder."""
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class Interrupted(Exception):
    """A signal ended the run early; it was saved and can be resumed."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


def refuse_non_finite_terms(terms: Mapping[str, np.ndarray], reached: int) -> None:
    """Names the step and the terms [n] that were the first to be NaN or Inf."""
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in terms.items()}
    firsts = {name: int(where[0]) for name, where in bad.items() if len(where)}
    if firsts:
        first = min(firsts.values())
        names = ", ".join(name for name, i in firsts.items() if i == first)
        raise NonFinite(f"non-finite {names} at step {reached - len(terms['loss']) + first + 1}")


def refuse_non_finite_state(state: TrainState) -> None:
    """A finite loss does not yet make finite parameters: the last update may have ruined them."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) and not np.all(np.isfinite(leaf)):
            raise NonFinite(f"non-finite {jax.tree_util.keystr(path)} after step {int(state.step)}")


def refuse_non_finite_judgement(terms: Mapping[str, float], data: str, step: int) -> None:
    if bad := [name for name, value in terms.items() if not math.isfinite(value)]:
        raise NonFinite(f"non-finite {', '.join(bad)} on {data} after step {step}")
