"""k-sparse codes: test errors of logistic regression by k and α (Makhzani & Frey 2013).

    python experiments/results/ksparse.py

Trains what is missing with `ksparse`, whose lab note has the numbers. It can be killed and started again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aejax.data import load, take, usual_splits
from aejax.evaluation.probes import accuracy, fit_regression
from aejax.evaluation.probing import PROBE_EXAMPLES
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.objective.sparsity import active_terms
from aejax.reports.study import finished_members
from aejax.runs.batched import means
from aejax.runs.experiment import build, find, load_file
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

EXPERIMENT = find("ksparse")


def study(
    data: str = "digits",
    ks: tuple[int, ...] = (2, 5, 10, 25, 50),
    alphas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 5_000,
    latent: int = 256,
    folder: Path = Path("runs/ksparse"),
    out: Path | None = None,
) -> None:
    """Trains what the table needs and prints it.

    Args:
        data: A data set with labels.
        ks: Values of k, each a group of runs.
        alphas: Values of α, of which the one with the lowest mean validation error over seeds is chosen for each k.
        seeds: Seeds of the runs.
        steps: Training steps of each run.
        latent: Number of units.
        folder: Folder of the runs.
        out: A .json for the numbers.
    """
    keep_compiled()
    rows = []
    pixels = errors_of_probe(parts_of(data))
    print(f"{data}: logistic regression on pixels, test error {pixels['test']:.2f} %")
    print("  k  alpha  validation error %     test error %         mse   dead units")
    for k in ks:
        settings = Settings(log_every=max(1, steps // 20), save_every=steps, keep=1)
        where, fixed = folder / f"{data}-k{k}", {"data": data, "k": k, "steps": steps, "latent": latent}
        runs = finished_members(EXPERIMENT, where, {"seed": seeds}, settings, **fixed)
        tried = [{"k": k, "alpha": alpha, **measured([with_alpha(r, alpha) for r in runs], data)} for alpha in alphas]
        best = min(tried, key=lambda row: row["validation"]["mean"])
        rows += [{**row, "chosen": row is best} for row in tried]
        v, t, mse, dead = (best[name] for name in ("validation", "test", "mse", "dead_units"))
        print(
            f"{k:3} {best['alpha']:6g} {v['mean']:11.2f} ± {v['sd']:.2f} {t['mean']:11.2f} ± {t['sd']:.2f} "
            f"{mse['mean']:11.5f} {dead['mean']:8.1f}"
        )
    if out is not None:
        write_json(out, {"data": data, "seeds": list(seeds), "steps": steps, "pixels": pixels, "rows": rows})


def measured(runs: list[Run], data: str) -> dict[str, dict[str, float]]:
    """Mean and sd over runs of the errors of logistic regression on the codes in %, the mean squared error, and the number of
    dead units on the test split.
    """
    found = []
    for run in runs:
        codes = {part: (run.encode(x), labels) for part, (x, labels) in parts_of(data).items()}
        test = run.experiment.test
        active = active_terms(run.apply("active", test))
        found.append({**errors_of_probe(codes), "mse": means(run.evaluate(test))["mse"], **active})
    numbers = {name: [row[name] for row in found] for name in found[0]}
    return {name: mean_sd(v)._asdict() for name, v in numbers.items()}


def with_alpha(run: Run, alpha: float) -> Run:
    """The run with another α, which needs no training."""
    changed = build(load_file(EXPERIMENT)[1], {**run.config["source"]["arguments"], "alpha": alpha})
    return Run(run.directory, run.config, changed, run.state)


def parts_of(data: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """x and labels of each split; at most as many training examples as a probe uses, evenly spaced."""
    found = {}
    for part, split in zip(("train", "validation", "test"), load(data, usual_splits(data))):
        n = min(split.size, PROBE_EXAMPLES) if part == "train" else split.size
        examples = take(split, np.linspace(0, split.size - 1, n).astype(np.int64))
        found[part] = examples["x"], examples["label"]
    return found


def errors_of_probe(representation: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Errors in % on the validation and test splits of logistic regression fitted to the training split."""
    classify = fit_regression(*representation["train"])
    return {part: 100 * (1 - accuracy(classify(z), y)) for part, (z, y) in representation.items() if part != "train"}


if __name__ == "__main__":
    import tyro

    tyro.cli(study)
