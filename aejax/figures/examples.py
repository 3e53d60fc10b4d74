"""The choice of examples on a page, and their range of values."""

from __future__ import annotations

import numpy as np

from aejax.data import has_data, take
from aejax.types import Dataset

EXAMPLES = 10
LOOKED_AT = 500
"""Number of streamed examples that are searched for those of each class."""

Block = tuple[str, dict[str, bytes]]
"""HTML, and PNGs by name."""


def data_range(x: np.ndarray) -> tuple[float, float]:
    """[0, 1] for data in this range, else the extremes of the data."""
    low, high = float(x.min()), float(x.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def some_of_each_class(data: Dataset) -> tuple[np.ndarray, str]:
    """Positions of a few examples from a few classes, and a description of the choice; none is picked by eye."""
    if not has_data(data) or data.classes is None or len(data.classes) > EXAMPLES:
        return np.arange(min(EXAMPLES, data.size)), "The first examples"
    labels = labels_of(data)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - starts  # position among the examples of its class
    return np.lexsort((labels, rank))[:EXAMPLES], "The first examples of each class"


def labels_of(data: Dataset) -> np.ndarray:
    """All labels; for streamed data, where each costs a decoding, those of the first examples."""
    if data.arrays is not None:
        return np.asarray(data.arrays["label"])
    return take(data, np.arange(min(LOOKED_AT, data.size)))["label"]
