"""Dictionaries of a network's hidden layer: a classifier of Fashion-MNIST, and what its activations are made of.

    python experiments/results/hidden_layer.py

Trains a classifier 784-512-512-10, records its last hidden layer for all images, trains dictionaries of several k on these
activations, and puts the reconstructions in the activations' place. It continues where it was stopped, under
runs/hidden_layer/, and writes studies/hidden_layer.json beside this file and a part of docs/pages/studies/dictionaries.md.
"""

import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import tyro

import aejax
from aejax.data import take
from aejax.errors import UsageError
from aejax.evaluation import evaluate, loss_recovered
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.models import classifier
from aejax.nets import MLP
from aejax.reports.study import cell, finished, markdown, put_between
from aejax.runs.experiment import find
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- hidden layer: made by results/hidden_layer.py -->", "<!-- end of hidden layer -->"

UNITS = 1024


def study(
    data: str = "fashion_mnist",
    k: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0),
    seeds: int = 3,
    steps: int = 1_500,
    directory: Path = Path("runs/hidden_layer"),
    root: Path = ROOT,
) -> None:
    """Runs the study.

    Args:
        data: Images with labels.
        k: Units that an example keeps in training.
        seeds: Number of seeds.
        steps: Training steps, of the classifier too.
        directory: Folder of the runs.
        root: Root of the repository, in which numbers and a part of the study's page are written.
    """
    keep_compiled()
    network = _classifier(data, directory / "classifier", steps)
    recorded = directory / "activations.npz"
    if not recorded.exists():
        _record(network, data, recorded)
    rows: dict[str, list[dict[str, float]]] = {}
    for kept in k:  # one by one: with a fixed k the largest units are found in half the time
        for seed in range(seeds):
            folder = directory / f"k{kept:g}" / str(seed)
            folder.parent.mkdir(parents=True, exist_ok=True)
            run = finished(
                find("dictionary"),
                folder,
                Settings(save_every=steps),
                data=str(recorded.resolve()),
                k=kept,
                latent=UNITS,
                batch_size=256,
                steps=steps,
                lr=1e-3,
                revive=100_000,
                seed=seed,
            )
            rows.setdefault(f"k = {kept:g}", []).append(_numbers(run, network))
    result = {
        "data": data,
        "steps": steps,
        "seeds": seeds,
        "units": UNITS,
        "accuracy": _accuracy(network, take(network.experiment.test, np.arange(network.experiment.test.size)), None),
        "rows": {
            name: {key: mean_sd([n[key] for n in found])._asdict() for key in COLUMNS} for name, found in rows.items()
        },
    }
    (root / "experiments" / "results" / "studies").mkdir(parents=True, exist_ok=True)
    write_json(root / "experiments" / "results" / "studies" / "hidden_layer.json", result)
    shown = table(result)
    put_between(root / "docs" / "pages" / "studies" / "dictionaries.md", BEGIN, END, "Sparse dictionaries", shown)
    print(shown)


COLUMNS = {
    "active_units": ("active units", 1, 1),
    "dead_units": ("dead units", 0, 1),
    "variance_explained": ("variance explained", 3, 1),
    "random": ("random directions", 3, 1),
    "pca": ("PCA", 3, 1),
    "recovered": ("loss recovered, %", 1, 100),
    "accuracy": ("accuracy with reconstructions, %", 2, 100),
}
"""Column -> heading, number of decimals, and factor."""


def _classifier(data: str, directory: Path, steps: int) -> Run:
    train, test = aejax.load(data)
    model = classifier(MLP((512,), 512, out_activation=nn.relu), len(train.classes or ()))
    if (directory / "result.json").exists():
        return open_run(directory, with_data=True)
    return aejax.train(aejax.fit(model, (train, test), steps=steps), directory, overwrite=True)


def _record(network: Run, data: str, path: Path) -> None:
    """The hidden layer of all images, as splits with labels."""
    arrays: dict[str, np.ndarray] = {}
    for split, images in zip(("train", "test"), aejax.load(data)):
        arrays[f"x_{split}"] = network.encode(images)
        arrays[f"label_{split}"] = take(images, np.arange(images.size))["label"]
    np.savez(path, **arrays)  # type: ignore[arg-type]  # a name could be that of an option


def _head(network: Run) -> Any:
    head = network.state.params["head"]
    return lambda h: jax.nn.log_softmax(h @ head["kernel"] + head["bias"][None])


def _numbers(run: Run, network: Run) -> dict[str, float]:
    """The numbers of one dictionary, for COLUMNS."""
    run, head = open_run(run.directory, with_data=True), _head(network)
    evaluation = evaluate(run, quick=True)
    found = evaluation["dictionary"]
    nll = lambda h, batch: -np.asarray(head(h))[np.arange(len(h)), batch["label"]]
    test = take(run.experiment.test, np.arange(run.experiment.test.size))
    return {
        "active_units": found["active_units"],
        "dead_units": evaluation["sparsity"]["dead_units"],
        "variance_explained": found["variance_explained"],
        **{kind: baseline["variance_explained"] for kind, baseline in found["baselines"].items()},
        "recovered": loss_recovered(run, run.experiment.test, nll)["recovered"],
        "accuracy": _accuracy(network, test, run.reconstruct(run.experiment.test)),
    }


def _accuracy(network: Run, test: Any, hidden: np.ndarray | None) -> float:
    """Of the classifier, with given activations or its own ones of the images."""
    h = network.encode(test["x"]) if hidden is None else hidden
    return float(np.mean(np.argmax(_head(network)(h), axis=1) == test["label"]))


def table(result: dict[str, Any]) -> str:
    rows = {
        name: [cell(row[key], digits, times) for key, (_, digits, times) in COLUMNS.items()]
        for name, row in result["rows"].items()
    }
    lines = markdown(result["data"], [heading for heading, _, _ in COLUMNS.values()], rows)
    about = (
        f"BatchTopK, {result['units']} units on the 512 of the hidden layer, {result['steps']} steps of 256 examples, "
        f"{result['seeds']} seeds, mean ± sd, test split. The classifier itself is right for {100 * result['accuracy']:.2f} %. "
        "Random directions and PCA explain their part with as many numbers for an example."
    )
    return "\n".join([*lines, "", about, ""])


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"hidden_layer.py: error: {error}")
