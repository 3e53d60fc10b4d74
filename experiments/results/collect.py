"""Makes a committed result from run directories that differ only in their seed, and the table of all results.

    for s in 0 1 2 3 4; do aejax train dae --seed $s --run runs/dae-digits-$s; done
    python experiments/results/collect.py dae-digits runs/dae-digits-*

Writes experiments/results/NAME.json and, from all of these, the tables between the markers in experiments/README.md.
Without arguments it only makes the tables again.
"""

import json
import sys
from pathlib import Path

import tyro

from aejax.errors import UsageError
from aejax.evaluation.summary import evaluation_numbers
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, markdown, put_between
from aejax.runs.directory import read_config, read_evaluation, read_json
from aejax.runs.experiment import command_of

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- results: made by results/collect.py -->", "<!-- end of results -->"


def collect(name: str = "", runs: tuple[Path, ...] = (), /, paper: str = "") -> None:
    """Makes NAME.json and the tables.

    Args:
        name: Of the result, e.g. dae-digits.
        runs: Finished and evaluated run directories that differ only in their seed.
        paper: The paper's number to stand beside, with its source; empty where it has none that compares.
    """
    if runs:
        write_json(RESULTS / f"{name}.json", summary(runs, paper))
    results = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    put_between(README, BEGIN, END, "Results", tables(results))


def summary(runs: tuple[Path, ...], paper: str) -> dict:
    """Mean and sd (n - 1) over the seeds of every number in eval.json, with all that tells where they came from."""
    configs = [read_config(run) for run in runs]
    first = {k: v for k, v in configs[0]["source"]["arguments"].items() if k != "seed"}
    for run, config in zip(runs, configs):
        others = {k: v for k, v in config["source"]["arguments"].items() if k != "seed"}
        if others != first or config["source"]["sha256"] != configs[0]["source"]["sha256"]:
            raise UsageError(f"{run} and {runs[0]} differ in more than the seed; collect them under two names")
    results = [read_json(run / "result.json", f"{run} is not complete") for run in runs]
    evaluations = [read_evaluation(run) for run in runs]
    stray = next((r for r, e, f in zip(runs, evaluations, results) if e["digest"] != f["digest"]), None)
    if stray is not None:
        raise UsageError(f"{stray}: eval.json is not of the parameters in result.json; run `aejax evaluate {stray}`")
    numbers = [evaluation_numbers(evaluation) for evaluation in evaluations]
    return {
        "command": command_of(configs[0]["source"]["file"], first),
        "seeds": [config["seed"] for config in configs],
        "metrics": {k: mean_sd([n[k] for n in numbers])._asdict() for k in numbers[0]},
        "corruption": (evaluations[0]["restoration"] or {}).get("corruption"),
        "paper": paper or None,
        "digests": [result["digest"] for result in results],
        "seconds": mean_sd([result["seconds"] for result in results])._asdict(),
        "machine": configs[0]["platform"]["machine"],
        "versions": configs[0]["versions"],
    }


def tables(results: dict[str, dict]) -> str:
    """Restoration, codes, and how to make each row again; over all results."""

    def rows(columns, of=""):
        """Cells of the results that have the metric `of`; a column is a metric, its places, and what it is multiplied by."""
        return {
            name: [cell(r["metrics"][key], *how) if key in r["metrics"] else "" for key, *how in columns]
            for name, r in results.items()
            if not of or of in r["metrics"]
        }

    lines = ["**Reconstruction and restoration of test images**, MSE per dimension × 1000, mean ± sd over seeds.", ""]
    restored = [f"restoration/sweep/0.3/{method}/mse" for method in ("model", "pca", "optimal_linear", "input")]
    lines += markdown(
        "",
        ["clean: model", "clean: PCA", "masked 30 %: model", "PCA", "optimal linear", "corrupted input"],
        rows([(key, 2, 1000) for key in ("reconstruction/model/mse", "reconstruction/pca/mse", *restored)]),
    )
    lines += ["", "**Codes**, test accuracy in %, mean ± sd over seeds; PCA with as many components as the code.", ""]
    probes = ("logistic_regression", "nearest_neighbors")
    lines += markdown(
        "",
        ["logistic regression: codes", "PCA", "raw", "nearest neighbors: codes", "PCA", "raw"],
        rows([(f"probes/{which}/{probe}", 2, 100) for probe in probes for which in ("codes", "pca", "raw")]),
    )
    lines += ["", "**Variational models**, test split, nats per example, mean ± sd over seeds.", ""]
    bounds = ("bound/importance/nll", "terms/nelbo", "terms/kl", "bound/active_units")
    lines += markdown(
        "",
        ["-log p(x), 5000 draws", "bound", "divergence", "active units"],
        rows([(key, 2) for key in bounds], of=bounds[0]),
    )
    lines += [
        "",
        "**Discrete codes**, test split, mean ± sd over seeds; the bound is of a uniform prior of the codes.",
        "",
    ]
    books = [(f"codebook/codebooks/0/{name}", digits) for name, digits in (("size", 0), ("used", 0), ("perplexity", 1))]
    lines += markdown(
        "",
        ["of codes", "used", "perplexity", "bound, bits/dim"],
        rows([*books, ("codebook/bits_per_dimension", 3)], of="codebook/codebooks/0/used"),
    )
    lines += ["", "**How each row was made.**", ""]
    made = {
        name: [", ".join(map(str, r["seeds"])), cell(r["seconds"], 0), r["paper"] or "–", f"`{r['command']} --seed S`"]
        for name, r in results.items()
    }
    lines += markdown("", ["seeds", "training, s", "paper", "command"], made)
    machines = sorted({f"{r['machine']}, jax {r['versions']['jax']}" for r in results.values()})
    return "\n".join([*lines, "", f"Machine: {'; '.join(machines)}.", ""])


if __name__ == "__main__":
    try:
        tyro.cli(collect, description=__doc__)
    except UsageError as error:
        sys.exit(f"collect.py: error: {error}")
