"""A sparse dictionary on a run's page: its units with the examples that activate them most, and matched true features."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from aejax.data import evaluated_part, has_data, is_image, take
from aejax.evaluation.matching import cosines
from aejax.evaluation.units import top_examples
from aejax.figures import charts, drawing, page
from aejax.figures.examples import Block, data_range
from aejax.figures.pixels import coarse, pixels_png, signed, tiles
from aejax.runs.run import Run
from aejax.types import Dataset

UNITS, EXAMPLES, NEAREST = 16, 8, 2
"""Numbers of units on the page, evenly spaced by how often they are active, of examples of each, and of its neighbors."""

NAMED = 4
"""Number of examples that are no images, and are therefore named, for each unit."""

SHARPEST = 64


def matched_features(truth: Mapping[str, Any]) -> Block:
    """The cosines of matched units and features against how often the features are active."""
    drawn = charts.dots(
        "matched features",
        "cosine of a unit and its feature",
        np.asarray(truth["rates"]),
        np.asarray(truth["cosines"]),
        "share of examples that have the feature",
    )
    image = page.figure(page.svg_uri(drawing.svg(drawn)), "", "Cosine against how often the feature is active")
    return page.paragraph(escape(_of_truth(truth))) + page.panels([image]), {"matched-features": drawing.png(drawn)}


def _of_truth(truth: Mapping[str, Any]) -> str:
    matching = (
        "Units and features are matched one to one." if "mcc" in truth else "Each unit has its most similar feature."
    )
    return (
        f"An example has {truth['active_features']:.3g} true features on average, over {truth['examples']} examples. {matching} "
        "F1 is that of a unit as a detector of the feature most similar to it, its mean over units."
    )


def units_table(run: Run, evaluation: Mapping[str, Any]) -> str:
    """A row for each of some units."""
    test, sparse = evaluated_part(run.experiment.test), run.experiment.model.sparse
    assert sparse is not None  # the run of a dictionary
    assert sparse.directions is not None
    if not has_data(test):
        return ""
    rates = np.mean(run.apply("active", test), axis=0)
    alive = np.flatnonzero(rates)
    if not len(alive):
        return ""
    by_rate = alive[np.argsort(-rates[alive], kind="stable")]
    shown = by_rate[np.unique(np.linspace(0, len(by_rate) - 1, min(UNITS, len(by_rate))).astype(int))]
    directions = np.asarray(sparse.directions(run.state.params))
    alike = cosines(directions[shown], directions)
    alike[np.arange(len(shown)), shown] = -1
    top = top_examples(run, test, shown, EXAMPLES)
    truth = None if test.truth is None or test.target is not None else cosines(directions[shown], test.truth.directions)
    rows = []
    for i, unit in enumerate(shown):
        near = np.argsort(-alike[i], kind="stable")[: min(NEAREST, alike.shape[1] - 1)]
        rows.append(
            [
                f"{unit}",
                f"{100 * rates[unit]:.3g} %",
                f"{top.values[i, 0]:.3g}",
                _direction(directions[unit], test),
                _examples(test, top.positions[i][top.values[i] > 0], top.values[i]),
                "<br>".join(f"{j} ({alike[i, j]:.2f})" for j in near),
                *([] if truth is None else [f"{truth[i].argmax()} ({truth[i].max():.2f})"]),
            ]
        )
    head = ["unit", "active", "most", "direction", "examples that activate it most", "nearest (cosine)"]
    head += [] if truth is None else ["feature (cosine)"]
    text = (
        f"{len(shown)} of {len(alive)} units that any example activates, evenly spaced by how often they are active, of "
        f"{evaluation['data']}."
    )
    return page.paragraph(escape(text)) + page.table("Units", head, rows, numeric=[True, True, True])


def _direction(row: np.ndarray, test: Dataset) -> str:
    """What a unit adds to the reconstruction, as an image or a row of shades; gray is zero."""
    shape = test.shape if test.target is None else test.target
    if is_image(shape):
        pixels = tiles(coarse(signed(row.reshape(1, *shape)), SHARPEST), 1, 0.0, 1.0)
        return _image(pixels, "direction", 40)
    pixels = tiles(np.repeat(signed(row.reshape(1, 1, -1, 1)), 12, axis=1), 1, 0.0, 1.0)
    return _image(pixels, "direction", 140)


def _examples(test: Dataset, positions: np.ndarray, values: np.ndarray) -> str:
    if not len(positions):
        return ""
    batch = take(test, positions)
    if is_image(test.shape):
        x = batch["x"]
        return _image(tiles(coarse(x, SHARPEST), len(x), *data_range(x)), "examples", 40 * len(x))
    names = [f"{position}" for position in positions[:NAMED]]
    if test.classes is not None and "label" in batch:
        names = [f"{name} {test.classes[label]}" for name, label in zip(names, batch["label"])]
    return escape(", ".join(f"{name}: {value:.3g}" for name, value in zip(names, values)))


def _image(pixels: np.ndarray, alt: str, width: int) -> str:
    return (
        f'<img src="{page.png_uri(pixels_png(pixels))}" alt="{alt}" style="width:{width}px;image-rendering:pixelated">'
    )
