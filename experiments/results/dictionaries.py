"""Kinds of sparse dictionaries against features that are known: several seeds, beside the published numbers at full scale.

    python experiments/results/dictionaries.py
    python experiments/results/dictionaries.py --scale full --seeds 1

Trains and evaluates what is missing under runs/dictionaries/, then writes studies/dictionaries-SCALE.json beside this file and
docs/pages/studies/dictionaries.md. It can be killed and started again.

The data are `synthetic_features`, after SynthSAEBench (Chanin & Garriga-Alonso 2026). What is scaled at 1/16:

| | full | 1/16 |
|---|---|---|
| features | 16384 | 1024 |
| features of an example | 34 | 7.3 |
| dimensions | 768 | 256 |
| units | 4096 | 256 |
| active units (aimed at) | 25 | 5 |
| prefixes | 128, 512, 2048 | 8, 32, 128 |
| examples | 2·10⁸ | 6·10⁶ |

The batch of 1024 is not scaled, nor are probabilities, trees, correlation and magnitudes. At 1/16 a run takes one to three
minutes on 2 CPU cores; at full scale 7.5·10¹⁵ FLOP, half a day of two cores for each run, or some minutes of a large GPU.
"""

import math
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from aejax.errors import UsageError
from aejax.evaluation import evaluate
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, finished, markdown, put_between
from aejax.runs.directory import read_evaluation, read_json
from aejax.runs.experiment import find
from aejax.runs.opening import open_run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- dictionaries: made by results/dictionaries.py -->", "<!-- end of dictionaries -->"


class Scale(NamedTuple):
    """Sizes, and the weights with which the kinds that have one come near the number of active units."""

    data: str
    units: int
    k: float
    prefixes: tuple[int, ...]
    steps: int
    lr: float
    revive: int
    weights: dict[str, float]


SCALES = {
    "sixteenth": Scale(
        "synthetic_features/1024x256",
        256,
        5.0,
        (8, 32, 128),
        6_000,
        1e-3,
        1_000_000,
        {"relu_l1": 2.1, "gated": 3.5, "jump_relu": 20.0},
    ),
    "full": Scale(
        "synthetic_features",
        4096,
        25.0,
        (128, 512, 2048),
        195_312,
        3e-4,
        10_000_000,
        {"relu_l1": 2.1, "gated": 3.5, "jump_relu": 20.0},
    ),
}

PUBLISHED = {
    "Matryoshka": (".8793 ± .0021", ".7927"),
    "BatchTopK": (".7316 ± .0010", ".7574"),
    "JumpReLU": (".7317 ± .0034", ".7527"),
    "L1": (".5562 ± .0020", ".6039"),
    "matching pursuit": (".4464 ± .0044", ".6930"),
}
"""F1 and MCC at full scale, with 25 active units of 4096."""


def rows(scale: Scale) -> dict[str, dict[str, Any]]:
    """Name -> arguments of `dictionary.py`."""
    return {
        "Matryoshka": {"kind": "batch_top_k", "prefixes": scale.prefixes},
        "BatchTopK": {"kind": "batch_top_k"},
        "JumpReLU": {
            "kind": "jump_relu",
            "weight": scale.weights["jump_relu"],
            "start": 1.0,
            "bandwidth": 0.3,
            "lr": 3 * scale.lr,  # thresholds rise by about the learning rate in a step
        },
        "TopK": {"kind": "relu_top_k"},
        "gated": {"kind": "gated", "weight": scale.weights["gated"]},
        "L1": {"kind": "relu_l1", "weight": scale.weights["relu_l1"]},
        "matching pursuit": {"kind": "matching_pursuit"},
    }


