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
            (
                "#8f8ae6",
                "#e58a99",
                "#4cae6b",
                "#c4c45c",
                "#cf6a96",
                "#6fd0c0",
                "#cf7fc6",
                "#88bbee",
                "#e3c067",
                "#a5a5a5",
            ),
        )
    ),
}

PANEL = 300.0, 218.0
MAP = 440.0, 440.0
LABEL_CHARACTERS = 22
_LABEL_PITCH = 13.0  # pixels from line to line
_CHARACTER = 6.2  # pixels, at the labels' size of 11
_POINTS = 400


class Series(NamedTuple):
    """One line of a panel, labelled at its right end. y may hold NaN where there is no value."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
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
    title: str,
    unit: str,
    series: Sequence[Series],
    x_label: str,
    mark: tuple[float, str] | None = None,
    settled: float = 0.0,
) -> Figure:
    """Lines over x, each with its name at its end.

    `mark` is a place on x with a word. The vertical scale is that of the lines after the fraction `settled` of x, so
    that a steep start does not flatten the rest; it is logarithmic for positive values that span a factor of 20.
    """
    width, height = PANEL
    labels = [shorten(s.label) for s in series]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    figure = _figure(PANEL)
    # At least so wide that the panels of one section agree; a long name takes from the plot.
    left, right, bottom, top = 46.0, max(82.0, 14 + _CHARACTER * longest), 40.0, 48.0
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    figure.text(0, 1 - 15 / height, title, fontsize=12, fontweight="bold", color=INK)
    figure.text(0, 1 - 30 / height, unit, fontsize=11, color=MUTED)
    lines = [(label, s, *_thinned(np.asarray(s.x, float), np.asarray(s.y, float))) for label, s in zip(labels, series)]
    lines = [line for line in lines if np.isfinite(line[3]).any()]
    for _, s, x, y in lines:
        axes.plot(
            x,
            y,
            color=s.colour,
            linewidth=s.width,
            linestyle=(0, (4, 2)) if s.dashed else "-",
            marker="o" if len(x) <= 12 else None,
            markersize=3.2,
            solid_capstyle="round",
            zorder=3,
        )
    _scale(axes, [(x, y) for _, _, x, y in lines], settled)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    if lines and min(x.min() for _, _, x, _ in lines) >= 0:
        end = max(x.max() for _, _, x, _ in lines) or 1.0
        axes.set_xlim(-0.03 * end, 1.03 * end)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: grouped(v)))
    axes.set_xlabel(x_label, fontsize=11, color=MUTED, labelpad=3)
    if mark is not None:
        _mark(axes, *mark)
    ends = [(label, s.colour, float(y[np.isfinite(y)][-1])) for label, s, _, y in lines if label]
    _label_ends(axes, ends, height - bottom - top)
    return figure


def _mark(axes: Axes, x: float, word: str) -> None:
    axes.axvline(x, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    axes.annotate(
        word,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=10,
        color=MUTED,
        ha="center",
    )


def _plain_axes(axes: Axes) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, labelsize=10.5, labelcolor=MUTED, pad=4)
    axes.tick_params(axis="x", length=3, color=MUTED)


def _scale(axes: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]], settled: float) -> None:
    """Limits, scale and ticks from the finite values after `settled`; log ticks at 1, 2 and 5 below two decades."""
    start = settled * max((x.max() for x, _ in lines), default=0.0)
    values = np.concatenate([y[x >= start] for x, y in lines] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
        wide = values.max() > 100 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        if len(values) and np.ptp(values) > 0:
            axes.set_ylim(values.min() - 0.08 * np.ptp(values), values.max() + 0.08 * np.ptp(values))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: grouped(v)))


def grouped(value: float | int) -> str:
    """Six digits at most; thousands set apart by a thin space."""
    if abs(value) >= 1000 and value == round(value):
        return f"{value:,.0f}".replace(",", "\u2009").replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def _label_ends(axes: Axes, ends: Sequence[tuple[str, str, float]], pixels: float) -> None:
    """Labels to the right of the axes, each as near to its line's end as the others allow."""
    (left, _), _ = axes.get_xlim(), axes.get_ylim()  # settles the limits, on which transData depends
    to_pixels = axes.transData + axes.transAxes.inverted()
    wanted = sorted((pixels * float(to_pixels.transform((left, y))[1]), label, colour) for label, colour, y in ends)
    heights = [2 + _LABEL_PITCH * (label.count("\n") + 1) for _, label, _ in wanted]
    for place, (_, label, colour) in zip(spread([w[0] for w in wanted], heights, pixels), wanted):
        axes.annotate(
            label,
            (1, place / pixels),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            fontsize=11,
            color=colour,
            va="center",
            annotation_clip=False,
            linespacing=1.1,
        )


def spread(wanted: Sequence[float], heights: Sequence[float], limit: float) -> list[float]:
    """Centres near the wanted ones (ascending) of boxes that do not overlap, within [0, limit] if they fit."""
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
    left, bottom, edge = (40, 36, 8) if axes_named else (6, 6, 6)
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + edge) / width, 1 - (bottom + edge) / height))
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
    groups: list[tuple[int | None, np.ndarray, str]] = [(None, np.ones(len(points), bool), BLUE)]
    if labels is not None:
        groups = [(int(c), labels == c, CLASSES[int(c) % len(CLASSES)] if c >= 0 else GREY) for c in np.unique(labels)]
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
            if c is not None and 0 <= c < len(classes):
                x, y = np.median(points[chosen], axis=0)
                axes.text(
                    x,
                    y,
                    shorten(classes[c]),
                    color=colour,
                    fontsize=15,
                    fontweight="bold",
                    ha="center",
                    va="center",
                    path_effects=halo,
                )
    return figure


def labelled_strips(rows: Mapping[str, np.ndarray]) -> Figure:
    """Strips of pixels as `strip` makes them, one below the other with their names at the left."""
    names = [shorten(name) for name in rows]
    left, gap, width = 16 + _CHARACTER * max(map(len, names)), 6, 700.0
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
    """The 64 columns of largest norm of a kernel [prod(shape), units] as pixels, each by its own scale; 0 is grey."""
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
