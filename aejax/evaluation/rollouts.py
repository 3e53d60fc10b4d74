"""A model of sequences: rollouts, compared with repeating the last frame, and what its states say of the true ones."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.data import chosen, has_data, take
from aejax.evaluation.part import Context, Part, Result, without_data
from aejax.figures.examples import Block, data_range, is_image
from aejax.figures.tables import Column, Number, Table
from aejax.runs.run import Run
from aejax.types import Dataset

AVERAGED = 8
"""Rollouts of each sequence, whose mean is a prediction."""

EXAMPLES = 500
"""Sequences of a split that are continued, and from which probes of the states learn or on which they are evaluated."""


SHOWN, FUTURES = 4, 3
"""Test sequences that are continued on the page, and the futures of each."""

SAMPLES = 8
"""Sequences sampled from the model, without a prefix."""

SHARPEST = 32
"""Pixels: larger frames are shown at every so many pixels."""

STEPS_SHOWN = 24
"""Frames in a strip: of longer sequences every so many."""

MOVING = 64
"""Pixels that a frame of an animation is wide, at least."""


def compute(context: Context) -> Result:
    """Rollouts from the first half of a sequence (the `prefix`), step by step.

    By step: the squared error per dimension of one rollout, of the mean of AVERAGED, and of repeating the last frame of the
    prefix. Sequences that are too short at a step do not count there.

    Where the true states are known: R² of a linear map from the model's states, and from the frames, to each, of the second half
    of the steps; learned from training sequences.
    """
    run, test = context.run, context.test
    t = test.shape[0]
    prefix = max(1, t // 2)
    some = chosen(test, np.arange(min(EXAMPLES, test.size)))
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
    futures = run.rollout(chosen(some, np.repeat(np.arange(some.size), AVERAGED)), [1] * (t - prefix), prefix)
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
    """State -> R² on test sequences of the map from the model's states, and of that from the frames."""
    from sklearn.linear_model import LinearRegression

    train = run.experiment.train
    learnt = chosen(train, np.linspace(0, train.size - 1, min(EXAMPLES, train.size)).astype(np.int64))

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


def tables(result: Result) -> Sequence[Table]:
    found = []
    if "rollout_mse" in result:
        # Of the first step and the last that any of the sequences reaches.
        reached = [i for i, error in enumerate(result["rollout_mse"]) if error is not None]
        ends = sorted({reached[0], reached[-1]} if reached else ())
        names = [f"{result['steps'][i]} after {result['prefix']} frames" for i in ends]
        columns = [
            Column(name, "MSE", [result[key][i] for i in ends], None, 4)
            for name, key in (
                ("one rollout", "rollout_mse"),
                (f"mean of {AVERAGED}", "mean_rollout_mse"),
                ("last frame repeated", "last_frame_mse"),
            )
        ]
        found.append(Table("Rollouts, step", names, columns))
    return [*found, _state_table(result)] if result["probes"] else found


def _state_table(result: Result) -> Table:
    columns = [
        Column(name, "R²", [r2[source] for source in ("states", "frames")], "high", 3)
        for name, r2 in result["probes"].items()
    ]
    return Table("True states, by a linear map from", ["the model's states", "frames"], columns)


