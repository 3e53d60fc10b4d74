"""The report's charts as functions of arrays: curves, bars and the map of codes, as matplotlib figures. Sizes are in CSS
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from aejax.figures.drawing import BLUE, CHARACTER, CLASSES, GRAY, INK, LINE, MUTED, ORANGE, PAPER, canvas, shorten

PANEL = 300.0, 218.0
MAP = 440.0, 440.0
TRADE = 520.0, 380.0
_TRADE_MARGINS = 46.0, 12.0, 40.0, 62.0  # left, right, bottom, top
_LABEL_PITCH = 13.0  # line height in pixels
_POINTS = 400


class Series(NamedTuple):
    """One line of a panel, labeled at its right end. y is NaN where there is no value."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    color: str = BLUE
    dashed: bool = False
    width: float = 1.6


def panel(
    title: str,
    unit: str,
    series: Sequence[Series],
    x_label: str,
    mark: tuple[float, str] | None = None,
    settled: float = 0.0,
) -> Figure:
    """Lines over x, each labeled at its end.

    `mark` is a position on x with a word. The vertical range is that of the lines after the fraction `settled` of x, so that a
    steep start does not flatten the rest; it is logarithmic for positive values that span a factor of 20.
    """
    width, height = PANEL
    labels = [shorten(s.label) for s in series]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    figure = canvas(PANEL)
    # Wide enough that the panels of one section align; a long name takes space from the plot.
    left, right, bottom, top = 46.0, max(82.0, 14 + CHARACTER * longest), 40.0, 48.0
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    _headed(figure, title, unit)
    lines = [(label, s, *_thinned(np.asarray(s.x, float), np.asarray(s.y, float))) for label, s in zip(labels, series)]
    lines = [line for line in lines if np.isfinite(line[3]).any()]
    for _, s, x, y in lines:
        axes.plot(
            x,
            y,
            color=s.color,
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
    ends = [(label, s.color, float(y[np.isfinite(y)][-1])) for label, s, _, y in lines if label]
    _label_ends(axes, ends, height - bottom - top)
    return figure


def _mark(axes: Axes, x: float, word: str) -> None:
    axes.axvline(x, color=GRAY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
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
    """At most six digits, with thousands separated by a thin space."""
    if abs(value) >= 1000 and value == round(value):
        return f"{value:,.0f}".replace(",", "\u2009").replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def _label_ends(axes: Axes, ends: Sequence[tuple[str, str, float]], pixels: float) -> None:
    """Labels to the right of the axes, each as close to its line's end as the others allow."""
    (left, _), _ = axes.get_xlim(), axes.get_ylim()  # fixes the limits, on which transData depends
    to_pixels = axes.transData + axes.transAxes.inverted()
    wanted = sorted((pixels * float(to_pixels.transform((left, y))[1]), label, color) for label, color, y in ends)
    heights = [2 + _LABEL_PITCH * (label.count("\n") + 1) for _, label, _ in wanted]
    for place, (_, label, color) in zip(spread([w[0] for w in wanted], heights, pixels), wanted):
        axes.annotate(
            label,
            (1, place / pixels),
            xycoords="axes fraction",
            xytext=(7, 0),
            textcoords="offset points",
            fontsize=11,
            color=color,
            va="center",
            annotation_clip=False,
            linespacing=1.1,
        )


def spread(wanted: Sequence[float], heights: Sequence[float], limit: float) -> list[float]:
    """Centers close to the wanted ones (ascending) of boxes that do not overlap, within [0, limit] if they fit."""
    if not wanted:
        return []
    low = [h / 2 for h in heights]
    placed: list[float] = []
    for i, want in enumerate(wanted):  # upwards
        floor = 0.0 if i == 0 else placed[-1] + low[i - 1]
        placed.append(max(want, floor + low[i]))
    ceiling = max(limit, sum(heights))
    for i in reversed(range(len(placed))):  # and down again from the upper limit
        placed[i] = min(placed[i], ceiling - low[i])
        ceiling = placed[i] - low[i]
    return placed


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbors, so that a long run's curve stays a small file."""
    group = math.ceil(len(x) / _POINTS)
    if group <= 1:
        return x, y
    edges = np.arange(0, len(x), group)
    counts = np.diff(np.append(edges, len(x)))
    return np.add.reduceat(x, edges) / counts, np.add.reduceat(y, edges) / counts


def histogram(
    title: str, unit: str, apart: tuple[str, int], edges: Sequence[float], counts: Sequence[int], x_label: str
) -> Figure:
    """Bars of counts: one with a name that is set `apart`, then one between each two `edges`, all equally wide."""
    width, height = PANEL
    figure = canvas(PANEL)
    left, right, bottom, top = 4.0, 12.0, 40.0, 48.0
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    axes.grid(visible=False)
    _headed(figure, title, unit)
    name, number = apart
    places = [-1.0, *(i + 0.5 for i in range(len(counts)))]
    axes.bar(places, [number, *counts], 0.92, color=[ORANGE, *[BLUE] * len(counts)])
    for place, count in zip(places, [number, *counts]):
        axes.annotate(
            grouped(count), (place, count), (0, 2), textcoords="offset points", ha="center", fontsize=10, color=MUTED
        )
    axes.set_xticks([-1.0, *range(len(edges))], [name, *(f"{e:g}" for e in edges)])
    axes.set_yticks([])
    axes.set_xlim(-1.5, len(counts) + 0.05)
    axes.set_ylim(0, 1.12 * max(1, number, *counts))
    axes.set_xlabel(x_label, fontsize=11, color=MUTED, labelpad=3)
    return figure


def dots(title: str, unit: str, x: np.ndarray, y: np.ndarray, x_label: str) -> Figure:
    """Points, with x on a logarithmic scale; those at x = 0 are left out."""
    width, height = PANEL
    figure = canvas(PANEL)
    left, right, bottom, top = 46.0, 12.0, 40.0, 48.0
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    _headed(figure, title, unit)
    shown = x > 0
    axes.scatter(x[shown], y[shown], s=6, color=BLUE, linewidths=0, alpha=0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: grouped(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel(x_label, fontsize=11, color=MUTED, labelpad=3)
    return figure


def _headed(figure: Figure, title: str, unit: str, height: float = PANEL[1]) -> None:
    figure.text(0, 1 - 15 / height, title, fontsize=12, fontweight="bold", color=INK)
    figure.text(0, 1 - 30 / height, unit, fontsize=11, color=MUTED)


def code_map(points: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None, axes_named: bool) -> Figure:
    """Points [n, 2] colored by their labels [n], with each class's name at its median."""
    width, height = MAP
    figure = canvas(MAP)
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
        groups = [(int(c), labels == c, CLASSES[int(c) % len(CLASSES)] if c >= 0 else GRAY) for c in np.unique(labels)]
    for _, chosen, color in groups:
        axes.plot(
            *points[chosen].T,
            linestyle="none",
            marker="o",
            markersize=size,
            color=color,
            alpha=0.75,
            markeredgewidth=0,
        )
    if classes is not None and len(groups) <= 30:
        halo = [patheffects.withStroke(linewidth=3, foreground=PAPER)]
        for c, chosen, color in groups:
            if c is not None and 0 <= c < len(classes):
                x, y = np.median(points[chosen], axis=0)
                axes.text(
                    x,
                    y,
                    shorten(classes[c]),
                    color=color,
                    fontsize=15,
                    fontweight="bold",
                    ha="center",
                    va="center",
                    path_effects=halo,
                )
    return figure


class Traded(NamedTuple):
    """Points of one color in a `kl_distortion` or `frontier` figure, with a name at their mean."""

    label: str
    rates: Sequence[float] | np.ndarray
    distortions: Sequence[float] | np.ndarray
    color: str = BLUE


def kl_distortion(groups: Sequence[Traded], joined: bool, unit: str = "nats per example") -> Figure:
    """Points (KL, distortion) over lines of equal sum, each labeled with its value at its upper end.

    `joined`: a line connects the means of the groups in order.
    """
    figure, axes = _traded_axes(
        "distortion against rate", f"{unit}; on a gray line their sum, −ELBO, is the number at its end", "rate"
    )
    points, fall = _traded(axes, groups, joined)
    for c, end in isolines(axes.get_xlim(), axes.get_ylim(), points.sum(axis=1)):
        axes.axline(end, slope=-1, color=LINE, linewidth=1.1, zorder=1)
        # Above the axes; or inside along the line, where it cannot be mistaken for a tick of the left axis.
        outside = end[1] == axes.get_ylim()[1]
        axes.annotate(
            grouped(c), end, (0, 3) if outside else (5, 0), textcoords="offset points", fontsize=10, color=MUTED,
            ha="center" if outside else "left", va="bottom", annotation_clip=False,
            rotation=0.0 if outside else -math.degrees(fall), rotation_mode="anchor",
        )  # fmt: skip
    return figure


def frontier(groups: Sequence[Traded], joined: bool) -> Figure:
    """Points (active units of an example, variance explained); `joined` as in `kl_distortion`."""
    figure, axes = _traded_axes("variance explained against active units", "upper left is better", "active units")
    _traded(axes, groups, joined)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    return figure


def _traded_axes(title: str, unit: str, x_label: str) -> tuple[Figure, Axes]:
    width, height = TRADE
    figure = canvas(TRADE)
    left, right, bottom, top = _TRADE_MARGINS
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    _plain_axes(axes)
    axes.grid(visible=False)
    _headed(figure, title, unit, height)
    axes.set_xlabel(x_label, fontsize=11, color=MUTED, labelpad=3)
    return figure, axes


def _traded(axes: Axes, groups: Sequence[Traded], joined: bool) -> tuple[np.ndarray, float]:
    """Draws the points with their names; returns them [n, 2], and the angle at which a line of equal sum falls."""
    (width, height), (left, right, bottom, top) = TRADE, _TRADE_MARGINS
    for g in groups:
        axes.plot(
            g.rates, g.distortions, linestyle="none", marker="o", markersize=6, color=g.color, alpha=0.85,
            markeredgewidth=0, zorder=4,
        )  # fmt: skip
    means = np.array([[np.mean(g.rates), np.mean(g.distortions)] for g in groups])
    if joined:
        axes.plot(*means.T, color=GRAY, linewidth=1.1, zorder=2)
    points = np.concatenate([np.stack([g.rates, g.distortions], axis=1) for g in groups])
    low, high = points.min(axis=0), points.max(axis=0)
    # Space for the names to the right of their points.
    margin = np.where(high > low, high - low, np.maximum(1.0, np.abs(high))) * 0.1
    axes.set_xlim(low[0] - margin[0], high[0] + 2.2 * margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    nats_across, nats_up = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
    halo = [patheffects.withStroke(linewidth=3, foreground=PAPER)]
    for g, mean in zip(groups, means):
        name = shorten(g.label)
        long = CHARACTER * max(map(len, name.split("\n")))
        fits = float(axes.transData.transform(mean)[0]) * 72 / axes.figure.dpi + 7 + long <= width
        axes.annotate(
            name, mean, (7 if fits else -7, 6), textcoords="offset points", fontsize=11, color=g.color, va="bottom",
            ha="left" if fits else "right", linespacing=1.1, path_effects=halo, zorder=5,
        )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
        axis.set_major_formatter(FuncFormatter(lambda v, _: grouped(v)))
    return points, math.atan2((height - bottom - top) / nats_up, (width - left - right) / nats_across)


def isolines(
    x: tuple[float, float], y: tuple[float, float], sums: np.ndarray
) -> list[tuple[float, tuple[float, float]]]:
    """Round numbers c around the points' `sums`, and the point where the line x + y = c enters these limits, at the top or
    left.
    """
    span = float(np.ptp(sums))
    # If all sums are nearly equal, lines as close as these would look like hatching.
    margin = max(span / 4, (x[1] - x[0] + y[1] - y[0]) / 12)
    levels = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(sums.min() - margin, sums.max() + margin)
    ends = [(float(c), (max(x[0], c - y[1]), min(y[1], c - x[0]))) for c in levels]
    return [(c, end) for c, end in ends if end[0] < x[1] and end[1] > y[0]]
