"""The table of deep autoencoders of curves and linear codes (Hinton & Salakhutdinov 2006).

    python experiments/results/hinton2006_curves.py

Trains what is missing with `hinton2006_curves`, whose lab note has the numbers. It can be killed and started again.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import numpy as np

from aejax.data import load, take
from aejax.errors import UsageError
from aejax.evaluation.linear import apply, pca, statistics
from aejax.evaluation.logistic_pca import codes, cross_entropy, logistic_pca, mean
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import finished
from aejax.runs.batched import means
from aejax.runs.directory import read_json
from aejax.runs.experiment import find
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings
from aejax.types import Dataset

EXPERIMENT = find("hinton2006_curves")

PAPER = {"autoencoder 6": 1.44, "logistic PCA 6": 7.64, "logistic PCA 18": 2.45, "PCA 18": 5.90}
"""Squared error per test image, for the paper's own rendering of curves."""

COMPONENTS = (6, 18)
"""Numbers of components of the linear codes."""

RESULT = Path(__file__).parent / "studies" / "hinton2006_curves.json"


def study(
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 20_000,
    iterations: int = 200,
    folder: Path = Path("runs/hinton2006_curves"),
    out: Path = RESULT,
) -> None:
    """Trains the autoencoder with each seed, fits the baselines to the same images, prints and writes the table.

    The linear encoder is the shallowest autoencoder: the model of logistic PCA, but with codes that are a linear function of
    the image.

    Args:
        seeds: Training seeds; images and baselines have no seed.
        steps: Training steps.
        iterations: Maximum number of iterations of logistic PCA.
        folder: Folder of runs and baselines.
        out: A .json for the numbers.
    """
    if not seeds:
        raise UsageError("no seeds; give one at least, such as --seeds 0")
    keep_compiled()
    train, test = load("curves")
    linear = baselines(folder / f"baselines-{iterations}.json", train, test, iterations)

    def trained(name: str, **arguments) -> list[Run]:
        settings = Settings(log_every=max(1, steps // 20), save_every=max(1, steps // 5), keep=1)
        where = [folder / f"{name}-steps{steps}-seed{s}" for s in seeds]
        return [finished(EXPERIMENT, run, settings, steps=steps, seed=s, **arguments) for run, s in zip(where, seeds)]

    def errors_of(runs: list[Run]) -> list[float]:
        return [math.prod(test.shape) * means(run.evaluate(test))["mse"] for run in runs]

    runs = trained("deep")
    results = [read_json(run.directory / "result.json", f"{run.directory} is not complete") for run in runs]
    errors = {"autoencoder 6": errors_of(runs)} | {name: [found["error"]] for name, found in linear.items()}
    for k in COMPONENTS:
        errors[f"linear encoder {k}"] = errors_of(trained(f"linear{k}", hidden=(), latent=k, lr=3e-3))
    metrics, paper = {}, {}
    for name, values in errors.items():
        metrics[f"{name}/error"] = mean_sd(values)._asdict()
        metrics[f"{name}/ratio"] = mean_sd([value / errors["PCA 18"][0] for value in values])._asdict()
        if name in PAPER:
            paper |= {f"{name}/error": PAPER[name], f"{name}/ratio": PAPER[name] / PAPER["PCA 18"]}
    print_table(metrics, paper)
    flags = f"--seeds {' '.join(map(str, seeds))} --steps {steps} --iterations {iterations}"
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "command": f"python experiments/results/{Path(__file__).name} {flags}",
        "seeds": list(seeds),
        "metrics": metrics,
        "paper": paper,
        "digests": [result["digest"] for result in results],
        "data": [train.fingerprint, test.fingerprint],
        "seconds": mean_sd([result["seconds"] for result in results])._asdict(),
        "baselines": linear,
        "machine": runs[0].config["platform"]["machine"],
        "versions": runs[0].config["versions"],
    }
    write_json(out, found)


def baselines(file: Path, train: Dataset, test: Dataset, iterations: int) -> dict[str, dict[str, float]]:
    """Squared error per test image and seconds of PCA and logistic PCA; read from the file if computed before."""
    found = json.loads(file.read_text()) if file.exists() else {}
    x_train, x_test = (
        np.asarray(take(data, np.arange(data.size))["x"]).reshape(data.size, -1) for data in (train, test)
    )
    moments = statistics(x_train)

    def linear(k: int) -> tuple[np.ndarray, dict[str, float]]:
        return apply(pca(moments, k), x_test), {}

    def logistic(k: int) -> tuple[np.ndarray, dict[str, float]]:
        fit = logistic_pca(x_train, k, iterations)
        z = codes(fit, x_test)
        nats = {"nats_train": fit.history[-1], "nats": float(cross_entropy(fit, z, x_test).mean(dtype=np.float64))}
        return mean(fit, z), {**nats, "iterations": len(fit.history) - 1}

    for method, reconstruct in (("PCA", linear), ("logistic PCA", logistic)):
        for k in COMPONENTS:
            if f"{method} {k}" in found:
                continue
            start = time.perf_counter()
            x_hat, more = reconstruct(k)
            error = float(np.square(x_hat - x_test).sum(axis=1).mean(dtype=np.float64))
            found[f"{method} {k}"] = {"error": error, **more, "seconds": time.perf_counter() - start}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, found)
    return found


def print_table(metrics: dict[str, dict[str, float]], paper: dict[str, float]) -> None:
    print("Squared error per test image, and as a share of PCA 18's; the paper's.")
    for name in (key.removesuffix("/error") for key in metrics if key.endswith("/error")):
        cells = []
        for what, digits in (("error", 2), ("ratio", 3)):
            m, published = metrics[f"{name}/{what}"], paper.get(f"{name}/{what}")
            of_paper = "" if published is None else f"{published:.{digits}f}"
            cells.append(f"{m['mean']:6.{digits}f} ± {m['sd'] or 0.0:.{digits}f}  {of_paper:>5}")
        print(f"  {name:16} " + "    ".join(cells))


if __name__ == "__main__":
    import tyro

    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"hinton2006_curves.py: error: {error}")
