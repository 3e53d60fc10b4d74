"""Mutual information between each dimension of a representation and each factor of variation, in nats, and metrics based on it.

Codes are binned into 20 bins of equal width between their extremes, as in Locatello et al. 2019. The numbers are therefore
invariant under affine maps of a code, but not under other maps, and a factor with more values than bins cannot be resolved.
`mig_sampled` needs no bins, but a diagonal Gaussian posterior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from aejax.errors import UsageError

Codes = np.ndarray | Array
Factors = np.ndarray | Array

BINS = 20

_DRAWS_AT_ONCE = 500


def mutual_information(
    representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], bins: int = BINS
) -> Float[np.ndarray, "d f"]:
    """I(z_j; v_k) in nats, from the counts in `bins` bins of z_j."""
    z, v = checked(representations, factors)
    values = [np.unique(column, return_inverse=True)[1] for column in v.T]
    return np.array([[_information(binned, column, bins) for column in values] for binned in _binned(z, bins).T])


def entropies(factors: Int[Factors, "n f"]) -> Float[np.ndarray, " f"]:
    """H(v_k) in nats."""
    return np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in np.asarray(factors).T])


def mig(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], bins: int = BINS) -> dict[str, Any]:
    """Mutual information gap (Chen et al. 2018, eq. 6).

    For each factor, the difference in information between the most informative dimension and the second, divided by the
    factor's entropy. `gaps` are per factor, `score` is their mean.
    """
    return _gaps(mutual_information(representations, factors, bins), entropies(factors))


def mig_sampled(
    means: Float[Codes, "n d"],
    variances: Float[Codes, "n d"],
    factors: Int[Factors, "n f"],
    seed: int = 0,
    draws: int = 10_000,
) -> dict[str, Any]:
    """The mutual information gap from q(z_j|x_n) = N(means, variances) itself (Chen et al. 2018, app. B), without bins.

    I(z_j; v_k) = E log q(z_j|v_k) / q(z_j), with one z ~ q(z|x_n) for each of `draws` random examples. q(z_j) is the mean of
    q(z_j|x_n) over all examples, and q(z_j|v) the mean over those with this value.
    """
    mu, v = checked(means, factors)
    sigma = np.sqrt(np.asarray(variances, np.float64))
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(mu))[:draws]
    z = mu[drawn] + sigma[drawn] * rng.standard_normal((len(drawn), mu.shape[1]))
    # One column per value of each factor: the examples that have it.
    codes = [np.unique(column, return_inverse=True)[1] for column in v.T]
    member = np.concatenate([np.eye(c.max() + 1, dtype=np.float32)[c] for c in codes], axis=1)
    member /= member.sum(axis=0)
    starts = np.cumsum([0, *(c.max() + 1 for c in codes[:-1])])
    own = np.stack(codes, axis=1)[drawn] + starts  # [draws, f]
    information = np.zeros((mu.shape[1], v.shape[1]))
    for j in range(mu.shape[1]):
        for at in range(0, len(drawn), _DRAWS_AT_ONCE):
            some = slice(at, at + _DRAWS_AT_ONCE)
            apart = ((z[some, j, None] - mu[:, j]) / sigma[:, j]).astype(np.float32)
            density = np.exp(np.float32(-0.5) * apart * apart) / sigma[:, j].astype(np.float32)
            of_value = np.take_along_axis(density @ member, own[some], axis=1).astype(np.float64)
            marginal = density.mean(axis=1, dtype=np.float64)
            information[j] += np.sum(np.log(of_value) - np.log(marginal)[:, None], axis=0)
    return _gaps(information / len(drawn), entropies(v))


def modularity(representations: Shaped[Codes, "n d"], factors: Int[Factors, "n f"], bins: int = BINS) -> dict[str, Any]:
    """Modularity: whether each dimension is informative about one factor only (Ridgeway & Mozer 2018, eq. 2).

    It is 1 minus the squared information about the other factors, divided by (f − 1) times that about the main factor.
    `dimensions` are per dimension, `score` is their mean. An uninformative dimension counts as 0.
    """
    squares = np.square(mutual_information(representations, factors, bins))
    best = squares.max(axis=1)
    others = (squares.sum(axis=1) - best) / (np.where(best > 0, best, 1.0) * (squares.shape[1] - 1))
    dimensions = np.where(best > 0, 1.0 - others, 0.0)
    return {"score": float(dimensions.mean()), "dimensions": dimensions}


def checked(representations: Codes, factors: Factors) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, "n f"]]:
    """Both as arrays; UsageError for codes with one dimension or not finite, and for fewer than two factors that vary."""
    z, v = np.asarray(representations, np.float64), np.asarray(factors)
    if not np.all(np.isfinite(z)):
        raise UsageError("the representations are not all finite: the run has diverged; evaluate another one")
    if z.shape[1] < 2 or v.shape[1] < 2:
        raise UsageError(
            f"disentanglement of {z.shape[1]} dimensions and {v.shape[1]} factors is undefined; give at least two of each"
        )
    if constant := [k for k, column in enumerate(v.T) if np.all(column == column[0])]:
        raise UsageError(f"factor {constant[0]} has one value only in these examples; leave it out")
    return z, v


def _gaps(information: np.ndarray, entropy: np.ndarray) -> dict[str, Any]:
    second, first = np.sort(information, axis=0)[-2:]
    gaps = (first - second) / entropy
    return {"score": float(gaps.mean()), "gaps": gaps, "information": information, "entropies": entropy}


def _binned(z: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each number, [n, d]; the largest number belongs to the last bin. A constant has one bin."""
    low, high = z.min(axis=0), z.max(axis=0)
    # The difference of almost equal numbers may underflow.
    width = np.where(high - low > np.finfo(np.float64).tiny, high - low, 1.0)
    return np.minimum((z - low) / width * bins, bins - 1).astype(np.int64)


def _information(binned: np.ndarray, values: np.ndarray, bins: int) -> float:
    size = int(values.max()) + 1
    joint = np.bincount(binned * size + values, minlength=bins * size).reshape(bins, size)
    return max(0.0, _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint))


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-np.sum(share * np.log(share)))
