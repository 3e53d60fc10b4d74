"""Makes a committed result from run directories that differ only in their seed, and the tables and figure of all results.

    aejax train dae --seeds 5 --run runs/dae-digits
    python experiments/results/collect.py dae-digits runs/dae-digits/seed*

Writes experiments/results/rows/NAME.json and, from all rows, the tables between the markers in docs/pages/results.md and
experiments/README.md, and the figure docs/pages/images/rate-distortion.png. Without arguments it only makes these again.
"""

import json
import sys
from pathlib import Path

import rate_distortion
import summary as overview
import tyro

from aejax.errors import UsageError
from aejax.evaluation.bounds import MANY, enough
from aejax.evaluation.summary import evaluation_numbers
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, markdown, put_between
from aejax.runs.directory import read_config, read_evaluation, read_json
from aejax.runs.experiment import command_of

RESULTS = Path(__file__).parent
ROWS = RESULTS / "rows"
PAGES = RESULTS.parent.parent / "docs" / "pages"
README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- results: made by results/collect.py -->", "<!-- end of results -->"


def collect(name: str = "", runs: tuple[Path, ...] = (), /, paper: str = "") -> None:
    """Writes NAME.json, the tables and the figure.

    Args:
        name: Name of the result, e.g. dae-digits.
        runs: Finished and evaluated run directories that differ only in their seed.
        paper: The paper's number for comparison, with its source; empty if none is comparable.
    """
    if runs:
        write_json(ROWS / f"{name}.json", summary(runs, paper))
    results = {file.stem: json.loads(file.read_text()) for file in sorted(ROWS.glob("*.json"))}
    put_between(PAGES / "results.md", BEGIN, END, "Results", tables(results))
    put_between(README, BEGIN, END, "Results", overview.tables())
    fashion = {name: r for name, r in results.items() if name.endswith("-fashion_mnist")}
    (PAGES / "images" / "rate-distortion.png").write_bytes(rate_distortion.of_bits(fashion))
    (PAGES / "images" / "rate-distortion-codes.png").write_bytes(rate_distortion.of_codes(fashion))


def summary(runs: tuple[Path, ...], paper: str) -> dict:
    """Mean and sd (n − 1) over the seeds of every number in eval.json, with everything that identifies its origin."""
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
    together = f" --seeds {len(runs)}" if configs[0]["member"] is not None else " --seed S"
    return {
        "command": command_of(configs[0]["source"]["file"], {**first, **configs[0]["data"].get("reading", {})})
        + together,
        "seeds": [config["seed"] for config in configs],
        "metrics": {k: mean_sd([n[k] for n in numbers])._asdict() for k in numbers[0] if all(k in n for n in numbers)},
        "corruption": (evaluations[0]["restoration"] or {}).get("corruption"),
        "paper": paper or None,
        "digests": [result["digest"] for result in results],
        "seconds": mean_sd([result["seconds"] for result in results])._asdict(),
        "machine": configs[0]["platform"]["machine"],
        "processor": configs[0]["platform"].get("processor"),
        "versions": configs[0]["versions"],
    }


Results = dict[str, dict]

Columns = list[tuple[str, str, int, float]]
"""Heading, metric, number of decimals, and factor."""


def tables(results: Results) -> str:
    """Fashion-MNIST for all families, then digits by kind of model, then how each row was made."""
    fashion = {name: r for name, r in results.items() if name.endswith("-fashion_mnist")}
    digits = {name: r for name, r in results.items() if name.endswith("-digits")}
    lines = ["### Fashion-MNIST", ""]
    if fashion:
        lines += [
            "Test split, mean ± sd over seeds. A click on a heading sorts a table. −log p(x) is that of binarized images; for",
            "`cvae-quarter` it is that of the rest of an image given a quarter of it. The bound in bits is that of 256 gray",
            "levels. MSE is per dimension × 1000; models of binarized images and their PCA are measured on bits, so that their",
            "errors are not comparable with those of other rows. Restoration is from masking 30 % of the pixels, for `gsn` from",
            "salt-and-pepper noise on as many. Probes are logistic regressions on 10 000 training examples.",
            "Seconds are for all seeds of a row that were trained together, on two shared cores.",
            "",
            *_table({name: _without_density(r) for name, r in fashion.items()}, LIKELIHOODS),
            "",
            *_table(
                {name: {**r, "metrics": {**r["metrics"], "seconds": r["seconds"]}} for name, r in fashion.items()},
                FASHION,
            ),
            "",
            *_table(fashion, CODES[:3]),
            "",
        ]
    moving = {name: r for name, r in results.items() if name.endswith("-moving_fashion")}
    if moving:
        lines += [
            "### Fashion-MNIST: sequences",
            "",
            "Binarized images that move to the left or right, 20 frames of 28×28 (`moving_fashion`), nats per frame. A VAE of",
            "single frames has a bound of 240. −log p(x) is not given: of 50 draws per step only one counts.",
            "",
            *_table(moving, MOVING),
            "",
        ]
    lines += ["### Digits: reconstruction and restoration", ""]
    lines += ["MSE per dimension × 1000. Restoration is from masking, for `gsn` from salt-and-pepper noise.", ""]
    lines += [*_table(digits, RESTORATION), "", "### Digits: codes", ""]
    lines += [
        "Test accuracy in %. Baselines stand only where they saw what the model saw.",
        "",
    ]
    lines += [*_table(digits, PROBES), "", "### Digits: variational models of bits", ""]
    lines += ["Nats per example. Effective draws: median over test images.", ""]
    lines += [
        *_table({n: r for n, r in digits.items() if "bound/bits_per_dimension/nelbo" in r["metrics"]}, BOUNDS),
        "",
    ]
    lines += ["### Digits: variational models of gray images", ""]
    lines += [
        "−log p(x) is of a density: it may be negative, and compares with no probability. It is withheld where",
        "importance sampling has collapsed.",
        "",
    ]
    densities = {
        n: r
        for n, r in digits.items()
        if "bound/active_units" in r["metrics"] and "bound/bits_per_dimension/nelbo" not in r["metrics"]
    }
    lines += [*_table(densities, BOUNDS), "", "### Digits: discrete codes", ""]
    lines += ["The bound counts the codes under a uniform prior.", ""]
    lines += [*_table({n: r for n, r in digits.items() if "codebook/codebooks/0/used" in r["metrics"]}, CODES), ""]
    lines += ["### How each row was made", ""]
    made = {
        name: [
            ", ".join(map(str, r["seeds"])),
            cell(r["seconds"], 0),
            r.get("processor") or "not recorded",
            f"`{_command(r)}`",
        ]
        for name, r in results.items()
    }
    lines += markdown("", ["seeds", "training, s", "processor", "command"], made)
    machines = sorted(
        {f"{r['machine']}, aejax {r['versions']['aejax']}, jax {r['versions']['jax']}" for r in results.values()}
    )
    lines += [
        "",
        "± is the sample standard deviation over seeds (n − 1). A row that was trained with `--seeds` has the bits of that",
    ]
    lines += [
        f"program; [Keys and bits](concepts/keys.md) says what replays where. Machines: {'; '.join(machines)}.",
        "",
    ]
    return "\n".join(lines)


