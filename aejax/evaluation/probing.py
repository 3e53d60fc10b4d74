"""Probes of the codes on the test split: simple classifiers trained on codes, raw pixels and PCA, and the robustness of codes
and classifiers to masking.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from aejax.data import subset, take
from aejax.evaluation.baselines import LINEAR_DIMENSIONS, cached, compresses, evenly_spaced
from aejax.evaluation.linear import pca_codes
from aejax.evaluation.part import Context, Part, Result, corruption_of
from aejax.evaluation.probes import Probed, probe
from aejax.evaluation.robustness import CORRUPTION, robustness
from aejax.figures.tables import Column, Number, Table
from aejax.figures.words import label
from aejax.runs.batched import map_examples
from aejax.types import Batch

PROBE_EXAMPLES = 10_000
"""Maximum number of training examples of a probe, evenly spaced over the split; raw pixels would take minutes with all."""

REPRESENTATIONS = ("codes", "pca", "raw")
"""Representations in the order in which they are shown."""


class Probing(NamedTuple):
    """Both results by representation; they share the classifiers."""

    probes: Result
    robustness: Result


def probing(context: Context) -> Probing | None:
    """Results of the probes; None if there are fewer than two classes, or none with five examples to hold one out."""
    return context.once("probing", lambda: _probing(context))


def _probing(context: Context) -> Probing | None:
    run, test, codes, components = context.run, context.test, context.codes, context.components
    assert codes is not None  # `applies`
    assert components is not None
    # The selection is a function of the fingerprint and the size.
    data = subset(context.train, evenly_spaced(context.train.size, PROBE_EXAMPLES))
    data = data._replace(fingerprint=context.train.fingerprint)
    with_raw = math.prod(data.shape) <= LINEAR_DIMENSIONS
    learned, held_out = (
        map_examples(lambda b: {name: b[name] for name in b if with_raw or name == "label"}, d) for d in (data, test)
    )
    counts = np.bincount(learned["label"])
    if np.count_nonzero(counts) < 2 or counts.max() < 5:
        return None
    corrupt, encode = corruption_of(run, CORRUPTION), run.function("encode")

    def under_corruption(batch: Batch) -> dict[str, Any]:
        x = corrupt(batch["x"], batch["index"])
        return {"codes": encode({**batch, "x": x}), **({"x": x} if with_raw else {})}

    noisy = map_examples(under_corruption, test)
    labels = learned["label"], held_out["label"]
    probed = probe("codes", run.encode(data), codes, *labels)
    both = {"codes": (probed.accuracy, robustness("codes", probed, codes, noisy["codes"], labels[1]))}

    def baseline(name: str, of: Callable[[np.ndarray], np.ndarray], *what: int) -> tuple[Any, Any]:
        def make() -> Probed:
            return probe(name, of(learned["x"]), of(held_out["x"]), *labels)

        probed = cached((name, *what), [data, test], make)
        noise = hashlib.sha256(np.ascontiguousarray(noisy["x"]).data).hexdigest()
        robust = cached(
            (name, *what, noise),
            [data, test],
            lambda: robustness(name, probed, of(held_out["x"]), of(noisy["x"]), labels[1]),
        )
        return probed.accuracy, robust

    if with_raw:
        both["raw"] = baseline("raw", np.asarray)
    if context.statistics is not None and compresses(components, context.train):
        both["pca"] = baseline("pca", partial(pca_codes, context.statistics, components), components)
    accuracies = {name: accuracy for name, (accuracy, _) in both.items()}
    robust = {name: rows for name, (_, rows) in both.items()}
    return Probing(
        {"train_examples": data.size, "components": components, **accuracies}, {"corruption": CORRUPTION.name, **robust}
    )


def _applies(context: Context) -> bool:
    return context.codes is not None and context.has_labels and not is_given_labels(context)


def is_given_labels(context: Context) -> bool:
    """Whether the model is conditioned on the label, so that its codes depend on what a probe would predict."""
    condition = context.model.data.condition
    if condition is None:
        return False
    batch = take(context.test, np.arange(min(2, context.test.size)))
    others = {**batch, "label": batch["label"] + 1}
    return not np.array_equal(np.asarray(condition(batch)), np.asarray(condition(others)))


def probe_tables(result: Result) -> Sequence[Table]:
    names = [name for name in REPRESENTATIONS if name in result]
    columns = [
        Column(label(p), "accuracy", [result[name][p] for name in names], "high", 3)
        for p in ("logistic_regression", "nearest_neighbors")
    ]
    caption = f"Linear probe and nearest neighbors, {result['train_examples']} training examples"
    return [Table(caption, [label(name) for name in names], columns, "codes")]


def robustness_tables(result: Result) -> Sequence[Table]:
    names = [name for name in REPRESENTATIONS if name in result]
    accuracy, change = ([result[name][of] for name in names] for of in ("logistic_regression", "displacement"))
    columns = [
        Column("logistic regression", "accuracy", accuracy, "high", 3),
        Column("change of the code", "relative distance", change, "low", 3),
    ]
    return [Table(f"Under {result['corruption']}", [label(name) for name in names], columns, "codes")]


def numbers(result: Result) -> Sequence[Number]:
    return [Number("probe accuracy", "logistic regression", result["codes"]["logistic_regression"], "high", 3)]


PROBES = Part(
    "probes", _applies, lambda context: None if (p := probing(context)) is None else p.probes, probe_tables, numbers
)

ROBUSTNESS = Part(
    "robustness", _applies, lambda context: None if (p := probing(context)) is None else p.robustness, robustness_tables
)
