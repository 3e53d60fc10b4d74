"""The page of one run, section by section. A section without data is None, or says which command makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from aejax.reports import drawing, figures, page
from aejax.reports.discrete import discrete_section
from aejax.reports.encoder import activity_section, jacobian_section
from aejax.reports.factors import factors_section
from aejax.reports.generated import chain_section, conditions_section, samples_section
from aejax.reports.latent import latent_section
from aejax.reports.page import Column, Section, Tile
from aejax.reports.pictures import codes_section, filters_block, strips_section
from aejax.reports.records import (
    DECIMALS,
    METHODS,
    METRICS,
    Methods,
    Record,
    again,
    arguments,
    said,
    short,
    slug,
    started,
    term_decimals,
    title,
    unit,
    value_text,
)
from aejax.reports.sequences import sequences_section

SETTLED = 0.05
"""Fraction of the run after which the curves' vertical scale is chosen."""


def single_page(record: Record) -> tuple[str, dict[str, bytes]]:
    """The document, and the figures to put beside it."""
    codes = codes_section(record)
    filters = filters_block(record)
    found = [
        numbers_section(record),
        strips_section(record),
        samples_section(record),
        conditions_section(record),
        chain_section(record),
        levels_section(record),
        curves_section(record),
        latent_section(record),
        discrete_section(record),
        sequences_section(record),
        factors_section(record),
        activity_section(record),
        Section(
            "Filters and codes" if filters else "Codes",
            page.columns([block for block in (filters and filters[0], codes[0]) if block]),
            {**(filters[1] if filters else {}), **codes[1]},
        ),
        jacobian_section(record),
        origin_section(record),
    ]
    sections = [s for s in found if s is not None]
    pngs = {name: png for s in sections for name, png in s.pngs.items()}
    return page.page(title(record), facts(record), notices(record) + headlines(record), sections), pngs


def facts(record: Record) -> list[str]:
    config, result = record.run.config, record.result
    told = [f"seed {config['seed']}", f"{figures.grouped(record.run.step)} steps", f"started {started(config)}"]
    if result is not None and result["seconds"]:
        told.append(f"trained in {duration(result['seconds'])}")
    return [*told, record.name]


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def notices(record: Record) -> str:
    """What is missing from this page, and the command that makes it."""
    run, where, told = record.run, record.where, []
    if record.result is None:
        told.append(
            f"This run is not complete: it stands at step {run.step} of {run.config['steps']}. "
            f"{page.code(f'aejax resume {where}')} continues it."
        )
    if record.evaluation is None:
        told.append(
            f"This run has not been judged on its test split. {page.code(f'aejax evaluate {where}')} does so, "
            f"and {page.code(f'aejax report {where}')} then writes this page anew."
        )
    elif record.evaluation["step"] != run.step:
        told.append(
            f"The test numbers are those of the {escape(record.evaluation['checkpoint'])} checkpoint, step "
            f"{record.evaluation['step']}; pictures and codes are those of step {run.step}. "
            f"{page.code(f'aejax evaluate {where}')} judges the latter."
        )
    return "".join(page.paragraph(t, "notice") for t in told)


def headlines(record: Record) -> str:
    """Up to four numbers with their baselines: test if the run was judged, else validation."""
    if record.evaluation is None:
        terms = record.validation.items()
        found = [tile(capital(said(n)), f"{unit(n)}, validation", v, {}, term_decimals(n)) for n, v in terms]
        return page.tiles(found[:4]) if found else ""
    evaluation = record.evaluation
    found = []
    if record.trained is not None:
        trained = record.trained
        found.append(method_tile("Restoration MSE", "per dimension", trained, "mse"))
        found.append(method_tile("Restoration PSNR", "dB", trained, "psnr", 2))
    elif record.reconstruction is not None:
        found.append(method_tile("Reconstruction MSE", "per dimension", record.reconstruction, "mse"))
        found.append(method_tile("Reconstruction PSNR", "dB", record.reconstruction, "psnr", 2))
    term = record.run.experiment.monitor
    if term in evaluation["terms"]:
        beside = {}
        clean = term.removeprefix("denoising_")
        if clean != term and clean in evaluation["terms"]:
            beside["of clean input"] = evaluation["terms"][clean]
        if term in record.validation:
            beside["on validation"] = record.validation[term]
        found.append(tile(capital(said(term)), unit(term), evaluation["terms"][term], beside, term_decimals(term)))
    if evaluation["probes"] is not None:
        beside = {
            said(n): evaluation["probes"][n]["logistic_regression"] for n in ("raw", "pca") if n in evaluation["probes"]
        }
        value = evaluation["probes"]["codes"]["logistic_regression"]
        found.append(tile("Probe accuracy", "logistic regression on the codes", value, beside, 3))
    return page.tiles(found)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def method_tile(name: str, unit: str, methods: Methods, metric: str, digits: int | None = None) -> Tile:
    beside = {said(m): methods[m][metric] for m in METHODS if m in methods and m != "model"}
    return tile(name, unit, methods["model"][metric], beside, digits)


