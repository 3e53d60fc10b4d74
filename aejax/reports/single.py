"""The page of one run, section by section. A section without data is None, or names the command that produces them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

from aejax.data import found_line
from aejax.evaluation.parts import PARTS
from aejax.evaluation.restoration import METHODS, not_better_than_the_mean
from aejax.evaluation.terms import base_of
from aejax.figures import charts, drawing, page
from aejax.figures.page import Section, Tile
from aejax.figures.tables import decimals, fixed, is_number
from aejax.figures.words import capital, label, slug, term_decimals, unit, value_text
from aejax.reports.generated import chain_section, conditions_section, samples_section
from aejax.reports.interactive import sliders_section
from aejax.reports.pictures import codes_block, filters_block, strips_section
from aejax.reports.records import Record, again, arguments, short, started, title
from aejax.runs.metrics_log import Log

SETTLED = 0.05
"""Fraction of the run after which the vertical scale of curves is chosen."""


def single_page(record: Record) -> tuple[str, dict[str, bytes]]:
    """The document, and its figures."""
    run = record.run
    parts = [
        part.section(run, record.evaluation)
        for part in PARTS
        if part.section is not None and record.evaluation is not None and record.part(part.name) is not None
    ]
    candidates = [
        numbers_section(record),
        strips_section(run, record.evaluation),
        samples_section(run),
        conditions_section(run),
        chain_section(run),
        curves_section(record),
        *parts,
        codes_section(record),
        sliders_section(run),
        origin_section(record),
    ]
    sections = [s for s in candidates if s is not None]
    pngs = {name: png for s in sections for name, png in s.pngs.items()}
    return page.page(title(record), facts(record), notices(record) + headlines(record), sections), pngs


def facts(record: Record) -> list[str]:
    config, result = record.run.config, record.result
    listed = [f"seed {config['seed']}", f"{charts.grouped(record.run.step)} steps", f"started {started(config)}"]
    if result is not None and result["seconds"]:
        listed.append(f"trained in {duration(result['seconds'])}")
    return [*listed, record.name]


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def notices(record: Record) -> str:
    """What is missing from this page, and the command that produces it."""
    run, where, lines = record.run, record.where, []
    if record.result is None:
        lines.append(
            f"This run is not complete: it stands at step {run.step} of {run.config['steps']}. "
            f"{page.code(f'aejax resume {where}')} continues it."
        )
    if record.evaluation is None:
        lines.append(
            f"This run has not been evaluated on its test split. {page.code(f'aejax evaluate {where}')} does so, "
            f"and {page.code(f'aejax report {where}')} then updates this page."
        )
    elif record.evaluation["step"] != run.step:
        lines.append(
            f"The test numbers are those of the {escape(record.evaluation['checkpoint'])} checkpoint, step "
            f"{record.evaluation['step']}; pictures and codes are those of step {run.step}. "
            f"{page.code(f'aejax evaluate {where}')} evaluates the latter."
        )
    if record.evaluation is not None and (warning := not_better_than_the_mean(record.evaluation)):
        lines.append(escape(warning))
    return "".join(page.paragraph(line, "notice") for line in lines)


def headlines(record: Record) -> str:
    """Up to four numbers with their baselines, on the test split if the run was evaluated, else on the validation split."""
    if record.evaluation is None:
        terms = record.validation.items()
        shown = [tile(capital(label(n)), f"{unit(n)}, validation", v, {}, term_decimals(n)) for n, v in terms]
        return page.tiles(shown[:4]) if shown else ""
    evaluation, restoration = record.evaluation, record.part("restoration")
    shown = []
    if restoration is not None and restoration["trained"] is not None:
        shown.append(method_tile("Restoration MSE", "per dimension", restoration["trained"], "mse"))
        shown.append(method_tile("Restoration PSNR", "dB", restoration["trained"], "psnr", 2))
    elif (clean := record.part("reconstruction")) is not None:
        shown.append(method_tile("Reconstruction MSE", "per dimension", clean, "mse"))
        shown.append(method_tile("Reconstruction PSNR", "dB", clean, "psnr", 2))
    term = record.run.experiment.monitor
    if term in evaluation["terms"]:
        beside = {}
        base = term.removeprefix("denoising_")
        if base != term and base in evaluation["terms"]:
            beside["of clean input"] = evaluation["terms"][base]
        if term in record.validation:
            beside["on validation"] = record.validation[term]
        shown.append(tile(capital(label(term)), unit(term), evaluation["terms"][term], beside, term_decimals(term)))
    if (probes := record.part("probes")) is not None:
        beside = {label(n): probes[n]["logistic_regression"] for n in ("raw", "pca") if n in probes}
        value = probes["codes"]["logistic_regression"]
        shown.append(tile("Probe accuracy", "logistic regression on the codes", value, beside, 3))
    return page.tiles(shown)


def method_tile(
    name: str, unit: str, methods: Mapping[str, Mapping[str, float | None]], metric: str, digits: int | None = None
) -> Tile:
    beside = {label(m): methods[m][metric] for m in METHODS if m in methods and m != "model"}
    return tile(name, unit, methods["model"][metric], beside, digits)


def tile(
    name: str, unit: str, value: float | None, beside: Mapping[str, float | None], digits: int | None = None
) -> Tile:
    numbers = [v for v in (value, *beside.values()) if is_number(v)]
    digits = decimals(numbers) if digits is None else digits
    return Tile(name, fixed(value, digits), unit, {n: fixed(v, digits) for n, v in beside.items()})


def numbers_section(record: Record) -> Section | None:
    """The tables of every part that has no section of its own."""
    evaluation = record.evaluation
    if evaluation is None:
        return None
    tables = [
        page.number_table(table)
        for part in PARTS
        if (result := record.part(part.name)) is not None and (part.section is None or part.name == "restoration")
        for table in part.tables(result)
    ]
    about = (
        f"{evaluation['examples']} examples of {evaluation['data']}, {evaluation['checkpoint']} checkpoint, "
        f"step {evaluation['step']}. The best of a column is blue."
    )
    return Section("Numbers on the test split", page.paragraph(escape(about)) + page.columns(tables))


def curves_section(record: Record) -> Section | None:
    """A panel per term; `denoising_nll` is drawn together with `nll`."""
    log = record.log
    terms = {t: None for split in log.values() for t in split}
    drawn, pngs = [], {}
    for base in (t for t in terms if base_of(t, terms) == t):
        panel = curves(log, base)
        pngs[f"curve-{slug(base)}"] = drawing.png(panel)
        drawn.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{label(base)} against the step"))
    if not drawn:
        return None
    caption = (
        "Training values are means since the last log point. The vertical scale is chosen without the first "
        f"{100 * SETTLED:.0f} % of the run, which may lie outside it."
    )
    if record.run.experiment.model.data.corrupt is not None:
        caption += " Training terms are of corrupted input; compare them with the validation terms of corrupted input."
    return Section("Training", page.panels(drawn) + page.paragraph(caption, "caption"), pngs)


def curves(log: Log, base: str) -> Figure:
    """A term against the step, in training and validation, with `denoising_` before its name too."""
    wanted = [
        ("train", base, "train", drawing.GRAY),
        ("validation", base, "validation", drawing.BLUE),
        ("validation", f"denoising_{base}", "validation,\ncorrupted", drawing.ORANGE),
        ("test", base, "test", drawing.BLUE),  # evaluated during training only if there is no validation split
        ("test", f"denoising_{base}", "test,\ncorrupted", drawing.ORANGE),
    ]
    series = [
        charts.Series(name, *log[split][term], color)
        for split, term, name, color in wanted
        if split in log and term in log[split]
    ]
    return charts.panel(label(base), unit(base), series, "step", settled=SETTLED)


def codes_section(record: Record) -> Section:
    codes, filters = codes_block(record.run), filters_block(record.run)
    return Section(
        "Filters and codes" if filters else "Codes",
        page.columns([block for block in (filters and filters[0], codes[0]) if block]),
        {**(filters[1] if filters else {}), **codes[1]},
    )


def origin_section(record: Record) -> Section:
    """Everything that is needed to repeat the run and to check that it is the same."""
    config, where = record.run.config, record.where
    line = again(config)
    if line is None:
        html = page.paragraph(
            f"Trained from Python, without a file: {page.code('aejax.train(experiment, directory)')}."
        )
    else:
        html = page.command(line)
    if record.result is not None:
        text = f"Digest of the parameters after step {record.result['step']}, which the second command compares:"
        html += page.command(f"aejax verify {where}")
        html += page.paragraph(f"{escape(text)}<br>{page.code(record.result['digest'])}")
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
    html += page.paragraph(f"The data: {escape(found_line(config['data']))}.")
    tables = [rows("Configuration", configuration), rows("Data", data) + rows("Environment", environment)]
    return Section("To make this run again", html + page.columns(tables))


def rows(caption: str, values: Mapping[str, Any]) -> str:
    cells = [(escape(name.replace("_", " ")), escape(value_text(value))) for name, value in values.items()]
    return page.table(caption, [], cells)
