"""The page that compares several runs: what differs, what came of it, and their curves laid over each other."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from aejax.report import figures, page
from aejax.report.page import Section
from aejax.report.records import METRICS, Record, arguments, said, short, slug, unit, value_text
from aejax.report.single import level_name, levels

COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE, *figures.CLASSES[2:])
MOST_LABELS = 9
"""Lines of text that fit beside a panel."""


class Metric(NamedTuple):
    """A number of every run, None where a run lacks it."""

    name: str
    unit: str
    values: list[float | None]
    best: str | None
    decimals: int | None = None


class Look(NamedTuple):
    """How one run is drawn: in the colour of its configuration; of several seeds only the first is named."""

    label: str
    colour: str


def comparison_page(records: Sequence[Record], out: Path) -> tuple[str, dict[str, bytes]]:
    """The document, and the figures to put beside it. `out` is where it will lie: links start there."""
    differing = differences(records)
    drawn = looks(records, differing)
    metrics = headline_metrics(records)
    sections = [
        runs_section(records, differing, drawn, metrics, out),
        seeds_section(records, metrics),
        levels_section(records, drawn),
        curves_section(records, drawn),
    ]
    sections = [s for s in sections if s is not None]
    names = sorted({r.run.config["data"]["name"] for r in records})
    told = [f"on {', '.join(names)}", f"differing in {', '.join(map(said, differing)) or 'nothing'}"]
    pngs = {name: png for s in sections for name, png in s.pngs.items()}
    return page.page(f"{len(records)} runs compared", told, notices(records), sections), pngs


def differences(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Arguments (and the experiment file, and the data) that are not the same in all runs, by name, one value a run."""
    configs = [r.run.config for r in records]
    told = [arguments(c) for c in configs]
    for c, values in zip(configs, told):
        source = c["source"]
        values["file"] = None if source is None else Path(source["file"]).stem
        values["file sha256"] = None if source is None else short(source["sha256"])
    names = list(dict.fromkeys(n for values in told for n in values))
    columns = {n: [values[n] if n in values else None for values in told] for n in names}
    return {n: column for n, column in columns.items() if len({json.dumps(v) for v in column}) > 1}


def looks(records: Sequence[Record], differing: Mapping[str, Sequence[Any]]) -> list[Look]:
    groups = by_configuration(records)
    if len(groups) in (1, len(records)):
        told = [
            "\n".join(f"{said(n)} {value_text(column[i])}" for n, column in differing.items() if n != "file sha256")
            for i in range(len(records))
        ]
        if sum(t.count("\n") + 1 for t in told) > MOST_LABELS or not all(told):
            told = [f"run {i + 1}" for i in range(len(records))]
        if len(records) > MOST_LABELS:
            told = [""] * len(records)
        return [Look(t, COLOURS[i % len(COLOURS)]) for i, t in enumerate(told)]
    found = [Look("", "")] * len(records)
    for g, members in enumerate(groups.values()):
        for i in members:
            parts = [f"{said(n)} {value_text(c[i])}" for n, c in differing.items() if n not in ("seed", "file sha256")]
            first = i == members[0] and len(groups) * len(parts) <= MOST_LABELS
            found[i] = Look("\n".join(parts) if first else "", COLOURS[g % len(COLOURS)])
    return found


def by_configuration(records: Sequence[Record]) -> dict[str, list[int]]:
    """Runs that differ in nothing but the seed stand together: positions by configuration."""
    groups: dict[str, list[int]] = {}
    for i, r in enumerate(records):
        source = r.run.config["source"]
        what = {n: v for n, v in arguments(r.run.config).items() if n != "seed"}
        key = json.dumps([what, None if source is None else source["sha256"], test_fingerprint(r)], sort_keys=True)
        groups.setdefault(key, []).append(i)
    return groups


