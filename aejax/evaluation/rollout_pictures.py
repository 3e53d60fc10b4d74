"""The section of a page about a model of sequences: its rollouts as strips, animations and numbers."""

from __future__ import annotations

import base64

import numpy as np

from aejax.data import has_data, is_image, subset, take
from aejax.evaluation.part import Result, without_data
from aejax.evaluation.rollouts import AVERAGED, state_table
from aejax.evaluation.traversals import animation
from aejax.figures import charts, drawing, page
from aejax.figures.examples import Block, data_range
from aejax.figures.pixels import coarse, pixels_png, tiles
from aejax.runs.run import Run

SHOWN, FUTURES = 4, 3
"""Number of test sequences that are continued on the page, and of continuations of each."""

SAMPLES = 8
"""Number of sequences sampled from the model without a prefix."""

SHARPEST = 32
"""Largest side in pixels; larger frames are subsampled."""

STEPS_SHOWN = 24
"""Number of frames in a strip; longer sequences are subsampled."""

MOVING = 64
"""Minimum width of a frame of an animation in pixels."""


def sequences_section(run: Run, result: Result) -> page.Section:
    """Continuations from the first half of test sequences, sampled sequences, and errors by step."""
    test = run.experiment.test
    if not has_data(test):
        return page.Section("Sequences", without_data(run))
    t = test.shape[0]
    prefix, some = max(1, t // 2), subset(test, np.arange(min(SHOWN, test.size)))
    x = take(some, np.arange(some.size))["x"]
    futures = run.rollout(subset(some, np.repeat(np.arange(some.size), FUTURES)), [1] * max(1, t - prefix), prefix)
    futures = futures.reshape(some.size, FUTURES, -1, *test.shape[1:])
    blocks: list[str] = []
    pngs: dict[str, bytes] = {}
    for html, more in [*_drawn(run, x, futures, prefix), *_errors(result)]:
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
        f"Each group shows a test sequence and {FUTURES} sampled futures after its first {prefix} frames"
        + (f", every {every}th frame" if every > 1 else "")
        + ". These are the first sequences of the test split."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Futures", "pixels wide")
    moving = [sheet(rows[:, :, i], 1 + FUTURES, low, high) for i in range(t)]
    factor = max(1, round(MOVING / x.shape[3]))
    gif = animation([frame.repeat(factor, axis=0).repeat(factor, axis=1) for frame in moving])
    uri = "data:image/gif;base64," + base64.b64encode(gif).decode()
    caption = f"The same as animations: left, the test sequence; right of it, its futures, from frame {prefix + 1} on."
    image += page.folded("Futures in motion", page.figure(uri, caption, "Animated futures", "pixels"))
    sampled = run.sample(SAMPLES, run.experiment.seed)[:, ::every]
    from_nothing = sheet(sampled, sampled.shape[1], low, high)
    image += page.figure(
        page.png_uri(pixels_png(from_nothing)), "Sequences sampled from the model.", "Sampled sequences", "pixels wide"
    )
    return [(image, {"futures": pixels_png(pixels, 1000), "sequences": pixels_png(from_nothing, 1000)})]


def sheet(frames: np.ndarray, columns: int, low: float, high: float) -> np.ndarray:
    """Frames [..., h, w, c] in rows of `columns`, as pixels on gray, so that frames with white edges have a visible border."""
    pixels = tiles(coarse(frames.reshape(-1, *frames.shape[-3:]), SHARPEST), columns, low, high)
    pixels[pixels[..., 3] == 0] = (*(int(drawing.GRAY[i : i + 2], 16) for i in (1, 3, 5)), 255)
    return pixels


def _curves(x: np.ndarray, futures: np.ndarray, prefix: int) -> list[Block]:
    """The first component of each frame over time."""
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
        html += page.number_table(state_table(result))
    return [(html, pngs)]


def _numbers(values: list[float | None]) -> list[float]:

    return [float("nan") if value is None else value for value in values]
