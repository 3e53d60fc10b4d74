"""Imputation and anomaly detection on tables, beside scikit-learn's own methods.

    python experiments/results/tabular.py

Trains what is missing under runs/tabular/ (tabular.py), then writes studies/tabular.json beside this file and
docs/pages/studies/tabular.md. It can be killed and started again.

Imputation: a fifth of all values is removed at random, other ones for each seed, and every method sees only the rest.
Anomalies: a method learns from four fifths of the rows of one class, and has to tell the rest of them from rows of other classes.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # makes IterativeImputer importable
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.metrics import roc_auc_score

from aejax import open_run, train
from aejax.data import ReadAs
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, markdown, put_between
from aejax.runs.experiment import find, load_file
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- tabular: made by results/tabular.py -->", "<!-- end of tabular -->"

IMPUTED = ("wine", "breast_cancer", "diabetes")
MISSING = 0.2

ANOMALIES = {
    "breast_cancer": (lambda label: label == 1, "malignant among benign"),
    "wine": (lambda label: label == 0, "other growers' wines"),
    "digits": (lambda label: label == 3, "other digits than 3"),
}
"""Data set -> which rows are normal, and what the others are."""

OURS = {"denoising autoencoder": {"model": "dae"}, "variational autoencoder": {"model": "vae", "rate": 0.0}}


def study(seeds: int = 5, steps: int = 3_000, directory: Path = Path("runs/tabular"), root: Path = ROOT) -> None:
    """Runs the study.

    Args:
        seeds: Number of seeds: each draws other missing values, other splits and other parameters.
        steps: Training steps of each run.
        directory: Folder of the runs.
        root: Root of the repository, in which the numbers and the page of the study are written.
    """
    keep_compiled()
    warnings.filterwarnings("ignore", "The default value of `keep_empty_features`|.*Early stopping criterion")
    imputed = {name: over_seeds(imputation, name, seeds, steps, directory / "imputation" / name) for name in IMPUTED}
    detected = {name: over_seeds(anomalies, name, seeds, steps, directory / "anomalies" / name) for name in ANOMALIES}
    result = {"seeds": seeds, "steps": steps, "missing": MISSING, "imputation": imputed, "anomalies": detected}
    (root / "experiments" / "results" / "studies").mkdir(parents=True, exist_ok=True)
    write_json(root / "experiments" / "results" / "studies" / "tabular.json", result)
    text = "\n".join(tables(result))
    put_between(root / "docs" / "pages" / "studies" / "tabular.md", BEGIN, END, "Numbers", text)
    print(text)


def over_seeds(
    measure: Callable[..., dict[str, float]], name: str, seeds: int, steps: int, directory: Path
) -> dict[str, dict[str, float | None]]:
    """Method -> mean and sd of its number over seeds."""
    found = [measure(name, seed, steps, directory / str(seed)) for seed in range(seeds)]
    return {method: mean_sd([numbers[method] for numbers in found])._asdict() for method in found[0]}


def imputation(name: str, seed: int, steps: int, directory: Path) -> dict[str, float]:
    """Method -> root mean squared error of the values that were removed, in standard deviations of their columns."""
    x, _ = table(name)
    removed = np.random.default_rng(seed).random(x.shape) < MISSING
    seen = np.where(removed, np.nan, x)
    mean, sd = np.nanmean(seen, axis=0), np.nanstd(seen, axis=0)
    z = (seen - mean) / sd

    def error(completed: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square((completed - x) / x.std(axis=0))[removed])))

    numbers = {
        "mean of the column": error(np.broadcast_to(mean, x.shape)),
        "5 nearest neighbors": error(KNNImputer().fit_transform(z) * sd + mean),
        "iterative (Bayesian ridge)": error(
            IterativeImputer(max_iter=20, random_state=seed).fit_transform(z) * sd + mean
        ),
    }
    for method, arguments in OURS.items():
        run = trained({"x_train": seen, "x_test": seen}, "mask", seed, steps, directory / arguments["model"], arguments)
        numbers[method] = error(run.impute(seen))
    return numbers


def anomalies(name: str, seed: int, steps: int, directory: Path) -> dict[str, float]:
    """Method -> area under the ROC curve of its anomaly score."""
    x, label = table(name)
    rng = np.random.default_rng(seed)
    normal, other = (x[rng.permutation(np.flatnonzero(rows))] for rows in both(ANOMALIES[name][0](label)))
    learnt, held_out = np.split(normal, [4 * len(normal) // 5])
    other = other[: len(held_out)]
    mean, sd = learnt.mean(axis=0), learnt.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    z_learnt, z_tested = (learnt - mean) / sd, (np.concatenate([held_out, other]) - mean) / sd
    truth = np.repeat([0, 1], [len(held_out), len(other)])

    forest = IsolationForest(random_state=seed).fit(z_learnt)
    pca = PCA(0.9).fit(z_learnt)  # as many components as explain 90 % of the variance
    lost = np.square(z_tested - pca.inverse_transform(pca.transform(z_tested))).sum(axis=1)
    numbers = {
        "isolation forest": float(roc_auc_score(truth, -forest.score_samples(z_tested))),
        "PCA, 90 % of the variance": float(roc_auc_score(truth, lost)),
    }
    for method, arguments in OURS.items():
        data = {"x_train": learnt, "x_test": held_out}
        run = trained(data, "refuse", seed, steps, directory / arguments["model"], arguments)
        # Anomalies may lie far outside the range of the training data, which is no mistake here.
        run.any_units = True
        scores = run.score(np.concatenate([held_out, other]))
        numbers[method] = float(roc_auc_score(truth, scores))
    return numbers


def both(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows, ~rows


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n, d] and labels [n] of a data set that scikit-learn ships."""
    x, label = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.asarray(x, np.float32), label


def trained(data: dict[str, np.ndarray], missing: str, seed: int, steps: int, directory: Path, arguments: dict) -> Run:
    """A finished run on these arrays; trained if it is missing."""
    _, function = load_file(find("tabular"))
    given = ReadAs(data, standardize="zscore", missing=missing)
    experiment = function(data=given, seed=seed, steps=steps, **arguments)
    if (directory / "result.json").exists():
        return open_run(directory, experiment=experiment)
    directory.parent.mkdir(parents=True, exist_ok=True)
    return train(experiment, directory, settings=Settings(verbose=False, save_every=steps), overwrite=True)


def tables(result: dict) -> list[str]:
    """The two tables of the page."""

    def rows(found: dict, digits: int) -> dict[str, list[str]]:
        methods = next(iter(found.values()))
        return {method: [cell(numbers[method], digits) for numbers in found.values()] for method in methods}

    about = f"mean ± sd over {result['seeds']} seeds"
    names = [f"{name.replace('_', ' ')}" for name in result["imputation"]]
    lines = [f"Root mean squared error of removed values, in standard deviations of their columns; {about}:", ""]
    lines += [*markdown("", names, rows(result["imputation"], 3)), ""]
    names = [f"{name.replace('_', ' ')}: {ANOMALIES[name][1]}" for name in result["anomalies"]]
    lines += [f"Area under the ROC curve; {about}:", ""]
    return [*lines, *markdown("", names, rows(result["anomalies"], 3)), ""]


if __name__ == "__main__":
    tyro.cli(study)