def numbers(result: Result) -> Sequence[Number]:
    if "rollout_mse" not in result:
        return []
    return [Number("MSE of the next frame", "one rollout", result["rollout_mse"][0], "low", 4)]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    """Futures from the first half of test sequences, sampled sequences, and errors by step."""
    from aejax.figures import page

    test = run.experiment.test
    if not has_data(test):
        return page.Section("Sequences", without_data(run))
    t = test.shape[0]
    prefix, some = max(1, t // 2), chosen(test, np.arange(min(SHOWN, test.size)))
    x = take(some, np.arange(some.size))["x"]
    futures = run.rollout(chosen(some, np.repeat(np.arange(some.size), FUTURES)), [1] * max(1, t - prefix), prefix)
    futures = futures.reshape(some.size, FUTURES, -1, *test.shape[1:])
    blocks: list[str] = []
    pngs: dict[str, bytes] = {}
    for html, more in [*_drawn(run, x, futures, prefix), *_errors(evaluation["sequences"])]:
        blocks.append(html)
        pngs |= more
    return page.Section("Sequences", page.columns(blocks), pngs)


def _drawn(run: Run, x: np.ndarray, futures: np.ndarray, prefix: int) -> list[Block]:
    if not is_image(x.shape[2:]):
        return _curves(x, futures, prefix)
    low, high = data_range(x)
    t = x.shape[1]
    every = -(-t // STEPS_SHOWN)
    known = np.broadcast_to(x[:, None, :prefix], (len(x), FUTURES, *x[:, :prefix].shape[1:]))
    rows = np.concatenate(
        [x[:, None], np.concatenate([known, futures], axis=2)], axis=1
    )  # [n, 1 + FUTURES, t, h, w, c]
    shown = rows[:, :, ::every]
    pixels = sheet(shown, shown.shape[2], low, high)
    caption = (
        f"In fours: a test sequence, and {FUTURES} futures after its first {prefix} frames"
        + (f"; every {every}th frame" if every > 1 else "")
        + ". The first sequences, none picked."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Futures", "pixels wide")
    moving = [sheet(rows[:, :, i], 1 + FUTURES, low, high) for i in range(t)]
    factor = max(1, round(MOVING / x.shape[3]))
    gif = animation([frame.repeat(factor, axis=0).repeat(factor, axis=1) for frame in moving])
    uri = "data:image/gif;base64," + base64.b64encode(gif).decode()
    caption = f"The same in motion: the test sequence at the left, its futures beside it, from frame {prefix + 1} on."
    image += page.folded("Futures in motion", page.figure(uri, caption, "Animated futures", "pixels"))
    sampled = run.sample(SAMPLES, run.experiment.seed)[:, ::every]
    from_nothing = sheet(sampled, sampled.shape[1], low, high)
    image += page.figure(
        page.png_uri(pixels_png(from_nothing)), "Sequences sampled from the model.", "Sampled sequences", "pixels wide"
    )
    return [(image, {"futures": pixels_png(pixels, 1000), "sequences": pixels_png(from_nothing, 1000)})]


def sheet(frames: np.ndarray, columns: int, low: float, high: float) -> np.ndarray:
    """Pixels of frames [..., h, w, c] in rows of `columns`, on gray: else a frame that is white at its edge would not end."""
    pixels = tiles(coarse(frames.reshape(-1, *frames.shape[-3:]), SHARPEST), columns, low, high)
    pixels[pixels[..., 3] == 0] = (*(int(drawing.GRAY[i : i + 2], 16) for i in (1, 3, 5)), 255)
    return pixels


def _curves(x: np.ndarray, futures: np.ndarray, prefix: int) -> list[Block]:
    """The first number of each frame over time."""
    blocks = []
    flat, ahead = x.reshape(*x.shape[:2], -1)[..., 0], futures.reshape(*futures.shape[:3], -1)[..., 0]
    steps = np.arange(1.0, x.shape[1] + 1)
    for i, (one, several) in enumerate(zip(flat, ahead)):
        series = [charts.Series("", steps[prefix:], future, drawing.ORANGE, width=1.0) for future in several]
        series = [*series, charts.Series("truth", steps, one, drawing.BLUE)]
        drawn = charts.panel(f"test sequence {i + 1}", f"and {FUTURES} futures", series, "step", (prefix, "prefix"))
        image = page.figure(page.svg_uri(drawing.svg(drawn)), "", f"Futures of test sequence {i + 1}")
        blocks.append((image, {f"futures-{i + 1}": drawing.png(drawn)}))
    return blocks


def _errors(result: Result) -> list[Block]:
    if "rollout_mse" not in result:
        return []
    lines = [
        ("one rollout", "rollout_mse", drawing.BLUE),
        (f"mean of {AVERAGED}", "mean_rollout_mse", drawing.GREEN),
        ("last frame\nrepeated", "last_frame_mse", drawing.GRAY),
    ]
    series = [charts.Series(label, result["steps"], _numbers(result[key]), color) for label, key, color in lines]
    drawn = charts.panel("error of the future", "MSE per dimension", series, f"steps after frame {result['prefix']}")
    html, pngs = page.figure(page.svg_uri(drawing.svg(drawn)), "", "Error of the future by step"), {}
    pngs["future-errors"] = drawing.png(drawn)
    if result["probes"]:
        html += page.number_table(_state_table(result))
    return [(html, pngs)]


def _numbers(values: list[float | None]) -> list[float]:

    return [float("nan") if value is None else value for value in values]


PART = Part(
    "sequences",
    lambda context: context.model.sequence is not None and context.model.sequence.rollout is not None,
    compute,
    tables,
    numbers,
    section,
)
