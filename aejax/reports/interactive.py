"""The parts of a page that move: the map of codes with its images, and sliders along the dimensions of a code."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aejax.data import has_data, is_image, subset, take
from aejax.figures import drawing, page
from aejax.figures.examples import data_range
from aejax.figures.page import Section
from aejax.figures.pixels import coarse, pixels_png, tiles
from aejax.runs.run import Run
from aejax.types import Dataset

COLUMNS = 25
SHARPEST = 32
"""Largest side of an image of the map in pixels; larger images are subsampled."""
DIMENSIONS = 8
"""Number of sliders, for the dimensions that vary most."""
STEPS = 11
"""Positions of a slider."""
MOST_DIMENSIONS = 4096
"""Codes with more components have no sliders."""


def map_with_images(figure: Figure, plane: np.ndarray, some: Dataset, labels: np.ndarray | None, caption: str) -> str:
    """A scatter plot of codes [n, 2] as HTML, whose points show their images where the browser runs the page's script."""
    picture = page.svg_uri(drawing.svg(figure))
    if not is_image(some.shape):
        return page.figure(picture, caption, "Map of the codes")
    images = take(some, np.arange(some.size))["x"]
    sheet = tiles(coarse(images, SHARPEST), COLUMNS, *data_range(images), gap=0)
    names = None if labels is None or some.classes is None else [str(some.classes[i]) for i in labels]
    at = positions(figure, plane)
    data = {
        "points": [[round(float(x), 4), round(float(y), 4)] for x, y in at],
        "labels": names,
        "columns": COLUMNS,
        "ratio": some.shape[0] / some.shape[1],
        "sheet": page.png_uri(pixels_png(sheet)),
    }
    image = (
        '<div class="plane" tabindex="0" role="application" aria-label="Map of the codes. Arrow keys move to the next code.">'
        f'<img src="{picture}" alt="Map of the codes" draggable="false"></div>'
    )
    hint = f"{caption} Point at a code, drag a rectangle, or use the arrow keys to see the images of codes."
    return (
        f'<figure class="explore">{image}<div class="chosen"></div><p class="said note" aria-live="polite"></p>'
        f"<figcaption>{hint}</figcaption>{_data(data)}</figure>"
    )


def positions(figure: Figure, plane: np.ndarray) -> np.ndarray:
    """Where points of the figure's only axes lie in its picture, as fractions of width and height from the upper left."""
    width, height = figure.get_size_inches() * figure.dpi
    at = figure.axes[0].transData.transform(plane) / (width, height)
    return np.stack([at[:, 0], 1.0 - at[:, 1]], axis=1)


def sliders_section(run: Run) -> Section | None:
    """Sliders that move one dimension of the code of a test example, through decoded images that the page holds."""
    test, model = run.experiment.test, run.experiment.model
    if model.encode is None or model.decode is None or not is_image(test.shape) or not has_data(test):
        return None
    codes = np.asarray(run.encode(subset(test, np.arange(min(test.size, 500)))))
    if (
        codes.ndim != 2
        or codes.shape[1] > MOST_DIMENSIONS
        or not np.isfinite(codes).all()
        or model.discrete is not None
    ):
        return None
    chosen = np.argsort(-codes.var(axis=0), kind="stable")[: min(DIMENSIONS, codes.shape[1])]
    chosen = np.sort(chosen[codes.var(axis=0)[chosen] > 0])
    if not len(chosen):
        return None
    base = codes[0]
    low, high = np.quantile(codes[:, chosen], (0.02, 0.98), axis=0)
    moved, start, values = [], [], []
    for dimension, least, most in zip(chosen, low, high):
        along = np.linspace(least, most, STEPS)
        start.append(int(np.argmin(np.abs(along - base[dimension]))))
        along[start[-1]] = base[dimension]  # one position is the example's own code
        values.append([f"{value:.2f}" for value in along])
        rows = np.repeat(base[None], STEPS, axis=0)
        rows[:, dimension] = along
        moved.append(rows)
    images = run.decode(np.concatenate(moved).astype(np.float32), subset(test, np.zeros(len(chosen) * STEPS, int)))
    example = take(test, np.arange(1))["x"]
    sheet = tiles(coarse(images, 64), STEPS, *data_range(example), gap=0)
    sliders = "".join(
        f'<label><span>dimension {dimension}</span><input type="range" min="0" max="{STEPS - 1}" value="{at}" '
        f'aria-label="dimension {dimension} of the code"><output></output></label>'
        for dimension, at in zip(chosen, start)
    )
    which = (
        f"The {len(chosen)} of {codes.shape[1]} dimensions that vary most"
        if len(chosen) < codes.shape[1]
        else "Each dimension"
    )
    caption = (
        f"{which} of the code of the first test example, from the 2 % to the 98 % quantile over test codes. A slider moves its "
        "dimension; the others stay at the example's."
    )
    data = {
        "start": start,
        "columns": STEPS,
        "ratio": test.shape[0] / test.shape[1],
        "values": values,
        "sheet": page.png_uri(pixels_png(sheet)),
    }
    html = (
        f'<div class="sliders" hidden><div class="decoded" role="img" aria-label="The decoded code"></div>'
        f"<div>{sliders}</div>{_data(data)}</div>" + page.paragraph(escape(caption), "caption")
    )
    return Section("Moving through the code", html)


def _data(values: Any) -> str:
    """Numbers for the page's script; it is text to the browser, whatever is in it."""
    return f'<script type="application/json">{json.dumps(values).replace("<", chr(92) + "u003c")}</script>'
