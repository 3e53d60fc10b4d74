"""The table of stacked denoising autoencoders (Vincent et al. 2010), from data to test errors with confidence intervals.

    python experiments/results/vincent2010.py

Trains what is missing with `vincent2010`, whose lab note has the numbers. It can be killed and started again.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aejax import load, usual_splits
from aejax.files import write_json
from aejax.reports.study import finished, interval, proportion_interval
from aejax.runs.batched import map_examples, means
from aejax.runs.experiment import find
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

EXPERIMENT = find("vincent2010")

PAPER = {
    "rectangles": {"svm": 2.15, "svm refitted": 2.15, "sae": 2.41, "sdae": 1.99},
    "convex": {"svm": 19.13, "svm refitted": 19.13},
}
"""Vincent et al. 2010, Table 3, test error in %, each on one training set."""

EPOCHS = {"rectangles": ((60, 100, 100), 60), "convex": ((15, 25, 25), 75)}
"""Epochs of each layer's pretraining, and of fine-tuning. Convex has six times as many images."""

LEARNING_RATES = (0.02, 0.1, 0.1)

RANDOM = [
    {"optimizer": "sgd", "lr": 0.1, "scale": 8.0},
    {"optimizer": "adam", "lr": 1e-4, "scale": 4.0},
    {"optimizer": "adam", "lr": 1e-4, "scale": 8.0},
    {"optimizer": "adam", "lr": 1e-4, "scale": 16.0},
    {"optimizer": "adam", "lr": 3e-4, "scale": 8.0},
]
"""Choices for random initialization: optimizer, learning rate, scale of the weights."""

RANDOM_EPOCHS = {"rectangles": 120, "convex": 45}
"""Epochs of training from a random initialization. On rectangles 320 gave the same errors."""

TUNED_ON = {"rectangles": 2, "convex": 1}
"""Number of training sets, the first ones, on which it chooses: one of rectangles has 200 validation images, one of convex
2000."""


def study(
    data: Literal["rectangles", "convex"] = "rectangles",
    data_seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    folder: Path = Path("runs/vincent2010"),
    out: Path | None = None,
) -> None:
    """Trains what the table needs and prints it.

    Args:
        data: The data set; each data seed is another training set with the same test images.
        data_seeds: Training sets.
        rates: Noise levels; 0 is the stacked plain autoencoder.
        folder: Folder of the runs.
        out: A .json for the numbers.
    """
    keep_compiled()
    rows: dict[str, list[dict[str, float]]] = {}
    tuned = tune_random(data, data_seeds[: TUNED_ON[data]], folder)
    for s in data_seeds:
        name, where = f"{data}/{s}", folder / f"{data}-{s}"
        for row, machine in cached(where / "svm.json", partial(svm, name)).items():
            rows.setdefault(row, []).append(machine)
        for rate in rates:
            make = partial(stacked, name, where, rate, data, s)
            rows.setdefault(f"rate {rate:g}", []).append(cached(where / f"rate{rate:g}.json", make))
        rows.setdefault(f"random {described(tuned)}", []).append(from_random(data, s, tuned, folder))
    found = table(rows, data, data_seeds)
    if out is not None:
        write_json(out, found)


def stacked(name: str, where: Path, rate: float, data: str, seed: int) -> dict[str, float]:
    """Errors of the classifier on three layers pretrained with this noise level."""
    epochs, tuning = EPOCHS[data]
    parent, batch = "", 20
    for i, (passes, lr) in enumerate(zip(epochs, LEARNING_RATES)):
        run = where / f"rate{rate:g}-layer{i + 1}"
        steps = passes * training_examples(name) // batch
        trained(run, steps, data=name, parent=parent, rate=rate, lr=lr, seed=seed)
        parent = str(run)
    steps = tuning * training_examples(name) // batch
    run = where / f"rate{rate:g}-supervised"
    return errors(trained(run, steps, data=name, stage="supervised", parent=parent, lr=0.1, seed=seed))


def tune_random(data: str, data_seeds: tuple[int, ...], folder: Path) -> dict:
    """The choice with the lowest mean validation error on the first training sets."""

    def measured(choice):
        return np.mean([from_random(data, s, choice, folder)["validation"] for s in data_seeds])

    return min(RANDOM, key=measured)


def from_random(data: str, data_seed: int, choice: dict, folder: Path) -> dict[str, float]:
    """Errors of the same net without pretraining."""
    name, run = f"{data}/{data_seed}", folder / f"{data}-{data_seed}" / f"random-{described(choice).replace(' ', '-')}"

    def make():
        steps = RANDOM_EPOCHS[data] * training_examples(name) // 20
        return errors(trained(run, steps, data=name, stage="supervised", seed=data_seed, **choice))

    return cached(run.parent / f"{run.name}.json", make)


def described(choice: dict) -> str:
    return f"{choice['optimizer']} lr={choice['lr']:g} scale={choice['scale']:g}"


