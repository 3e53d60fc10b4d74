"""What is recorded of a run, or of several members, while they train: log, checkpoints, progress; and the handling of NaN and
Inf.

A member that meets NaN or Inf stops with its last finite checkpoint and without a result; the others continue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aejax.runs.batched import means
from aejax.runs.checkpoint import open_checkpoints, save, unwritten_at
from aejax.runs.directory import determined
from aejax.runs.metrics_log import Write, metrics_log
from aejax.training import processes
from aejax.training.callbacks import Callback
from aejax.training.progress import SILENT, show_progress
from aejax.training.settings import Settings
from aejax.training.validation import Validation, split_name, validation_split
from aejax.types import Experiment, TrainState


class NonFinite(Exception):
    """Training met NaN or Inf; the last finite checkpoint is kept."""


class Interrupted(Exception):
    """A signal ended the run early; it was saved and can be resumed."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class Member(NamedTuple):
    """A run that is being trained, alone or with others."""

    directory: Path
    config: dict[str, Any]
    experiment: Experiment


class Recorder:
    """The files of the members. Only the first process writes logs; all processes save checkpoints together."""

    def __init__(
        self,
        stack: ExitStack,
        members: Sequence[Member],
        settings: Settings,
        title: str,
        start: int,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._members, self._settings, self._callbacks = members, settings, callbacks
        self.stopped = False
        """Whether a callback has asked to stop."""
        self._steps = members[0].experiment.steps
        self._checkpoints = [
            stack.enter_context(
                open_checkpoints(m.directory / "checkpoints", settings.keep, monitor=m.experiment.monitor)
            )
            for m in members
        ]
        self._writes: list[Write] = [_silent] * len(members)
        self.progress = SILENT
        if processes.is_first():
            self._writes = [stack.enter_context(metrics_log(m.directory, settings.track)) for m in members]
            if settings.verbose:
                self.progress = stack.enter_context(show_progress(title, self._steps, start))
        before = [unwritten_at(checkpoints, start) for checkpoints in self._checkpoints]
        self._unwritten: list[Sequence[Mapping[str, np.ndarray]]] = [before] if all(before) else []
        self.lost: dict[int, NonFinite] = {}
        """Members that stopped, by position, and the reason."""

    @property
    def going(self) -> list[int]:
        """Positions of the members that are still training."""
        return [i for i in range(len(self._members)) if i not in self.lost]

    def log(self, step: int, terms: Sequence[Mapping[str, np.ndarray]], examples_per_second: float | None) -> None:
        """Adds the members' training terms [n] of the last n steps; their means are written at log points."""
        self._each(lambda i: refuse_non_finite_terms(terms[i], step))
        self._unwritten.append(terms)
        if step % self._settings.log_every == 0 or step == self._steps:
            for i in self.going:
                line = means_over([chunk[i] for chunk in self._unwritten])
                self._record(i, step, "train", line, examples_per_second)
            self._unwritten = []

    def validated(self, step: int, validations: Sequence[Validation]) -> None:
        self._each(
            lambda i: refuse_non_finite_metrics(
                validations[i].metrics, validation_split(self._members[i].experiment).name, step
            )
        )
        for i in self.going:
            metrics, histograms = validations[i]
            self._record(i, step, split_name(self._members[i].experiment), {**metrics, **histograms}, None)
        if going := [validations[i].metrics for i in self.going]:
            self.progress.validated(step, means({name: np.array([m[name] for m in going]) for name in going[0]}))

    def _record(
        self, i: int, step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None
    ) -> None:
        self._writes[i](step, split, terms, examples_per_second)
        for callback in self._callbacks:
            self.stopped = bool(callback(step, split, terms)) or self.stopped

    def save(self, state_of: Callable[[int], TrainState], validations: Sequence[Validation] | None) -> None:
        """Saves every member in the background; `validations` are those of these states, if there are any."""

        def one(i: int) -> None:
            state = state_of(i)
            refuse_non_finite_state(state)
            since = [chunk[i] for chunk in self._unwritten]
            unwritten = {name: np.concatenate([terms[name] for terms in since]) for name in since[0]} if since else {}
            save(
                self._checkpoints[i],
                state,
                None if validations is None else validations[i].metrics,
                unwritten,
                determined(self._members[i].config),
            )

        self._each(one)

    def wait(self) -> None:
        """Waits until everything has been written to disk."""
        for checkpoints in self._checkpoints:
            checkpoints.wait_until_finished()

    def raise_lost(self) -> None:
        """Raises NonFinite with the names of the members that stopped, if any."""
        if not self.lost:
            return
        reasons = {i: f"{error}; {self._kept(i)}" for i, error in self.lost.items()}
        if len(self._members) == 1:
            raise NonFinite(f"{reasons[0]}; lower the learning rate or look at the data") from self.lost[0]
        listed = "; ".join(f"{self._members[i].directory.name}: {reason}" for i, reason in reasons.items())
        raise NonFinite(f"{listed}; {len(self.going)} of {len(self._members)} members finished")

    def _kept(self, i: int) -> str:
        step = self._checkpoints[i].latest_step()
        if step is None:
            return "no checkpoint was saved before"
        return f"the checkpoint of step {step} is kept in {self._members[i].directory}"

    def _each(self, act: Callable[[int], None]) -> None:
        """Calls `act` for every training member; one for which it meets NaN or Inf stops."""
        for i in self.going:
            try:
                act(i)
            except NonFinite as error:
                self.lost[i] = error


def _silent(step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None = None) -> None:
    """Logging in processes other than the first: none."""


def means_over(chunks: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The mean of each training term [n] over the steps of several chunks."""
    return means({name: np.concatenate([terms[name] for terms in chunks]) for name in chunks[0]})


def refuse_non_finite_terms(terms: Mapping[str, np.ndarray], reached: int) -> None:
    """Raises NonFinite with the step and the terms [n] that were the first to be NaN or Inf."""
    bad = {name: np.flatnonzero(~np.isfinite(values)) for name, values in terms.items()}
    firsts = {name: int(where[0]) for name, where in bad.items() if len(where)}
    if firsts:
        first = min(firsts.values())
        names = ", ".join(name for name, i in firsts.items() if i == first)
        raise NonFinite(f"non-finite {names} at step {reached - len(terms['loss']) + first + 1}")


def refuse_non_finite_state(state: TrainState) -> None:
    """Raises NonFinite if parameters are not finite, which the last update can cause even if the loss is finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact) and not np.all(np.isfinite(leaf)):
            raise NonFinite(f"non-finite {jax.tree_util.keystr(path)} after step {int(state.step)}")


def refuse_non_finite_metrics(metrics: Mapping[str, float], data: str, step: int) -> None:
    if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise NonFinite(f"non-finite {', '.join(bad)} on {data} after step {step}")
