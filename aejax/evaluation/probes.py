"""What a simple classifier reads from a representation: accuracies of logistic regression and of nearest neighbors.

Codes of any shape are flattened and standardized by the training codes' mean and standard deviation, so that a code's
scale and offset are worth nothing. The answers are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int, Shaped

from aejax.errors import UsageError

# scikit-learn (and threadpoolctl, which it brings) is imported inside the functions: it takes a second, which every
# command would pay for `import aejax`.

Codes = np.ndarray | Array
Labels = np.ndarray | Array

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse L2 penalties C that logistic regression chooses from. No single one is fair: on 10 000 Fashion-MNIST examples
raw pixels want .01 (.835 against .804 at 1), 64 principal components 1 (.826 against .813 at .01): the order turns."""

NEIGHBORS = 5


class Probed(NamedTuple):
    """What the probes of one representation gave."""

    accuracy: dict[str, float]
    """{"logistic_regression": …, "nearest_neighbors": …} on the test codes, in [0, 1]."""
    classify: Callable[[Codes], np.ndarray]
    """The logistic regression: codes [n, ...] -> labels [n]."""


def probe(name: str, train_codes: Codes, test_codes: Codes, train_labels: Labels, test_labels: Labels) -> Probed:
    """Both probes of a representation, which `name` names where it is not finite."""
    refuse_non_finite(name, "training", train_codes)
    refuse_non_finite(name, "test", test_codes)
    classify = fit_regression(train_codes, train_labels)
    return Probed(
        {
            "logistic_regression": accuracy(classify(test_codes), test_labels),
            "nearest_neighbors": nearest_neighbors(train_codes, train_labels, test_codes, test_labels),
        },
        classify,
    )


def refuse_non_finite(name: str, part: str, codes: Codes) -> None:
    if not np.all(np.isfinite(codes)):
        raise UsageError(f"the {part} codes {name!r} are not all finite: the run has diverged; probe another one")


def accuracy(predicted: Labels, labels: Labels) -> float:
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def logistic_regression(
    train_codes: Shaped[Codes, " n *shape"],
    train_labels: Int[Labels, " n"],
    test_codes: Shaped[Codes, " m *shape"],
    test_labels: Int[Labels, " m"],
) -> float:
    """Test accuracy of `fit_regression`'s classifier."""
    return accuracy(fit_regression(train_codes, train_labels)(test_codes), test_labels)


def fit_regression(
    train_codes: Shaped[Codes, " n *shape"], train_labels: Int[Labels, " n"]
) -> Callable[[Codes], np.ndarray]:
    """Multinomial logistic regression with an L2 penalty, as codes [m, *shape] -> labels [m].

    The penalty is the one of `STRENGTHS` with the best accuracy on a held-out fifth of the training examples, the
    strongest of equals; the last fit is to all of them.
    """
    train_labels = np.asarray(train_labels)
    held = _every_fifth_of_each_class(train_labels)
    if not held.any() or len(np.unique(train_labels)) < 2:
        raise UsageError("a probe needs training labels of at least two classes and a class of at least five examples")
    scale = scaler(train_codes)
    codes = scale(train_codes)

    def validation_accuracy(strength: float) -> float:
        # Three times as fast as the last fit's tolerance, and fine enough to rank the strengths.
        return _fit(codes[~held], train_labels[~held], strength, 3e-3).score(codes[held], train_labels[held])

    strength = max(STRENGTHS, key=validation_accuracy)  # the first of equals
    fitted = _fit(codes, train_labels, strength, 1e-4)
    return lambda codes: fitted.predict(scale(codes))


def _every_fifth_of_each_class(labels: Int[np.ndarray, " n"]) -> np.ndarray:
    """A mask of the held-out examples, whatever the order of the labels; every class keeps at least one example."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[4::5]] = True
    return held


def _fit(codes: np.ndarray, labels: np.ndarray, strength: float, tolerance: float) -> Any:
    """The tolerance is of the largest component of the mean loss's gradient."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # On raw pixels Newton-CG converges in 15 steps, where L-BFGS needs 500 and three times as long. Its products with a
    # few columns gain little from threads, lose fivefold on a busy machine, and round differently with their number.
    with threadpool_limits(1, user_api="blas"):
        return LogisticRegression(C=strength, solver="newton-cg", tol=tolerance, max_iter=200).fit(codes, labels)


def nearest_neighbors(
    train_codes: Shaped[Codes, " n *shape"],
    train_labels: Int[Labels, " n"],
    test_codes: Shaped[Codes, " m *shape"],
    test_labels: Int[Labels, " m"],
    k: int = NEIGHBORS,
) -> float:
    """Test accuracy of the majority among the min(k, n) nearest training codes in Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    codes, test_codes = standardize(train_codes, test_codes)
    classifier = KNeighborsClassifier(min(k, len(codes)), algorithm="brute").fit(codes, np.asarray(train_labels))
    return float(classifier.score(test_codes, np.asarray(test_labels)))


def standardize(
    train_codes: Shaped[Codes, " n *shape"], test_codes: Shaped[Codes, " m *shape"]
) -> tuple[np.ndarray, np.ndarray]:
    """Both by the `scaler` of the training codes."""
    scale = scaler(train_codes)
    return scale(train_codes), scale(test_codes)


def scaler(train_codes: Shaped[Codes, " n *shape"]) -> Callable[[Codes], np.ndarray]:
    """Codes flattened, and scaled so that the training codes have mean 0 and standard deviation 1; float32.

    Features that are constant in training become 0: a test code that leaves the constant must not dominate.
    """
    train = _flat(train_codes)
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    varies = np.max(train, axis=0) > np.min(train, axis=0)  # exact, where a rounded deviation need not be 0
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return lambda codes: ((_flat(codes) - mean) * scale).astype(np.float32)


def _flat(codes: Codes) -> np.ndarray:
    return np.asarray(codes).reshape(len(codes), -1)
