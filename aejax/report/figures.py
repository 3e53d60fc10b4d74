"""The report's figures, as functions of arrays: matplotlib through its object API, SVG for the page and PNG beside it.

Sizes are in CSS pixels. Every colour has a partner for dark pages, which the SVG chooses by `prefers-color-scheme`.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

INK, MUTED, LINE, PAPER = "#1c1e21", "#6a7078", "#e3e6ea", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#00896b", "#a8558f", "#8a9099"  # after Okabe & Ito
CLASSES = ("#332288", "#cc6677", "#117733", "#999933", "#882255", "#44aa99", "#aa4499", "#6699cc", "#c59c2e", "#777777")
"""After Tol's muted scheme, which stays distinguishable with the common colour deficiencies."""

_DARK = {
    INK: "#e6e8ea",
    MUTED: "#9aa1a9",
    LINE: "#2f343a",
    PAPER: "#15181b",
    BLUE: "#56b4e9",
    ORANGE: "#f0904d",
    GREEN: "#3cc49f",
    PURPLE: "#d795c0",
    GREY: "#848b94",
    **dict(
        zip(
            CLASSES,
            "#8f8ae6 #e58a99 #4cae6b #c4c45c #cf6a96 #6fd0c0 #cf7fc6 #88bbee #e3c067 #a5a5a5".split(),
        )
    ),
}

PANEL = 300, 214
MAP = 440, 420
LABEL_CHARACTERS = 22
_LABEL_PITCH = 12.5  # pixels from line to line
_CHARACTER = 5.7  # pixels, at the labels' size of 10
_POINTS = 400


class Series(NamedTuple):
    """One line of a panel, labelled at its right end. y may hold NaN where there is no value."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = BLUE
    dashed: bool = False
    width: float = 1.6


@contextmanager
def style() -> Iterator[None]:
    """Within, matplotlib has its defaults whatever the user's matplotlibrc says, and takes a $ for a $."""
    ours = {"svg.fonttype": "none", "svg.hashsalt": "aejax", "text.parse_math": False, "axes.unicode_minus": True}
    with matplotlib.style.context(["default", ours]):
        yield


def panel(
    title: str, unit: str, series: Sequence[Series], x_label: str, mark: tuple[float, str] | None = None
) -> Figure:
    """Lines over x, each with its name at its end. `mark` is a place on x with a word.

    The scale is logarithmic where the values are positive and span more than a factor 20.
    """
    width, height = PANEL
    labels = [shorten(s.label) for s in series]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    figure = _figure(PANEL)
    right = min(150.0, 14 + _CHARACTER * longest)
    left, bottom, top = 44.0, 38.0, 44.0
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    figure.text(2 / width, 1 - 14 / height, title, fontsize=11.5, fontweight="bold", color=INK)
    figure.text(2 / width, 1 - 28 / height, unit, fontsize=10, color=MUTED)
    if mark is not None:
        axes.axvline(mark[0], color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            mark[1],
            (mark[0], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=9,
            color=MUTED,
            ha="center",
        )

    drawn = []
    for label, s in zip(labels, series):
        x, y = _thinned(np.asarray(s.x, float), np.asarray(s.y, float))
        if np.isfinite(y).any():
            few = len(x) <= 12
            axes.plot(
                x,
                y,
                color=s.colour,
                linewidth=s.width,
                linestyle=(0, (4, 2)) if s.dashed else "-",
                marker="o" if few else None,
                markersize=3.2,
                solid_capstyle="round",
                clip_on=False,
                zorder=3,
            )
            drawn.append((label, s.colour, float(y[np.isfinite(y)][-1])))
    values = np.concatenate([np.asarray(s.y, float) for s in series]) if series else np.zeros(0)
    _scale(axes, values[np.isfinite(values)])
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _grouped(v)))
    axes.set_xlabel(x_label, fontsize=10, color=MUTED, labelpad=3)
    _label_ends(axes, drawn, height - bottom - top)
    return figure


def _plain_axes(axes: Axes) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, labelsize=10, labelcolor=MUTED, pad=4)
    axes.tick_params(axis="x", length=3, color=MUTED)


def _scale(axes: Axes, values: np.ndarray) -> None:
    """Chosen from the values; a log scale that spans less than two decades has ticks at 1, 2 and 5."""
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        wide = values.max() > 100 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _grouped(v)))


