"""The command that trains a published row of the results again: reproduce."""

from __future__ import annotations

import difflib
import json
import math
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax.cli.flags import parse
from aejax.cli.training import train
from aejax.cli.using import evaluate
from aejax.errors import UsageError
from aejax.evaluation.summary import evaluation_numbers
from aejax.runs.directory import environment, finished_in, holds_runs, read_evaluation, read_json
from aejax.runs.experiment import published

COMPARED = (
    "terms/",
    "reconstruction/model/",
    "restoration/trained/model/",
    "probes/codes/",
    "bound/importance/nll",
    "codebook/",
)
"""Prefixes of the paths of numbers that belong to the model, not to baselines."""

LEVEL = 0.999
"""Coverage of the interval in which a number of another seed is expected."""


def reproduce(args: list[str]) -> int:
    def flags(name: str, /, all_seeds: bool = False, run: Path | None = None) -> None:
        """
        Args:
            name: Of a row of the results, as `vae-digits`; `list` names them all.
            all_seeds: Train every seed of the row, not only the first. A row that was trained with --seeds always has all.
            run: Where to keep the runs; by default nothing is kept.
        """

    about = "Train a published row of the results again, and compare its digest and its numbers."
    (wanted,) = parse("aejax reproduce", [flags], args, about)
    rows = published()
    if wanted["name"] == "list":
        for name, file in rows.items():
            row = json.loads(file.read_text())
            print(f"{name:<40} {len(row['seeds'])} seeds, {row['seconds']['mean']:.0f} s each  {row['command']}")
        return 0
    if wanted["name"] not in rows:
        near = difflib.get_close_matches(wanted["name"], rows, 3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"no row is called {wanted['name']}; {hint}`aejax reproduce list` names them")
    row = json.loads(rows[wanted["name"]].read_text())
    words = shlex.split(row["command"])
    if "--parent" in words and not Path(parent := words[words.index("--parent") + 1]).is_dir():
        raise UsageError(
            f"{wanted['name']} builds on the run {parent}, which is not here; train it first (`aejax train {words[2]} --help` "
            "has the command), and start this command from the same folder"
        )
    with tempfile.TemporaryDirectory() as folder:
        return _reproduced(wanted["name"], row, wanted["all_seeds"], wanted["run"] or Path(folder) / "runs")


def _reproduced(name: str, row: Mapping[str, Any], all_seeds: bool, directory: Path) -> int:
    words = shlex.split(row["command"])[2:]
    together = "--seeds" in words
    words = words if together else [word for word in words if word not in ("--seed", "S")]
    seeds = [row["seeds"][0]] if together or not all_seeds else row["seeds"]
    draws = row["metrics"].get("bound/importance/draws", {"mean": 0})["mean"]
    found: dict[int, Path] = {}
    for seed in seeds:
        runs = directory if together else directory / f"seed{seed}"
        train([*words, "--seed", str(seed), "--run", str(runs), "--no-evaluate"])
        evaluate([str(runs), "--draws", str(int(draws))])
        for run in finished_in(runs) if holds_runs(runs) else [runs]:
            found[read_json(run / "config.json", "")["seed"]] = run
    print(f"{name}: {row['command']}")
    _say_differences(row)
    return max(_compared(row, seed, run) for seed, run in found.items())


def _compared(row: Mapping[str, Any], seed: int, run: Path) -> int:
    digest = read_json(run / "result.json", "")["digest"]
    if digest == row["digests"][row["seeds"].index(seed)]:
        print(f"seed {seed}: same digest, {digest}")
        return 0
    numbers = evaluation_numbers(read_evaluation(run))
    outside = []
    compared = [path for path in row["metrics"] if path.startswith(COMPARED) and path in numbers]
    for path in compared:
        low, high = expected(row["metrics"][path], len(row["seeds"]))
        if not low <= numbers[path] <= high:
            outside.append(f"{path} is {numbers[path]:.5g}, expected from {low:.5g} to {high:.5g}")
    print(
        f"seed {seed}: another digest; {len(compared) - len(outside)} of {len(compared)} numbers lie within the row's spread"
    )
    for line in outside:
        print(f"  {line}", file=sys.stderr)
    return 1 if outside else 0


def expected(spread: Mapping[str, float | None], seeds: int) -> tuple[float, float]:
    """The interval that contains the number of one more seed with probability LEVEL, if seeds are normally distributed.

    It is Student's t interval with the row's sample standard deviation; for one seed, or seeds that agree, a hundredth of the
    number.
    """
    from scipy.stats import t

    mean, sd = float(spread["mean"] or 0.0), float(spread["sd"] or 0.0)
    margin = 0.01 * abs(mean)
    if seeds > 1:
        margin = max(margin, float(t.ppf(0.5 + LEVEL / 2, seeds - 1)) * sd * math.sqrt(1 + 1 / seeds))
    return mean - margin, mean + margin


def _say_differences(row: Mapping[str, Any]) -> None:
    now: dict[str, Any] = {**environment()["versions"], "processor": environment()["platform"]["processor"]}
    then: dict[str, Any] = {**row["versions"], "processor": row.get("processor")}
    differences: Sequence[str] = [
        f"{key} {then[key]} then, {now.get(key)} now" for key in then if then[key] != now.get(key)
    ]
    for difference in differences:
        print(f"differs: {difference}")