def headline_metrics(records: Sequence[Record]) -> list[Metric]:
    """Metrics of eval.json that any of the runs has. The best is marked where all were judged on the same thing."""
    evaluations = [r.evaluation for r in records]
    same_data = len({test_fingerprint(r) for r in records}) == 1
    restorations = [None if e is None else e["restoration"] for e in evaluations]
    same_noise = same_data and len({None if r is None else r["corruption"] for r in restorations}) == 1
    found = []
    for key, (name, what, best) in METRICS.items():
        values = [None if r is None else r["trained"]["model"][key] for r in restorations]
        found.append(Metric(f"restoration {name}", what, values, best if same_noise else None, places(key)))
    values = [None if e is None else e["reconstruction"]["model"]["mse"] for e in evaluations]
    found.append(Metric("reconstruction MSE", "per dimension", values, "low" if same_data else None))
    for term in dict.fromkeys(t for e in evaluations if e is not None for t in e["terms"]):
        if not term.endswith("mse"):
            values = [e["terms"][term] if e is not None and term in e["terms"] else None for e in evaluations]
            found.append(Metric(said(term), unit(term), values, None))
    probes = [None if e is None else e["probes"] for e in evaluations]
    values = [None if p is None else p["codes"]["logistic_regression"] for p in probes]
    found.append(Metric("probe accuracy", "logistic regression", values, "high" if same_data else None, 3))
    return [m for m in found if any(map(page.is_number, m.values))]


def places(metric: str) -> int | None:
    return {"psnr": 2, "ssim": 3}[metric] if metric != "mse" else None


def test_fingerprint(record: Record) -> str:
    """Of the test split, as the run recorded it."""
    spec = record.run.experiment.test.name.removeprefix(record.run.config["data"]["name"] + ":")
    splits = record.run.config["data"]["splits"]
    return splits[spec]["fingerprint"] if spec in splits else record.run.experiment.test.fingerprint


def notices(records: Sequence[Record]) -> str:
    told = [
        f"{escape(r.name)} has not been judged on its test split: {page.code(f'aejax evaluate {shlex.quote(str(r.run.directory))}')}."
        for r in records
        if r.evaluation is None
    ]
    if len({test_fingerprint(r) for r in records}) > 1:
        told.append("These runs were not judged on the same test examples: their numbers do not compare.")
    corruptions = {
        r.evaluation["restoration"]["corruption"] for r in records if r.evaluation and r.evaluation["restoration"]
    }
    if len(corruptions) > 1:
        told.append(
            "Restoration is that of each run's own corruption, and these differ; "
            "compare runs along the levels of corruption instead."
        )
    return "".join(page.paragraph(t, "notice") for t in told)


def runs_section(
    records: Sequence[Record],
    differing: Mapping[str, Sequence[Any]],
    drawn: Sequence[Look],
    metrics: Sequence[Metric],
    out: Path,
) -> Section:
    """One row for each run."""
    rows = []
    for i, r in enumerate(records):
        corrupted = r.evaluation["restoration"]["corruption"] if r.evaluation and r.evaluation["restoration"] else "–"
        rows.append(
            [
                f'<span class="swatch {figures.css_class(drawn[i].colour)}"></span>{i + 1}',
                link(r, out),
                *(escape(value_text(column[i])) for column in differing.values()),
                str(r.run.step),
                escape(corrupted),
                *(metric_cell(m, i) for m in metrics),
                page.code(short(r.result["digest"])) if r.result is not None else "not complete",
            ]
        )
    units = [f"{m.name}{', ' if m.unit else ''}{m.unit}" for m in metrics]
    head = ["", "run", *map(said, differing), "step", "corruption", *units, "digest"]
    text = [0, 1, len(differing) + 3, len(head) - 1]
    return Section("Runs", page.table("", head, rows, "runs", [i not in text for i in range(len(head))]))


def link(record: Record, out: Path) -> str:
    """To the run's own page, if there is one."""
    target = record.run.directory / "report.html"
    if not target.exists():
        return escape(record.name)
    address = quote(Path(os.path.relpath(target.resolve(), out.resolve().parent)).as_posix())
    return f'<a href="{escape(address)}">{escape(record.name)}</a>'


