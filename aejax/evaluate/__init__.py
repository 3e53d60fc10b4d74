"""Judging a run on its test split, each number beside baselines computed on the same examples.

    reconstruction   of clean examples: the model, PCA with as many components
    restoration      of corrupted ones, at the trained corruption and over a sweep: the corrupted input itself, the model,
                     PCA, the optimal affine denoiser
    probes           accuracy of simple classifiers on codes, raw pixels, PCA

Seeds are the run's, so that judging twice writes the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from aejax.checkpoint import digest
from aejax.corrupt import Corruption, corrupt_batch
from aejax.data import take
from aejax.evaluate import images
from aejax.evaluate.linear import Statistics, apply, optimal_linear, pca, pca_codes, statistics
from aejax.evaluate.probes import probe
from aejax.keys import evaluation_key
from aejax.run import Run, map_examples, means, write_json
from aejax.types import Dataset

PROBE_EXAMPLES = 10_000
"""Training examples that a probe sees at most, evenly spaced over the split: raw pixels would take minutes with all."""

LINEAR_DIMENSIONS = 4096
"""Examples with more dimensions have no linear baselines: their d×d matrices take gigabytes and minutes."""


def evaluate(run: Run, checkpoint: str = "last") -> dict[str, Any]:
    """Judges an opened run (with its data), writes `eval.json`, returns what it holds.

    Restoration is None for a model without a corruption and an experiment without a sweep; probes are None without
    labels; a baseline that cannot be computed is absent.
    """
    experiment, test = run.experiment, run.experiment.test
    x = np.asarray(take(test, np.arange(test.size))["x"])
    result: dict[str, Any] = {
        "step": run.step,
        "checkpoint": checkpoint,
        "digest": digest(run.state.params, run.state.extras),
        "data": test.name,
        "examples": test.size,
        "terms": means(run.evaluate(test)),
        "reconstruction": None,
        "restoration": None,
        "probes": None,
    }
    train, components = _linear_statistics(experiment.train), None
    if experiment.model.encode is not None:
        codes = run.encode(test)
        components = int(np.prod(codes.shape[1:]))
        if "label" in (test.arrays or {}):
            result["probes"] = _probes(run, codes, x, train, components)
    if experiment.model.reconstruct is not None:
        restorers: dict[str, Callable[[np.ndarray], np.ndarray]] = {"model": run.reconstruct}
        if train is not None and components is not None:
            restorers["pca"] = _clipped(pca(train, components), x)
        result["reconstruction"] = {name: _scores(x, restore(x)) for name, restore in restorers.items()}
        result["restoration"] = _restoration(run, x, train, restorers)
    write_json(run.directory / "eval.json", result)
    return result


def corrupted(run: Run, corrupt: Callable, data: Dataset) -> np.ndarray:
    """Every example of the data set under a corruption, with the run's key: the same noise at every call."""
    key = evaluation_key(run.experiment.seed, "corrupt")
    f = jax.jit(lambda x, index: corrupt_batch(corrupt, key, x, index)[0])
    return map_examples(lambda batch: f(batch["x"], batch["index"]), data)


def _restoration(run: Run, x: np.ndarray, train: Statistics | None, restorers: Mapping[str, Callable]) -> dict | None:
    """Scores at the trained corruption and at each level of the experiment's sweep."""
    experiment = run.experiment
    trained = experiment.model.corrupt
    if trained is None and not experiment.sweep:
        return None

    def at(corrupt: Callable) -> dict[str, Any]:
        x_tilde = corrupted(run, corrupt, experiment.test)
        restored = {"input": x_tilde, **{name: restore(x_tilde) for name, restore in restorers.items()}}
        if train is not None and isinstance(corrupt, Corruption):  # a user's own function tells no moments
            optimal = optimal_linear(train, corrupt.moments(experiment.test.shape))
            restored["optimal_linear"] = _clipped(optimal, x)(x_tilde)
        return {name: _scores(x, y) for name, y in restored.items()}

    return {
        "corruption": None
        if trained is None
        else trained.name
        if isinstance(trained, Corruption)
        else trained.__name__,
        "trained": None if trained is None else at(trained),
        "sweep": [{"level": level, **at(corrupt)} for level, corrupt in sorted(experiment.sweep.items())],
    }


