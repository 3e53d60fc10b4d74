"""Activity of the units of a sparse code over the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from aejax.evaluation.part import Context, Part, Result
from aejax.figures.tables import Column, Number, Table
from aejax.objective.sparsity import EDGES, active_terms, activity_histogram
from aejax.runs.run import Run


def compute(context: Context) -> Result:
    active = context.run.apply("active", context.test)
    histogram = {"edges": list(EDGES), "units": activity_histogram(active)}
    return {"units": active.shape[1], **active_terms(active), "histogram": histogram}


def tables(result: Result) -> Sequence[Table]:
    columns = [
        Column("units", "", [result["units"]], None, 0),
        Column("active units", "per example", [result["active_units"]]),
        Column("dead units", "active for no example", [result["dead_units"]], None, 0),
    ]
    return [Table("Sparse code", ["test"], columns)]


def numbers(result: Result) -> Sequence[Number]:
    return [
        Number("active units", "of the code, per example", result["active_units"]),
        Number("dead units", "of the code", result["dead_units"]),
    ]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    from aejax.figures import charts, drawing, page

    result = evaluation["sparsity"]
    dead, *often = result["histogram"]["units"]
    percents = [100 * edge for edge in result["histogram"]["edges"]]
    drawn = charts.histogram(
        "activity", "units", ("dead", dead), percents, often, "% of the examples activate the unit"
    )
    units, active = result["units"], result["active_units"]
    text = (
        f"Of {units} units an example of {evaluation['data']} activates {active:.3g} on average "
        f"({100 * active / units:.1f} %). {result['dead_units']:.0f} units are dead: no example activates them."
    )
    image = page.figure(page.svg_uri(drawing.svg(drawn)), "", "Histogram: how often units are active")
    html = page.paragraph(escape(text)) + page.panels([image])
    return page.Section("Activity of the units", html, {"activity": drawing.png(drawn)})


PART = Part("sparsity", lambda context: context.model.sparse is not None, compute, tables, numbers, section, quick=True)
