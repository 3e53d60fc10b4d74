"""The page that compares several runs: their differences, their results, and their curves overlaid."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from aejax.evaluation.encoder import ranked, spectrum_panel
from aejax.evaluation.parts import PARTS
from aejax.evaluation.restoration import METRICS, level_name, levels
from aejax.figures import charts, drawing, page
from aejax.figures.page import Section
from aejax.figures.tables import Column, Number, decimals, fixed, is_number, mean_sd, with_numbers, written
from aejax.figures.words import label, slug, unit, value_text
from aejax.reports.grouping import by_configuration, configurations, differences, test_fingerprint
from aejax.reports.probe_table import probe_tables, section
from aejax.reports.records import Record, short
from aejax.reports.single import SETTLED

COLORS = (drawing.BLUE, drawing.ORANGE, drawing.GREEN, drawing.PURPLE, *drawing.CLASSES[3:])
MOST_LABELS = 9
"""Number of lines of text that fit beside a panel."""
MANY = 8
"""With more runs than this, a configuration is shown as its mean over seeds, and single runs only on demand."""


class Look(NamedTuple):
    """How one run is drawn: in the color of its configuration; of several seeds only the first is labeled."""

    label: str
    color: str


def comparison_page(records: Sequence[Record], out: Path) -> tuple[str, dict[str, bytes]]:
    """The document, and its figures. `out` is its path, from which links are relative."""
    differing = differences(records)
    drawn = looks(records, differing)
    metrics = headline_metrics(records)
    seeds = seeds_section(records, drawn, metrics)
    runs = runs_section(records, differing, drawn, metrics, out)
    codes = [section(table) for table in probe_tables(records) if len(table.rows) > 1]
    candidates = [*codes, seeds, runs] if len(records) > MANY else [runs, seeds, *codes]
    candidates += [kl_distortion_section(records, differing, drawn), frontier_section(records, differing, drawn)]
    if len(by_configuration(records)) <= len(COLORS):
        candidates += [levels_section(records, drawn), curves_section(records, drawn), jacobian_section(records, drawn)]
    sections = [s for s in candidates if s is not None]
    names = sorted({r.run.config["data"]["name"] for r in records})
    phrases = [f"on {', '.join(names)}", f"differing in {', '.join(map(label, differing)) or 'nothing'}"]
    corruptions = sorted({c for r in records if (c := r.corruption) is not None})
    phrases += [f"restoring {', '.join(corruptions)}"] if corruptions else []
    pngs = {name: png for s in sections for name, png in s.pngs.items()}
    about = [str(r.run.directory.resolve()) for r in records]
    title = f"{len(records)} runs compared"
    return page.page(title, phrases, notices(records), sections, wide=True, runs=about), pngs


def looks(records: Sequence[Record], differing: Mapping[str, Sequence[Any]]) -> list[Look]:
    groups = by_configuration(records)
    if len(groups) in (1, len(records)):
        texts = [
            "\n".join(f"{label(n)} {value_text(column[i])}" for n, column in differing.items() if n != "file sha256")
            for i in range(len(records))
        ]
        if sum(t.count("\n") + 1 for t in texts) > MOST_LABELS or not all(texts):
            texts = [f"run {i + 1}" for i in range(len(records))]
        if len(records) > MOST_LABELS:
            texts = [""] * len(records)
        return [Look(t, COLORS[i % len(COLORS)]) for i, t in enumerate(texts)]
    of_runs, names = [Look("", "")] * len(records), [c.name for c in configurations(records)]
    for g, members in enumerate(groups.values()):
        for i in members:
            parts = [f"{label(n)} {value_text(c[i])}" for n, c in differing.items() if n not in ("seed", "file sha256")]
            text = "\n".join(parts) if len(groups) * len(parts) <= MOST_LABELS else names[g]
            first = i == members[0] and len(groups) <= MOST_LABELS
            of_runs[i] = Look(text if first else "", COLORS[g % len(COLORS)])
    return of_runs


def headline_metrics(records: Sequence[Record]) -> list[Column]:
    """The numbers of every part that any of the runs has. The best is highlighted if all were evaluated on the same data."""
    same_data = len({test_fingerprint(r) for r in records}) == 1
    same_noise = same_data and len({r.corruption for r in records}) == 1
    numbers: dict[tuple[str, str], dict[int, Number]] = {}
    for part in PARTS:
        for i, record in enumerate(records):
            for number in part.numbers(result) if (result := record.part(part.name)) is not None else ():
                numbers.setdefault((number.name, number.unit), {})[i] = number
    columns = []
    for (name, unit_), of_run in numbers.items():
        number = next(iter(of_run.values()))
        compares = same_noise if number.needs_same_noise else same_data
        values = [of_run[i].value if i in of_run else None for i in range(len(records))]
        columns.append(Column(name, unit_, values, number.best if compares else None, number.decimals))
    return with_numbers(columns)


def notices(records: Sequence[Record]) -> str:
    lines = [
        f"{escape(r.name)} has not been evaluated on its test split: {page.code(f'aejax evaluate {r.where}')}."
        for r in records
        if r.evaluation is None
    ]
    if len({test_fingerprint(r) for r in records}) > 1:
        lines.append("These runs were not evaluated on the same test examples: their numbers do not compare.")
    corruptions = {r.corruption for r in records if r.part("restoration") is not None}
    if len(corruptions) > 1:
        lines.append(
            "Restoration is that of each run's own corruption, and these differ; "
            "compare runs along the levels of corruption instead."
        )
    if len(by_configuration(records)) > len(COLORS):
        lines.append(
            f"The curves of more than {len(COLORS)} configurations are not drawn, because they could not be distinguished; "
            "compare fewer to see them."
        )
    return "".join(page.paragraph(t, "notice") for t in lines)


def runs_section(
    records: Sequence[Record],
    differing: Mapping[str, Sequence[Any]],
    drawn: Sequence[Look],
    metrics: Sequence[Column],
    out: Path,
) -> Section:
    """One row per run."""
    rows = []
    numbers, names = [written(m) for m in metrics], names_of(records)
    for i, r in enumerate(records):
        rows.append(
            [
                swatch(drawn[i]) + link(r, names[i], out),
                *(f'<span class="best">{text[i]}</span>' if text[i] in best else text[i] for text, best in numbers),
                *(escape(value_text(column[i])) for column in differing.values()),
                str(r.run.step),
                page.code(short(r.result["digest"])) if r.result is not None else "not complete",
            ]
        )
    units = [page.heading(m.name, m.unit) for m in metrics]
    head = ["run", *units, *(escape(label(n)) for n in differing), "step", "digest"]
    worded = [n for n, column in differing.items() if not all(isinstance(v, (int, float)) for v in column)]
    text = {0, len(head) - 1, *(1 + len(units) + i for i, n in enumerate(differing) if n in worded)}
    html = page.table("", head, rows, "runs", [i not in text for i in range(len(head))])
    return Section("Runs", page.folded(f"Each of the {len(records)} runs", html) if len(records) > MANY else html)


def swatch(look: Look) -> str:
    return f'<span class="swatch {drawing.css_class(look.color)}"></span>'


def names_of(records: Sequence[Record]) -> list[str]:
    """The runs' directories, without what all have in common above them."""
    paths = [record.run.directory.resolve() for record in records]
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(shared).as_posix() for path in paths]


