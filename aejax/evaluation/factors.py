"""Disentanglement, if the factors of variation are known: every metric on the test codes, the information of each dimension
about each factor, and images along each factor with their codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.data import factor_traversal_of, has_data, is_image, subset, take
from aejax.evaluation.disentanglement import disentanglement
from aejax.evaluation.information import mig_sampled
from aejax.evaluation.part import Context, Part, Result
from aejax.figures.examples import Block, data_range
from aejax.figures.tables import Column, Number, Table
from aejax.figures.words import slug
from aejax.runs.batched import map_examples
from aejax.runs.run import Run
from aejax.types import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {
    "beta_vae": "BetaVAE",
    "factor_vae": "FactorVAE",
    "mig": "MIG",
    "mig_sampled": "MIG, sampled",
    "dci": "DCI",
    "sap": "SAP",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "irs": "IRS",
}

SHOWN = 12
"""Number of values of a factor in its strip, evenly spaced."""

SHARPEST = 64
"""Largest side in pixels; larger images are subsampled."""

_CELL, _LEFT, _TOP, _BOTTOM = (48.0, 20.0), 40.0, 48.0, 26.0  # pixels


def compute(context: Context) -> Result | None:
    """Every metric, with the names of the factors that vary; `mig_sampled` if the posterior's moments are known.

    None if fewer than two factors vary.
    """
    run, data, codes = context.run, context.test, context.codes
    assert data.factors is not None and codes is not None  # noqa: PT018
    factors = map_examples(lambda batch: batch["factors"], data)
    varying = [k for k, column in enumerate(factors.T) if np.any(column != column[0])]
    if len(varying) < 2:
        return None
    seed, latent = run.experiment.seed, context.model.latent
    metrics = disentanglement(codes, factors[:, varying], seed)
    if latent is not None and latent.moments is not None:
        means, variances = run.apply("moments", data)
        metrics["mig_sampled"] = mig_sampled(means, variances, factors[:, varying], seed)
    plain = {
        name: {part: np.asarray(value).tolist() for part, value in metric.items()} for name, metric in metrics.items()
    }
    return {"factors": [data.factors[k] for k in varying], **plain}


def _applies(context: Context) -> bool:
    """Whether factors are known and a code is a vector of at least two dimensions."""
    codes = context.codes if context.test.factors is not None else None
    return codes is not None and codes.ndim == 2 and codes.shape[1] > 1


def tables(result: Result) -> Sequence[Table]:
    scores = [Column(name, "", [result[key]["score"]], None, 3) for key, name in METRICS.items() if key in result]
    dci = result["dci"]
    by_factor = [
        Column("MIG", "gap", result["mig"]["gaps"], None, 3),
        Column("SAP", "gap", result["sap"]["gaps"], None, 3),
        Column("completeness", "of DCI", dci["completeness"], None, 3),
        Column("informativeness", "accuracy of DCI", dci["informativeness"], None, 3),
        Column("explicitness", "area", result["explicitness"]["factors"], None, 3),
    ]
    return [Table("Disentanglement", ["all factors"], scores), Table("By factor", result["factors"], by_factor)]


def numbers(result: Result) -> Sequence[Number]:
    return [Number(name, "", result[key]["score"], "high", 3) for key, name in METRICS.items() if key in result]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    """Scores, the mutual information of dimensions and factors, and the importances of DCI."""
    from aejax.figures import drawing, page

    result = evaluation["disentanglement"]
    names = result["factors"]
    information = np.asarray(result["mig"]["information"], float)
    importances = np.asarray(result["dci"]["importances"], float)
    drawn = {
        "factor-information": matrix("mutual information", "nats; row: dimension", information, names),
        "factor-importances": matrix("importance", "DCI; row: dimension", importances, names),
    }
    html = page.paragraph(escape(f"Of the codes of {evaluation['examples']} examples of {evaluation['data']}."))
    html += "".join(map(page.number_table, tables(result)))
    html += page.panels(
        [page.figure(page.svg_uri(drawing.svg(figure)), "", name.replace("-", " ")) for name, figure in drawn.items()]
    )
    along, pngs = along_factors(run, names, information)
    pngs |= {name: drawing.png(figure) for name, figure in drawn.items()}
    return page.Section("Factors of variation", html + along, pngs)


def along_factors(run: Run, names: list[str], information: np.ndarray) -> Block:
    """For each factor, a strip and a panel.

    The strip shows the first test image with all values of this factor, and the reconstructions below. The panel shows the
    codes of these images, with the two dimensions that are most informative about the factor (`information` [d, f]) in color.
    """
    from aejax.figures import drawing, page
    from aejax.figures.pixels import labeled_strips, pixels_png

    experiment = run.experiment
    test = experiment.test
    if not is_image(test.shape) or not has_data(test) or experiment.model.reconstruct is None:
        return "", {}
    first = take(test, np.arange(1))
    splits = [split for split in (experiment.train, experiment.validation, test) if split is not None]
    assert test.factors is not None  # the run to which the numbers belong
    strips, panels, pngs = {}, [], {}
    for k, name in enumerate(names):
        data = factor_traversal_of(splits, first["factors"][0], test.factors.index(name))
        if data is None:
            continue
        strips[name] = factor_strip(run, data)
        drawn = factor_panel(name, data, run.encode(data), information[:, k], test.factors.index(name))
        panels.append(page.figure(page.svg_uri(drawing.svg(drawn)), "", f"code along {name}"))
        pngs[f"code-along-{slug(name)}"] = drawing.png(drawn)
    if not strips:
        return "", {}
    cells = "".join(
        f'<div>{escape(name)}</div><img src="{page.png_uri(pixels_png(pixels))}" alt="{escape(name)}: images, reconstructed">'
        for name, pixels in strips.items()
    )
    caption = (
        f"Strips: the first test image with one factor changed, at up to {SHOWN} evenly spaced values, and the reconstructions "
        "below. Panels: the code against the value; the two dimensions with the most information about the factor are colored."
    )
    html = page.paragraph(caption) + f'<div class="strips">{cells}</div>' + page.panels(panels)
    return html, {**pngs, "factors": drawing.png(labeled_strips(strips))}


def factor_strip(run: Run, data: Dataset) -> np.ndarray:
    """Images above their reconstructions, as pixels; equally wide for few and many values."""
    from aejax.figures.pixels import coarse, tiles

    shown = np.unique(np.linspace(0, data.size - 1, min(SHOWN, data.size)).round().astype(np.int64))
    some = subset(data, shown)
    x = take(some, np.arange(some.size))["x"]
    rows = np.zeros((2, SHOWN, *x.shape[1:]), x.dtype)
    rows[0, : len(x)], rows[1, : len(x)] = x, run.reconstruct(some)
    pixels = tiles(coarse(rows.reshape(-1, *x.shape[1:]), SHARPEST), SHOWN, *data_range(x))
    width = pixels.shape[1] * len(x) // SHOWN
    pixels[:, width:] = 0
    return pixels


def factor_panel(name: str, data: Dataset, codes: np.ndarray, information: np.ndarray, k: int) -> Figure:
    """The codes [n, d] for the values of factor k."""
    from aejax.figures import charts, drawing

    values = take(data, np.arange(data.size))["factors"][:, k].astype(float)
    second, best = np.argsort(information)[-2:]
    look = {best: (f"dimension {best}", drawing.BLUE, 2.0), second: (f"dimension {second}", drawing.ORANGE, 1.6)}
    order = sorted(range(codes.shape[1]), key=lambda j: j in look)
    series = []
    for j in order:
        label, color, width = look.get(j, ("", drawing.GRAY, 0.7))
        series.append(charts.Series(label, values, codes[:, j], color, width=width))
    return charts.panel(f"code along {name}", "posterior mean or code; the others in gray", series, name)


def matrix(title: str, unit: str, table: np.ndarray, names: list[str]) -> Figure:
    """A table [d, f] of non-negative numbers as shades, each with its number; a column per factor."""
    from matplotlib.colors import LinearSegmentedColormap

    from aejax.figures import drawing

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
        # A fixed color instead of the page's text color: the shades are the same in dark mode.
        color = "#fffffe" if share[j, k] > 0.5 else "#1c1e20"
        axes.text(k + 0.5, j + 0.5, f"{value:.2f}", fontsize=9, color=color, ha="center", va="center")
    axes.set_xticks(np.arange(f) + 0.5, [drawing.shorten(n)[:9] for n in names], fontsize=9, color=drawing.MUTED)
    axes.set_yticks(np.arange(d) + 0.5, [str(j) for j in range(d)], fontsize=9, color=drawing.MUTED)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


PART = Part("disentanglement", _applies, compute, tables, numbers, section)
