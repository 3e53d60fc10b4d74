"""The training loop: chunks of steps, the next one gathered while the device computes; one loop for single runs and groups."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.files import write_json
from aejax.runs.checkpoint import digest
from aejax.runs.run import Run
from aejax.signals import noted_signals
from aejax.training import processes
from aejax.training.callbacks import Callback
from aejax.training.cost import Cost, cost_record
from aejax.training.recorder import Interrupted, Member, Recorder
from aejax.training.settings import Settings
from aejax.training.step import Runner, on_one_device
from aejax.training.validation import Validation
from aejax.types import Batch, TrainState

CHUNK_BYTES = 32 * 2**20
"""Upper bound on the bytes of batches on the device; two such chunks exist while one is gathered ahead."""

CHUNK_SECONDS = 1.0
"""Duration of a chunk: the reaction time to a signal, and many times the overhead of a call, which is 1 ms plus, on CPU, 0.4 ms
per MiB that a step works in, because every call allocates it anew."""


class Program(NamedTuple):
    """What the loop runs: one experiment, or several members under vmap, whose states are stacked."""

    run_chunk: Runner
    """(state, key, batches [t, ...], n) -> (state, {term: [t, ...]}), see `aejax.training.step.chunk`."""
    key: Any
    """Key of the run, or keys of the members [m]."""
    next_batches: Callable[[int], Batch]
    """n -> the next n batches, stacked."""
    validate: Callable[[TrainState], list[Validation]]
    """state -> the validation of each member."""
    unstacked: Callable[[TrainState], Callable[[int], TrainState]]
    """state -> (i -> the state of member i)."""
    terms_of: Callable[[Mapping[str, np.ndarray], int], Mapping[str, np.ndarray]]
    """(terms of a chunk, i) -> terms of member i, [n]."""
    cost: Callable[[Any], Cost]
    """The lowered program (`jax.jit(f).lower(…)`) -> the cost of a step of all members."""


def train_to_end(
    program: Program,
    members: Sequence[Member],
    settings: Settings,
    state: TrainState,
    directory: Path,
    validations: list[Validation] | None = None,
    callbacks: Sequence[Callback] = (),
    stopped: bool = False,
) -> list[Run]:
    """Trains from `state` to the last step; returns the runs of the members that reached it.

    Args:
        program: The program.
        members: The runs to record.
        settings: How they are carried out.
        state: State to start from.
        directory: Directory of the run or of the group.
        validations: Validations of this state, if it was saved with them.
        callbacks: Called for every line of the log, of a single member.
        stopped: Whether a callback had already ended the run when it was interrupted.

    Returns:
        The finished runs.

    Raises:
        NonFinite: At the end, if members stopped.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; all members are saved.
    """
    first, start = members[0].experiment, _step_of(state)
    with ExitStack() as stack:
        clock = Clock(stack.enter_context(noted_signals()))
        recorder = Recorder(stack, members, settings, directory.name, start, callbacks)
        trace = directory / "profile" if settings.profile and processes.is_first() else None
        remaining = () if stopped else chunks(program, members, settings, state, clock, trace)
        for state, reached, terms in remaining:
            recorder.log(
                reached,
                [program.terms_of(terms, i) for i in range(len(members))],
                clock.examples_per_second(first.batch_size),
            )
            if recorder.going:
                recorder.progress.advance(
                    reached,
                    float(np.mean(terms["loss"][-1])),
                    clock.examples_per_second(first.batch_size * len(members)),
                )
            validations = None
            if recorder.going and (reached % settings.save_every == 0 or reached == first.steps or recorder.stopped):
                validations = program.validate(state)
                recorder.validated(reached, validations)
                recorder.save(program.unstacked(state), validations)
            if clock.signal and reached < first.steps and recorder.going and not recorder.stopped:
                if validations is None:
                    recorder.save(program.unstacked(state), None)
                recorder.wait()
                raise Interrupted(
                    f"stopped at step {reached} of {first.steps}; continue with: aejax resume {directory}", clock.signal
                )
            if not recorder.going or recorder.stopped:
                break
        recorder.wait()
        cost = None
        if clock.lowered is not None and processes.is_first():
            cost = cost_record(program.cost(clock.lowered), clock.steps_per_second, settings.devices or 1)
        runs = []
        if validations is None and recorder.going:  # if a signal arrived at the last step
            validations = program.validate(state)
        for i in recorder.going:
            assert validations is not None
            run = Run(*members[i], on_one_device(program.unstacked(state)(i)))
            write_result(run, validations[i], clock, cost)
            runs.append(run)
        recorder.raise_lost()
        if signum := clock.latest_signal():
            raise Interrupted(
                f"stopped after the last of {first.steps} steps; go on with: aejax resume {directory}", signum
            )
    return runs


def write_result(run: Run, validation: Validation, clock: Clock, cost: Mapping[str, float | None] | None) -> None:
    """Writes result.json of a complete run, in the first process."""
    result = {
        "step": run.step,
        "stopped_early": run.step < run.experiment.steps,
        "digest": digest(run.state.params, run.state.extras),
        "metrics": validation.metrics,
        "seconds": clock.seconds,
        "examples_per_second": clock.total_examples_per_second(run.experiment.batch_size),
        "cost": cost,
    }
    processes.first_alone(lambda: write_json(run.directory / "result.json", result))


def chunks(
    program: Program, members: Sequence[Member], settings: Settings, state: TrainState, clock: Clock, trace: Path | None
) -> Iterator[tuple[TrainState, int, dict[str, np.ndarray]]]:
    """Yields (state, step reached, {term: [n, ...]}) after each chunk. `trace` is the folder for a profile.

    The number of steps in a chunk is measured: as many as take CHUNK_SECONDS, up to the next log or save point and the memory
    bound. The bits do not depend on it.
    """
    experiment = members[0].experiment
    numbers = 2 if experiment.train.draw is not None else math.prod(experiment.train.shape)
    batch_bytes = 4 * numbers * experiment.batch_size * len(members) // jax.process_count()
    capacity = max(1, min(settings.log_every, experiment.steps, CHUNK_BYTES // batch_bytes))
    start = step = _step_of(state)
    traced = range(start + 1, start + 1 + settings.profile)  # after the step that compiles

    def length(step: int) -> int:
        points = (settings.log_every, settings.save_every)
        boundary = min(experiment.steps, *(step - step % every + every for every in points))
        if step in traced:
            boundary = min(boundary, traced.stop)
        return max(1, min(boundary - step, capacity, clock.steps_in(CHUNK_SECONDS)))

    def fetch(step: int) -> tuple[int, dict[str, np.ndarray]] | None:
        if step >= experiment.steps:
            return None
        n = length(step)
        return n, {name: _padded(leaf, capacity) for name, leaf in program.next_batches(n).items()}

    tracing = False
    fetched = fetch(step)
    try:
        while fetched is not None:
            n, batches = fetched
            if trace is not None and traced and step == traced.start:
                jax.profiler.start_trace(str(trace), create_perfetto_trace=True)
                tracing = True
            if clock.lowered is None:  # the next call reuses this lowering
                clock.lowered = program.run_chunk.lower(state, program.key, batches, np.int32(n))
            clock.start()
            state, log = program.run_chunk(state, program.key, batches, np.int32(n))
            step += n
            fetched = fetch(step)
            terms = {name: np.asarray(values)[:n] for name, values in log.items()}  # waits for the device
            clock.stop(n)
            if tracing and step >= traced.stop:
                jax.profiler.stop_trace()
                tracing = False
            yield state, step, terms
    finally:
        if tracing:  # training ended within the traced steps
            jax.profiler.stop_trace()


def _padded(leaf: np.ndarray, capacity: int) -> np.ndarray:
    """Leaves [n, ...] as [capacity, ...]: one shape, one compilation. The rest is never read."""
    if len(leaf) == capacity:
        return leaf
    padded = np.zeros((capacity, *leaf.shape[1:]), leaf.dtype)
    padded[: len(leaf)] = leaf
    return padded


class Clock:
    """Time spent training, without compilation, validation and saving: the first chunk compiles and does not count.

    All processes use the time of the slowest one, so that all choose chunks of the same length.
    """

    def __init__(self, noted: Callable[[], int] = lambda: 0) -> None:
        self.seconds = 0.0
        self.lowered: Any = None
        """The timed program, from `jax.jit(f).lower(…)`."""
        self.signal = 0
        """Signal that any process had received by the last chunk."""
        self._noted = noted
        self._timed_steps = 0
        self._timed_seconds = 0.0
        self._latest = 0.0
        self._calls = 0

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self, steps: int) -> None:
        elapsed, signum = processes.most([time.perf_counter() - self._started, float(self._noted())])
        self.signal = int(signum)
        self.seconds += elapsed
        self._calls += 1
        if self._calls > 1:
            self._timed_steps += steps
            self._timed_seconds += elapsed
            self._latest = elapsed / steps

    def latest_signal(self) -> int:
        """Signal that any process has received by now."""
        return int(processes.most([float(self._noted())])[0])

    def steps_in(self, seconds: float) -> int:
        """Number of steps in this time; one until something has been timed."""
        return int(seconds / self._latest) if self._latest else 1

    @property
    def steps_per_second(self) -> float | None:
        """Steps per second over all timed chunks; None before the second."""
        return self._timed_steps / self._timed_seconds if self._timed_steps else None

    def examples_per_second(self, batch_size: int) -> float | None:
        """Examples per second in the latest chunk; None before the second."""
        return batch_size / self._latest if self._latest else None

    def total_examples_per_second(self, batch_size: int) -> float | None:
        """Examples per second over all timed chunks."""
        return None if self.steps_per_second is None else batch_size * self.steps_per_second


def _step_of(state: TrainState) -> int:
    """The step of the state; members are all at the same step."""
    return int(np.ravel(state.step)[0])