def _grouped(value: float) -> str:
    """Six digits at most; thousands set apart by a thin space."""
    if abs(value) >= 1000 and value == round(value):
        return f"{value:,.0f}".replace(",", "\u2009").replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def _label_ends(axes: Axes, ends: Sequence[tuple[str, str, float]], pixels: float) -> None:
    """Labels to the right of the axes, each as near to its line's end as the others allow."""
    (left, _), _ = axes.get_xlim(), axes.get_ylim()  # settles the limits, on which transData depends
    to_pixels = axes.transData + axes.transAxes.inverted()
    wanted = sorted((pixels * float(to_pixels.transform((left, y))[1]), label, colour) for label, colour, y in ends)
    heights = [_LABEL_PITCH * (label.count("\n") + 1) for _, label, _ in wanted]
    for place, (_, label, colour) in zip(spread([w[0] for w in wanted], heights, pixels), wanted):
        axes.annotate(
            label,
            (1, place / pixels),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            fontsize=10,
            color=colour,
            va="center",
            annotation_clip=False,
            linespacing=1.1,
        )


def spread(wanted: Sequence[float], heights: Sequence[float], limit: float) -> list[float]:
    """Centres near the wanted ones (ascending) such that boxes of these heights do not overlap; within [0, limit] if they fit."""
    if not wanted:
        return []
    low = [h / 2 for h in heights]
    placed: list[float] = []
    for i, want in enumerate(wanted):  # upwards
        floor = 0.0 if i == 0 else placed[-1] + low[i - 1]
        placed.append(max(want, floor + low[i]))
    ceiling = max(limit, sum(heights))
    for i in reversed(range(len(placed))):  # and back down from the ceiling
        placed[i] = min(placed[i], ceiling - low[i])
        ceiling = placed[i] - low[i]
    return placed


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours, so that a long run's curve stays a small file."""
    group = math.ceil(len(x) / _POINTS)
    if group <= 1:
        return x, y
    edges = np.arange(0, len(x), group)
    counts = np.diff(np.append(edges, len(x)))
    return np.add.reduceat(x, edges) / counts, np.add.reduceat(y, edges) / counts


def code_map(points: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None, axes_named: bool) -> Figure:
    """Points [n, 2] coloured by their labels [n], each class's name at its median."""
    width, height = MAP
    figure = _figure(MAP)
    margin = (40, 36, 8, 8) if axes_named else (6, 6, 6, 6)  # left, bottom, right, top
    axes = figure.add_axes(
        (
            margin[0] / width,
            margin[1] / height,
            1 - (margin[0] + margin[2]) / width,
            1 - (margin[1] + margin[3]) / height,
        )
    )
    axes.patch.set_visible(False)
    if axes_named:
        _plain_axes(axes)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        axes.set_xlabel("code component 1", fontsize=10, color=MUTED)
        axes.set_ylabel("code component 2", fontsize=10, color=MUTED)
    else:
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
    size = float(np.clip(90 / math.sqrt(len(points)), 2.2, 6.0))
    groups = [(None, np.ones(len(points), bool), BLUE)]
    if labels is not None:
        groups = [(int(c), labels == c, CLASSES[int(c) % len(CLASSES)]) for c in np.unique(labels)]
    for _, chosen, colour in groups:
        axes.plot(
            *points[chosen].T,
            linestyle="none",
            marker="o",
            markersize=size,
            color=colour,
            alpha=0.75,
            markeredgewidth=0,
        )
    if classes is not None and len(groups) <= 30:
        halo = [patheffects.withStroke(linewidth=3, foreground=PAPER)]
        for c, chosen, colour in groups:
            if c is not None and c < len(classes):
                axes.text(
                    *np.median(points[chosen], axis=0),
                    shorten(classes[c]),
                    color=colour,
                    fontsize=13,
                    fontweight="bold",
                    ha="center",
                    va="center",
                    path_effects=halo,
                )
    return figure


