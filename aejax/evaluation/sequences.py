"""Judging a model of sequences by how it goes on, and by what its states tell of the true ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aejax.data import chosen, take
from aejax.runs.run import Run
from aejax.types import Dataset

FUTURES = 8
"""Of each sequence, whose mean is a prediction."""

EXAMPLES = 500
"""Sequences that are continued, and from which states are learnt and on which they are judged: so many of each split."""


def sequences(run: Run, test: Dataset) -> dict[str, Any] | None:
    """What `evaluate` writes of a model with a rollout, None for another one.

    After the first half of a sequence (`seen` frames) it goes on step by step. By step: the squared error per dimension of one
    future, of the mean of FUTURES, and of the last frame that was seen, held. Sequences that are too short at a step do not count
    there.

    Where the true states are known: R² of a linear map from the model's states, and from the frames, to each, of the second half
    of the steps; learnt from training sequences.
    """
    if run.experiment.model.rollout is None:
        return None
    t = test.shape[0]
    seen = max(1, t // 2)
    some = chosen(test, np.arange(min(EXAMPLES, test.size)))
    result: dict[str, Any] = {"seen": seen, "steps": list(range(1, t - seen + 1)), "probes": None}
    if t > seen:
        result |= _continued(run, some, seen)
    if test.states is not None:
        result["probes"] = _probes(run, some, seen)
    return result


def _continued(run: Run, some: Dataset, seen: int) -> dict[str, Any]:
    batch = take(some, np.arange(some.size))
    x, t = batch["x"], some.shape[0]
    n = batch["length"] if "length" in batch else np.full(len(x), t)
    futures = run.rollout(chosen(some, np.repeat(np.arange(some.size), FUTURES)), [1] * (t - seen), seen)
    futures = futures.reshape(len(x), FUTURES, t - seen, *some.shape[1:])
    counted = np.arange(seen, t)[None] < n[:, None]

    def error(predicted: np.ndarray) -> list[float | None]:
        squares = np.square(predicted - x[:, seen:], dtype=np.float64).reshape(len(x), t - seen, -1).mean(axis=2)
        return [float(s[c].mean()) if c.any() else None for s, c in zip(squares.T, counted.T)]

    held = np.broadcast_to(x[:, seen - 1 : seen], x[:, seen:].shape)
    return {"one": error(futures[:, 0]), "mean": error(futures.mean(axis=1)), "held": error(held)}


def _probes(run: Run, some: Dataset, seen: int) -> dict[str, dict[str, float | None]] | None:
    """State -> R² on test sequences of the map from the model's states, and of that from the frames."""
    from sklearn.linear_model import LinearRegression

    train = run.experiment.train
    learnt = chosen(train, np.linspace(0, train.size - 1, min(EXAMPLES, train.size)).astype(np.int64))

    def rows(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        batch, z = take(data, np.arange(data.size)), run.encode(data)
        t = data.shape[0]
        n = batch["length"] if "length" in batch else np.full(data.size, t)
        counted = (np.arange(t)[None] >= seen) & (np.arange(t)[None] < n[:, None])
        flat = batch["x"].reshape(data.size, t, -1)
        return z[counted], flat[counted], batch["state"][counted]

    (z, frames, state), (z_test, frames_test, state_test) = rows(learnt), rows(some)
    if len(z) < 2 or len(z_test) < 2:
        return None
    variance = state_test.var(axis=0, dtype=np.float64)

    def explained(inputs: np.ndarray, judged: np.ndarray) -> list[float | None]:
        found = LinearRegression().fit(inputs, state).predict(judged)
        left = np.square(found - state_test, dtype=np.float64).mean(axis=0)
        return [None if v == 0 or not math.isfinite(e) else float(1 - e / v) for e, v in zip(left, variance)]

    assert some.states is not None
    return {
        name: {"states": ours, "frames": frame}
        for name, ours, frame in zip(some.states, explained(z, z_test), explained(frames, frames_test))
    }