def tile(
    name: str, unit: str, value: float | None, beside: Mapping[str, float | None], digits: int | None = None
) -> Tile:
    numbers = [v for v in (value, *beside.values()) if page.is_number(v)]
    digits = page.decimals(numbers) if digits is None else digits
    return Tile(name, page.fixed(value, digits), unit, {n: page.fixed(v, digits) for n, v in beside.items()})


def numbers_section(record: Record) -> Section | None:
    evaluation = record.evaluation
    if evaluation is None:
        return None
    tables = []
    if record.trained is not None:
        tables.append(methods_table(f"Restored from {record.corruption}", record.trained))
    if record.reconstruction is not None:
        tables.append(methods_table("Reconstructed from clean input", record.reconstruction))
    tables.append(terms_table(evaluation["terms"], record.validation))
    if evaluation["probes"] is not None:
        probes = evaluation["probes"]
        names = [name for name in ("codes", "pca", "raw") if name in probes]
        columns = [
            Column(said(p), "accuracy", [probes[name][p] for name in names], "high", 3)
            for p in ("logistic_regression", "nearest_neighbors")
        ]
        if (noisy := record.robustness) is not None:
            under, moved = ([noisy[name][of] for name in names] for of in ("logistic_regression", "displacement"))
            columns.insert(1, Column(f"under {noisy['corruption']}", "accuracy", under, "high", 3))
            columns.append(Column("moved by it", "distance", moved, "low", 3))
        caption = f"Classified from, with {probes['train_examples']} training examples"
        tables.append(page.number_table(caption, [said(name) for name in names], columns, "codes"))
    about = (
        f"{evaluation['examples']} examples of {evaluation['data']}, {evaluation['checkpoint']} checkpoint, "
        f"step {evaluation['step']}. The best of a column is blue."
    )
    return Section("Numbers on the test split", page.paragraph(escape(about)) + page.columns(tables))


def methods_table(caption: str, methods: Methods) -> str:
    names = [m for m in METHODS if m in methods]
    columns = [
        Column(name, what, [methods[m][key] for m in names], best, DECIMALS[key])
        for key, (name, what, best) in METRICS.items()
    ]
    return page.number_table(caption, [said(m) for m in names], columns, "model")


def terms_table(tests: Mapping[str, float | None], validation: Mapping[str, float | None]) -> str:
    """The model's terms: `denoising_nll` is the `nll` of corrupted input, so it is a row of that column."""
    bases = [t for t in tests if base_of(t, tests) == t]
    rows = {}
    for split, terms in (("test", tests), ("validation", validation)):
        for prefix, kind in (("", ""), ("denoising_", ", corrupted")):
            values = [terms.get(prefix + b) for b in bases]
            if any(map(page.is_number, values)):
                rows[split + kind] = values
    columns = [
        Column(said(b), unit(b), [v[i] for v in rows.values()], None, term_decimals(b)) for i, b in enumerate(bases)
    ]
    return page.number_table("Terms of the model", list(rows), columns)


def base_of(term: str, terms: Mapping[str, Any]) -> str:
    clean = term.removeprefix("denoising_")
    return clean if clean in terms else term


def levels_section(record: Record) -> Section | None:
    """MSE, PSNR and SSIM against the level of corruption."""
    sweep = record.sweep
    if len(sweep) < 2:
        return None
    drawn, pngs = [], {}
    level = trained_level(record)
    mark = None if level is None else (level, "trained")
    for key, (name, what, _) in METRICS.items():
        series = [
            figures.Series(
                said(m).replace("optimal linear", "optimal\nlinear"),
                *levels(sweep, m, key),
                METHODS[m],
                dashed=m == "input",
                width=2.0 if m == "model" else 1.4,
            )
            for m in METHODS
            if m in sweep[0]
        ]
        if any(np.isfinite(s.y).any() for s in series):
            panel = figures.panel(name, what, series, level_name(record), mark)
            pngs[f"restoration-{key}"] = drawing.png(panel)
            drawn.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{name} against the level of corruption"))
    caption = (
        "The model, trained at one level, at every level of the sweep. PCA projects the corrupted input; the optimal "
        "linear map is computed anew for each level. An untouched input has an infinite PSNR, which is not drawn."
    )
    html = page.panels(drawn) + page.paragraph(caption, "caption")
    return Section("Restoration against the level of corruption", html, pngs)


