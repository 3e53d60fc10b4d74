"""Reconstruction of clean test examples, and restoration of corrupted ones, for the training corruption and over a range of
levels.

The model is compared with the corrupted input itself, PCA, the optimal affine denoiser and the mean training example.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from aejax.data import eval_batches, take
from aejax.evaluation import images
from aejax.evaluation.baselines import cached, compresses, training_examples
from aejax.evaluation.linear import Affine, apply, optimal_linear, pca
from aejax.evaluation.part import Context, Part, Result, corruption_of, name_of
from aejax.figures.tables import Column, Number, Table, is_number
from aejax.figures.words import label
from aejax.objective.corruptions import Corruption
from aejax.runs.batched import inference_batch, map_examples, means
from aejax.runs.run import Run
from aejax.types import Batch, Corrupt, Dataset

Scores = dict[str, dict[str, float | None]]
"""Method -> metric -> mean over examples."""

METHODS = ("model", "optimal_linear", "pca", "mean", "input")
"""Methods in the order in which they are shown."""

STORED = ("input", "model", "pca", "optimal_linear", "mean")
"""Methods in the order of eval.json."""

METRICS = {"mse": ("MSE", "per dimension", "low"), "psnr": ("PSNR", "dB", "high"), "ssim": ("SSIM", "", "high")}
"""Metric -> heading, unit, and whether high or low is better."""

DECIMALS = {"mse": None, "psnr": 2, "ssim": 3}

Contender = Callable[[Batch], Any]
"""A batch whose `x` is corrupted -> its restoration."""


class _Scorer:
    """Scores of methods on one test split."""

    def __init__(self, context: Context) -> None:
        self.context, self.test = context, context.test

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The range of the clean test examples."""
        ranges = [(b["x"].min(), b["x"].max()) for b, _ in eval_batches(self.test, inference_batch(self.test))]
        return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))

    def scores(self, corrupt: Callable[[Any, Any], Any], contenders: Mapping[str, Contender]) -> Scores:
        """Means over examples of squared error per dimension, PSNR in dB, and structural similarity (None unless images).

        `corrupt` maps (x, index) to the contenders' input, the `x` of their batch. The data range of PSNR and similarity is 1
        for data in [0, 1], else that of the clean test examples.
        """
        low, high = self.extremes
        data_range = 1.0 if low >= 0.0 and high <= 1.0 else high - low

        def of_pair(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
            similarity = images.ssim(x, y, data_range)
            measured = {"mse": images.mse(x, y), "psnr": images.psnr(x, y, data_range)}
            return measured if similarity is None else {**measured, "ssim": similarity}

        def of_batch(batch: Batch) -> dict[str, dict[str, np.ndarray]]:
            x = batch["x"]
            seen = {**batch, "x": np.asarray(corrupt(x, batch["index"]))}
            return {name: of_pair(x, np.asarray(restore(seen))) for name, restore in contenders.items()}

        return {name: {"ssim": None, **means(values)} for name, values in map_examples(of_batch, self.test).items()}

    @property
    def model(self) -> dict[str, Contender]:
        return {"model": self.context.run.function("reconstruct")}

    def constant(self) -> dict[str, Contender]:
        """The mean training example, whatever the input: what a model without a code can do."""
        x = take(self.context.train, training_examples(self.context.train))["x"]
        with np.errstate(invalid="ignore"):
            mean = np.nanmean(x, axis=0, dtype=np.float64).astype(np.float32)
        return {"mean": lambda batch: np.broadcast_to(mean, batch["x"].shape)}

    def projection(self) -> dict[str, Contender]:
        train, components = self.context.statistics, self.context.components
        if train is None or components is None or not compresses(components, self.context.train):
            return {}
        return {"pca": self._clipped(pca(train, components))}

    def baselines(self, corrupt: Corrupt) -> dict[str, Contender]:
        contenders: dict[str, Contender] = {
            "input": lambda batch: batch["x"],
            **self.projection(),
            **self.constant(),
        }
        train = self.context.statistics
        if train is not None and isinstance(corrupt, Corruption):  # the moments of a user's own function are unknown
            optimal = optimal_linear(train, corrupt.moments(self.context.experiment.test.shape))
            contenders["optimal_linear"] = self._clipped(optimal)
        return contenders

    def cached(self, what: str, noise: str, make: Callable[[], Scores]) -> Scores:
        return cached((what, self.context.components, noise), [self.context.train, self.test], make)

    def _clipped(self, affine: Affine) -> Contender:
        """A linear baseline clipped to the range of the clean data, which never increases its error."""
        low, high = self.extremes
        return lambda batch: np.clip(apply(affine, batch["x"]), low, high)


def reconstruction(context: Context) -> Result:
    scorer, untouched = _Scorer(context), lambda x, index: x
    clean = scorer.scores(untouched, scorer.model)
    beside = lambda: scorer.scores(untouched, {**scorer.projection(), **scorer.constant()})
    return clean | scorer.cached("reconstruction", "", beside)


def restoration(context: Context) -> Result:
    scorer, trained = _Scorer(context), context.model.data.corrupt

    def at(corrupt: Corrupt) -> Scores:
        seen = corruption_of(context.run, corrupt)
        kind = "restoration" if isinstance(corrupt, Corruption) else "restoration without moments"
        scores = scorer.cached(kind, _noise(seen, context.test), lambda: scorer.scores(seen, scorer.baselines(corrupt)))
        scores = {**scores, **scorer.scores(seen, scorer.model)}
        return {name: scores[name] for name in STORED if name in scores}

    return {
        "corruption": None if trained is None else name_of(trained),
        "trained": None if trained is None else at(trained),
        "sweep": [{"level": level, **at(corrupt)} for level, corrupt in sorted(context.experiment.sweep.items())],
    }


def not_better_than_the_mean(evaluation: Mapping[str, Any]) -> str | None:
    """A warning if the model's reconstructions are no better than the mean training example; None otherwise."""
    scores = evaluation.get("reconstruction") or {}
    ours, mean = (scores.get(name, {}).get("mse") for name in ("model", "mean"))
    if not is_number(ours) or not is_number(mean) or ours < mean:
        return None
    return (
        f"The reconstructions are not better than the mean training example (MSE {ours:.4g} against {mean:.4g}): the model has "
        "hardly been trained, or its code says nothing about its input."
    )


def _noise(corrupt: Callable[[Any, Any], Any], test: Dataset) -> str:
    """Identifies a corruption of the test examples: sha256 of the corrupted examples."""
    digest = hashlib.sha256()
    for batch, valid in eval_batches(test, inference_batch(test)):
        digest.update(np.ascontiguousarray(corrupt(batch["x"], batch["index"])[:valid]).data)
    return digest.hexdigest()


def methods_table(caption: str, scores: Mapping[str, Mapping[str, float | None]]) -> Table:
    methods = [m for m in METHODS if m in scores]
    columns = [
        Column(name, unit, [scores[m][key] for m in methods], best, DECIMALS[key])
        for key, (name, unit, best) in METRICS.items()
    ]
    return Table(caption, [label(m) for m in methods], columns, "model")


def restoration_tables(result: Result) -> Sequence[Table]:
    tables = []
    if result["trained"] is not None:
        tables.append(methods_table(f"Restored from {result['corruption']}", result["trained"]))
    if sweep := result["sweep"]:
        levels = [f"{entry['level']:g}" for entry in sweep]
        columns = [Column(label(m), "MSE", [entry[m]["mse"] for entry in sweep]) for m in METHODS if m in sweep[0]]
        tables.append(Table("Restored from corruption of level", levels, columns))
    return tables


def restoration_numbers(result: Result) -> Sequence[Number]:
    if result["trained"] is None:
        return []
    return [
        Number(f"restoration {name}", unit, result["trained"]["model"][key], best, DECIMALS[key], True)
        for key, (name, unit, best) in METRICS.items()
    ]


def level_name(sweep: Mapping[float, Corrupt]) -> str:
    """`level of masking` if all corruptions of the sweep are of one kind."""
    names = {getattr(c, "name", "").split("(")[0] for c in sweep.values()} - {"nothing"}
    return f"level of {names.pop().replace('_', ' ')}" if len(names) == 1 and "" not in names else "level"


def levels(sweep: Sequence[Mapping[str, Any]], method: str, metric: str) -> tuple[list[float], list[float]]:
    """(levels, values), without capped PSNRs, which stand for infinity."""

    def drawn(value: float | None) -> float:
        return value if is_number(value) and not (metric == "psnr" and value > 99) else math.nan

    values = [drawn(entry[method][metric]) if method in entry else math.nan for entry in sweep]
    return [entry["level"] for entry in sweep], values


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    """MSE, PSNR and SSIM against the level of corruption."""
    from aejax.figures import charts, drawing, page

    sweep = evaluation["restoration"]["sweep"]
    if len(sweep) < 2:
        return None
    drawn, pngs = [], {}
    trained = name_of(c) if (c := run.experiment.model.data.corrupt) is not None else None
    level = next((lv for lv, c in run.experiment.sweep.items() if trained and name_of(c) == trained), None)
    mark = None if level is None else (level, "trained")
    for key, (name, unit, _) in METRICS.items():
        series = [
            charts.Series(
                label(m).replace("optimal linear", "optimal\nlinear"),
                *levels(sweep, m, key),
                drawing.METHOD_COLORS[m],
                dashed=m == "input",
                width=2.0 if m == "model" else 1.4,
            )
            for m in METHODS
            if m in sweep[0] and m != "mean"
        ]
        if any(np.isfinite(s.y).any() for s in series):
            panel = charts.panel(name, unit, series, level_name(run.experiment.sweep), mark)
            pngs[f"restoration-{key}"] = drawing.png(panel)
            drawn.append(page.figure(page.svg_uri(drawing.svg(panel)), "", f"{name} against the level of corruption"))
    caption = (
        "The model was trained at one level and is evaluated at every level of the sweep. PCA projects the corrupted input. The "
        "optimal linear denoiser is recomputed for each level. The PSNR of an uncorrupted input is infinite and not drawn."
    )
    html = page.panels(drawn) + page.paragraph(caption, "caption")
    return page.Section("Restoration against the level of corruption", html, pngs)


RECONSTRUCTION = Part(
    "reconstruction",
    lambda context: context.model.reconstruct is not None,
    reconstruction,
    lambda result: [methods_table("Reconstructed from clean input", result)],
    lambda result: [Number("reconstruction MSE", "per dimension", result["model"]["mse"], "low")],
    quick=True,
)

RESTORATION = Part(
    "restoration",
    lambda context: (
        context.model.reconstruct is not None
        and (context.model.data.corrupt is not None or bool(context.experiment.sweep))
    ),
    restoration,
    restoration_tables,
    restoration_numbers,
    section,
)
