"""Disentanglement metrics: whether a representation has a separate dimension for each factor of variation.

All are functions of representations [n, d] and the factors' values [n, f], whole numbers whose order does not matter. Models
are fitted to two thirds of the examples, by a permutation of the seed, and evaluated on the others. Linear classifiers see each
dimension standardized, so that scale and offset of a code do not matter; the papers leave that open. The metrics based on
mutual information are in `aejax.evaluation.information`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from aejax.errors import UsageError
from aejax.evaluation.information import checked, mig, modularity
from aejax.evaluation.probes import scaler

# scikit-learn and scipy are imported inside functions, so that `import aejax` does not wait for them.

Codes = np.ndarray | Array
Factors = np.ndarray | Array

VOTES, TEST_VOTES, BATCH = 10_000, 5_000, 64
"""Numbers of training and test points, and of examples in each, of metrics that compare groups (Locatello et al. 2019)."""

PRUNED = 0.05
"""Dimensions with a smaller deviation do not vote in FactorVAE's metric (Locatello et al. 2019)."""

INFORMATIVE = 0.01
"""UDR compares dimensions with a larger KL, in nats (Duan et al. 2020)."""

ROUNDS, DEPTH = 100, 3
"""Number and depth of DCI's boosted trees, those of scikit-learn's GradientBoostingClassifier, as in the study of Locatello et
al."""


