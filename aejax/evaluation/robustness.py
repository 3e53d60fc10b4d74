"""How far a code moves when its input is corrupted, and how well a classifier of clean codes does on the moved ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Int, Shaped

from aejax.evaluation.probes import Probed, accuracy, refuse_non_finite
from aejax.objective.corruptions import masking

Codes = np.ndarray | Array

CORRUPTION = masking(0.3)
"""The same corruption for all models, whatever they were trained on."""

PAIRED = 2000
"""Number of examples, evenly spaced, whose pairwise code distances are measured."""


def robustness(
    name: str,
    probed: Probed,
    clean: Shaped[Codes, " n *shape"],
    moved: Shaped[Codes, " n *shape"],
    labels: Int[np.ndarray, " n"],
) -> dict[str, Any]:
    """For clean and corrupted codes of test examples: the accuracy on corrupted codes of the logistic regression that was
    fitted to clean training codes, and the `displacement`.
    """
    refuse_non_finite(name, "corrupted", moved)
    return {
        "logistic_regression": accuracy(probed.classify(moved), labels),
        "displacement": displacement(clean, moved),
    }


def displacement(clean: Shaped[Codes, " n *shape"], moved: Shaped[Codes, " n *shape"]) -> float | None:
    """Mean ‖moved − clean‖, relative to the mean distance between the clean codes of two different examples.

    0 is a code that does not move, 1 one that moves as far as to another example. Scale, offset and rotation of the code do not
    matter. None if all clean codes are equal.
    """
    clean, moved = (np.asarray(codes, np.float64).reshape(len(codes), -1) for codes in (clean, moved))
    some = clean[np.linspace(0, len(clean) - 1, min(len(clean), PAIRED)).astype(np.int64)]
    if len(some) < 2 or not np.any(some != some[0]):
        return None
    some = some - some.mean(axis=0)
    norms = np.sum(np.square(some), axis=1)
    squares = norms[:, None] + norms[None, :] - 2.0 * some @ some.T
    np.fill_diagonal(squares, 0.0)
    between = np.sum(np.sqrt(np.maximum(squares, 0.0))) / (len(some) * (len(some) - 1))
    return float(np.mean(np.linalg.norm(moved - clean, axis=1)) / between)
