"""The Jacobian of the encoder at test examples: the mean spectrum of its singular values, and local charts on the page
(Rifai et al. 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.data import has_data, is_image, take
from aejax.evaluation.baselines import LINEAR_DIMENSIONS, evenly_spaced
from aejax.evaluation.jacobian import LARGE, charts, spectrum
from aejax.evaluation.part import Context, Part, Result
from aejax.figures.examples import Block, data_range, some_of_each_class
from aejax.figures.tables import Column, Number, Table
from aejax.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.figures.charts import Series

JACOBIAN_EXAMPLES, JACOBIAN_WORK = 100, 10**10
"""Number of examples, evenly spaced, whose Jacobian is decomposed if that takes at most this many multiplications (some
seconds); fewer for a wide encoder, and none if eight would take more."""

CHARTS, DIRECTIONS = 6, 6
"""Number of examples with charts, and of directions in each."""

DRAWN_DOWN_TO = 1e-3
"""Smallest value drawn, relative to the largest singular value: otherwise the scale of a rank-deficient matrix would extend to
its rounding errors."""


def compute(context: Context) -> Result | None:
    """The mean spectrum; None if the encoder is too wide or not finite."""
    return jacobian(context.run, context.codes, context.test)


def jacobian(run: Run, codes: np.ndarray | None, test: Any) -> Result | None:
    assert codes is not None  # `_applies`
    d, width = math.prod(test.shape), codes.shape[1]
    affordable = JACOBIAN_WORK // (d * width * min(d, width))
    if affordable < 8:
        return None
    x = take(test, evenly_spaced(test.size, min(JACOBIAN_EXAMPLES, affordable)))["x"]
    try:
        values = spectrum(encoder_of(run), x)
    except np.linalg.LinAlgError:  # for a run that diverged
        return None
    if not np.isfinite(values).all():
        return None
    return {
        "examples": len(x),
        "squared_norm": float(np.mean(np.sum(np.square(values), axis=1))),
        "large_values": float(np.mean(np.sum(values > LARGE * values[:, :1], axis=1))),
        "singular_values": values.mean(axis=0).tolist(),
    }


def encoder_of(run: Run) -> Callable[[Any], Any]:
    """The run's encoder as a function of x [b, *shape]."""
    encode = run.function("encode")
    return lambda x: encode({"x": x, "index": np.arange(len(x), dtype=np.int32)})


def _applies(context: Context) -> bool:
    """Whether codes are vectors and functions of x only."""
    small = math.prod(context.test.shape) <= LINEAR_DIMENSIONS
    return context.codes is not None and context.codes.ndim == 2 and small and context.model.data.condition is None


def tables(result: Result) -> Sequence[Table]:
    columns = [
        Column("‖J‖²", "", [result["squared_norm"]]),
        Column("large values", f"above {100 * LARGE:.0f} % of the first", [result["large_values"]]),
        Column("singular values", "", [len(result["singular_values"])], None, 0),
    ]
    return [Table("Jacobian of the encoder", ["test"], columns)]


def numbers(result: Result) -> Sequence[Number]:
    return [
        Number("‖J‖²", "of the encoder", result["squared_norm"]),
        Number("large values", f"of J, above {100 * LARGE:.0f} % of the first", result["large_values"]),
    ]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    """The mean spectrum, and the directions to which the codes of a few examples are most sensitive."""
    from aejax.figures import drawing, page
    from aejax.figures.charts import Series

    result = evaluation["jacobian"]
    values = result["singular_values"]
    drawn = spectrum_panel([Series("", *ranked(values), drawing.BLUE)])
    images, pngs = [page.figure(page.svg_uri(drawing.svg(drawn)), "", "Spectrum of the Jacobian")], {}
    if chart := charts_block(run, len(values)):
        images.append(chart[0])
        pngs = chart[1]
    text = (
        f"Mean over {result['examples']} examples of {evaluation['data']} of the sorted singular values: "
        f"{result['large_values']:.3g} of {len(values)} are above {100 * LARGE:.0f} % of the largest. "
        f"The squared norm, their sum of squares, is {result['squared_norm']:.3g}."
    )
    html = page.paragraph(escape(text)) + page.panels(images)
    return page.Section("Jacobian of the encoder", html, {"jacobian-spectrum": drawing.png(drawn), **pngs})


def spectrum_panel(series: Sequence[Series]) -> Figure:
    from aejax.figures.charts import panel

    return panel("singular values", "change of the code per change of the input", series, "rank")


def ranked(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(1, 2, …; the values), without those too small to draw."""
    y = np.asarray(values, float)
    return np.arange(1.0, len(y) + 1), np.where(y > DRAWN_DOWN_TO * y[0], y, math.nan)


def charts_block(run: Run, rank: int) -> Block | None:
    """A row for each of a few test images: the image, and the leading right singular vectors of the Jacobian there."""
    from aejax.figures import page
    from aejax.figures.pixels import pixels_png, signed, tiles

    test = run.experiment.test
    if not is_image(test.shape) or not has_data(test):
        return None
    chosen = some_of_each_class(test)[0][:CHARTS]
    x, shown = take(test, chosen)["x"], min(DIRECTIONS, rank)
    try:
        vectors = charts(encoder_of(run), x, shown)
    except np.linalg.LinAlgError:  # another checkpoint was evaluated, and this one diverged
        return None
    low, high = data_range(x)
    rows = [np.concatenate([(image[None] - low) / ((high - low) or 1.0), signed(v)]) for image, v in zip(x, vectors)]
    pixels = tiles(np.concatenate(rows), 1 + shown, 0.0, 1.0)
    caption = (
        f"Left: a test image. Right: the {shown} input directions along which its code changes most (right singular vectors of "
        "the encoder's Jacobian), largest first. Each is scaled separately, gray is zero, and its sign has no meaning."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Local charts of the encoder", "pixels wide")
    return image, {"charts": pixels_png(pixels, 1000)}


PART = Part("jacobian", _applies, compute, tables, numbers, section)