def link(record: Record, name: str, out: Path) -> str:
    """A link to the run's own page, if there is one."""
    target = record.run.directory / "report.html"
    if not target.exists():
        return escape(name)
    address = quote(Path(os.path.relpath(target.resolve(), out.resolve().parent)).as_posix())
    return f'<a href="{escape(address)}">{escape(name)}</a>'


def seeds_section(records: Sequence[Record], drawn: Sequence[Look], metrics: Sequence[Column]) -> Section | None:
    """Mean ± standard deviation over the seeds of each configuration that has several."""
    groups = [members for members in by_configuration(records).values() if len(members) > 1]
    if not groups or not metrics:
        return None
    varied = {n: c for n, c in differences([records[members[0]] for members in groups]).items() if n != "seed"}
    names = {id(c.records[0]): c.name for c in configurations(records)}
    firsts = [members[0] for members in groups]
    titles = [
        ", ".join(f"{label(n)} {value_text(column[g])}" for n, column in varied.items()) or names[id(records[i])]
        for g, i in enumerate(firsts)
    ]
    if len(records) > MANY:
        titles = [names[id(records[i])] for i in firsts]
    shown = [swatch(drawn[i]) + escape(title) for i, title in zip(firsts, titles)]
    cells = [means_and_deviations([[m.values[i] for i in members] for members in groups]) for m in metrics]
    rows = [[shown[g], *(c[g] for c in cells), str(len(members))] for g, members in enumerate(groups)]
    head = ["", *(page.heading(m.name, m.unit) for m in metrics), "seeds"]
    note = "Mean ± sample standard deviation over the runs that differ only in their seed."
    return Section(
        "Over seeds",
        page.table("", head, rows, "runs", [i > 0 for i in range(len(head))]) + page.paragraph(note, "caption"),
    )


