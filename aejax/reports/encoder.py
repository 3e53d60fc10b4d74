"""The parts of a page about the encoder itself: how often its units are active, and its Jacobian (Rifai et al. 2011)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from aejax.data import has_data, take
from aejax.evaluation import LARGE, encoder_of
from aejax.evaluation.jacobian import charts
from aejax.reports import drawing, figures, page
from aejax.reports.page import Section
from aejax.reports.pictures import Block, data_range, is_image, some_of_each_class
from aejax.reports.pixels import pixels_png, signed, tiles
from aejax.reports.records import Record

CHARTS, DIRECTIONS = 6, 6
"""Examples whose charts are drawn, and directions of each."""

DRAWN_DOWN_TO = 1e-3
"""Of the largest singular value: a scale that went down to the rounding errors of a matrix without full rank would show
little else."""


def activity_section(record: Record) -> Section | None:
    """How often the units of a sparse code are active."""
    found = record.activity
    if found is None or record.evaluation is None:
        return None
    dead, *often = found["histogram"]["units"]
    percents = [100 * edge for edge in found["histogram"]["edges"]]
    drawn = figures.histogram(
        "activity", "units", ("dead", dead), percents, often, "% of the examples activate the unit"
    )
    units, active = found["units"], found["active_units"]
    told = (
        f"Of {units} units an example of {record.evaluation['data']} activates {active:.3g} on average "
        f"({100 * active / units:.1f} %). No example activates {found['dead_units']:.0f} of them, the dead ones."
    )
    image = page.figure(page.svg_uri(drawing.svg(drawn)), "", "Histogram: how often units are active")
    html = page.paragraph(escape(told)) + page.panels([image])
    return Section("Activity of the units", html, {"activity": drawing.png(drawn)})


def jacobian_section(record: Record) -> Section | None:
    """The mean spectrum of the encoder's Jacobian, and the directions to which the code of a few examples is most sensitive."""
    found = record.jacobian
    if found is None or record.evaluation is None:
        return None
    values = found["singular_values"]
    drawn = spectrum_panel([figures.Series("", *ranked(values), drawing.BLUE)])
    images, pngs = [page.figure(page.svg_uri(drawing.svg(drawn)), "", "Spectrum of the Jacobian")], {}
    if chart := charts_block(record, len(values)):
        images.append(chart[0])
        pngs = chart[1]
    told = (
        f"Mean over {found['examples']} examples of {record.evaluation['data']} of the sorted singular values: "
        f"{found['large_values']:.3g} of {len(values)} are above {100 * LARGE:.0f} % of the largest. "
        f"The squared norm, their sum of squares, is {found['squared_norm']:.3g}."
    )
    html = page.paragraph(escape(told)) + page.panels(images)
    return Section("Jacobian of the encoder", html, {"jacobian-spectrum": drawing.png(drawn), **pngs})


def spectrum_panel(series: Sequence[figures.Series]) -> Figure:
    return figures.panel("singular values", "change of the code per change of the input", series, "rank")


def ranked(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(1, 2, …; the values), without those that are too small to be drawn."""
    y = np.asarray(values, float)
    return np.arange(1.0, len(y) + 1), np.where(y > DRAWN_DOWN_TO * y[0], y, math.nan)


def charts_block(record: Record, rank: int) -> Block | None:
    """A row for each of a few test images: the image, and the leading right singular vectors of the Jacobian there."""
    run, test = record.run, record.run.experiment.test
    if not is_image(test.shape) or not has_data(test):
        return None
    chosen = some_of_each_class(test)[0][:CHARTS]
    x, shown = take(test, chosen)["x"], min(DIRECTIONS, rank)
    try:
        vectors = charts(encoder_of(run), x, shown)
    except np.linalg.LinAlgError:  # the checkpoint that was judged was another, and this one has diverged
        return None
    low, high = data_range(x)
    rows = [np.concatenate([(image[None] - low) / ((high - low) or 1.0), signed(v)]) for image, v in zip(x, vectors)]
    pixels = tiles(np.concatenate(rows), 1 + shown, 0.0, 1.0)
    caption = (
        f"Local charts: at the left a test image, then the {shown} directions in which its code changes most, the first "
        "most of all. Each is scaled by itself, gray is zero; which of its signs is white means nothing."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Local charts of the encoder", "pixels wide")
    return image, {"charts": pixels_png(pixels, 1000)}