def disentanglement(
    representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Every metric of one representation, by name: the result of each, including its `score`."""
    return {
        "beta_vae": beta_vae_score(representations, factors, seed),
        "factor_vae": factor_vae_score(representations, factors, seed),
        "mig": mig(representations, factors),
        "dci": dci(representations, factors, seed),
        "sap": sap(representations, factors, seed),
        "modularity": modularity(representations, factors),
        "explicitness": explicitness(representations, factors, seed),
        "irs": irs(representations, factors),
    }


def beta_vae_score(
    representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0
) -> dict[str, Any]:
    """The BetaVAE metric (Higgins et al. 2017, §3).

    From the mean |z − z'| over 64 pairs that share one factor, a linear classifier predicts which factor. `score` is its
    accuracy on held-out points, `confusion` [f, f] the fractions by true and predicted factor.
    """
    z, v = checked(representations, factors)
    rng = np.random.default_rng(seed)
    groups = [_Groups(column) for column in v.T]

    def points(count: int) -> tuple[np.ndarray, np.ndarray]:
        fixed = rng.integers(v.shape[1], size=count)
        features = np.empty((count, z.shape[1]))
        for k, group in enumerate(groups):
            (rows,) = np.nonzero(fixed == k)
            for some in _in_parts(rows):
                first = rng.integers(len(z), size=(len(some), BATCH))
                features[some] = np.abs(z[first] - z[group.partners(rng, first)]).mean(axis=1)
        return features, fixed

    features, fixed = points(VOTES)
    scale = scaler(features)
    fitted = _logistic(scale(features), fixed)
    test, truth = points(TEST_VOTES)
    answers = fitted.predict(scale(test))
    confusion = np.bincount(truth * v.shape[1] + answers, minlength=v.shape[1] ** 2).reshape(v.shape[1], -1)
    return {
        "score": float(np.mean(answers == truth)),
        "confusion": confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True)),
    }


def factor_vae_score(
    representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0
) -> dict[str, Any]:
    """The FactorVAE metric (Kim & Mnih 2018, §4).

    Of 64 examples that share one factor, the dimension with the smallest variance, relative to its variance over all examples,
    votes for this factor. `votes` [d, f] are the training votes; each dimension predicts the factor with most of its votes, and
    `score` is the accuracy on further votes. If no dimension has a deviation of at least PRUNED, the score is 0.
    """
    z, v = checked(representations, factors)
    rng = np.random.default_rng(seed)
    deviation = z.std(axis=0)
    (active,) = np.nonzero(deviation >= PRUNED)
    groups = [_Groups(column) for column in v.T]

    def votes(count: int) -> np.ndarray:
        counts = np.zeros((z.shape[1], v.shape[1]), np.int64)
        for k, wanted in enumerate(rng.multinomial(count, np.full(v.shape[1], 1 / v.shape[1]))):
            for some in _in_parts(np.arange(wanted)):
                first = rng.integers(len(z), size=len(some))
                batch = z[groups[k].members(rng, np.repeat(first[:, None], BATCH, axis=1))][..., active]
                least = active[np.argmin(batch.var(axis=1, ddof=1) / deviation[active] ** 2, axis=1)]
                counts[:, k] += np.bincount(least, minlength=z.shape[1])
        return counts

    if not len(active):
        return {"score": 0.0, "votes": np.zeros((z.shape[1], v.shape[1]), np.int64), "active": 0}
    learnt, held_out = votes(VOTES), votes(TEST_VOTES)
    agreed = held_out[np.arange(len(learnt)), learnt.argmax(axis=1)].sum()
    return {"score": float(agreed / held_out.sum()), "votes": learnt, "active": len(active)}


def dci(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0) -> dict[str, Any]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018, §2), with boosted trees for each factor.

    `importances` [d, f] are the shares of the dimensions in the gain of the trees' splits. `disentanglement` of a dimension is
    1 minus the entropy of its row divided by log f; `completeness` of a factor is 1 minus the entropy of its column divided by
    log d; both means are weighted by importance. `informativeness` is the accuracy per factor on held-out examples. `score` is
    the disentanglement.

    Exact trees take many minutes on 10 000 examples with 113 values. These use 255 quantiles of each dimension instead, which
    gives the same results in seconds.
    """
    z, v = checked(representations, factors)
    train, test = _train_and_test(len(z), seed)
    importances, accuracy = np.zeros((z.shape[1], v.shape[1])), np.zeros(v.shape[1])
    for k, column in enumerate(v.T):
        importances[:, k], accuracy[k] = _boosted(z[train], column[train], z[test], column[test])
    by_dimension, by_factor = importances.sum(axis=1), importances.sum(axis=0)
    disentangled = 1.0 - _entropy_of_rows(importances)
    complete = 1.0 - _entropy_of_rows(importances.T)
    return {
        "score": _weighted(disentangled, by_dimension),
        "completeness_score": _weighted(complete, by_factor),
        "informativeness_score": float(accuracy.mean()),
        "disentanglement": disentangled,
        "completeness": complete,
        "informativeness": accuracy,
        "importances": importances,
    }


def sap(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0) -> dict[str, Any]:
    """Separated attribute predictability (Kumar et al. 2018, §3).

    For each factor, the difference in accuracy between linear support vector machines (C = .01, balanced classes) on the best
    single dimension and on the second best. `accuracies` [d, f] are on held-out examples, `gaps` are per factor.
    """
    from sklearn.svm import LinearSVC

    z, v = checked(representations, factors)
    train, test = _train_and_test(len(z), seed)
    scale = scaler(z[train])
    codes, test_codes = (scale(z[part]).astype(np.float64) for part in (train, test))
    accuracies = np.zeros((z.shape[1], v.shape[1]))
    for j in range(z.shape[1]):
        for k, column in enumerate(v.T):
            classifier = LinearSVC(C=0.01, class_weight="balanced", dual=False, max_iter=10_000)
            fitted = classifier.fit(codes[:, [j]], column[train])
            accuracies[j, k] = fitted.score(test_codes[:, [j]], column[test])
    second, first = np.sort(accuracies, axis=0)[-2:]
    return {"score": float(np.mean(first - second)), "gaps": first - second, "accuracies": accuracies}


def explicitness(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], seed: int = 0) -> dict[str, Any]:
    """Explicitness (Ridgeway & Mozer 2018, §3): how well a linear classifier of all dimensions separates a value from the
    others.

    It is measured by the area under the ROC curve on held-out examples, .5 by chance. `factors` are means over a factor's
    values, `score` is their mean. Values that are missing from either part are left out.
    """
    from sklearn.metrics import roc_auc_score

    z, v = checked(representations, factors)
    train, test = _train_and_test(len(z), seed)
    scale = scaler(z[train])
    codes, test_codes = scale(z[train]), scale(z[test])
    means = []
    for column in v.T:
        areas = []
        for value in np.unique(column):
            is_value, truth = column[train] == value, column[test] == value
            if len(np.unique(is_value)) == 2 and len(np.unique(truth)) == 2:
                areas.append(roc_auc_score(truth, _logistic(codes, is_value).decision_function(test_codes)))
        if not areas:
            raise UsageError(f"{len(z)} examples are too few to hold out some of each value of a factor; give more")
        means.append(np.mean(areas))
    return {"score": float(np.mean(means)), "factors": np.array(means)}


