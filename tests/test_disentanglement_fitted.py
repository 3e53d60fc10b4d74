"""The metrics of disentanglement that fit machines, beside machines fitted by other means."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from aejax.evaluation.disentanglement import dci, explicitness, sap

SIZES = (2, 3, 4)


@pytest.fixture(scope="module")
def factors():
    """Every combination, ten times over."""
    return np.tile(np.array(list(itertools.product(*map(range, SIZES)))), (10, 1))


@pytest.fixture(scope="module")
def mixed(factors):
    """Four dimensions, each of one factor or two, with noise."""
    mixing = np.array([[1.0, 0, 0, 0.5], [0.3, 1.0, 0, 0], [0, 0.2, 1.0, 0.0]])
    return factors @ mixing + 0.3 * np.random.default_rng(3).standard_normal((len(factors), 4))


def learnt_and_judged(n):
    order = np.random.default_rng(0).permutation(n)
    return order[: n - n // 3], order[n - n // 3 :]


def standardized(z, learnt):
    return (z - z[learnt].mean(axis=0)) / z[learnt].std(axis=0)


def test_machines_of_one_dimension_by_minimizing(mixed, factors):
    """½w² + ½b² + C Σ c max(0, 1 − y(wz + b))², one value against the others; c weighs an example by how rare its value is, one
    of several others 1."""
    learnt, judged = learnt_and_judged(len(mixed))
    z, table = standardized(mixed, learnt), np.zeros((4, 3))
    for j, k in itertools.product(range(4), range(3)):
        values, scores = range(SIZES[k]), []
        for value in values:
            y = np.where(factors[learnt, k] == value, 1.0, -1.0)
            rare = [len(y) / (len(values) * (y == sign).sum()) for sign in (1, -1)]
            c = 0.01 * np.where(y > 0, rare[0], rare[1] if len(values) == 2 else 1.0)
            hinge = lambda p, x=z[learnt, j], y=y, c=c: p @ p / 2 + c @ np.maximum(0, 1 - y * (p[0] * x + p[1])) ** 2
            w, b = minimize(hinge, np.zeros(2)).x
            scores.append(w * z[judged, j] + b)
        table[j, k] = np.mean(np.argmax(scores, axis=0) == factors[judged, k])
    found = sap(mixed, factors)
    np.testing.assert_allclose(found["accuracies"], table, atol=0.01)
    gaps = [sorted(column)[-1] - sorted(column)[-2] for column in table.T]
    assert found["score"] == pytest.approx(np.mean(gaps), abs=0.01)


def test_areas_by_pairs(mixed, factors):
    """Of logistic regression, ½w² + Σ log(1 + exp(−y(wz + b))): how often a held-out example of the value ranks above another."""
    learnt, judged = learnt_and_judged(len(mixed))
    z, means = standardized(mixed, learnt), []
    for k, size in enumerate(SIZES):
        areas = []
        for value in range(size):
            y = np.where(factors[learnt, k] == value, 1.0, -1.0)
            nats = lambda p, y=y: p[:4] @ p[:4] / 2 + np.sum(np.logaddexp(0, -y * (z[learnt] @ p[:4] + p[4])))
            score = z[judged] @ minimize(nats, np.zeros(5)).x[:4]
            own = factors[judged, k] == value
            areas.append(np.mean(score[own][:, None] > score[~own]))
        means.append(np.mean(areas))
    found = explicitness(mixed, factors)
    np.testing.assert_allclose(found["factors"], means, atol=0.01)
    assert found["score"] == pytest.approx(np.mean(means), abs=0.01)


def test_scale_and_offset_of_a_dimension_are_worth_nothing(mixed, factors):
    moved = mixed * np.array([1e-2, 1.0, 30.0, -4.0]) + np.array([3.0, 0.0, -50.0, 1.0])
    for metric, parts in ((sap, "accuracies"), (explicitness, "factors")):
        np.testing.assert_allclose(metric(moved, factors)[parts], metric(mixed, factors)[parts], atol=1e-3)


def boosted(z, v, rounds, depth=3, rate=0.1):
    """Gains [d] of all splits, and z' -> answers, of trees on every threshold that follow Newton's step of the log-likelihood."""
    n, size, gains, trees = len(z), v.max() + 1, np.zeros(z.shape[1]), []
    prior = np.log([np.mean(v == value) for value in range(size)])
    raw = np.tile(prior, (n, 1))

    def grow(rows, g, h, left):
        best = (0.0, None, None)
        for j in range(z.shape[1]) if left else ():
            order = rows[np.argsort(z[rows, j])]
            for cut in range(1, len(order)):
                a, b = order[:cut], order[cut:]
                if z[a[-1], j] < z[b[0], j] and min(h[a].sum(), h[b].sum()) >= 1e-3:
                    gain = sum(g[r].sum() ** 2 / h[r].sum() for r in (a, b)) - g[rows].sum() ** 2 / h[rows].sum()
                    # Halfway to the next number of all examples, not of those that are split.
                    threshold = (z[a[-1], j] + z[z[:, j] > z[a[-1], j], j].min()) / 2
                    best = max(best, (gain, j, threshold), key=lambda one: one[0])
        gain, j, threshold = best
        if j is None:
            return -rate * g[rows].sum() / h[rows].sum()
        gains[j] += gain
        below = z[rows, j] <= threshold
        return j, threshold, grow(rows[below], g, h, left - 1), grow(rows[~below], g, h, left - 1)

    def value(tree, x):
        while isinstance(tree, tuple):
            tree = tree[2] if x[tree[0]] <= tree[1] else tree[3]
        return tree

    for _ in range(rounds):
        p = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        made = [grow(np.arange(n), p[:, c] - (v == c), p[:, c] * (1 - p[:, c]), depth) for c in range(size)]
        raw = raw + [[value(tree, x) for tree in made] for x in z]
        trees.append(made)
    answer = lambda x: np.argmax(prior + sum(np.array([value(tree, x) for tree in made]) for made in trees))
    return gains, lambda judged: np.array([answer(x) for x in judged])


def test_importances_by_trees_on_every_threshold(mixed, factors, monkeypatch):
    monkeypatch.setattr("aejax.evaluation.disentanglement.ROUNDS", 3)
    some = np.random.default_rng(2).permutation(len(mixed))[:120]
    z, v = mixed[some], factors[some, 1:]
    learnt, judged = learnt_and_judged(len(z))
    found = dci(z, v)
    for k in range(2):
        gains, answers = boosted(z[learnt], v[learnt, k], 3)
        np.testing.assert_allclose(found["importances"][:, k], gains / gains.sum(), atol=0.01)
        assert found["informativeness"][k] == pytest.approx(np.mean(answers(z[judged]) == v[judged, k]), abs=0.01)