def _scores(x: np.ndarray, y: np.ndarray) -> dict[str, float | None]:
    """Means over examples: squared error per dimension, PSNR in dB, structural similarity (None where not an image).

    The data range of both is 1 for data in [0, 1], else that of the clean test examples.
    """
    low, high = float(x.min()), float(x.max())
    data_range = 1.0 if low >= 0.0 and high <= 1.0 else high - low
    similarity = images.ssim(x, y, data_range)
    return {
        "mse": float(np.mean(images.mse(x, y))),
        "psnr": float(np.mean(images.psnr(x, y, data_range))),
        "ssim": None if similarity is None else float(np.mean(similarity)),
    }


def _clipped(affine: Any, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A linear baseline clipped to the range of the clean data, which never raises its error."""
    low, high = float(x.min()), float(x.max())
    return lambda x_tilde: np.clip(apply(affine, x_tilde), low, high)


def _linear_statistics(train: Dataset) -> Statistics | None:
    if np.prod(train.shape) > LINEAR_DIMENSIONS:
        return None
    return statistics(np.asarray(take(train, np.arange(train.size))["x"]))


def _probes(run: Run, codes: np.ndarray, x: np.ndarray, train: Statistics | None, components: int) -> dict | None:
    """None where the labels allow no probe: fewer than two classes, or none of five examples to hold one out of."""
    data = run.experiment.train
    count = min(PROBE_EXAMPLES, data.size)
    seen = take(data, np.linspace(0, data.size - 1, count).astype(np.int64))
    seen_x = np.asarray(seen["x"])
    counts = np.bincount(seen["label"])
    if np.count_nonzero(counts) < 2 or counts.max() < 5:
        return None
    representations = {"codes": (run.encode(seen_x), codes), "raw": (seen_x, x)}
    if train is not None:
        representations["pca"] = (pca_codes(train, components, seen_x), pca_codes(train, components, x))
    labels = take(run.experiment.test, np.arange(run.experiment.test.size))["label"]
    return {"train_examples": count, "components": components, **probe(representations, seen["label"], labels)}


NAMES = {"input": "corrupted input", "model": "model", "pca": "PCA", "optimal_linear": "optimal linear"}
"""As people call what eval.json holds."""


def print_table(result: Mapping[str, Any]) -> None:
    """The numbers of eval.json on standard output, for a person."""
    console = Console()
    console.print(f"{result['data']}, {result['examples']} examples, step {result['step']}", highlight=False)
    console.print("  ".join(f"{name} {value:.4g}" for name, value in result["terms"].items()), highlight=False)
    restoration = result["restoration"] or {"trained": None, "sweep": []}
    if result["reconstruction"] is not None:
        table = Table("", "", "MSE", "PSNR dB", "SSIM")
        _add(table, "clean", result["reconstruction"])
        if restoration["trained"] is not None:
            _add(table, restoration["corruption"], restoration["trained"])
        console.print(table)
    if restoration["sweep"]:
        contenders = [name for name in restoration["sweep"][0] if name != "level"]
        table = Table("MSE of restoration at level", *(NAMES[name] for name in contenders))
        for level in restoration["sweep"]:
            table.add_row(f"{level['level']:g}", *(f"{level[name]['mse']:.5f}" for name in contenders))
        console.print(table)
    if result["probes"] is not None:
        table = Table("accuracy", "logistic regression", "nearest neighbours")
        for name in ("codes", "raw", "pca"):
            if name in result["probes"]:
                accuracy = result["probes"][name]
                table.add_row(name, f"{accuracy['logistic_regression']:.3f}", f"{accuracy['nearest_neighbours']:.3f}")
        console.print(table)


def _add(table: Table, title: str, scores: Mapping[str, Mapping[str, float | None]]) -> None:
    for i, (name, score) in enumerate(scores.items()):
        similarity = "" if score["ssim"] is None else f"{score['ssim']:.3f}"
        first = title if i == 0 else ""
        table.add_row(first, NAMES[name], f"{score['mse']:.5f}", f"{score['psnr']:.2f}", similarity)
    table.add_section()
