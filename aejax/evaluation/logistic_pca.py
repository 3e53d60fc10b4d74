"""Logistic PCA: the analogue of PCA for the cross-entropy of data in [0, 1].

An example is Bernoulli with logits z W + b. Its code z is not a function of x but free, found for each example by minimizing
its cross-entropy. It bounds what a linear decoder of logits can achieve with any encoder (Collins, Dasgupta & Schapire 2001;
Schein, Saul & Ungar 2003).

    fit = logistic_pca(x_train, 6);  z = codes(fit, x);  x_hat = mean(fit, z)

NumPy, in the floating dtype of the examples (float32 for uint8), a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from aejax.errors import UsageError
from aejax.evaluation.linear import pca_codes, statistics

Examples = np.ndarray | Array
Floats = Float[np.ndarray, "..."]

ROWS = 1024
"""Number of examples at a time; their logits and derived arrays fit into the processor's cache."""

HALVINGS = 30
"""Maximum number of halvings of a Newton step, to a billionth; what still does not descend is at its minimum up to rounding."""


class LogisticPCA(NamedTuple):
    """Logits of a code z [k]: z · weights + offset."""

    weights: Float[np.ndarray, "k d"]
    offset: Float[np.ndarray, " d"]
    history: tuple[float, ...]
    """Cross-entropy of the training examples in nats per example, before the first iteration and after each one."""


def logistic_pca(
    x_train: Shaped[Examples, " n *shape"], components: int, iterations: int = 200, tolerance: float = 1e-6
) -> LogisticPCA:
    """Minimizes the cross-entropy of the flattened examples over weights, offset and all their codes.

    An iteration minimizes a quadratic upper bound exactly over the codes, then another one over weights and offset (Schein et
    al. 2003), from a point extrapolated along the last change, as in Nesterov's method; if that does not lower the
    cross-entropy, from the last point itself, which always does. It starts at PCA and ends after `iterations`, or when one of
    them lowers the cross-entropy by less than `tolerance` of itself. The problem is not convex: the result is a local minimum.
    For binary data that a few components can separate without error, weights grow without bound.

    Raises UsageError for data outside [0, 1] and components < 1.
    """
    x = _rows(x_train)
    if components < 1:
        raise UsageError(f"logistic_pca(components={components}): it has one component at least")
    here = _start(x, components)
    before = here
    history = [_objective(x, here)]
    speed = 0
    while len(history) <= iterations:
        beta = speed / (speed + 3)
        there = _improved(x, _Point(*(a + x.dtype.type(beta) * (a - b) for a, b in zip(here, before))))
        value = _objective(x, there)
        if speed and value > history[-1]:
            speed = 0
            continue
        if value > history[-1]:  # by rounding: there is nothing more to gain
            break
        before, here, speed = here, there, speed + 1
        history.append(value)
        if history[-2] - value < tolerance * value:
            break
    return LogisticPCA(here.loadings[:-1], here.loadings[-1], tuple(history))


def codes(fit: LogisticPCA, x: Shaped[Examples, " n *shape"], iterations: int = 100) -> Float[np.ndarray, "n k"]:
    """The code of each example that minimizes its cross-entropy given weights and offset.

    This is a convex problem, solved by Newton steps that are halved until the cross-entropy does not increase.
    """
    x = _rows(x)
    z = np.zeros((len(x), len(fit.weights)), x.dtype)
    for part in _chunks(len(x)):
        z[part] = _codes(fit, x[part], iterations)
    return z


