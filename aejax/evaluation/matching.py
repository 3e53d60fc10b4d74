"""Learned directions compared with the true ones, and units as detectors of true features.

The definitions are those of SynthSAEBench (Chanin & Garriga-Alonso 2026): a unit stands for the feature whose direction has the
largest absolute cosine with its own; the mean correlation coefficient matches units and features one to one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

KNOWN = 0.5
"""Least cosine with which a unit stands for a feature where absorption is measured."""


def cosines(units: Float[np.ndarray, "n d"], features: Float[np.ndarray, "f d"]) -> Float[np.ndarray, "n f"]:
    """Absolute cosines between units and features; 0 for a direction of norm 0.

    Example:
        >>> cosines(np.array([[-2.0, 0.0]]), np.eye(2)).tolist()
        [[1.0, 0.0]]
    """
    unit = lambda rows: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.abs(unit(units) @ unit(features).T)


def matched(alike: Float[np.ndarray, "n f"]) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Units and features in pairs, each at most once, with the largest sum of cosines (the Hungarian method)."""
    units, features = linear_sum_assignment(alike, maximize=True)
    return units, features


def mean_correlation(units: Float[np.ndarray, "n d"], features: Float[np.ndarray, "f d"]) -> float:
    """The mean cosine of units and features matched one to one (MCC), 1 if they are the same up to order and sign.

    Args:
        units: Directions of the units.
        features: Directions of the features.

    Returns:
        A number from 0 to 1.

    Example:
        >>> round(mean_correlation(np.eye(3)[::-1], np.eye(3)), 6)
        1.0
    """
    alike = cosines(units, features)
    return float(alike[matched(alike)].mean())


def uniqueness(alike: Float[np.ndarray, "n f"]) -> float:
    """The number of features for which a unit stands, relative to the number of units."""
    return len(np.unique(alike.argmax(axis=1))) / len(alike)


class Detection(NamedTuple):
    """Counts of examples, for units that stand for features."""

    both: Float[np.ndarray, " n"]
    """Unit and feature are active."""
    unit: Float[np.ndarray, " n"]
    """The unit is active."""
    feature: Float[np.ndarray, " n"]
    """The feature is active."""

    def scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and F1 of each unit; 0 where they are undefined."""
        precision = self.both / np.maximum(self.unit, 1)
        recall = self.both / np.maximum(self.feature, 1)
        return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def detection(active: Bool[np.ndarray, "b n"], present: Bool[np.ndarray, "b n"]) -> Detection:
    """Counts over examples: which units are active, and which of the features for which they stand."""
    count = lambda which: which.sum(axis=0).astype(np.float64)
    return Detection(count(active & present), count(active), count(present))


class Families(NamedTuple):
    """Pairs of a feature and its parent, both of which a unit stands for."""

    child: Int[np.ndarray, " p"]
    parent: Int[np.ndarray, " p"]
    child_unit: Int[np.ndarray, " p"]
    parent_unit: Int[np.ndarray, " p"]


def families(alike: Float[np.ndarray, "n f"], parents: Int[np.ndarray, " f"]) -> Families:
    """The pairs whose unit, the one with the largest cosine, is known to stand for them, and which differ."""
    best = alike.argmax(axis=0)
    known = alike[best, np.arange(alike.shape[1])] >= KNOWN
    child = np.flatnonzero((parents >= 0) & known & known[parents] & (best != best[parents]))
    return Families(child, parents[child], best[child], best[parents[child]])


def absorbed(pairs: Families, active: Bool[np.ndarray, "b n"], present: Bool[np.ndarray, "b f"]) -> tuple[int, int]:
    """How often the parent's unit is silent and the child's is active, among the examples that have the child.

    That is feature absorption (Chanin et al. 2024): the child's unit has taken over the parent's direction.

    Returns:
        Number of such examples, and of examples that have the child, over all pairs.
    """
    has = present[:, pairs.child]
    taken = has & active[:, pairs.child_unit] & ~active[:, pairs.parent_unit]
    return int(taken.sum()), int(has.sum())
