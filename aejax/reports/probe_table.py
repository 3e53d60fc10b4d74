"""Probes of the codes of many runs: mean ± sd over seeds for each configuration, with baselines and a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aejax.figures import drawing, page
from aejax.figures.page import Section
from aejax.figures.tables import Spread, fixed, is_number, mean_sd
from aejax.figures.words import slug
from aejax.reports.grouping import configurations, test_fingerprint
from aejax.reports.records import Record

LEVEL = 0.3
"""Level of the corruption sweep whose restoration is shown, the same as for robustness."""


class Contender(NamedTuple):
    """A model or a baseline, as named in eval.json."""

    restorer: str
    representation: str


MODEL = Contender("model", "codes")
BASELINES = {
    "PCA": Contender("pca", "pca"),
    "raw input": Contender("input", "raw"),
    "optimal linear": Contender("optimal_linear", ""),
}


class Quantity(NamedTuple):
    """A column."""

    name: str
    unit: str
    of: Callable[[Mapping[str, Any], Contender], float | None]
    """(eval.json, contender) -> the number, or None."""
    times: float
    decimals: int


class Row(NamedTuple):
    """A configuration or a baseline."""

    name: str
    difference: str
    seeds: int
    values: Sequence[Spread | None]
    """Mean and, if there are several values, standard deviation of each quantity in its unit; None if there is none."""


class ProbeTable(NamedTuple):
    """The table of all runs that were evaluated on the same test examples."""

    data: str
    rows: Sequence[Row]
    baselines: Sequence[Row]


def _at(tree: Any, *path: str) -> Any:
    """The value at this path, or None."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _restoration(evaluation: Mapping[str, Any], contender: Contender) -> float | None:
    levels = (evaluation["restoration"] or {"sweep": []})["sweep"]
    return next((_at(row, contender.restorer, "mse") for row in levels if row["level"] == LEVEL), None)


def _active(evaluation: Mapping[str, Any], contender: Contender) -> float | None:
    return _at(evaluation, "sparsity", "active_units") if contender == MODEL else None


def _probe(part: str, name: str) -> Callable[[Mapping[str, Any], Contender], float | None]:
    return lambda evaluation, contender: _at(evaluation, part, contender.representation, name)


MASKED = f"masked {100 * LEVEL:.0f} %"
PROBED, MOVED = "logistic regression", f"logistic regression, {MASKED}"
QUANTITIES = (
    Quantity("reconstruction", "MSE × 1000", lambda e, c: _at(e, "reconstruction", c.restorer, "mse"), 1000, 2),
    Quantity(f"restoration, {MASKED}", "MSE × 1000", _restoration, 1000, 2),
    Quantity(PROBED, "%", _probe("probes", "logistic_regression"), 100, 2),
    Quantity("nearest neighbors", "%", _probe("probes", "nearest_neighbors"), 100, 2),
    Quantity(MOVED, "%", _probe("robustness", "logistic_regression"), 100, 2),
    Quantity(f"displacement, {MASKED}", "", _probe("robustness", "displacement"), 1, 3),
    Quantity("active units", "", _active, 1, 1),
)


def probe_tables(records: Sequence[Record]) -> list[ProbeTable]:
    """One table per test split on which codes were probed, in the order of the first run."""
    by_test: dict[str, list[Record]] = {}
    for r in records:
        if r.evaluation is not None and r.evaluation["probes"] is not None:
            by_test.setdefault(test_fingerprint(r), []).append(r)
    return [_table(some) for some in by_test.values()]


def _table(records: Sequence[Record]) -> ProbeTable:
    groups = configurations(records)
    rows = [_row(c.name, c.difference, c.records, MODEL) for c in groups]
    baselines: dict[str, Row] = {}
    # The baseline of the first runs with codes of this size; for others it is the same up to the noise of their seeds.
    for c in groups:
        for name, contender in BASELINES.items():
            components = c.records[0].evaluation["probes"]["components"]  # type: ignore[index]
            name = f"{name}, {components} components" if name == "PCA" else name
            baselines.setdefault(name, _row(name, "", c.records, contender))
    return ProbeTable(
        records[0].run.config["data"]["name"], rows, [b for b in baselines.values() if any(v for v in b.values)]
    )


def _row(name: str, difference: str, records: Sequence[Record], contender: Contender) -> Row:
    values = []
    for q in QUANTITIES:
        numbers = [q.times * v for r in records if is_number(v := q.of(r.evaluation, contender))]  # type: ignore[arg-type]
        values.append(mean_sd(numbers) if numbers else None)
    return Row(name, difference, len(records), values)


