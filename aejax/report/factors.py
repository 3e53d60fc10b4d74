"""The part of a page about the factors of variation: metrics of disentanglement, and which dimension tells of which factor."""

from __future__ import annotations

from html import escape

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from aejax.report import drawing, page
from aejax.report.page import Column, Section
from aejax.report.records import Record

METRICS = {
    "beta_vae": "BetaVAE",
    "factor_vae": "FactorVAE",
    "mig": "MIG",
    "dci": "DCI",
    "sap": "SAP",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "irs": "IRS",
}

_CELL, _LEFT, _TOP, _BOTTOM = (48.0, 20.0), 40.0, 48.0, 26.0  # pixels


def factors_section(record: Record) -> Section | None:
    """Scores, the mutual information of dimensions and factors, and the importances of DCI."""
    found = record.disentanglement
    if found is None or record.evaluation is None:
        return None
    names, dci = found["factors"], found["dci"]
    scores = [Column(said, "", [found[name]["score"]], None, 3) for name, said in METRICS.items()]
    by_factor = [
        Column("MIG", "gap", found["mig"]["gaps"], None, 3),
        Column("SAP", "gap", found["sap"]["gaps"], None, 3),
        Column("completeness", "of DCI", dci["completeness"], None, 3),
        Column("informativeness", "accuracy of DCI", dci["informativeness"], None, 3),
        Column("explicitness", "area", found["explicitness"]["factors"], None, 3),
    ]
    information = np.asarray(found["mig"]["information"], float)
    drawn = {
        "factor-information": matrix("mutual information", "nats; row: dimension", information, names),
        "factor-importances": matrix("importance", "DCI; row: dimension", np.asarray(dci["importances"], float), names),
    }
    told = f"Of the codes of {record.evaluation['examples']} examples of {record.evaluation['data']}."
    html = page.paragraph(escape(told))
    html += page.number_table("Disentanglement", ["all factors"], scores)
    html += page.number_table("By factor", names, by_factor)
    html += page.panels(
        [page.figure(page.svg_uri(drawing.svg(figure)), "", name.replace("-", " ")) for name, figure in drawn.items()]
    )
    return Section("Factors of variation", html, {name: drawing.png(figure) for name, figure in drawn.items()})


def matrix(title: str, unit: str, table: np.ndarray, names: list[str]) -> Figure:
    """A table [d, f] of numbers from 0 on as shades, each with its number; a column for each factor."""
    d, f = table.shape
    width, height = _LEFT + f * _CELL[0] + 4, _TOP + d * _CELL[1] + _BOTTOM
    figure = drawing.canvas((width, height))
    axes = figure.add_axes((_LEFT / width, _BOTTOM / height, f * _CELL[0] / width, d * _CELL[1] / height))
    figure.text(0, 1 - 15 / height, title, fontsize=12, fontweight="bold", color=drawing.INK)
    figure.text(0, 1 - 30 / height, unit, fontsize=11, color=drawing.MUTED)
    shades = LinearSegmentedColormap.from_list("shades", [drawing.PAPER, drawing.BLUE])
    share = table / (table.max() or 1.0)
    axes.pcolormesh(share, cmap=shades, vmin=0, vmax=1, edgecolors=drawing.LINE, linewidth=0.5)
    axes.invert_yaxis()
    for (j, k), value in np.ndenumerate(table):
        # A fixed colour in place of the page's ink: the shades do not turn with the page.
        colour = "#fffffe" if share[j, k] > 0.5 else "#1c1e20"
        axes.text(k + 0.5, j + 0.5, f"{value:.2f}", fontsize=9, color=colour, ha="center", va="center")
    axes.set_xticks(np.arange(f) + 0.5, [drawing.shorten(n)[:9] for n in names], fontsize=9, color=drawing.MUTED)
    axes.set_yticks(np.arange(d) + 0.5, [str(j) for j in range(d)], fontsize=9, color=drawing.MUTED)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
