"""Rollouts of a model of sequences, compared with repeating the last frame, and probes of its states for the true ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from aejax.data import subset, take
from aejax.evaluation.part import Context, Result
from aejax.figures.tables import Column, Table
from aejax.runs.run import Run
from aejax.types import Dataset

AVERAGED = 8
"""Number of rollouts of each sequence whose mean is a prediction."""

EXAMPLES = 500
"""Number of sequences of a split that are continued, and that probes of the states learn from or are evaluated on."""


def compute(context: Context) -> Result:
    """Rollouts from the first half of a sequence (the `prefix`), step by step.

    For each step: the squared error per dimension of one rollout, of the mean of AVERAGED rollouts, and of repeating the last
    frame of the prefix. Sequences that end before a step do not count there.

    If the true states are known: R² of linear maps to each component, from the model's states and from the frames, for the
    second half of the steps; fitted to training sequences.
    """
    run, test = context.run, context.test
    t = test.shape[0]
    prefix = max(1, t // 2)
    some = subset(test, np.arange(min(EXAMPLES, test.size)))
    result: dict[str, Any] = {"prefix": prefix, "steps": list(range(1, t - prefix + 1)), "probes": None}
    if t > prefix:
        result |= _continued(run, some, prefix)
    if test.states is not None:
        result["probes"] = _probes(run, some, prefix)
    return result


def _continued(run: Run, some: Dataset, prefix: int) -> dict[str, Any]:
    batch = take(some, np.arange(some.size))
    x, t = batch["x"], some.shape[0]
    n = batch["length"] if "length" in batch else np.full(len(x), t)
    futures = run.rollout(subset(some, np.repeat(np.arange(some.size), AVERAGED)), [1] * (t - prefix), prefix)
    futures = futures.reshape(len(x), AVERAGED, t - prefix, *some.shape[1:])
    counted = np.arange(prefix, t)[None] < n[:, None]

    def error(predicted: np.ndarray) -> list[float | None]:
        squares = np.square(predicted - x[:, prefix:], dtype=np.float64).reshape(len(x), t - prefix, -1).mean(axis=2)
        return [float(s[c].mean()) if c.any() else None for s, c in zip(squares.T, counted.T)]

    held = np.broadcast_to(x[:, prefix - 1 : prefix], x[:, prefix:].shape)
    return {
        "rollout_mse": error(futures[:, 0]),
        "mean_rollout_mse": error(futures.mean(axis=1)),
        "last_frame_mse": error(held),
    }


def _probes(run: Run, some: Dataset, prefix: int) -> dict[str, dict[str, float | None]] | None:
    """State component -> R² on test sequences of the map from the model's states, and of that from the frames."""
    from sklearn.linear_model import LinearRegression

    train = run.experiment.train
    learnt = subset(train, np.linspace(0, train.size - 1, min(EXAMPLES, train.size)).astype(np.int64))

    def rows(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        batch, z = take(data, np.arange(data.size)), run.encode(data)
        t = data.shape[0]
        n = batch["length"] if "length" in batch else np.full(data.size, t)
        counted = (np.arange(t)[None] >= prefix) & (np.arange(t)[None] < n[:, None])
        flat = batch["x"].reshape(data.size, t, -1)
        return z[counted], flat[counted], batch["state"][counted]

    (z, frames, state), (z_test, frames_test, state_test) = rows(learnt), rows(some)
    if len(z) < 2 or len(z_test) < 2:
        return None
    variance = state_test.var(axis=0, dtype=np.float64)

    def explained(inputs: np.ndarray, test_inputs: np.ndarray) -> list[float | None]:
        predicted = LinearRegression().fit(inputs, state).predict(test_inputs)
        left = np.square(predicted - state_test, dtype=np.float64).mean(axis=0)
        return [None if v == 0 or not math.isfinite(e) else float(1 - e / v) for e, v in zip(left, variance)]

    assert some.states is not None
    return {
        name: {"states": ours, "frames": frame}
        for name, ours, frame in zip(some.states, explained(z, z_test), explained(frames, frames_test))
    }


def state_table(result: Result) -> Table:
    columns = [
        Column(name, "R²", [r2[source] for source in ("states", "frames")], "high", 3)
        for name, r2 in result["probes"].items()
    ]
    return Table("True states, by a linear map from", ["the model's states", "frames"], columns)