def irs(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"]) -> dict[str, Any]:
    """Interventional robustness (Suter et al. 2019, §4): how little a dimension changes while one factor is fixed and others
    vary.

    `robustness` [d, f] is 1 minus the 99th percentile of the distances from the mean of the examples with one value, averaged
    over the factor's values and divided by the largest distance from the overall mean. Each dimension counts with its best
    factor (`dimensions`), weighted in `score` by this largest distance; constant dimensions do not count.
    """
    z, v = checked(representations, factors)
    largest = np.abs(z - z.mean(axis=0)).max(axis=0)
    moved = np.zeros((z.shape[1], v.shape[1]))
    for k, column in enumerate(v.T):
        held = [z[column == value] for value in np.unique(column)]
        moved[:, k] = np.mean([np.percentile(np.abs(g - g.mean(axis=0)), 99, axis=0) for g in held], axis=0)
    varies = largest > 0
    robustness = np.where(varies[:, None], 1.0 - moved / np.where(varies, largest, 1.0)[:, None], 0.0)
    best = robustness.max(axis=1)
    return {"score": _weighted(best, largest), "dimensions": best, "robustness": robustness}


def udr(
    representations: Sequence[Shaped[Codes, "n _"]], informative: Sequence[Bool[np.ndarray, " _"]]
) -> dict[str, Any]:
    """Unsupervised disentanglement ranking (Duan et al. 2020, §4): similarity of runs with different seeds, up to order and
    sign.

    Args:
        representations: For each run, its representations [n, d] of the same examples.
        informative: For each run, bool [d]: dimensions with a KL above INFORMATIVE.

    Returns:
        For two runs, R is the absolute rank correlation [d, d] of their informative dimensions; each row and column contributes
        the square of its largest entry divided by its sum. `pairs` [m, m] are symmetric, `runs` are medians over the other
        runs, and `score` is that of the median run.
    """
    from scipy.stats import rankdata

    if len(representations) < 2:
        raise UsageError("UDR compares runs of different seeds; give at least two")
    ranked = []
    for z, kept in zip(representations, informative):
        ranks = rankdata(np.asarray(z)[:, kept], axis=0)
        ranks = ranks - ranks.mean(axis=0)
        norms = np.sqrt(np.sum(ranks**2, axis=0))
        ranked.append(ranks / np.where(norms > 0, norms, 1.0))
    m = len(ranked)
    pairs = np.full((m, m), np.nan)
    for i in range(m):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = _alike(np.abs(ranked[i].T @ ranked[j]))
    runs = np.nanmedian(pairs, axis=1)
    return {"score": float(np.median(runs)), "runs": runs, "pairs": pairs}


def _alike(correlation: Float[np.ndarray, "a b"]) -> float:
    """Duan et al. 2020, eq. 2, for informative dimensions; 0 if a run has none."""
    if 0 in correlation.shape:
        return 0.0
    parts = [
        np.sum(np.square(r.max(axis=0)) / np.where(r.sum(axis=0) > 0, r.sum(axis=0), 1.0))
        for r in (correlation, correlation.T)
    ]
    return float(sum(parts) / sum(correlation.shape))


class _Groups:
    """The examples grouped by the value of one factor, to draw others with the same value."""

    def __init__(self, values: np.ndarray) -> None:
        _, code, count = np.unique(values, return_inverse=True, return_counts=True)
        self.order = np.argsort(code, kind="stable")
        starts = np.cumsum(count) - count
        self.start, self.count = starts[code], count[code]
        self.place = np.empty(len(values), np.int64)
        self.place[self.order] = np.arange(len(values))

    def members(self, rng: np.random.Generator, positions: np.ndarray) -> np.ndarray:
        """For each position, a random example with its value."""
        return self.order[self.start[positions] + rng.integers(self.count[positions])]

    def partners(self, rng: np.random.Generator, positions: np.ndarray) -> np.ndarray:
        """For each position, another random example with its value, or itself if it is the only one."""
        count, start = self.count[positions], self.start[positions]
        step = 1 + rng.integers(np.maximum(1, count - 1))
        return self.order[start + (self.place[positions] - start + step) % count]


def _in_parts(rows: np.ndarray) -> list[np.ndarray]:
    """Parts of the points whose examples take at most some tens of megabytes."""
    return np.array_split(rows, len(rows) // 2000 + 1)


def _train_and_test(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training, two thirds, and for testing."""
    order = np.random.default_rng(seed).permutation(size)
    return order[: size - size // 3], order[size - size // 3 :]


def _logistic(codes: np.ndarray, labels: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        return LogisticRegression(solver="newton-cg", tol=1e-4, max_iter=1000).fit(codes, labels)


def _boosted(z: np.ndarray, v: np.ndarray, test: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """Importances [d] that sum to 1 (0 without any gain), and the accuracy on the test examples."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingClassifier(
        max_iter=ROUNDS, max_depth=DEPTH, max_leaf_nodes=None, min_samples_leaf=1, early_stopping=False
    )
    # Several threads would round sums in another order.
    with threadpool_limits(1):
        trees.fit(z, v)
        accuracy = float(trees.score(test, truth))
    gains = np.zeros(z.shape[1])
    # These trees store the gain of each split, but scikit-learn does not sum them to importances.
    for of_round in trees._predictors:
        for tree in of_round:
            split = tree.nodes[tree.nodes["is_leaf"] == 0]
            np.add.at(gains, split["feature_idx"].astype(np.int64), split["gain"])
    gains = np.maximum(gains, 0.0)
    return gains / (gains.sum() or 1.0), accuracy


def _entropy_of_rows(table: Float[np.ndarray, "a b"]) -> Float[np.ndarray, " a"]:
    """Entropy of each row as probabilities, divided by log b; 1 for a row of zeros."""
    total = table.sum(axis=1, keepdims=True)
    share = np.where(total > 0, table / np.where(total > 0, total, 1.0), 1.0 / table.shape[1])
    return -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1) / np.log(table.shape[1])


def _weighted(values: np.ndarray, weights: np.ndarray) -> float:
    total = weights.sum()
    return float(np.sum(values * weights) / total) if total > 0 else 0.0
