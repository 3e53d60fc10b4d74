"""Linear baselines in closed form: PCA, and the optimal affine denoiser for a corruption with known moments.

`train = statistics(x_train)` once; then `apply(pca(train, 64), x)` reconstructs from 64 numbers, and
`apply(optimal_linear(train, corruption.moments(shape)), x_tilde)` restores. An autoencoder should beat them on the same
examples. All sums and solutions are in float64; the cost is that of d×d matrices, with d the number of dimensions of an
example.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from aejax.objective.corruptions import Moments

Examples = np.ndarray | Array

ROWS = 4096
"""Number of examples whose float64 copy is in memory at a time."""


class Statistics(NamedTuple):
    """First and second moments of clean data, float64."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    """Divided by n: the training set is the whole population for which the baselines are optimal."""
    axes: Float[np.ndarray, "d d"] | None = None
    """Principal axes, largest variance first, if `with_axes` has computed them; for d = 4096 that takes half a minute."""


class Affine(NamedTuple):
    """x ↦ weight · x + bias, float64."""

    weight: Float[np.ndarray, "d d"]
    bias: Float[np.ndarray, " d"]


def statistics(x_train: Shaped[Examples, " n *shape"]) -> Statistics:
    """Mean and covariance of the flattened examples."""
    rows = np.asarray(x_train).reshape(len(x_train), -1)
    mean = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), ROWS):
        centerd = rows[start : start + ROWS] - mean
        covariance += centerd.T @ centerd
    return Statistics(mean, covariance / len(rows))


def with_axes(train: Statistics) -> Statistics:
    """The same with principal axes, which `pca` and `pca_codes` would otherwise compute at each call."""
    return train._replace(axes=np.linalg.eigh(train.covariance)[1][:, ::-1])


def pca(train: Statistics, components: int) -> Affine:
    """Projection on the span of the first min(components, d) principal axes: the best reconstruction of that rank.

    Its squared error on the training set, summed over dimensions, is the sum of the covariance's discarded eigenvalues.
    """
    axes = _principal_axes(train, components)
    weight = axes @ axes.T
    return Affine(weight, train.mean - weight @ train.mean)


def pca_codes(train: Statistics, components: int, x: Shaped[Examples, " n *shape"]) -> Float[np.ndarray, "n k"]:
    """Coordinates of x on the first principal axes, relative to the training mean, largest variance first."""
    rows = np.asarray(x).reshape(len(x), -1)
    return (rows - train.mean) @ _principal_axes(train, components)


def _principal_axes(train: Statistics, components: int) -> Float[np.ndarray, "d k"]:
    axes = (train if train.axes is not None else with_axes(train)).axes
    assert axes is not None
    return axes[:, :components]


def optimal_linear(train: Statistics, noise: Moments, affine: bool = True) -> Affine:
    """The optimal affine denoiser: it minimizes E‖x - W x_tilde - c‖² over the training set and the noise x_tilde = a ⊙ x + b.

    This is linear regression with exact expectations: W = Cov(x, x_tilde) Cov(x_tilde)⁺, c = E[x] - W E[x_tilde]. With
    `affine=False` it is the best map with c = 0, W = P Q⁺ with P = E[x x_tildeᵀ] and Q = E[x_tilde x_tildeᵀ], whose error is
    never smaller. Directions in which x_tilde does not vary (pixels that are always black) are ignored: ⁺ is the
    pseudo-inverse, and there is no ridge.

    As the optimum for the *training* set it overfits small ones, where a pixel that is nonzero in a single example gets a large
    weight. Clipping its output to the range of the data limits the damage and never increases the error.
    """
    m, covariance, _ = train
    a, b, aa, ab, bb = noise
    second = covariance + np.outer(m, m)
    if not affine:
        cross = second * a + np.outer(m, b)
        mixed = ab * m[:, None]
        weight = cross @ _pseudo_inverse(aa * second + mixed + mixed.T + bb)
        return Affine(weight, np.zeros_like(m))
    # Cov(x_tilde) from the covariances of a, b and x; Q - E[x_tilde] E[x_tilde]ᵀ would lose its small eigenvalues.
    mixed = (ab - np.outer(a, b)) * m[:, None]
    corrupted = (aa - np.outer(a, a)) * second + np.outer(a, a) * covariance + mixed + mixed.T + bb - np.outer(b, b)
    weight = (covariance * a) @ _pseudo_inverse(corrupted)
    return Affine(weight, m - weight @ (a * m + b))


def _pseudo_inverse(q: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Eigenvalues below the rounding error of the largest, d·ε·λ_max, count as zero."""
    return np.linalg.pinv(q, rtol=len(q) * np.finfo(np.float64).eps, hermitian=True)


def apply(affine: Affine, x_tilde: Shaped[Examples, " n *shape"]) -> Float[np.ndarray, " n *shape"]:
    """The map, applied to every flattened example; the result has x_tilde's shape and, if that is floating, its dtype."""
    x_tilde = np.asarray(x_tilde)
    rows = x_tilde.reshape(len(x_tilde), -1)
    dtype = np.result_type(x_tilde.dtype, np.float32)
    return (rows @ affine.weight.T + affine.bias).astype(dtype).reshape(x_tilde.shape)