def study(
    scale: Literal["sixteenth", "full"] = "sixteenth",
    seeds: int = 5,
    steps: int | None = None,
    only: tuple[str, ...] = (),
    directory: Path = Path("runs/dictionaries"),
    root: Path = ROOT,
) -> None:
    """Runs the study.

    Args:
        scale: Sizes, see above.
        seeds: Number of seeds per row.
        steps: Training steps, if not those of the scale.
        only: Rows to run; all by default.
        directory: Folder of the runs.
        root: Root of the repository, in which numbers and the page of the study are written.
    """
    keep_compiled()
    setting = SCALES[scale] if steps is None else SCALES[scale]._replace(steps=steps)
    chosen = {name: row for name, row in rows(setting).items() if name in (only or rows(setting))}
    found: dict[str, Any] = {}
    for seed in range(seeds):  # all rows of a seed before the next one
        for name, arguments in chosen.items():
            found.setdefault(name, []).append(numbers(directory / scale / name / str(seed), setting, seed, arguments))
    result = {
        "scale": scale,
        "seeds": seeds,
        "steps": setting.steps,
        "rows": {
            name: {
                "arguments": chosen[name],
                "digests": [run["digest"] for run in runs],
                **{key: mean_sd([run[key] for run in runs])._asdict() for key in COLUMNS},
            }
            for name, runs in found.items()
        },
        "baselines": next(iter(found.values()))[0]["baselines"],
    }
    (root / "experiments" / "results" / "studies").mkdir(parents=True, exist_ok=True)
    write_json(root / "experiments" / "results" / "studies" / f"dictionaries-{scale}.json", result)
    shown = table(result)
    put_between(root / "docs" / "pages" / "studies" / "dictionaries.md", BEGIN, END, "Sparse dictionaries", shown)
    print(shown)


COLUMNS = {
    "f1": ("F1", 3, 1),
    "mcc": ("MCC", 3, 1),
    "uniqueness": ("uniqueness", 3, 1),
    "absorption": ("absorption, %", 1, 100),
    "variance_explained": ("variance explained", 3, 1),
    "active_units": ("active units", 2, 1),
    "dead_units": ("dead units", 1, 1),
    "seconds": ("training, s", 0, 1),
}
"""Column -> heading, number of decimals, and factor."""


def numbers(directory: Path, scale: Scale, seed: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one run, for COLUMNS, its digest, and the baselines on its data."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    run = finished(
        find("dictionary"),
        directory,
        Settings(save_every=scale.steps),
        data=scale.data,
        latent=scale.units,
        k=scale.k,
        revive=0 if arguments["kind"] == "matching_pursuit" else scale.revive,
        batch_size=1024,
        steps=scale.steps,
        seed=seed,
        **{"lr": scale.lr, **arguments},
    )
    if not (run.directory / "eval.json").exists():
        evaluate(open_run(run.directory, with_data=True), quick=True)
    result = read_json(run.directory / "result.json", "")
    evaluation = read_evaluation(run.directory)
    found = evaluation["dictionary"]
    return {
        **{key: found["truth"][key] for key in ("f1", "mcc", "uniqueness")},
        "absorption": math.nan if found["truth"]["absorption"] is None else found["truth"]["absorption"],
        "variance_explained": found["variance_explained"],
        "active_units": found["active_units"],
        "dead_units": evaluation["sparsity"]["dead_units"],
        "seconds": result["seconds"],
        "digest": result["digest"],
        "baselines": found["baselines"],
    }


def table(result: dict[str, Any]) -> str:
    """The rows in Markdown, with the published numbers."""
    rows: dict[str, list[str]] = {}
    for name, row in result["rows"].items():
        cells = [cell(row[key], digits, times) for key, (_, digits, times) in COLUMNS.items()]
        rows[name] = [*cells, *PUBLISHED.get(name, ("–", "–"))]
    for kind, title in (("random", "random directions"), ("pca", "PCA")):
        known = result["baselines"].get(kind, {})
        shown = [f"{known[key] * COLUMNS[key][2]:.{COLUMNS[key][1]}f}" if key in known else "–" for key in COLUMNS]
        rows[title] = [*shown, "–", "–"]
    heads = [heading for heading, _, _ in COLUMNS.values()] + ["published F1, full scale", "published MCC, full scale"]
    lines = markdown("", heads, rows)
    about = f"{result['steps']} steps of 1024 examples, {result['seeds']} seeds, mean ± sd; 100 000 test examples."
    return "\n".join([*lines, "", about, ""])


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"dictionaries.py: error: {error}")