def levels(sweep: list[Mapping[str, Any]], method: str, metric: str) -> tuple[list[float], list[float]]:
    """(levels, values); without those PSNRs that are capped, since they stand for infinity."""

    def drawn(value: float | None) -> float:
        return value if page.is_number(value) and not (metric == "psnr" and value > 99) else math.nan

    values = [drawn(entry[method][metric]) if method in entry else math.nan for entry in sweep]
    return [entry["level"] for entry in sweep], values


def level_name(record: Record) -> str:
    """`level of masking` where the whole sweep is of one kind."""
    names = {getattr(c, "name", "").split("(")[0] for c in record.run.experiment.sweep.values()}
    return f"level of {names.pop().replace('_', ' ')}" if len(names) == 1 and "" not in names else "level"


def trained_level(record: Record) -> float | None:
    trained = getattr(record.run.experiment.model.corrupt, "name", None)
    sweep = record.run.experiment.sweep.items()
    return next((level for level, c in sweep if trained and getattr(c, "name", None) == trained), None)


def curves_section(record: Record) -> Section | None:
    """A panel for each term; `denoising_nll` is drawn with `nll`."""
    log = record.log
    terms = {t: None for split in log.values() for t in split}
    drawn, pngs = [], {}
    for base in (t for t in terms if base_of(t, terms) == t):
        wanted = [
            ("train", base, "train", drawing.GRAY),
            ("validation", base, "validation", drawing.BLUE),
            ("validation", f"denoising_{base}", "validation,\ncorrupted", drawing.ORANGE),
            ("test", base, "test", drawing.BLUE),  # judged while training only where there is no validation split
            ("test", f"denoising_{base}", "test,\ncorrupted", drawing.ORANGE),
        ]
        series = [
            figures.Series(label, *log[split][term], color)
            for split, term, label, color in wanted
            if split in log and term in log[split]
        ]
        panel = figures.panel(said(base), unit(base), series, "step", settled=SETTLED)
        pngs[f"curve-{slug(base)}"] = drawing.png(panel)
        drawn.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{said(base)} against the step"))
    if not drawn:
        return None
    caption = (
        "Training values are means since the last log point. The scale is that of the run after its first "
        f"{100 * SETTLED:.0f} %; the start may lie beyond it."
    )
    if record.run.experiment.model.corrupt is not None:
        caption += " Training sees corrupted input, so its terms compare with those of the corrupted validation split."
    return Section("Training", page.panels(drawn) + page.paragraph(caption, "caption"), pngs)


def origin_section(record: Record) -> Section:
    """All that is needed to make the run again, and to see that it is the same."""
    config, where = record.run.config, record.where
    line = again(config)
    if line is None:
        html = page.paragraph(
            f"Trained from Python, without a file: {page.code('aejax.train(experiment, directory)')}."
        )
    else:
        html = page.command(line)
    if record.result is not None:
        told = f"Digest of the parameters after step {record.result['step']}, which the second command compares:"
        html += page.command(f"aejax verify {where}")
        html += page.paragraph(f"{escape(told)}<br>{page.code(record.result['digest'])}")
    configuration = {**arguments(config), **config["settings"]}
    if config["source"] is not None:
        configuration = {"file": config["source"]["file"], "sha256": short(config["source"]["sha256"]), **configuration}
    data = {"name": config["data"]["name"]}
    for split, about in config["data"]["splits"].items():
        shape = "×".join(map(str, about["shape"]))
        data[split] = f"{about['size']} of {shape}, sha256 {short(about['fingerprint'])}"
    if config["parent"] is not None:
        configuration["parent"] = config["parent"]
    environment = {**config["versions"], **config["platform"]}
    tables = [rows("Configuration", configuration), rows("Data", data) + rows("Environment", environment)]
    return Section("To make this run again", html + page.columns(tables))


def rows(caption: str, values: Mapping[str, Any]) -> str:
    cells = [(escape(name.replace("_", " ")), escape(value_text(value))) for name, value in values.items()]
    return page.table(caption, [], cells)
