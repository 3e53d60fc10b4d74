"""Generative stochastic networks: quality of samples by noise level and walkback.

    python experiments/results/gsn.py

Trains what is missing with `gsn`, whose lab note has the numbers. It can be killed and started again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aejax import load, usual_splits
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import finished_members
from aejax.runs.batched import map_examples, means
from aejax.runs.experiment import find
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings
from aejax.types import Dataset

EXPERIMENT = find("gsn")

COMPARED = 5_000
"""Maximum number of images of a split that samples are compared with, evenly spaced; distances are between all pairs."""


def study(
    data: str = "digits",
    walkbacks: tuple[int, ...] = (1, 5),
    rates: tuple[float, ...] = (0.1, 0.3),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 3_000,
    folder: Path = Path("runs/gsn"),
    out: Path | None = None,
) -> None:
    """Trains what the table needs and prints it: mean ± sd over seeds.

    Distances are Euclidean, between an image and its nearest neighbor in another set; there are as many samples as training
    images. In both columns, the distance of test images to training images is what perfect samples would have. A model that
    repeats training images would have 0 in the first column.

    Args:
        data: The data set.
        walkbacks: Lengths of the walk.
        rates: Corruption rates.
        seeds: Seeds of the runs.
        steps: Training steps of each run.
        folder: Folder of the runs.
        out: A .json for the numbers.
    """
    keep_compiled()
    train, _, test = load(data, usual_splits(data))
    seen, unseen = images(train), images(test)
    distances = distances_of(seen, unseen)
    rows = {"test images": [distances(unseen[0], seen[0])]}
    rows["a Gaussian"] = [distances(gaussian_fit(seen[0], seed)) for seed in seeds]
    for rate in rates:
        for walkback in walkbacks:
            where, name = folder / f"{data}-rate{rate:g}-walkback{walkback}", f"rate {rate:g}, walkback {walkback}"
            arguments = {"data": data, "rate": rate, "walkback": walkback, "steps": steps}
            settings = Settings(save_every=max(1, steps // 5), keep=1)
            runs = finished_members(EXPERIMENT, where, {"seed": seeds}, settings, **arguments)
            rows[name] = [measured(run, distances, len(seen[0]), test) for run in runs]
    for name, found in rows.items():
        cells = (
            f"{term} {spread.mean:.3f} ± {spread.sd or 0:.3f}" for term, v in columns(found) for spread in [mean_sd(v)]
        )
        print(f"{name:24}", "   ".join(cells))
    if out is not None:
        write_json(out, {"data": data, "seeds": list(seeds), "steps": steps, "rows": rows})


def columns(found: list[dict[str, float]]):
    return [(term, [row[term] for row in found]) for term in found[0]]


def measured(run: Run, distances, n: int, test: Dataset) -> dict[str, float]:
    """Denoising of test images and quality of samples of a run, kept in the run's folder."""
    file = run.directory / "samples.json"
    if not file.exists():
        samples = run.sample(n, run.config["seed"]).reshape(n, -1)
        write_json(file, {"denoising_nll": means(run.evaluate(test))["denoising_nll"], **distances(samples)})
    return json.loads(file.read_text())


def distances_of(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]):
    """Distances for samples [n, d].

    They are the mean distance of samples to the nearest training image, the mean distance of test images to the nearest sample
    (or other image), and the total variation between the distribution of the samples' labels, as assigned by logistic
    regression, and that of the test images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import pairwise_distances_argmin_min

    classes = np.unique(train[1])
    classifier = LogisticRegression(max_iter=1000).fit(*train)

    def law(x):
        return np.mean(classifier.predict(x)[:, None] == classes, axis=0)

    def nearest(x, others):
        return float(np.mean(pairwise_distances_argmin_min(x, others)[1]))

    def distances(samples: np.ndarray, others: np.ndarray | None = None) -> dict[str, float]:
        return {
            "to training images": nearest(samples, train[0]),
            "from test images": nearest(test[0], samples if others is None else others),
            "labels": float(0.5 * np.sum(np.abs(law(samples) - law(test[0])))),
        }

    return distances


def images(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """x [n, d] and labels [n]."""
    found = map_examples(lambda batch: {name: batch[name] for name in ("x", "label")}, data)
    every = -(-data.size // COMPARED)
    return found["x"].reshape(data.size, -1)[::every], found["label"][::every]


def gaussian_fit(x: np.ndarray, seed: int) -> np.ndarray:
    """Draws from the Gaussian with the images' mean and covariance, clipped to [0, 1]: the baseline."""
    rng = np.random.default_rng(seed)
    draws = rng.multivariate_normal(x.mean(axis=0), np.cov(x.T), len(x), method="eigh")
    return np.clip(draws, 0.0, 1.0).astype(x.dtype)


if __name__ == "__main__":
    import tyro

    tyro.cli(study)
