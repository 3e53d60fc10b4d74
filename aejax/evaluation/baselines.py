"""Baselines of an evaluation: which examples they learn from and are evaluated on, and when there are any.

Each is computed once per process for all runs on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from aejax.data import STREAMED_EXAMPLES, take
from aejax.evaluation.linear import Statistics, statistics, with_axes
from aejax.types import Dataset, Experiment

T = TypeVar("T")

LINEAR_DIMENSIONS = 4096
"""Examples with more dimensions have no linear baselines, whose d×d matrices would take gigabytes and minutes, and no probe of
raw pixels, whose logistic regression takes longer than most trainings."""

MOST = 100
"""Number of cached results, the most recently used ones."""

_kept: dict[Hashable, Any] = {}


def cached(what: Hashable, data: Sequence[Dataset], make: Callable[[], T]) -> T:
    """`make()`, or its earlier result for the same `what` on the same data. Data without a fingerprint are never found again.

    Only results are kept (numbers, classifiers, matrices), never examples.
    """
    if not all(d.fingerprint for d in data):
        return make()
    key = (what, *((d.name, d.fingerprint, d.shape, d.size, d.scaling) for d in data))
    _kept[key] = _kept.pop(key) if key in _kept else make()
    if len(_kept) > MOST:
        _kept.pop(next(iter(_kept)))
    result: T = _kept[key]
    return result


def training_examples(train: Dataset) -> np.ndarray:
    """Positions of the examples that linear baselines learn from: all, or STREAMED_EXAMPLES of streamed data, evenly spaced."""
    return np.arange(train.size) if train.read is None else evenly_spaced(train.size, STREAMED_EXAMPLES)


def evenly_spaced(size: int, most: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(most, size)).astype(np.int64)


def compresses(components: int, train: Dataset) -> bool:
    """Whether PCA with this number of components omits a direction in which the training examples vary.

    Otherwise it reproduces the data and is no baseline.
    """
    return components < min(math.prod(train.shape), len(training_examples(train)) - 1)


def linear_statistics(experiment: Experiment, components: int | None) -> Statistics | None:
    """The statistics that linear baselines need; None if there are no such baselines."""
    train = experiment.train
    projects = components is not None and compresses(components, train)
    if math.prod(train.shape) > LINEAR_DIMENSIONS or not (
        projects or experiment.model.data.corrupt is not None or experiment.sweep
    ):
        return None
    plain = cached("statistics", [train], lambda: statistics(np.asarray(take(train, training_examples(train))["x"])))
    return cached("statistics with axes", [train], lambda: with_axes(plain)) if projects else plain