def labelled_strips(rows: Mapping[str, np.ndarray]) -> Figure:
    """Strips of pixels as `strip` makes them, one below the other with their names at the left."""
    names = [shorten(name) for name in rows]
    left, gap, width = 24 + _CHARACTER * 1.1 * max(map(len, names)), 6, 700.0
    height = [width * s.shape[0] / s.shape[1] for s in rows.values()]
    size = left + width + 4, sum(height) + gap * (len(height) + 1)
    figure = _figure(size)
    y = size[1]
    for name, pixels, h in zip(names, rows.values(), height):
        y -= h + gap
        axes = figure.add_axes((left / size[0], y / size[1], width / size[0], h / size[1]))
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        figure.text(4 / size[0], (y + h / 2) / size[1], name, fontsize=10, color=INK, va="center")
    return figure


def strip(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Images [n, h, w, c] side by side as RGBA pixels; values from `low` to `high` are black to white."""
    return tiles(images, len(images), low, high)


def tiles(images: np.ndarray, columns: int, low: float, high: float) -> np.ndarray:
    """Images [n, h, w, c], c = 1 or 3, in rows of `columns`, uint8 RGBA with transparent gaps."""
    n, h, w, c = images.shape
    # NaN becomes black: a diverged run still has a page.
    scaled = np.nan_to_num((np.asarray(images, np.float64) - low) / ((high - low) or 1.0), nan=0.0)
    pixels = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    gap = max(1, round(w / 14))
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.uint8)
    for i in range(n):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w, :3] = pixels[i] if c == 3 else np.repeat(pixels[i], 3, axis=-1)
        sheet[top : top + h, left : left + w, 3] = 255
    return sheet


def filters(kernel: np.ndarray, shape: tuple[int, int, int], columns: int = 8) -> np.ndarray:
    """The 64 columns of largest norm of a kernel [prod(shape), units], as pixels; each is scaled by itself, grey is zero."""
    norms = np.linalg.norm(kernel, axis=0)
    chosen = kernel[:, np.sort(np.argsort(-norms, kind="stable")[: 8 * columns])].T.reshape(-1, *shape)
    largest = np.abs(chosen).max(axis=(1, 2, 3), keepdims=True)
    return tiles(chosen / np.where(largest > 0, largest, 1.0), min(columns, len(chosen)), -1.0, 1.0)


def pixels_png(pixels: np.ndarray, at_least: int = 0) -> bytes:
    """Pixels as a PNG; enlarged by a whole factor until they are `at_least` wide."""
    factor = max(1, math.ceil(at_least / pixels.shape[1]))
    enlarged = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """Three device pixels for each CSS pixel, on white."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class or run may be named in a script that matplotlib's font lacks; the page shows it in the reader's fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """With text as text in the reader's system font, no background, and colours for light and dark pages."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"font-family: [^;\"]*", "font-family: " + FONT.replace('"', "'"), text)
    text = re.sub(r"font: ([^;\"]*px) [^;\"]*", rf"font: \1 {FONT}".replace('"', "'"), text)
    names = {light: f"--c{i}" for i, light in enumerate(_DARK)}
    text = re.sub(
        r"(fill|stroke): (#[0-9a-f]{6})",
        lambda m: f"{m[1]}: var({names[m[2]]})" if m[2] in names else m[0],
        text,
    )
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{_DARK[colour]}" for colour, name in names.items())
    theme = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return text.replace("<defs>", theme + "<defs>", 1)


def css_class(colour: str) -> str:
    """The class that gives an element of the page this colour as its background."""
    return f"c{list(_DARK).index(colour)}"


def swatches() -> str:
    """Rules for `css_class`."""
    light = "".join(f".{css_class(c)}{{background:{c}}}" for c in _DARK)
    dark = "".join(f".{css_class(c)}{{background:{d}}}" for c, d in _DARK.items())
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif'


def shorten(text: str) -> str:
    """One label: printable, and each line of at most LABEL_CHARACTERS characters."""
    lines = ("".join(c if c.isprintable() else " " for c in line) for line in text.split("\n"))
    return "\n".join(line if len(line) <= LABEL_CHARACTERS else line[: LABEL_CHARACTERS - 1] + "…" for line in lines)


def _figure(size: tuple[float, float]) -> Figure:
    """At 72 dots an inch a point is a pixel; the PNG has three times as many."""
    figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=216, facecolor=PAPER)
    FigureCanvasSVG(figure)
    return figure
