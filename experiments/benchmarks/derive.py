"""What is derived from the measurements; NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np


def spread(values: Sequence[float]) -> dict:
    """Median, minimum and maximum, and the values of the rounds."""
    rounds = [float(value) for value in values]
    return {"median": float(np.median(rounds)), "min": min(rounds), "max": max(rounds), "rounds": rounds}


def ratios(rates: Mapping[str, Sequence[float]], beside: Mapping[str, Sequence[str]]) -> dict[str, dict]:
    """Examples/s of one contender over another's, quotients within each round."""
    return {
        f"{us} / {them}": spread(np.divide(rates[us], rates[them]))
        for us, others in beside.items()
        for them in others
        if us in rates and them in rates
    }


def overhead(noisy: Sequence[float], plain: Sequence[float]) -> dict:
    """(step with noise - step without) / step without, from the steps a second in each round."""
    return spread(np.divide(plain, noisy) - 1)


def utilization(steps: Sequence[float], batch_size: int, widths: Sequence[int], matmul: Sequence[float]) -> dict:
    """The GFLOP/s of an MLP's dense layers over the GFLOP/s of the matmul in the same round.

    Of y = W x, dW and dx, each costs 2 n m for an example and a layer n -> m; the first layer has no dx. `usual` counts 6
    FLOP for each weight, the gradient that is spared included.
    """
    layers = [2 * n * m for n, m in pairwise(widths)]
    examples = np.multiply(steps, batch_size) * 1e-9
    gflops, usual = examples * (3 * sum(layers) - layers[0]), examples * 3 * sum(layers)
    return {
        "gflops": spread(gflops),
        "utilization": spread(np.divide(gflops, matmul)),
        "usual": spread(np.divide(usual, matmul)),
    }


def exponent(x: Sequence[float], y: Sequence[float]) -> float | None:
    """p of y = c x^p, by least squares of log y on log x; None for less than two points."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else None


def crossing(curve: Sequence[tuple[int, float, float]], goal: float) -> dict:
    """Where a curve of (steps, seconds, MSE) that ends at its first point below the goal crosses it, by linear interpolation;
    None where it ends above."""
    *_, last = curve
    if last[2] >= goal:
        return {"steps": None, "seconds": None}
    before = curve[-2] if len(curve) > 1 else last
    part = (before[2] - goal) / (before[2] - last[2]) if before is not last else 1.0
    return {name: before[i] + part * (last[i] - before[i]) for i, name in enumerate(("steps", "seconds"))}


def time_to_goal(runs: Sequence[Mapping]) -> dict:
    """Of the runs that reached the goal, and how many did."""
    reached = [run for run in runs if run["seconds"] is not None]
    if not reached:
        return {"reached": 0, "of": len(runs), "seconds": None, "steps": None}
    seconds, steps = ([run[name] for run in reached] for name in ("seconds", "steps"))
    return {"reached": len(reached), "of": len(runs), "seconds": spread(seconds), "steps": spread(steps)}