def metric_cell(metric: Metric, i: int) -> str:
    numbers = [v for v in metric.values if page.is_number(v)]
    text = page.fixed(metric.values[i], page.decimals(numbers) if metric.decimals is None else metric.decimals)
    best = metric.best and len(numbers) > 1 and metric.values[i] == {"low": min, "high": max}[metric.best](numbers)
    return f'<span class="best">{text}</span>' if best else text


def seeds_section(records: Sequence[Record], metrics: Sequence[Metric]) -> Section | None:
    """Mean ± standard deviation over the seeds of each configuration that has several."""
    groups = [members for members in by_configuration(records).values() if len(members) > 1]
    if not groups or not metrics:
        return None
    told = differences([records[members[0]] for members in groups])
    told = {n: column for n, column in told.items() if n != "seed"}
    rows = []
    for g, members in enumerate(groups):
        cells = []
        for m in metrics:
            values = [m.values[i] for i in members if page.is_number(m.values[i])]
            cells.append(mean_and_deviation(values))
        rows.append([*(escape(value_text(column[g])) for column in told.values()), str(len(members)), *cells])
    head = [*map(said, told), "seeds", *(f"{m.name}{', ' if m.unit else ''}{m.unit}" for m in metrics)]
    note = "Mean ± sample standard deviation over the runs that differ only in their seed."
    return Section(
        "Over seeds", page.table("", head, rows, "runs", [True] * len(head)) + page.paragraph(note, "caption")
    )


def mean_and_deviation(values: Sequence[float]) -> str:
    """To two digits of the deviation."""
    if len(values) < 2:
        return "–"
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    digits = page.decimals([deviation], 2) if deviation else page.decimals([mean])
    return f"{page.fixed(mean, digits)} ± {page.fixed(deviation, digits)}"


def levels_section(records: Sequence[Record], drawn: Sequence[Look]) -> Section | None:
    """The runs' restoration against the level of corruption; the untouched input as the common baseline, if it is one."""
    sweeps = [(r, look, r.evaluation["restoration"]["sweep"]) for r, look in zip(records, drawn) if has_sweep(r)]
    if not sweeps:
        return None
    shared = len({(test_fingerprint(r), level_name(r)) for r, _, _ in sweeps}) == 1
    panels, pngs = [], {}
    for key, (name, what, _) in METRICS.items():
        series = [
            figures.Series(look.label, *levels(sweep, "model", key), look.colour, width=1.4)
            for _, look, sweep in sweeps
        ]
        if shared:
            series.append(figures.Series("input", *levels(sweeps[0][2], "input", key), figures.GREY, True, 1.4))
        if any(np.isfinite(s.y).any() for s in series):
            panel = figures.panel(name, what, series, level_name(sweeps[0][0]) if shared else "level")
            pngs[f"restoration-{key}"] = figures.png(panel)
            panels.append(page.figure(page.svg_uri(figures.svg(panel)), "", f"{name} against the level of corruption"))
    return Section("Restoration against the level of corruption", page.panels(panels), pngs)


def has_sweep(record: Record) -> bool:
    e = record.evaluation
    return e is not None and e["restoration"] is not None and len(e["restoration"]["sweep"]) > 1


def curves_section(records: Sequence[Record], drawn: Sequence[Look]) -> Section | None:
    """The validation terms of all runs; the training terms where no run was validated."""
    split = "validation" if any("validation" in r.log for r in records) else "train"
    terms = dict.fromkeys(t for r in records if split in r.log for t in r.log[split])
    panels, pngs = [], {}
    for term in terms:
        series = [
            figures.Series(look.label, *r.log[split][term], look.colour, width=1.4)
            for r, look in zip(records, drawn)
            if split in r.log and term in r.log[split]
        ]
        panel = figures.panel(said(term), unit(term), series, "step")
        pngs[f"curve-{slug(term)}"] = figures.png(panel)
        panels.append(page.figure(page.svg_uri(figures.svg(panel)), "", f"{said(term)} against the step"))
    if not panels:
        return None
    return Section("Validation during training" if split == "validation" else "Training", page.panels(panels), pngs)
