"""Properties of data: their distribution, constant components, classes, and duplicate examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aejax.data.batches import take
from aejax.types import Dataset

LOOKED_AT = 10_000
"""Number of examples of each split that are examined: all of most data sets, the first of streamed or larger ones."""

BINS = 20


class Inspection(NamedTuple):
    """Properties of the splits of one data set."""

    examples: Sequence[int]
    """Number of examples of each split that were examined."""
    low: float
    high: float
    mean: float
    sd: float
    counts: np.ndarray
    """Histogram of all numbers, in BINS bins of equal width from the lowest to the highest."""
    constant: np.ndarray
    """Positions [k, rank] in an example of the components that are the same in all examples."""
    components: int
    balance: Sequence[np.ndarray] | None
    """Number of examples of each class, per split; None without labels."""
    repeated: Sequence[int]
    """For each split, the number of examples that equal an earlier one."""
    shared: Sequence[tuple[int, int, int]]
    """(i, j, number of examples of split j that are also in split i), for i < j."""


def inspect(datasets: Sequence[Dataset]) -> Inspection:
    """Examines the first LOOKED_AT examples of each split."""
    seen, labels = [], []
    for data in datasets:
        batch = take(data, np.arange(min(data.size, LOOKED_AT)))
        seen.append(batch["x"])
        labels.append(batch.get("label"))
    low, high = min(float(np.nanmin(x)) for x in seen), max(float(np.nanmax(x)) for x in seen)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    counts = np.sum([np.histogram(x[np.isfinite(x)], edges)[0] for x in seen], axis=0)
    total = sum(int(np.isfinite(x).sum()) for x in seen)  # without missing values
    mean = sum(float(np.nansum(x, dtype=np.float64)) for x in seen) / total
    variance = sum(float(np.nansum(np.square(x - mean, dtype=np.float64))) for x in seen) / total
    first = seen[0][:1]
    constant = np.logical_and.reduce([(x == first).all(axis=0) for x in seen])
    kinds = [_digests(x) for x in seen]
    shared = [
        (i, j, sum(digest in set(kinds[i]) for digest in kinds[j]))
        for i in range(len(kinds))
        for j in range(i + 1, len(kinds))
    ]
    classes = datasets[0].classes
    balance = None
    known = [label for label in labels if label is not None]
    if classes is not None and len(known) == len(labels):
        balance = [np.bincount(label, minlength=len(classes)) for label in known]
    return Inspection(
        [len(x) for x in seen],
        low,
        high,
        mean,
        float(np.sqrt(variance)),
        counts,
        np.argwhere(constant),
        constant.size,
        balance,
        [len(digests) - len(set(digests)) for digests in kinds],
        shared,
    )


def _digests(x: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
