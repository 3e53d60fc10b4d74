"""Probes: test accuracies of logistic regression and nearest neighbors on a representation.

Codes of any shape are flattened and standardized by the mean and standard deviation of the training codes, so that scale and
offset of a code do not matter. Results are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int, Shaped

from aejax.errors import UsageError

# scikit-learn (with threadpoolctl) is imported inside functions: it takes a second, which every command would otherwise spend
# in `import aejax`.

Codes = np.ndarray | Array
Labels = np.ndarray | Array

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse L2 penalties C from which logistic regression chooses. No single one is fair to all representations: on 10 000
examples of Fashion-MNIST raw pixels are best with .01 (.835 against .804 with 1), 64 principal components with 1 (.826 against
.813 with .01)."""

NEIGHBORS = 5


class Probed(NamedTuple):
    """Results of the probes of one representation."""

    accuracy: dict[str, float]
    """{"logistic_regression": …, "nearest_neighbors": …} on the test codes, in [0, 1]."""
    classify: Callable[[Codes], np.ndarray]
    """The logistic regression: codes [n, ...] -> labels [n]."""


def probe(name: str, train_codes: Codes, test_codes: Codes, train_labels: Labels, test_labels: Labels) -> Probed:
    """Both probes of a representation; `name` is used in the message if it is not finite."""
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
    """Multinomial logistic regression with an L2 penalty, as a function codes [m, *shape] -> labels [m].

    The penalty is the one in `STRENGTHS` with the best accuracy on a held-out fifth of the training examples (the strongest of
    equally good ones); the final fit uses all of them.
    """
    train_labels = np.asarray(train_labels)
    held = _every_fifth_of_each_class(train_labels)
    if not held.any() or len(np.unique(train_labels)) < 2:
        raise UsageError("a probe needs training labels of at least two classes and a class of at least five examples")
    scale = scaler(train_codes)
    codes = scale(train_codes)

    def validation_accuracy(strength: float) -> float:
        # Three times as fast as the tolerance of the final fit, and precise enough to rank the penalties.
        return _fit(codes[~held], train_labels[~held], strength, 3e-3).score(codes[held], train_labels[held])

    strength = max(STRENGTHS, key=validation_accuracy)  # the first of equally good ones
    fitted = _fit(codes, train_labels, strength, 1e-4)
    return lambda codes: fitted.predict(scale(codes))


def _every_fifth_of_each_class(labels: Int[np.ndarray, " n"]) -> np.ndarray:
    """A mask of the held-out examples, whatever the order of the labels; every class keeps at least one."""
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[4::5]] = True
    return held


def _fit(codes: np.ndarray, labels: np.ndarray, strength: float, tolerance: float) -> Any:
    """The fitted classifier. The tolerance applies to the largest component of the mean loss's gradient."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # On raw pixels Newton-CG converges in 15 steps, where L-BFGS needs 500 and three times as long. Its products with a few
    # columns gain little from threads, are five times slower on a busy machine, and round differently with their number.
    with threadpool_limits(1, user_api="blas"):
        return LogisticRegression(C=strength, solver="newton-cg", tol=tolerance, max_iter=200).fit(codes, labels)


def nearest_neighbors(
    train_codes: Shaped[Codes, " n *shape"],
    train_labels: Int[Labels, " n"],
    test_codes: Shaped[Codes, " m *shape"],
    test_labels: Int[Labels, " m"],
    k: int = NEIGHBORS,
) -> float:
    """Test accuracy of the majority vote of the min(k, n) nearest training codes in Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    codes, test_codes = standardize(train_codes, test_codes)
    classifier = KNeighborsClassifier(min(k, len(codes)), algorithm="brute").fit(codes, np.asarray(train_labels))
    return float(classifier.score(test_codes, np.asarray(test_labels)))


def standardize(
    train_codes: Shaped[Codes, " n *shape"], test_codes: Shaped[Codes, " m *shape"]
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of codes, standardized by the training codes."""
    scale = scaler(train_codes)
    return scale(train_codes), scale(test_codes)


def scaler(train_codes: Shaped[Codes, " n *shape"]) -> Callable[[Codes], np.ndarray]:
    """A function that flattens codes and standardizes them by the mean and standard deviation of the training codes; float32.

    Features that are constant in training become 0, so that test codes that differ there do not dominate.
    """
    train = _flat(train_codes)
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    varies = np.max(train, axis=0) > np.min(train, axis=0)  # exact, whereas a rounded deviation may differ from 0
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return lambda codes: ((_flat(codes) - mean) * scale).astype(np.float32)


def _flat(codes: Codes) -> np.ndarray:
    return np.asarray(codes).reshape(len(codes), -1)