def written(row: Row) -> list[str]:
    """Cells as text, `mean ± sd`."""
    return [
        "–" if value is None else " ± ".join(fixed(v, q.decimals) for v in value if v is not None)
        for q, value in zip(QUANTITIES, row.values)
    ]


def section(table: ProbeTable) -> Section:
    """The table and its figure as a part of a page."""
    kept = _kept(table)
    rows = []
    for row in [*table.rows, *table.baselines]:
        note = f"<small>{escape(row.difference)}</small>" if row.difference != row.name else ""
        cells = written(row)
        rows.append([escape(row.name) + note, str(row.seeds), *(cells[i] for i in kept)])
    head = ["", "seeds", *(page.heading(QUANTITIES[i].name, QUANTITIES[i].unit) for i in kept)]
    drawn = dot_plot(table)
    html = page.table("", head, rows, "runs", [i > 0 for i in range(len(head))])
    html += page.paragraph(escape(NOTE), "caption")
    image = page.figure(page.svg_uri(drawing.svg(drawn)), "", f"Accuracy of probes on {table.data}")
    html += page.columns([image])
    name = f"Codes of {table.data}"
    return Section(name, html, {f"probes-{slug(table.data)}": drawing.png(drawn)})


NOTE = (
    "Mean ± sample standard deviation over seeds, on test examples. Accuracies are those of classifiers fitted to clean training "
    "codes. Displacement: change of the code under masking, relative to the mean distance between the codes of two examples."
)


def _kept(table: ProbeTable) -> list[int]:
    """Columns that contain a number."""
    return [i for i in range(len(QUANTITIES)) if any(row.values[i] is not None for row in table.rows)]


def markdown(table: ProbeTable) -> str:
    """The table in Markdown."""
    kept = _kept(table)
    heads = [f"{q.name} ({q.unit})" if q.unit else q.name for q in (QUANTITIES[i] for i in kept)]
    lines = [f"| {table.data} | {' | '.join(heads)} |", "|---" * (1 + len(kept)) + "|"]
    for row in [*table.rows, *table.baselines]:
        cells = written(row)
        note = f" ({row.difference})" if row.difference not in ("", row.name) else ""
        lines.append(f"| {row.name}{note} | {' | '.join(cells[i] for i in kept)} |")
    return "\n".join(lines) + "\n"


def dot_plot(table: ProbeTable) -> Figure:
    """A line per row: the accuracy of logistic regression on clean codes, and on those of masked examples."""
    rows = [*table.rows, *table.baselines]
    rows = [row for row in rows if _mean(row, PROBED) is not None]
    names = [row.name if len(row.name) <= NAME_CHARACTERS else row.name[: NAME_CHARACTERS - 1] + "…" for row in rows]
    left, right, top, bottom = 16 + drawing.CHARACTER * max(map(len, names)), 16.0, 34.0, 36.0
    size = left + 420.0 + right, top + ROW_PIXELS * len(rows) + bottom
    figure = drawing.canvas(size)
    axes = figure.add_axes((left / size[0], bottom / size[1], 420.0 / size[0], ROW_PIXELS * len(rows) / size[1]))
    axes.patch.set_visible(False)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color=drawing.LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, labelsize=10.5, labelcolor=drawing.MUTED, pad=4)
    for color, quantity, word, place in (
        (drawing.BLUE, PROBED, "clean", 0.0),
        (drawing.ORANGE, MOVED, MASKED, 52.0),
    ):
        points = [(i, *value) for i, row in enumerate(rows) if (value := row.values[_column(quantity)]) is not None]
        y, x, deviation = (list(column) for column in zip(*points)) if points else ([], [], [])
        axes.errorbar(
            x,
            y,
            xerr=[d or 0.0 for d in deviation],
            linestyle="none",
            marker="o",
            markersize=5,
            color=color,
            elinewidth=1.4,
            zorder=3,
        )
        figure.text((left + place) / size[0], 1 - 18 / size[1], word, fontsize=11, fontweight="bold", color=color)
    axes.axhline(len(table.rows) - 0.5, color=drawing.MUTED, linewidth=0.8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), names, color=drawing.INK)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(f"accuracy of logistic regression on {table.data}, %", fontsize=11, color=drawing.MUTED, labelpad=3)
    return figure


NAME_CHARACTERS, ROW_PIXELS = 44, 19.0


def _column(name: str) -> int:
    return [q.name for q in QUANTITIES].index(name)


def _mean(row: Row, name: str) -> float | None:
    value = row.values[_column(name)]
    return None if value is None else value[0]