def mean(fit: LogisticPCA, z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n d"]:
    """E[x | z], in [0, 1], flattened."""
    return _sigmoid(z @ fit.weights + fit.offset)


def cross_entropy(
    fit: LogisticPCA, z: Float[np.ndarray, "n k"], x: Shaped[Examples, " n *shape"]
) -> Float[np.ndarray, " n"]:
    """−log p(x | z) per example, in nats."""
    return _neg_log_prob(z @ fit.weights + fit.offset, _rows(x))


def bound_curvature(theta: Floats) -> Floats:
    """Curvature of the quadratic that touches log(1 + eᶿ) at ±theta and is nowhere below it.

    It is tanh(θ/2) / 2θ (Jaakkola & Jordan 2000), at most 1/4.
    """
    far = np.abs(theta) > 1e-3
    return np.divide(np.tanh(theta / 2), 2 * theta, out=np.full_like(theta, 0.25), where=far)


class _Point(NamedTuple):
    """The variables of the optimization."""

    z: Float[np.ndarray, "n k"]
    loadings: Float[np.ndarray, "k+1 d"]
    """Weights, with the offset as the last row."""


def _rows(x: Shaped[Examples, " n *shape"]) -> Float[np.ndarray, "n d"]:
    x = np.asarray(x)
    rows = x.reshape(len(x), -1).astype(np.result_type(x.dtype, np.float32), copy=False)
    low, high = float(rows.min()), float(rows.max())
    if low < 0.0 or high > 1.0:
        raise UsageError(f"logistic PCA needs data in [0, 1], but these span [{low:g}, {high:g}]; scale it")
    return rows


def _start(x: Float[np.ndarray, "n d"], components: int) -> _Point:
    """PCA's codes, with the logit of the mean as offset and, because d logit / dp = 4 at p = 1/2, four times its axes."""
    train = statistics(x)
    axes = pca_codes(train, components, np.eye(x.shape[1]) + train.mean)  # [d, k]
    # With half an example of each value added, a pixel that is always 0 has a finite logit.
    total = train.mean * len(x)
    offset = np.log((total + 0.5) / (len(x) - total + 0.5))
    return _Point(
        pca_codes(train, components, x).astype(x.dtype), np.vstack([4 * axes.T, offset[None]]).astype(x.dtype)
    )


def _objective(x: Float[np.ndarray, "n d"], point: _Point) -> float:
    total = 0.0
    for part in _chunks(len(x)):
        total += float(_neg_log_prob(_with_one(point.z[part]) @ point.loadings, x[part]).sum(dtype=np.float64))
    return total / len(x)


def _improved(x: Float[np.ndarray, "n d"], point: _Point) -> _Point:
    """The codes after one step of the bound, and the loadings after one step at these codes."""
    weights, offset = point.loadings[:-1], point.loadings[-1]
    z = np.empty_like(point.z)
    k, d = point.loadings.shape
    curvature, slope = np.zeros((d, k * k)), np.zeros((d, k))
    for part in _chunks(len(x)):
        z[part] = point.z[part] + _bound_step(x[part], point.z[part] @ weights + offset, weights)
        design = _with_one(z[part])
        theta = design @ point.loadings
        curvature += bound_curvature(theta).T @ _products(design)
        slope += (x[part] - _sigmoid(theta)).T @ design
    return _Point(z, point.loadings + _solve(curvature.reshape(d, k, k), slope).T.astype(x.dtype))


def _bound_step(x: Floats, theta: Floats, weights: Floats) -> Float[np.ndarray, "n k"]:
    """From the codes with logits theta to the minimum of the quadratic upper bound of each example's cross-entropy."""
    return _solve(_curvature(bound_curvature(theta), weights), (x - _sigmoid(theta)) @ weights.T).astype(x.dtype)


def _codes(fit: LogisticPCA, x: Float[np.ndarray, "n d"], iterations: int) -> Float[np.ndarray, "n k"]:
    weights, offset = fit.weights.astype(x.dtype, copy=False), fit.offset.astype(x.dtype, copy=False)
    z = np.zeros((len(x), len(weights)), x.dtype)
    active = np.arange(len(x))
    for _ in range(iterations):
        if not len(active):
            break
        here, seen = z[active], x[active]
        theta = here @ weights + offset
        value, step = _neg_log_prob(theta, seen), _newton_step(seen, theta, weights)
        reached = _neg_log_prob(theta + step @ weights, seen)
        for _ in range(HALVINGS):
            far = reached > value
            if not far.any():
                break
            step[far] /= 2
            reached[far] = _neg_log_prob(theta[far] + step[far] @ weights, seen[far])
        lower = value - reached > 4 * np.finfo(x.dtype).eps * value  # smaller decreases are rounding
        active = active[lower]
        z[active] += step[lower]
    return z


def _newton_step(x: Floats, theta: Floats, weights: Floats) -> Float[np.ndarray, "n k"]:
    p = _sigmoid(theta)
    # If all logits are large, the Hessian vanishes; a millionth of the bound's curvature keeps it regular.
    curvature = _curvature(p * (1 - p) + 1e-6 * bound_curvature(theta), weights)
    return _solve(curvature, (x - p) @ weights.T).astype(x.dtype)


def _curvature(each: Float[np.ndarray, "n d"], weights: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "n k k"]:
    """Σ_d each[n, d] w_d w_dᵀ."""
    k = len(weights)
    return (each @ _products(weights.T)).reshape(-1, k, k)


def _products(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k*k"]:
    return (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)


def _solve(curvature: Float[np.ndarray, "n k k"], slope: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Solutions of the systems, in float64. The ridge makes the bound looser without moving its minimum."""
    k = slope.shape[1]
    size = np.trace(curvature, axis1=1, axis2=2).astype(np.float64) / k
    ridge = (1e-7 * size + np.finfo(np.float32).tiny)[:, None, None] * np.eye(k)
    return np.linalg.solve(curvature + ridge, slope[..., None].astype(np.float64))[..., 0]


def _sigmoid(theta: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(theta / 2)


def _neg_log_prob(theta: Float[np.ndarray, "n d"], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    return np.sum(np.maximum(theta, 0) + np.log1p(np.exp(-np.abs(theta))) - x * theta, axis=1)


def _with_one(z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k+1"]:
    return np.concatenate([z, np.ones((len(z), 1), z.dtype)], axis=1)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))