NLL = "bound/importance/nll"

RESTORATION: Columns = [
    ("clean: model", "reconstruction/model/mse", 2, 1000),
    ("clean: PCA", "reconstruction/pca/mse", 2, 1000),
    ("restored from 30 %: model", "restoration/sweep/0.3/model/mse", 2, 1000),
    ("optimal linear", "restoration/sweep/0.3/optimal_linear/mse", 2, 1000),
    ("corrupted input", "restoration/sweep/0.3/input/mse", 2, 1000),
]
PROBES: Columns = [
    ("logistic regression: codes", "probes/codes/logistic_regression", 2, 100),
    ("PCA", "probes/pca/logistic_regression", 2, 100),
    ("raw pixels", "probes/raw/logistic_regression", 2, 100),
    ("nearest neighbors: codes", "probes/codes/nearest_neighbors", 2, 100),
    ("raw pixels", "probes/raw/nearest_neighbors", 2, 100),
]
BOUNDS: Columns = [
    ("−log p(x)", NLL, 2, 1),
    ("draws", "bound/importance/draws", 0, 1),
    ("effective draws", "bound/importance/effective_draws", 0, 1),
    ("bound", "terms/nelbo", 2, 1),
    ("KL", "terms/kl", 2, 1),
    ("active units", "bound/active_units", 1, 1),
]
CODES: Columns = [
    ("codes", "codebook/codebooks/0/size", 0, 1),
    ("used", "codebook/codebooks/0/used", 1, 1),
    ("perplexity", "codebook/codebooks/0/perplexity", 1, 1),
    ("bound, bits per dimension", "codebook/bits_per_dimension", 3, 1),
]
LIKELIHOODS: Columns = [
    ("−log p(x), nats", NLL, 2, 1),
    *BOUNDS[1:3],
    ("bound, bits per dimension", "codebook/bits_per_dimension", 3, 1),
]
MOVING: Columns = [
    ("bound", "terms/nelbo_per_step", 1, 1),
    ("MSE × 1000", "terms/mse", 1, 1000),
    PROBES[0],
]
FASHION: Columns = [*RESTORATION[:4], *PROBES[:3], ("training, s", "seconds", 0, 1)]


def _table(results: Results, columns: Columns) -> list[str]:
    """Rows of the results that have any of the columns, and columns that any of them has."""
    shown = lambda r, metric: metric in r["metrics"] or (metric == NLL and _collapsed(r))
    columns = [column for column in columns if any(shown(r, column[1]) for r in results.values())]
    rows = {}
    for name, r in results.items():
        if not any(metric in r["metrics"] for _, metric, _, _ in columns):
            continue
        rows[name.rpartition("-")[0]] = [
            _withheld(r) if metric == NLL and _collapsed(r) else _cell(r, metric, digits, factor)
            for _, metric, digits, factor in columns
        ]
    return markdown("", [heading for heading, *_ in columns], rows)


def _cell(result: dict, metric: str, digits: int, factor: float) -> str:
    return cell(result["metrics"][metric], digits, factor) if metric in result["metrics"] else ""


def _without_density(result: dict) -> dict:
    """The result without its log-density, which is not comparable with a log-probability."""
    if "bound/bits_per_dimension/nelbo" in result["metrics"]:
        return result
    kept = {key: value for key, value in result["metrics"].items() if not key.startswith("bound/importance/")}
    return {**result, "metrics": kept}


def _collapsed(result: dict) -> bool:
    metrics = result["metrics"]
    draws, effective = (metrics.get(f"bound/importance/{name}") for name in ("draws", "effective_draws"))
    return (
        draws is not None
        and effective is not None
        and draws["mean"] >= MANY
        and effective["mean"] < enough(draws["mean"])
    )


def _withheld(result: dict) -> str:
    metrics = result["metrics"]
    draws, effective = (metrics[f"bound/importance/{name}"]["mean"] for name in ("draws", "effective_draws"))
    return f"withheld: {effective:.0f} of {draws:.0f} draws count"


def _command(result: dict) -> str:
    return result["command"] if "--seed" in result["command"] else f"{result['command']} --seed S"


if __name__ == "__main__":
    try:
        tyro.cli(collect, description=__doc__)
    except UsageError as error:
        sys.exit(f"collect.py: error: {error}")
