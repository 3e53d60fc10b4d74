"""Mean ± sd over the seeds of a group: `summary.json` and a table, one column for each setting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from aejax.files import write_json
from aejax.runs.directory import GROUP, finished_in, read_config, read_json


def summarize(directory: Path) -> dict[str, Any]:
    """Writes and returns `summary.json` from the members' `result.json` and, where they were evaluated, `eval.json`.

    `settings` holds, for each combination of what varies besides the seed, the seeds and every number's mean, sample
    standard deviation (None for a single seed) and values. A member without a result is named in `unfinished`.
    """
    group = read_json(directory / GROUP, f"{directory} is not a group of runs")
    finished = [run.name for run in finished_in(directory)]
    by_setting: dict[tuple, list[str]] = {}
    for name in finished:
        varied = read_config(directory / name)["member"]
        by_setting.setdefault(tuple((k, v) for k, v in varied.items() if k != "seed"), []).append(name)
    summary = {
        "unfinished": [name for name in group["members"] if name not in finished],
        "settings": [
            {
                "varied": dict(setting),
                "seeds": [read_config(directory / name)["seed"] for name in names],
                "metrics": _spread([_numbers(directory / name) for name in names]),
            }
            for setting, names in by_setting.items()
        ],
    }
    write_json(directory / "summary.json", summary)
    return summary


def print_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """The numbers of summary.json on standard output, for a person."""
    settings = summary["settings"]
    titles = [", ".join(f"{k} {v:g}" for k, v in setting["varied"].items()) for setting in settings]
    counts = ", ".join(sorted({str(len(setting["seeds"])) for setting in settings}))
    table = Table("", *titles, title=f"{directory}: mean ± sd over {counts} seeds")
    for name in settings[0]["metrics"]:
        if name.split()[-1] in ("ssim", "psnr", "seconds", "train_examples", "components"):  # in the file
            continue
        table.add_row(name, *(_cell(setting["metrics"].get(name)) for setting in settings))
    console = Console()
    console.print(table)
    if summary["unfinished"]:
        console.print(f"not complete: {', '.join(summary['unfinished'])}", highlight=False)


def _numbers(run: Path) -> dict[str, float]:
    """Every number of result.json's metrics and of eval.json, by path."""
    result = read_json(run / "result.json", f"{run} is not complete")
    found = {f"validation {name}": value for name, value in result["metrics"].items()}
    found |= {"seconds": result["seconds"]}
    if (run / "eval.json").exists():
        judged = read_json(run / "eval.json", f"{run} was not evaluated")
        for part in ("terms", "reconstruction", "restoration", "probes", "robustness", "activity", "jacobian"):
            if part in judged:  # an eval.json of an older version lacks some
                found |= _flat(judged[part], "test" if part == "terms" else part)
    return found


def _flat(value: Any, path: str) -> dict[str, float]:
    if isinstance(value, bool) or value is None or isinstance(value, (str, list)):
        return {}  # a list is the sweep over levels, which the report draws
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{path} {name}").items()}
    return {path: float(value)}


def _spread(rows: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, sd and values of each number that all rows have."""
    names = [name for name in rows[0] if all(name in row and row[name] is not None for row in rows)]
    spread = {}
    for name in names:
        values = [row[name] for row in rows]
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        spread[name] = {"mean": float(np.mean(values)), "sd": sd, "values": values}
    return spread


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['mean']:.5g}" if row["sd"] is None else f"{row['mean']:.5g} ± {row['sd']:.2g}"
