"""A linear-Gaussian state-space model, `linear_gaussian`, with its exact filter, smoother and likelihood.

    z_0 ~ N(0, P_0),  z_t = A z_{t−1} + N(0, Q),  x_t = C z_t + N(0, R),  t = 1 … 20

A model of sequences can be compared here with the exact log p(x_t | x_<t), and its beliefs with p(z_t | x_≤t) and
p(z_t | x_1 … x_20). Everything is NumPy in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_discrete_lyapunov

from aejax.data.sets.recipe import Recipe

STEPS = 20
SIZES = {"train": 5000, "test": 1000}
STATES = ("z1", "z2")

_TURN = 0.5  # radians a step
A = 0.95 * np.array([[np.cos(_TURN), -np.sin(_TURN)], [np.sin(_TURN), np.cos(_TURN)]])
"""A damped rotation with spectral radius .95."""
Q = np.array([[0.3, 0.15], [0.15, 0.2]])
C = np.array([[1.0, 0.4], [-0.3, 0.8]])
R = np.array([[0.4, -0.1], [-0.1, 0.3]])
P_0 = solve_discrete_lyapunov(A, Q)
"""The stationary covariance of every z_t, P_0 = A P_0 Aᵀ + Q."""


class Beliefs(NamedTuple):
    """Gaussians over z_1 … z_T; their covariances are the same for every sequence."""

    means: Float[np.ndarray, "*n t 2"]
    covariances: Float[np.ndarray, "t 2 2"]


class Filtered(NamedTuple):
    """p(z_t | x_≤t), and the log-likelihood of each step."""

    means: Float[np.ndarray, "*n t 2"]
    covariances: Float[np.ndarray, "t 2 2"]
    log_p: Float[np.ndarray, "*n t"]
    """log p(x_t | x_<t), nats."""


def linear_gaussian(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None, np.ndarray]:
    """n sequences [n, 20, 2], float32, no labels, and states z_t [n, 20, 2], float32."""
    state = np.empty((n, STEPS, 2))
    z = _normal(rng, n, P_0)
    for t in range(STEPS):
        z = z @ A.T + _normal(rng, n, Q)
        state[:, t] = z
    x = state @ C.T + _normal(rng, n * STEPS, R).reshape(n, STEPS, 2)
    return x.astype(np.float32), None, state.astype(np.float32)


def kalman_filter(x: np.ndarray) -> Filtered:
    """The exact beliefs p(z_t | x_≤t) of sequences x [..., T, 2], and log p(x_t | x_<t) (Kalman 1960)."""
    x = np.asarray(x, np.float64)
    means, covariances, log_p = np.empty(x.shape), np.empty((x.shape[-2], 2, 2)), np.empty(x.shape[:-1])
    mean, covariance = np.zeros(2), P_0
    for t in range(x.shape[-2]):
        mean, covariance = mean @ A.T, A @ covariance @ A.T + Q
        surprise = x[..., t, :] - mean @ C.T
        expected = C @ covariance @ C.T + R
        gain = covariance @ C.T @ np.linalg.inv(expected)
        squares = np.sum(surprise @ np.linalg.inv(expected) * surprise, axis=-1)
        log_p[..., t] = -0.5 * (squares + np.linalg.slogdet(2 * np.pi * expected)[1])
        mean, covariance = mean + surprise @ gain.T, covariance - gain @ expected @ gain.T
        means[..., t, :], covariances[t] = mean, covariance
    return Filtered(means, covariances, log_p)


def smoother(x: np.ndarray) -> Beliefs:
    """The exact beliefs p(z_t | x_1 … x_T) of sequences x [..., T, 2] (Rauch, Tung & Striebel 1965)."""
    means, covariances, _ = kalman_filter(x)
    for t in reversed(range(len(covariances) - 1)):
        ahead = A @ covariances[t] @ A.T + Q
        gain = covariances[t] @ A.T @ np.linalg.inv(ahead)
        means[..., t, :] += (means[..., t + 1, :] - means[..., t, :] @ A.T) @ gain.T
        covariances[t] += gain @ (covariances[t + 1] - ahead) @ gain.T
    return Beliefs(means, covariances)


def _normal(rng: np.random.Generator, n: int, covariance: np.ndarray) -> np.ndarray:
    return rng.normal(size=(n, 2)) @ np.linalg.cholesky(covariance).T


RECIPE = Recipe(
    name="linear_gaussian",
    about=(
        "`sequence` float32 [20, 2], observations of a linear-Gaussian state-space model, without label: 5000 and 1000 examples. "
        "See `sets.linear_gaussian` for the rules and the exact filter; `state` [20, 2] is z. The seed determines the "
        "training sequences; the test sequences are the same for every seed."
    ),
    shape=(STEPS, 2),
    draw=linear_gaussian,
    sizes=SIZES,
    feature="sequence",
    dtype=np.float32,
    states=STATES,
)
