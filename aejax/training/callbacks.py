"""Functions that follow a run while it trains, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aejax.errors import UsageError

Callback = Callable[[int, str, Mapping[str, Any]], bool | None]
"""(step, split, {term: value}) -> True to stop after this step. Called for every line of the log: means of training terms since
the last line (split "train"), and validations. With several processes every process calls it, with the same numbers."""


def early_stopping(patience: int, monitor: str, past: Sequence[float] = ()) -> Callback:
    """Stops training after `patience` validations in a row without a new minimum of the monitored term.

    Args:
        patience: Number of validations, at least 1.
        monitor: Name of the term.
        past: Values of the term in earlier validations, for a run that is resumed.

    Returns:
        A callback for `aejax.train`.

    Raises:
        UsageError: `patience` is below 1.

    Example:
        >>> stop = early_stopping(2, "nll")
        >>> [stop(step, "validation", {"nll": nll}) for step, nll in [(1, 3.0), (2, 3.5), (3, 3.1)]]
        [False, False, True]
    """
    if patience < 1:
        raise UsageError(f"early_stopping(patience={patience}): it must be at least 1")
    values = list(past)

    def callback(step: int, split: str, terms: Mapping[str, Any]) -> bool:
        if split == "train" or monitor not in terms:
            return False
        values.append(terms[monitor])
        return without_improvement(values) >= patience

    return callback


def without_improvement(values: Sequence[float]) -> int:
    """How many values follow the minimum, the first of equal ones."""
    return len(values) - 1 - int(np.argmin(values)) if len(values) else 0


def stop_at(last: int) -> Callback:
    """Stops at the first line of the log at this step or later; repeats a run that was stopped there."""
    return lambda step, split, terms: step >= last


def pruning(trial: Any, monitor: str) -> Callback:
    """Reports each validation to an Optuna trial, and stops training where Optuna would prune the trial.

    Args:
        trial: The trial that Optuna gives to an objective; anything with `report(value, step)` and `should_prune()`.
        monitor: Name of the term.

    Returns:
        A callback for `aejax.train`. The run ends as one that was stopped early; the objective then raises
        `optuna.TrialPruned` if `trial.should_prune()`.

    Example:
        >>> class Trial:
        ...     values = []
        ...     def report(self, value, step): self.values.append((step, value))
        ...     def should_prune(self): return self.values[-1][1] > 3.2
        >>> stop = pruning(Trial(), "nll")
        >>> [stop(step, "validation", {"nll": nll}) for step, nll in [(1, 3.0), (2, 3.5)]]
        [False, True]
    """

    def callback(step: int, split: str, terms: Mapping[str, Any]) -> bool:
        if split == "train" or monitor not in terms:
            return False
        trial.report(float(terms[monitor]), step)
        return bool(trial.should_prune())

    return callback
