"""Likelihoods: elementwise nats of data under decoder outputs theta.

A likelihood owns all that must agree with it: the output activation, the mean, a draw, and the admissible data range.
`theta` has x's shape and one axis more, the `width` numbers per element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError


class Likelihood(NamedTuple):
    """p(x|theta) as pure functions."""

    name: str
    nats: Callable
    """(theta [*shape, width], x [*shape]) -> -log p(x|theta), elementwise, in nats."""
    mean: Callable
    """theta -> E[x|theta], in data range."""
    draw: Callable
    """(key, theta of one example) -> one example."""
    width: int
    """Numbers of theta per element of x."""
    check: Callable
    """(x, where) -> None; raises UsageError for data outside the admissible range."""
    discrete: bool = False
    """Whether the mean is no datum, so that what a model samples is a draw."""


def bernoulli() -> Likelihood:
    """Bernoulli with theta the logits; -log p = softplus(theta) - x·theta. For grey values in [0, 1] it is the cross-entropy."""

    def nats(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        logits = theta[..., 0]
        return jax.nn.softplus(logits) - x * logits

    def mean(theta):
        return jax.nn.sigmoid(theta[..., 0])

    def draw(key: Key[Array, ""], theta):
        return jax.random.bernoulli(key, mean(theta)).astype(theta.dtype)

    def check(x: np.ndarray, where: str) -> None:
        low, high = float(np.min(x)), float(np.max(x))
        if low < 0.0 or high > 1.0:
            raise UsageError(
                f"bernoulli() admits data in [0, 1], but {where} spans [{low:g}, {high:g}]; "
                "scale the data, or use gaussian() or squared_error()"
            )

    return Likelihood("bernoulli", nats, mean, draw, 1, check)


def gaussian(scale: float = 1.0) -> Likelihood:
    """N(theta, scale²) with a fixed scale, in units of the data; constants included."""
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"gaussian(scale={scale}): the scale must be a positive number")
    log_scale = math.log(scale)

    def nats(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 0.5 * jnp.square((x - theta[..., 0]) / scale) + log_scale + 0.5 * math.log(2 * math.pi)

    def draw(key: Key[Array, ""], theta):
        return theta[..., 0] + scale * jax.random.normal(key, theta.shape[:-1], theta.dtype)

    return Likelihood("gaussian", nats, _location, draw, 1, _check_finite("gaussian"))


def gaussian_learned(minimum: float = 0.01) -> Likelihood:
    """N(μ, σ²) with theta = (μ, ρ) per element and σ = minimum + softplus(ρ).

    Without a minimum the density of a constant pixel grows without bound; the default is about 2.5 grey levels of 255.
    """
    if not (math.isfinite(minimum) and minimum > 0):
        raise UsageError(f"gaussian_learned(minimum={minimum}): the minimum must be a positive number")

    def sigma(theta):
        return minimum + jax.nn.softplus(theta[..., 1])

    def nats(theta: Float[Array, "*shape 2"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        s = sigma(theta)
        return 0.5 * jnp.square((x - theta[..., 0]) / s) + jnp.log(s) + 0.5 * math.log(2 * math.pi)

    def draw(key: Key[Array, ""], theta):
        return theta[..., 0] + sigma(theta) * jax.random.normal(key, theta.shape[:-1], theta.dtype)

    return Likelihood("gaussian_learned", nats, _location, draw, 2, _check_finite("gaussian_learned"))


def squared_error() -> Likelihood:
    """(x - theta)² per element: the nats of a Gaussian with variance 1/2, its constant ½ log π left out."""

    def nats(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.square(x - theta[..., 0])

    def draw(key: Key[Array, ""], theta):
        return theta[..., 0] + math.sqrt(0.5) * jax.random.normal(key, theta.shape[:-1], theta.dtype)

    return Likelihood("squared_error", nats, _location, draw, 1, _check_finite("squared_error"))


def categorical() -> Likelihood:
    """One of k categories, x one-hot along its last axis, with theta the logits: Σ of the nats is the cross-entropy.

    For x of shape [..., k], each of the leading positions is an independent category. Soft labels that sum to 1 are admitted.
    """

    def nats(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -x * jax.nn.log_softmax(theta[..., 0])

    def mean(theta):
        return jax.nn.softmax(theta[..., 0])

    def draw(key: Key[Array, ""], theta):
        return jax.nn.one_hot(jax.random.categorical(key, theta[..., 0]), theta.shape[-2], dtype=theta.dtype)

    def check(x: np.ndarray, where: str) -> None:
        low, high, sums = float(np.min(x)), float(np.max(x)), np.sum(x, axis=-1, dtype=np.float64)
        if not (low >= 0.0 and high <= 1.0 and np.allclose(sums, 1.0, atol=1e-4)):
            raise UsageError(
                f"categorical() admits data in [0, 1] that sums to 1 along the last axis, but {where} spans "
                f"[{low:g}, {high:g}] with sums from {np.min(sums):g} to {np.max(sums):g}; give one-hot categories"
            )

    return Likelihood("categorical", nats, mean, draw, 1, check, discrete=True)


def _location(theta):
    return theta[..., 0]


def _check_finite(name: str) -> Callable:
    def check(x: np.ndarray, where: str) -> None:
        if not np.all(np.isfinite(x)):
            raise UsageError(f"{name}() admits finite data, but {where} holds NaN or Inf; clean the data")

    return check