def means_and_deviations(groups: Sequence[Sequence[float | None]]) -> list[str]:
    """One text per group, all with the same number of decimals: two digits of the largest deviation."""
    numbers = [[v for v in values if is_number(v)] for values in groups]
    both = [mean_sd(v) if len(v) > 1 else None for v in numbers]
    deviations = [b.sd for b in both if b is not None and b.sd is not None]
    places = decimals([max(deviations)], 2) if any(deviations) else decimals([b.mean for b in both if b])
    return [f"{fixed(b.mean, places)} ± {fixed(b.sd, places)}" if b else "–" for b in both]


def lines(
    records: Sequence[Record], drawn: Sequence[Look], of: Callable[[Record], tuple[Any, Any] | None]
) -> list[charts.Series]:
    """A line (x, y) for each run that has one.

    For many runs there is one line per configuration, the mean over those of its seeds that have the same x as the first.
    """
    groups = [[i] for i in range(len(records))] if len(records) <= MANY else by_configuration(records).values()
    series = []
    for members in groups:
        drawable = [line for i in members if (line := of(records[i])) is not None]
        if drawable:
            x, look = drawable[0][0], drawn[members[0]]
            y = np.mean([y for other, y in drawable if np.array_equal(other, x)], axis=0)
            series.append(charts.Series(look.label, x, y, look.color, width=1.4))
    return series


def kl_distortion_section(
    records: Sequence[Record], differing: Mapping[str, Sequence[Any]], drawn: Sequence[Look]
) -> Section | None:
    """KL against distortion, a point per run (Alemi et al. 2018), for two or more runs evaluated on the same examples."""
    terms = [{} if r.evaluation is None else r.evaluation["terms"] for r in records]
    traded, joined = traded_groups(records, differing, drawn, [(t.get("kl"), t.get("distortion")) for t in terms])
    if not traded:
        return None
    picture = charts.kl_distortion(traded, joined)
    caption = (
        "Each point is a run: the KL term of its bound (the rate of the code) against its distortion, -E log p(x|z). Their sum "
        "is an upper bound of -log p(x). It is constant along a gray line, and lower toward the lower left."
    ).replace("-", "−")
    image = page.figure(page.svg_uri(drawing.svg(picture)), caption, "Distortion against KL")
    return Section("KL and distortion", page.columns([image]), {"kl-distortion": drawing.png(picture)})


def frontier_section(
    records: Sequence[Record], differing: Mapping[str, Sequence[Any]], drawn: Sequence[Look]
) -> Section | None:
    """The variance that sparse dictionaries explain against their active units, a point per run."""
    parts = [r.part("dictionary") or {} for r in records]
    pairs = [(part.get("active_units"), part.get("variance_explained")) for part in parts]
    traded, joined = traded_groups(records, differing, drawn, pairs)
    if not traded:
        return None
    picture = charts.frontier(traded, joined)
    caption = (
        "Each point is a run: the share of the variance that it explains, against the number of units of an example."
    )
    image = page.figure(page.svg_uri(drawing.svg(picture)), caption, "Variance explained against active units")
    return Section("Frontier", page.columns([image]), {"frontier": drawing.png(picture)})


