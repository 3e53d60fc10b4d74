"""Linear baselines in closed form: PCA, and the best affine denoiser for a corruption of known moments.

`train = statistics(x_train)` once; then `apply(pca(train, 64), x)` reconstructs from 64 numbers, and
`apply(optimal_linear(train, corruption.moments(shape)), x_tilde)` restores. An autoencoder that does not beat them on
the same examples has learnt nothing that linear algebra does not give. All sums and solutions are in float64; the cost
is that of d×d matrices, d the number of dimensions of an example.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from aejax.objective.corruptions import Moments

Examples = np.ndarray | Array

ROWS = 4096
"""Examples whose float64 copy is held at a time."""


class Statistics(NamedTuple):
    """First and second moments of clean data, float64."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    """Divided by n: the training set is taken as the whole population, over which the baselines are optimal."""
    axes: Float[np.ndarray, "d d"] | None = None
    """The principal ones, largest variance first, where `with_axes` has worked them out: for d = 4096 half a minute's work."""


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
    """The same, with what `pca` and `pca_codes` would otherwise work out at each call."""
    return train._replace(axes=np.linalg.eigh(train.covariance)[1][:, ::-1])


def pca(train: Statistics, components: int) -> Affine:
    """Projection on the span of the first min(components, d) principal axes: the best reconstruction of that rank.

    Its squared error on the training set, summed over dimensions, is the sum of the covariance's discarded eigenvalues.
    """
    axes = _principal_axes(train, components)
    weight = axes @ axes.T
    return Affine(weight, train.mean - weight @ train.mean)


def pca_codes(train: Statistics, components: int, x: Shaped[Examples, " n *shape"]) -> Float[np.ndarray, "n k"]:
    """Coordinates of x on the first principal axes, from the training mean, largest variance first."""
    rows = np.asarray(x).reshape(len(x), -1)
    return (rows - train.mean) @ _principal_axes(train, components)


def _principal_axes(train: Statistics, components: int) -> Float[np.ndarray, "d k"]:
    axes = (train if train.axes is not None else with_axes(train)).axes
    assert axes is not None
    return axes[:, :components]


def optimal_linear(train: Statistics, noise: Moments, affine: bool = True) -> Affine:
    """The best affine denoiser: least E‖x - W x_tilde - c‖² over the training set and the noise x_tilde = a ⊙ x + b.

    Linear regression with its expectations taken exactly: W = Cov(x, x_tilde) Cov(x_tilde)⁺, c = E[x] - W E[x_tilde].
    With `affine=False` the best map with c = 0, W = P Q⁺ with P = E[x x_tildeᵀ] and Q = E[x_tilde x_tildeᵀ]; its error
    is never smaller. Directions in which x_tilde does not vary (pixels that are always black) are ignored: ⁺ is the
    pseudo-inverse, and no ridge is added.

    Being the optimum for the *training* set it overfits a small one, where a pixel that is lit in a single example gets
    a large weight. Clipping what it restores to the range of the data bounds the damage and never raises the error.
    """
    m, covariance, _ = train
    a, b, aa, ab, bb = noise
    second = covariance + np.outer(m, m)
    if not affine:
        cross = second * a + np.outer(m, b)
        mixed = ab * m[:, None]
        weight = cross @ _pseudo_inverse(aa * second + mixed + mixed.T + bb)
        return Affine(weight, np.zeros_like(m))
    # Cov(x_tilde) from the covariances of a, b and x: Q - E[x_tilde] E[x_tilde]ᵀ would lose its small eigenvalues.
    mixed = (ab - np.outer(a, b)) * m[:, None]
    corrupted = (aa - np.outer(a, a)) * second + np.outer(a, a) * covariance + mixed + mixed.T + bb - np.outer(b, b)
    weight = (covariance * a) @ _pseudo_inverse(corrupted)
    return Affine(weight, m - weight @ (a * m + b))


def _pseudo_inverse(q: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Eigenvalues below the rounding error of the largest, d·ε·λ_max, count as zero."""
    return np.linalg.pinv(q, rtol=len(q) * np.finfo(np.float64).eps, hermitian=True)


def apply(affine: Affine, x_tilde: Shaped[Examples, " n *shape"]) -> Float[np.ndarray, " n *shape"]:
    """The map on every flattened example; the result has x_tilde's shape and, where that is floating, its dtype."""
    x_tilde = np.asarray(x_tilde)
    rows = x_tilde.reshape(len(x_tilde), -1)
    dtype = np.result_type(x_tilde.dtype, np.float32)
    return (rows @ affine.weight.T + affine.bias).astype(dtype).reshape(x_tilde.shape)