def trained(run: Path, steps: int, **arguments) -> Run:
    settings = Settings(log_every=max(1, steps // 20), save_every=max(1, steps // 10), keep=1)
    return finished(EXPERIMENT, run, settings, steps=steps, **arguments)


def training_examples(name: str) -> int:
    return load(name, usual_splits(name)[:1])[0].size


def errors(run: Run) -> dict[str, float]:
    """Errors in % after the last step, on the validation split, by which choices are made, and on the test split."""
    name = run.config["data"]["name"]
    parts = zip(("validation", "test"), load(name, usual_splits(name))[1:])
    return {part: 100 * means(run.evaluate(data))["error"] for part, data in parts}


def svm(name: str) -> dict[str, dict[str, float]]:
    """Errors of a support vector machine with a radial kernel, chosen from a grid on the validation split.

    The chosen one is also trained on both splits, which the nets are not.
    """
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.svm import SVC

    sets = [map_examples(lambda b: {k: b[k] for k in ("x", "label")}, d) for d in load(name, usual_splits(name))]
    (x, y), (x_val, y_val), (x_test, y_test) = ((s["x"].reshape(len(s["x"]), -1), s["label"]) for s in sets)

    def kernel(a, b, gamma):  # kernel as a matrix product: libsvm takes minutes for the test split
        return np.exp(-gamma * euclidean_distances(a, b, squared=True))

    def fitted(x, y, c, gamma):
        machine = SVC(C=c, kernel="precomputed").fit(kernel(x, x, gamma), y)

        def error(x_seen, y_seen):
            parts = [machine.predict(kernel(x_seen[i : i + 2000], x, gamma)) for i in range(0, len(x_seen), 2000)]
            return 100 * float(np.mean(np.concatenate(parts) != y_seen))

        return error

    grid = [(c, gamma) for c in (1.0, 10.0, 100.0) for gamma in (0.01, 0.02, 0.05, 0.1)]
    errors = {choice: fitted(x, y, *choice)(x_val, y_val) for choice in grid}
    best = min(grid, key=errors.__getitem__)
    found = fitted(x, y, *best)(x_test, y_test)
    refitted = fitted(np.concatenate([x, x_val]), np.concatenate([y, y_val]), *best)(x_test, y_test)
    return {
        "svm": {"validation": errors[best], "test": found},
        "svm refitted": {"validation": errors[best], "test": refitted},
    }


def table(rows: dict[str, list[dict[str, float]]], data: str, data_seeds: tuple[int, ...]) -> dict:
    """Prints every method's mean over training sets, and paired differences between the chosen ones."""
    validation = {name: float(np.mean([r["validation"] for r in found])) for name, found in rows.items()}
    test = {name: [r["test"] for r in found] for name, found in rows.items()}
    # By the mean over training sets, because 200 validation images cannot rank good settings.
    noisy = min((name for name in rows if name.startswith("rate") and name != "rate 0"), key=validation.__getitem__)
    random = next(name for name in rows if name.startswith("random"))
    chosen = {"svm": "svm", "svm refitted": "svm refitted", "sae": "rate 0", "sdae": noisy, "random": random}
    n = load(data, ("test",))[0].size

    print(f"{data}: test error in %, training sets {', '.join(map(str, data_seeds))}")
    spread: dict[str, dict[str, Any]] = {}
    for name, errors_ in test.items():
        mean, half = interval(errors_)
        spread[name] = {"test": errors_, "validation": validation[name], "mean": mean, "interval": half}
        each = " ".join(f"{e:.2f}" for e in errors_)
        print(f"  {name:40} {mean:6.2f} ± {half:.2f}   validation {validation[name]:6.2f}   each {each}")
    methods = {}
    for method, name in chosen.items():
        mean = spread[name]["mean"]
        sampling = 100 * proportion_interval(mean / 100, n)
        methods[method] = {"row": name, "mean": mean, "test_interval": sampling, "paper": PAPER[data].get(method)}
        print(
            f"{method:7} {mean:6.2f}   one training set's ±{sampling:.2f} on {n} images   paper {PAPER[data].get(method)}"
        )
    differences = {}
    for other in ("sae", "random", "svm", "svm refitted"):
        pairs = np.subtract(test[chosen["sdae"]], test[chosen[other]])
        mean, half = interval(pairs.tolist())
        differences[f"sdae - {other}"] = {"each": pairs.tolist(), "mean": mean, "interval": half}
        print(f"sdae - {other}: {mean:+.2f} ± {half:.2f} (95 %, paired over training sets)")
    return {
        "data": data,
        "data_seeds": list(data_seeds),
        "rows": spread,
        "methods": methods,
        "differences": differences,
    }


def cached(file: Path, make) -> dict[str, Any]:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, make())
    return json.loads(file.read_text())


if __name__ == "__main__":
    import tyro

    tyro.cli(study)