def traded_groups(
    records: Sequence[Record],
    differing: Mapping[str, Sequence[Any]],
    drawn: Sequence[Look],
    pairs: Sequence[tuple[Any, Any]],
) -> tuple[list[charts.Traded], bool]:
    """The points (x, y) of the runs that have both, a group per configuration, and whether a line should join them; none unless
    two or more were evaluated on the same examples.
    """
    shown = {i for i, (x, y) in enumerate(pairs) if is_number(x) and is_number(y)}
    if len(shown) < 2 or len({test_fingerprint(records[i]) for i in shown}) > 1:
        return [], False
    groups = [
        chosen for members in by_configuration(records).values() if (chosen := [i for i in members if i in shown])
    ]
    varied = [column for name, column in differing.items() if name != "seed"]
    # Only one number was varied: connect the points in its order.
    if joined := len(varied) == 1 and len(groups) > 2 and all(isinstance(v, (int, float)) for v in varied[0]):
        groups.sort(key=lambda members: varied[0][members[0]])
    traded = [
        charts.Traded(
            drawn[members[0]].label,
            [pairs[i][0] for i in members],
            [pairs[i][1] for i in members],
            drawn[members[0]].color,
        )
        for members in groups
    ]
    return traded, joined


def levels_section(records: Sequence[Record], drawn: Sequence[Look]) -> Section | None:
    """The runs' restoration against the level of corruption, and the corrupted input if they share it."""
    swept = [r for r in records if len(r.sweep) > 1]
    if not swept:
        return None
    shared = len({(test_fingerprint(r), level_name(r.run.experiment.sweep)) for r in swept}) == 1

    def restored(key: str) -> Callable[[Record], Any]:
        return lambda r: levels(r.sweep, "model", key) if len(r.sweep) > 1 else None

    panels, pngs = [], {}
    for key, (name, what, _) in METRICS.items():
        series = lines(records, drawn, restored(key))
        if shared:
            series.append(charts.Series("input", *levels(swept[0].sweep, "input", key), drawing.GRAY, True, 1.4))
        if any(np.isfinite(s.y).any() for s in series):
            panel = charts.panel(name, what, series, level_name(swept[0].run.experiment.sweep) if shared else "level")
            pngs[f"restoration-{key}"] = drawing.png(panel)
            panels.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{name} against the level of corruption"))
    return Section("Restoration against the level of corruption", page.panels(panels), pngs)


def curves_section(records: Sequence[Record], drawn: Sequence[Look]) -> Section | None:
    """The validation terms of all runs; the training terms if no run was validated."""
    split = "validation" if any("validation" in r.log for r in records) else "train"
    terms = dict.fromkeys(t for r in records if split in r.log for t in r.log[split])

    def logged(term: str) -> Callable[[Record], Any]:
        return lambda r: r.log.get(split, {}).get(term)

    panels, pngs = [], {}
    for term in terms:
        series = lines(records, drawn, logged(term))
        panel = charts.panel(label(term), unit(term), series, "step", settled=SETTLED)
        pngs[f"curve-{slug(term)}"] = drawing.png(panel)
        panels.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{label(term)} against the step"))
    if not panels:
        return None
    return Section("Validation during training" if split == "validation" else "Training", page.panels(panels), pngs)


def jacobian_section(records: Sequence[Record], drawn: Sequence[Look]) -> Section | None:
    """The spectra of the encoders' Jacobians, averaged over test examples."""
    series = lines(
        records,
        drawn,
        lambda r: None if (numbers := r.part("jacobian")) is None else ranked(numbers["singular_values"]),
    )
    if not series:
        return None
    panel = spectrum_panel(series)
    image = page.figure(page.svg_uri(drawing.svg(panel)), "", "Spectra of the Jacobians")
    return Section("Jacobian of the encoder", page.panels([image]), {"jacobian-spectrum": drawing.png(panel)})
