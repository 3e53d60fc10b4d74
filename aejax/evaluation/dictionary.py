"""A sparse dictionary on the test split: how much of the variance it explains, and which true features its units stand for.

Dictionaries of random directions and PCA, with as many numbers for an example, stand beside: much of what is said of trained
dictionaries holds for random ones too (Korznikov et al. 2026).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from aejax.data import eval_batches, take
from aejax.evaluation.baselines import LINEAR_DIMENSIONS, cached, evenly_spaced, training_examples
from aejax.evaluation.linear import apply, pca, statistics, with_axes
from aejax.evaluation.matching import (
    Detection,
    absorbed,
    cosines,
    detection,
    families,
    matched,
    uniqueness,
)
from aejax.evaluation.part import Context, Part, Result
from aejax.figures.tables import Column, Number, Table
from aejax.objective.activations import pursued
from aejax.runs.batched import inference_batch
from aejax.runs.run import Run
from aejax.types import Dataset, GroundTruth

DENSE = 0.1
"""A unit is dense if more than this share of the examples activates it."""

MOST_PAIRS = 10**8
"""Units times features up to which they are matched one to one; the Hungarian method takes a minute for these."""


class Explained(NamedTuple):
    """Sums over examples, from which the variance explained follows."""

    n: int
    error: float
    total: np.ndarray
    squares: float
    norms: float
    """Sum of ‖x̂‖ / ‖x‖."""

    def variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖²."""
        spread = self.squares - float(np.sum(np.square(self.total))) / self.n
        return 1 - self.error / spread if spread > 0 else math.nan


