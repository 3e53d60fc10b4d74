"""Mean ± sd over the seeds of a group: `summary.json` with every number of the evaluation, and a table of the main ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aejax.errors import printable
from aejax.evaluation.parts import PARTS
from aejax.figures.tables import is_number, mean_sd
from aejax.figures.words import label
from aejax.files import write_json
from aejax.runs.directory import finished_in, members_in, read_config, read_evaluation, read_json
from aejax.runs.experiment import listed


def summarize(directory: Path) -> dict[str, Any]:
    """Writes and returns `summary.json` from the members' `result.json` and, if they were evaluated, `eval.json`.

    `settings` holds, for each combination of the varied arguments other than the seed, the seeds and every number's mean,
    sample standard deviation (None for a single seed) and values. Members without a result are listed in `unfinished`.
    """
    members = [str(run.relative_to(directory)) for run in members_in(directory)]
    finished = [str(run.relative_to(directory)) for run in finished_in(directory)]
    by_setting: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for name in finished:
        varied = read_config(directory / name)["member"]
        by_setting.setdefault(tuple((k, _hashable(v)) for k, v in varied.items() if k != "seed"), []).append(name)
    summary = {
        "unfinished": [name for name in members if name not in finished],
        "settings": [
            {
                "varied": dict(setting),
                "seeds": [read_config(directory / name)["seed"] for name in names],
                "metrics": _spread([numbers_of(directory / name) for name in names]),
            }
            for setting, names in by_setting.items()
        ],
    }
    write_json(directory / "summary.json", summary)
    return summary


def print_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Prints the numbers by which runs are compared, and how settings rank; of many settings, the ranking only."""
    settings, console = summary["settings"], Console(markup=False)
    columns = [_compared(directory, setting) for setting in settings]
    if len(settings) <= MOST_COLUMNS and all(column.keys() == columns[0].keys() for column in columns):
        console.print(_table_of(directory, settings, columns))
    else:
        console.print(
            f"{directory}: {len(settings)} settings; all numbers are in {directory / 'summary.json'}", highlight=False
        )
    for line in _ranking(directory, summary):
        console.print(printable(line), highlight=False, soft_wrap=True)
    if summary["unfinished"]:
        console.print(f"not complete: {', '.join(summary['unfinished'])}", highlight=False)


MOST_COLUMNS = 6
"""More settings than this are too wide for a terminal."""

MOST_RANKED = 10


def _table_of(directory: Path, settings: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, str]]) -> Table:
    titles = [printable(listed(setting["varied"])) for setting in settings]
    counts = ", ".join(sorted({str(len(setting["seeds"])) for setting in settings}))
    table = Table("", *titles, title=f"{directory}: mean ± sd over {counts} seeds")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(printable(name), *(column.get(name, "") for column in columns))
    return table


def _ranking(directory: Path, summary: Mapping[str, Any]) -> list[str]:
    """The settings by the monitored term on the validation split, lowest first, each with its best run.

    None without several settings, or without a validation split: the test split must not choose.
    """
    finished = finished_in(directory)
    if len(summary["settings"]) < 2:
        return []
    config = read_config(finished[0])
    if len(config["data"]["splits"]) < 3:
        return []
    name = f"validation/{config['monitor']}"
    if not all(name in setting["metrics"] for setting in summary["settings"]):  # settings that monitor different terms
        return []
    ranked = sorted(summary["settings"], key=lambda setting: setting["metrics"][name]["mean"])
    which = f", the best {MOST_RANKED} of {len(ranked)}" if len(ranked) > MOST_RANKED else ""
    lines = [f"by {label(config['monitor'])} on the validation split, lowest first{which}:"]
    for i, setting in enumerate(ranked[:MOST_RANKED], 1):
        runs = [run for run in finished if _is_of(run, setting)]
        best = min(runs, key=lambda run: numbers_of(run)[name])
        varied = listed(setting["varied"])
        lines.append(f"{i}. {varied}: {_cell(setting['metrics'][name]['values'])}  {best}")
    return lines


def numbers_of(run: Path) -> dict[str, float]:
    """Every number of result.json's metrics and of eval.json by its path, such as `restoration/sweep/0.3/model/mse`."""
    result = read_json(run / "result.json", f"{run} is not complete")
    numbers = {f"validation/{name}": value for name, value in result["metrics"].items()} | {
        "seconds": result["seconds"]
    }
    return numbers | evaluation_numbers(read_evaluation(run)) if (run / "eval.json").exists() else numbers


def evaluation_numbers(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Every number of eval.json by its path; lists of numbers, such as a spectrum, are omitted."""
    numbers: dict[str, float] = {}
    for part in PARTS:
        numbers |= _flat(evaluation.get(part.name), part.name)
    return numbers


def _flat(value: Any, path: str) -> dict[str, float]:
    if isinstance(value, list):  # rows, named by their level if they have one, or numbered
        if not all(isinstance(row, Mapping) for row in value):
            return {}
        names = [f"{row['level']:g}" if "level" in row else str(i) for i, row in enumerate(value)]
        value = {name: {k: v for k, v in row.items() if k != "level"} for name, row in zip(names, value)}
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{path}/{name}").items()}
    is_value = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {path: float(value)} if is_value else {}


def _spread(rows: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, sd and values of each number that all rows have."""
    names = [name for name in rows[0] if all(is_number(row.get(name)) for row in rows)]
    return {
        name: {**mean_sd([row[name] for row in rows])._asdict(), "values": [row[name] for row in rows]}
        for name in names
    }


def _compared(directory: Path, setting: Mapping[str, Any]) -> dict[str, str]:
    """Name of a number -> its mean ± sd as text, for the runs of one setting."""
    runs = [run for run in finished_in(directory) if _is_of(run, setting)]
    values: dict[str, list[float]] = {}
    if all((run / "eval.json").exists() for run in runs):
        for evaluation in map(read_evaluation, runs):
            for part in PARTS:
                for number in part.numbers(evaluation[part.name]) if evaluation.get(part.name) is not None else ():
                    if is_number(number.value):
                        values.setdefault(f"{number.name}, {number.unit}".rstrip(", "), []).append(float(number.value))
    else:
        names = [name for name in setting["metrics"] if name.startswith("validation/")]
        values = {label(name.replace("/", " ")): setting["metrics"][name]["values"] for name in names}
    return {name: _cell(of_runs) for name, of_runs in values.items() if len(of_runs) == len(runs)}


def _is_of(run: Path, setting: Mapping[str, Any]) -> bool:
    return {k: _hashable(v) for k, v in read_config(run)["member"].items() if k != "seed"} == setting["varied"]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _cell(values: list[float]) -> str:
    mean, sd = mean_sd(values)
    return f"{mean:.5g}" if sd is None else f"{mean:.5g} ± {sd:.2g}"
