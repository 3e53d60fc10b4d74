"""The part of a page about a model of sequences: how it goes on from what it has seen, as strips, in motion, in numbers."""

from __future__ import annotations

import base64

import numpy as np

from aejax.data import chosen, has_data, take
from aejax.evaluation.sequences import FUTURES as PREDICTED
from aejax.reports import drawing, figures, page
from aejax.reports.page import Column, Section
from aejax.reports.pictures import Block, data_range, is_image, without_data
from aejax.reports.pixels import coarse, pixels_png, tiles
from aejax.reports.records import Record
from aejax.reports.traversals import animation

SHOWN, FUTURES = 4, 3
"""Test sequences that are gone on from, and the futures of each."""

SAMPLES = 8
"""Sequences from nothing."""

SHARPEST = 32
"""Pixels: larger frames are shown at every so many pixels."""

STEPS_SHOWN = 24
"""Frames in a strip: of longer sequences every so many."""

MOVING = 64
"""Pixels that a frame of an animation is wide, at least."""


def sequences_section(record: Record) -> Section | None:
    """Futures from the first half of test sequences, sequences from nothing, and errors by step."""
    run, test = record.run, record.run.experiment.test
    if run.experiment.model.rollout is None:
        return None
    if not has_data(test):
        return Section("Sequences", page.paragraph(without_data(record)))
    t = test.shape[0]
    seen, some = max(1, t // 2), chosen(test, np.arange(min(SHOWN, test.size)))
    x = take(some, np.arange(some.size))["x"]
    futures = run.rollout(chosen(some, np.repeat(np.arange(some.size), FUTURES)), [1] * max(1, t - seen), seen)
    futures = futures.reshape(some.size, FUTURES, -1, *test.shape[1:])
    blocks: list[str] = []
    pngs: dict[str, bytes] = {}
    for html, more in [*_drawn(record, x, futures, seen), *_errors(record)]:
        blocks.append(html)
        pngs |= more
    return Section("Sequences", page.columns(blocks), pngs)


def _drawn(record: Record, x: np.ndarray, futures: np.ndarray, seen: int) -> list[Block]:
    if not is_image(x.shape[2:]):
        return _curves(x, futures, seen)
    low, high = data_range(x)
    t = x.shape[1]
    every = -(-t // STEPS_SHOWN)
    known = np.broadcast_to(x[:, None, :seen], (len(x), FUTURES, *x[:, :seen].shape[1:]))
    rows = np.concatenate(
        [x[:, None], np.concatenate([known, futures], axis=2)], axis=1
    )  # [n, 1 + FUTURES, t, h, w, c]
    shown = rows[:, :, ::every]
    pixels = sheet(shown, shown.shape[2], low, high)
    caption = (
        f"In fours: a test sequence, and {FUTURES} futures after its first {seen} frames"
        + (f"; every {every}th frame" if every > 1 else "")
        + ". The first sequences, none picked."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Futures", "pixels wide")
    moving = [sheet(rows[:, :, i], 1 + FUTURES, low, high) for i in range(t)]
    factor = max(1, round(MOVING / x.shape[3]))
    gif = animation([frame.repeat(factor, axis=0).repeat(factor, axis=1) for frame in moving])
    uri = "data:image/gif;base64," + base64.b64encode(gif).decode()
    told = f"The same in motion: the test sequence at the left, its futures beside it, from frame {seen + 1} on."
    image += page.folded("Futures in motion", page.figure(uri, told, "Animated futures", "pixels"))
    sampled = record.run.sample(SAMPLES, record.run.experiment.seed)[:, ::every]
    from_nothing = sheet(sampled, sampled.shape[1], low, high)
    image += page.figure(
        page.png_uri(pixels_png(from_nothing)), "Sequences from nothing.", "Sampled sequences", "pixels wide"
    )
    return [(image, {"futures": pixels_png(pixels, 1000), "sequences": pixels_png(from_nothing, 1000)})]


def sheet(frames: np.ndarray, columns: int, low: float, high: float) -> np.ndarray:
    """Pixels of frames [..., h, w, c] in rows of `columns`, on gray: else a frame that is white at its edge would not end."""
    pixels = tiles(coarse(frames.reshape(-1, *frames.shape[-3:]), SHARPEST), columns, low, high)
    pixels[pixels[..., 3] == 0] = (*(int(drawing.GRAY[i : i + 2], 16) for i in (1, 3, 5)), 255)
    return pixels


def _curves(x: np.ndarray, futures: np.ndarray, seen: int) -> list[Block]:
    """The first number of each frame over time."""
    blocks = []
    flat, ahead = x.reshape(*x.shape[:2], -1)[..., 0], futures.reshape(*futures.shape[:3], -1)[..., 0]
    steps = np.arange(1.0, x.shape[1] + 1)
    for i, (one, several) in enumerate(zip(flat, ahead)):
        series = [figures.Series("", steps[seen:], future, drawing.ORANGE, width=1.0) for future in several]
        series = [*series, figures.Series("truth", steps, one, drawing.BLUE)]
        drawn = figures.panel(f"test sequence {i + 1}", f"and {FUTURES} futures", series, "step", (seen, "seen"))
        image = page.figure(page.svg_uri(drawing.svg(drawn)), "", f"Futures of test sequence {i + 1}")
        blocks.append((image, {f"futures-{i + 1}": drawing.png(drawn)}))
    return blocks


def _errors(record: Record) -> list[Block]:
    found = record.sequences
    if found is None or "one" not in found:
        return []
    lines = [
        ("one future", "one", drawing.BLUE),
        (f"mean of {PREDICTED}", "mean", drawing.GREEN),
        ("held", "held", drawing.GRAY),
    ]
    series = [figures.Series(label, found["steps"], _numbers(found[key]), color) for label, key, color in lines]
    drawn = figures.panel("error of the future", "MSE per dimension", series, f"steps after frame {found['seen']}")
    html, pngs = page.figure(page.svg_uri(drawing.svg(drawn)), "", "Error of the future by step"), {}
    pngs["future-errors"] = drawing.png(drawn)
    if found["probes"]:
        told = {"states": "the model's states", "frames": "frames"}
        columns = [Column(name, "R²", [r2[of] for of in told], "high", 3) for name, r2 in found["probes"].items()]
        html += page.number_table("True states, by a linear map from", list(told.values()), columns)
    return [(html, pngs)]


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