def explained(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Explained:
    """Of batches (x, x̂), flattened examples [b, d]."""
    sums = Explained(0, 0.0, np.zeros(()), 0.0, 0.0)
    for x, x_hat in pairs:
        x, x_hat = x.astype(np.float64), x_hat.astype(np.float64)
        norms = np.linalg.norm(x, axis=1)
        ratio = np.linalg.norm(x_hat, axis=1)[norms > 1e-6] / norms[norms > 1e-6]
        more = (
            len(x),
            float(np.sum(np.square(x - x_hat))),
            x.sum(axis=0),
            float(np.sum(np.square(x))),
            float(ratio.sum()),
        )
        sums = Explained(*(a + b for a, b in zip(sums, more)))
    return sums


def compute(context: Context) -> Result:
    run, sparse, seed = context.run, context.model.sparse, context.experiment.seed
    assert sparse is not None
    assert sparse.directions is not None
    directions = np.asarray(sparse.directions(run.state.params))
    params, extras, of_code = run.state.params, run.state.extras, context.model.decode
    assert of_code is not None  # a linear one, whose directions these are
    encode, decode = run.function("encode"), jax.jit(lambda z, batch: of_code(params, extras, z, batch))
    active = np.zeros(len(directions))

    def reconstructed() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal active
        for batch, valid in eval_batches(context.test, inference_batch(context.test)):
            z = encode(batch)
            active = active + np.sum(np.asarray(z)[:valid] != 0, axis=0)
            yield _rows(batch["x" if context.test.target is None else "target"], valid), _rows(decode(z, batch), valid)

    ours = explained(reconstructed())
    rates = active / ours.n
    k = max(1, round(float(rates.sum())))
    result: dict[str, Any] = {
        "variance_explained": ours.variance(),
        "shrinkage": ours.norms / ours.n,
        "active_units": float(rates.sum()),
        "dense_units": int(np.sum(rates > DENSE)),
        "k": k,
        "baselines": {},
    }
    linear = context.test.target is None and math.prod(context.test.shape) <= LINEAR_DIMENSIONS
    random = _random_directions(seed, *directions.shape)
    if linear:
        result["baselines"] = _baselines(context, random, k)
    if context.experiment.test.truth is not None and context.test.target is None:
        result["truth"] = true_features(run, directions, context.experiment.test)
        if linear:
            result["baselines"]["random"] |= true_directions(random, context.experiment.test.truth)
            axes = _statistics(context).axes
            result["baselines"]["pca"] |= true_directions(axes.T, context.experiment.test.truth)
    return result


def _rows(x: Any, valid: int) -> Float[np.ndarray, "b d"]:
    return np.asarray(x)[:valid].reshape(valid, -1)


def _random_directions(seed: int, n: int, d: int) -> Float[np.ndarray, "n d"]:
    rows = np.random.default_rng((seed, n, d)).standard_normal((n, d), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _statistics(context: Context) -> Any:
    train = context.train
    return cached(
        "statistics of a dictionary's data",
        [train],
        lambda: with_axes(statistics(np.asarray(take(train, training_examples(train))["x"]))),
    )


def _baselines(context: Context, random: np.ndarray, k: int) -> dict[str, dict[str, float]]:
    """The variance explained by k directions of each example: chosen one by one among random ones, and the principal axes."""
    train = _statistics(context)
    mean = train.mean.astype(np.float32)
    rows = jnp.asarray(random)
    pursue = jax.jit(lambda x: pursued(x - mean[None], rows, k) @ rows + mean[None])
    axes = pca(train, k)

    def of(reconstruct: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        some = evenly_spaced(context.test.size, 2000)
        for start in range(0, len(some), 200):
            x = _rows(take(context.test, some[start : start + 200])["x"], len(some[start : start + 200]))
            yield x, np.asarray(reconstruct(x))

    return {
        "random": {"variance_explained": explained(of(pursue)).variance()},
        "pca": {"variance_explained": explained(of(lambda x: apply(axes, x))).variance()},
    }


def true_directions(units: np.ndarray, truth: GroundTruth) -> dict[str, float]:
    """How well directions match the true ones: MCC, and uniqueness."""
    alike = cosines(units, truth.directions)
    alone = {"uniqueness": uniqueness(alike)}
    return alone if alike.size > MOST_PAIRS else {"mcc": float(alike[matched(alike)].mean()), **alone}


def true_features(run: Run, directions: np.ndarray, test: Dataset) -> dict[str, Any]:
    """The units as detectors of the true features, over the whole test split.

    Returns:
        mcc, uniqueness, precision, recall, f1 (means over units), absorption, the number of active features of an example, and
        for matched pairs `rates` of the features, `cosines` and `f1s`, all by falling rate.
    """
    assert test.truth is not None
    alike = cosines(directions, test.truth.directions)
    best = alike.argmax(axis=1)
    small = alike.size <= MOST_PAIRS
    units, features = matched(alike) if small else (np.arange(len(best)), best)
    kin, encode = families(alike, test.truth.parents), run.function("encode")
    own = pairs = Detection(*(np.zeros(()) for _ in Detection._fields))
    taken, active_features, size = np.zeros(2), 0, inference_batch(test)
    for batch, valid in eval_batches(test, size):
        z = np.asarray(encode(batch))[:valid] != 0
        present = test.truth.activations(batch["index"][:valid].astype(np.int64)) > 0
        own = Detection(*map(np.add, own, detection(z, present[:, best])))
        pairs = Detection(*map(np.add, pairs, detection(z[:, units], present[:, features])))
        taken += absorbed(kin, z, present)
        active_features += int(present.sum())
    precision, recall, f1 = own.scores()
    rates, by_rate = pairs.feature / test.size, np.argsort(-pairs.feature, kind="stable")
    return {
        **({"mcc": float(alike[units, features].mean())} if small else {}),
        "uniqueness": uniqueness(alike),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "absorption": float(taken[0] / taken[1]) if taken[1] else None,
        "active_features": active_features / test.size,
        "examples": test.size,
        "rates": rates[by_rate].tolist(),
        "cosines": alike[units, features][by_rate].tolist(),
        "f1s": pairs.scores()[2][by_rate].tolist(),
    }


def tables(result: Result) -> Sequence[Table]:
    baselines, truth = result["baselines"], result.get("truth")
    rows = slice(3 if baselines else 1)
    names = ["dictionary", f"random, {result['k']} active", f"PCA, {result['k']} axes"][rows]
    of = lambda name: [baselines.get(kind, {}).get(name) for kind in ("random", "pca")]
    only = lambda value: [value, None, None][rows]
    ours = "dictionary" if baselines else None
    columns = [
        Column("variance explained", "", [result["variance_explained"], *of("variance_explained")][rows], "high", 4),
        Column("shrinkage", "‖x̂‖ / ‖x‖", only(result["shrinkage"]), None, 3),
        Column("dense units", f"active for > {100 * DENSE:.0f} %", only(result["dense_units"]), None, 0),
    ]
    if truth is None:
        return [Table("Variance", names, columns, ours)]
    true = [
        Column("MCC", "", [truth.get("mcc"), *of("mcc")][rows], "high", 4),
        Column("uniqueness", "", [truth["uniqueness"], *of("uniqueness")][rows], "high", 4),
        Column("F1", "", only(truth["f1"]), None, 4),
        Column("precision", "", only(truth["precision"]), None, 4),
        Column("recall", "", only(truth["recall"]), None, 4),
        Column("absorption", "%", only(_percent(truth["absorption"])), None, 1),
    ]
    return [Table("Variance", names, columns, ours), Table("True features", names, true, ours)]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def numbers(result: Result) -> Sequence[Number]:
    truth = result.get("truth", {})
    listed = [
        Number("variance explained", "by the dictionary", result["variance_explained"], "high", 4),
        Number("shrinkage", "‖x̂‖ / ‖x‖", result["shrinkage"], None, 3),
        Number("dense units", "of the code", result["dense_units"]),
    ]
    if truth:
        listed += [
            Number("F1", "of detection", truth["f1"], "high", 4),
            Number("MCC", "with the true directions", truth.get("mcc"), "high", 4),
            Number("uniqueness", "of the units' features", truth["uniqueness"], "high", 4),
            Number("absorption", "%", _percent(truth["absorption"]), "low", 1),
        ]
    return listed


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    from aejax.evaluation.dictionary_pages import matched_features, units_table
    from aejax.figures import page

    result = evaluation["dictionary"]
    matched_html, pngs = matched_features(result["truth"]) if "truth" in result else ("", {})
    html = "".join(map(page.number_table, tables(result))) + matched_html + units_table(run, evaluation)
    return page.Section("Dictionary", html, pngs)


def _applies(context: Context) -> bool:
    sparse = context.model.sparse
    return sparse is not None and sparse.directions is not None


PART = Part("dictionary", _applies, compute, tables, numbers, section, quick=True)
