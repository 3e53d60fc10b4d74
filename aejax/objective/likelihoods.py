"""Likelihoods: elementwise -log p(x|theta) in nats, given the decoder's output theta.

A likelihood defines everything that has to agree with it: the output activation, the mean, a draw, and the admissible range of
the data. `theta` has x's shape plus a last axis with the `width` numbers per element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.types import Check, Dataset, NumDiscreteDims


class Likelihood(NamedTuple):
    """A likelihood p(x|theta) as pure functions.

    Example:
        >>> likelihood = bernoulli()
        >>> likelihood.mean(jnp.zeros((3, 1))).tolist()
        [0.5, 0.5, 0.5]
    """

    name: str
    neg_log_prob: Callable[[Array, Array], Array]
    """(theta [*shape, width], x [*shape]) -> -log p(x|theta), elementwise, in nats."""
    mean: Callable[[Array], Array]
    """theta -> E[x|theta], in data range."""
    draw: Callable[[Key[Array, ""], Array], Array]
    """(key, theta of one example) -> one example."""
    width: int
    """Numbers of theta per element of x."""
    check: Check
    """(x, where) -> None; raises UsageError for data outside the admissible range."""
    discrete: bool = False
    """Whether the mean lies outside the data space, as for one-hot vectors, so that samples are draws and not means."""
    num_discrete_dims: NumDiscreteDims | None = None
    """(x [n, *shape], in NumPy) -> the number of discrete variables in an example: bits per dimension are
    nats / (num_discrete_dims · log 2). It returns None if x holds values without a probability, such as gray ones under
    `bernoulli()`. The field is None if the likelihood is a density."""
    missing: bool = False
    """Whether NaN in x is a missing value, see `skip_missing`. Models then fill it with 0 in the encoder's input."""


@described
def bernoulli() -> Likelihood:
    """Bernoulli distribution with `theta` the logits: -log p = softplus(theta) - x * theta.

    For gray values in [0, 1] this is the cross-entropy, whose minimum over theta is the entropy of x and not zero.

    Returns:
        A likelihood with one number per element; its `check` refuses data outside [0, 1].

    Example:
        >>> nats = bernoulli().neg_log_prob(jnp.zeros((4, 1)), jnp.ones(4))
        >>> bool(jnp.allclose(nats, jnp.log(2.0)))
        True
    """

    def neg_log_prob(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        logits = theta[..., 0]
        return jax.nn.softplus(logits) - x * logits

    def mean(theta: Array) -> Array:
        return jax.nn.sigmoid(theta[..., 0])

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        return jax.random.bernoulli(key, mean(theta)).astype(theta.dtype)

    def num_discrete_dims(x: np.ndarray) -> int | None:
        return math.prod(x.shape[1:]) if _zeros_and_ones(x) else None

    return Likelihood(
        "bernoulli", neg_log_prob, mean, draw, 1, _check_unit("bernoulli"), num_discrete_dims=num_discrete_dims
    )


@described
def continuous_bernoulli() -> Likelihood:
    """Continuous Bernoulli density of gray values in [0, 1] (Loaiza-Ganem & Cunningham 2019).

    p(x|η) = exp(ηx) / ∫₀¹ exp(ηt) dt, with `theta` the logits η = log(λ / (1 - λ)). It is the cross-entropy plus the
    normalizing constant that the cross-entropy lacks. λ is not the mean, and -log p may be negative.

    Returns:
        A likelihood with one number per element; its `check` refuses data outside [0, 1].

    Example:
        >>> continuous_bernoulli().neg_log_prob(jnp.zeros((1, 1)), jnp.array([0.3])).tolist()  # uniform at η = 0
        [0.0]
    """

    def neg_log_prob(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        # -ηx + log((exp η - 1) / η), rearranged: this form overflows, and is 0/0 at λ = 1/2, where η = 0.
        eta = theta[..., 0]
        near, far = _near_and_far(eta)
        square = jnp.square(near)
        even = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
        away = jnp.where(eta > 0, 1 - x, x) * far + jnp.log1p(-jnp.exp(-far)) - jnp.log(far)
        return jnp.where(jnp.abs(eta) > 1, away, (0.5 - x) * near + even)

    def mean(theta: Array) -> Array:
        # The derivative of the log-normalizer.
        eta = theta[..., 0]
        near, far = _near_and_far(eta)
        square = jnp.square(near)
        series = 0.5 + near * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
        below = 1 / far + jnp.exp(-far) / jnp.expm1(-far)  # of -|η|
        return jnp.where(jnp.abs(eta) > 1, jnp.where(eta > 0, 1 - below, below), series)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        eta = theta[..., 0]
        size = jnp.maximum(jnp.abs(eta), 1e-6)  # smaller η are uniform to float precision
        below = -jnp.log1p(jax.random.uniform(key, eta.shape, eta.dtype) * jnp.expm1(-size)) / size  # of -|η|
        below = jnp.minimum(below, 1.0)
        return jnp.where(eta > 0, 1 - below, below)

    return Likelihood("continuous_bernoulli", neg_log_prob, mean, draw, 1, _check_unit("continuous_bernoulli"))


@described
def restrict(likelihood: Likelihood, scored: Bool[np.ndarray, "*shape"]) -> Likelihood:
    """The likelihood of a subset of an example's elements; the others contribute nothing.

    Args:
        likelihood: Likelihood of all elements.
        scored: bool, of an example's shape; True for the elements that are scored.

    Returns:
        The restricted likelihood.

    Example:
        >>> half = restrict(bernoulli(), np.array([True, False]))
        >>> half.neg_log_prob(jnp.zeros((2, 1)), jnp.ones(2)).tolist()
        [0.6931471824645996, 0.0]
    """
    count = likelihood.num_discrete_dims

    def neg_log_prob(theta: Array, x: Array) -> Array:
        return jnp.where(np.broadcast_to(scored, x.shape), likelihood.neg_log_prob(theta, x), 0.0)

    restricted = likelihood._replace(neg_log_prob=neg_log_prob)
    if count is None:
        return restricted

    def counted(x: np.ndarray) -> int | None:
        every = count(x)
        return None if every is None else every * int(scored.sum()) // scored.size

    return restricted._replace(num_discrete_dims=counted)


@described
def skip_missing(likelihood: Likelihood) -> Likelihood:
    """The likelihood of the observed values only: elements of x that are NaN contribute nothing.

    This is -log p of the observed part of an example where the elements are independent given z, and the objective of missing
    data autoencoders (Nazábal et al. 2020, section 3.1; Mattei & Frellsen 2019, eq. 3).

    Args:
        likelihood: Likelihood of complete examples whose elements are independent.

    Returns:
        The likelihood that skips NaN.

    Raises:
        UsageError: The elements of x are not independent, as in `categorical`.

    Example:
        >>> nats = skip_missing(bernoulli()).neg_log_prob(jnp.zeros((2, 1)), jnp.array([1.0, jnp.nan]))
        >>> nats.tolist()
        [0.6931471824645996, 0.0]
    """
    if likelihood.discrete:
        raise UsageError(f"{likelihood.name}() has no single elements that could be missing; leave out --missing mask")

    def neg_log_prob(theta: Array, x: Array) -> Array:
        observed = ~jnp.isnan(x)
        # Filled before, not only after: the gradient of a NaN would be NaN.
        return jnp.where(observed, likelihood.neg_log_prob(theta, jnp.where(observed, x, 0.0)), 0.0)

    def check(x: np.ndarray, where: str) -> None:
        observed = x[~np.isnan(x)]
        if observed.size:
            likelihood.check(observed, where)

    return likelihood._replace(neg_log_prob=neg_log_prob, check=check, num_discrete_dims=None, missing=True)


LikelihoodName = Literal[
    "bernoulli", "continuous_bernoulli", "gaussian", "gaussian_learned", "squared_error", "student_t"
]
"""The likelihoods that experiments offer to the command line."""


def likelihood_for(data: Dataset, name: LikelihoodName) -> Likelihood:
    """The likelihood of this name with its defaults, as experiments offer it to the command line.

    Args:
        data: Training data. If they have missing values, the likelihood skips these.
        name: Name of a likelihood function of this module.

    Returns:
        The likelihood.

    Example:
        >>> import aejax
        >>> likelihood_for(aejax.load("digits")[0], "gaussian").name
        'gaussian'
    """
    makers = (bernoulli, continuous_bernoulli, gaussian, gaussian_learned, squared_error, student_t)
    likelihood = {maker.__name__: maker for maker in makers}[name]()
    return skip_missing(likelihood) if data.found is not None and data.found.missing else likelihood


def _near_and_far(eta: Array) -> tuple[Array, Array]:
    """η up to |η| = 1, where the series around 0 is used, and |η| beyond, where the closed forms are; placeholders elsewhere.

    At 1 the first omitted term of the series is 5e-8 of the sum, and the closed forms lose less than a digit.
    """
    size = jnp.abs(eta)
    return jnp.where(size > 1, 0.0, eta), jnp.where(size > 1, size, 1.0)


def _check_unit(name: str) -> Check:
    def check(x: np.ndarray, where: str) -> None:
        low, high, missing = float(np.nanmin(x)), float(np.nanmax(x)), bool(np.isnan(x).any())
        if missing or not (low >= 0.0 and high <= 1.0):
            raise UsageError(
                f"{name}() admits data in [0, 1], but {where} spans [{low:g}, {high:g}]{', with missing values' * missing}; "
                "scale the data to it, or pass --likelihood gaussian where the experiment has it; "
                "`aejax data inspect` lists the experiments that take the data"
            )

    return check


def _zeros_and_ones(x: np.ndarray) -> bool:
    return bool(np.all((x == 0) | (x == 1)))


@described
def gaussian(scale: float = 1.0) -> Likelihood:
    """Gaussian N(theta, scale²) with a fixed scale, constants included.

    Args:
        scale: Standard deviation in units of the data.

    Returns:
        A likelihood with one number per element.

    Raises:
        UsageError: `scale` is not a positive number.

    Example:
        >>> nats = gaussian(2.0).neg_log_prob(jnp.zeros((1, 1)), jnp.zeros(1))
        >>> round(float(nats[0]), 4)  # log 2 + ½ log 2π
        1.6121
    """
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"gaussian(scale={scale}): the scale must be a positive number")
    log_scale = math.log(scale)

    def neg_log_prob(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 0.5 * jnp.square((x - theta[..., 0]) / scale) + log_scale + 0.5 * math.log(2 * math.pi)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        return theta[..., 0] + scale * jax.random.normal(key, theta.shape[:-1], theta.dtype)

    return Likelihood("gaussian", neg_log_prob, _location, draw, 1, _check_finite("gaussian"))


@described
def gaussian_learned(minimum: float = 0.01) -> Likelihood:
    """Gaussian N(μ, σ²) with theta = (μ, ρ) per element and σ = minimum + softplus(ρ).

    Args:
        minimum: Smallest standard deviation, in units of the data. Without it the density of a constant pixel would grow
            without bound; the default is about 2.5 gray levels of 255.

    Returns:
        A likelihood with two numbers per element.

    Raises:
        UsageError: `minimum` is not a positive number.

    Example:
        >>> theta = jnp.array([[0.2, -100.0]])  # σ = minimum
        >>> round(float(gaussian_learned(0.5).neg_log_prob(theta, jnp.array([0.2]))[0]), 4)  # log ½ + ½ log 2π
        0.2258
    """
    if not (math.isfinite(minimum) and minimum > 0):
        raise UsageError(f"gaussian_learned(minimum={minimum}): the minimum must be a positive number")

    def moments(theta: Array) -> tuple[Array, Array]:
        # Not theta[..., 0] and theta[..., 1]: on CPU, XLA assembles their gradients element by element, several times slower.
        mu, rho = jnp.unstack(theta, axis=-1)
        return mu, minimum + jax.nn.softplus(rho)

    def neg_log_prob(theta: Float[Array, "*shape 2"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        mu, sigma = moments(theta)
        return 0.5 * jnp.square((x - mu) / sigma) + jnp.log(sigma) + 0.5 * math.log(2 * math.pi)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        mu, sigma = moments(theta)
        return mu + sigma * jax.random.normal(key, mu.shape, mu.dtype)

    return Likelihood("gaussian_learned", neg_log_prob, _location, draw, 2, _check_finite("gaussian_learned"))


@described
def squared_error() -> Likelihood:
    """Squared error (x - theta)² per element: a Gaussian of variance ½ without its constant ½ log π.

    Returns:
        A likelihood with one number per element.

    Example:
        >>> squared_error().neg_log_prob(jnp.zeros((2, 1)), jnp.array([1.0, -2.0])).tolist()
        [1.0, 4.0]
    """

    def neg_log_prob(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.square(x - theta[..., 0])

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        return theta[..., 0] + math.sqrt(0.5) * jax.random.normal(key, theta.shape[:-1], theta.dtype)

    return Likelihood("squared_error", neg_log_prob, _location, draw, 1, _check_finite("squared_error"))


@described
def student_t(freedom: float = 4.0, minimum: float = 0.01) -> Likelihood:
    """Student's t with theta = (μ, ρ) per element and scale σ = minimum + softplus(ρ): robust to outliers.

    -log p = log σ + ½ log(νπ) + log Γ(ν/2) - log Γ((ν+1)/2) + (ν+1)/2 · log(1 + ((x - μ)/σ)²/ν)

    Args:
        freedom: Degrees of freedom ν; small numbers give heavy tails, large ones approach `gaussian_learned`.
        minimum: Smallest scale, in units of the data.

    Returns:
        A likelihood with two numbers per element.

    Raises:
        UsageError: An argument is not a positive number.

    Example:
        >>> theta = jnp.array([[0.0, 0.5413]])  # σ = 1.01
        >>> round(float(student_t(1.0).neg_log_prob(theta, jnp.zeros(1))[0]), 3)  # Cauchy: log π + log σ
        1.155
    """
    if not (math.isfinite(freedom) and freedom > 0 and math.isfinite(minimum) and minimum > 0):
        raise UsageError(f"student_t(freedom={freedom}, minimum={minimum}): both must be positive numbers")
    constant = 0.5 * math.log(freedom * math.pi) + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)

    def moments(theta: Array) -> tuple[Array, Array]:
        mu, rho = jnp.unstack(theta, axis=-1)  # as in `gaussian_learned`
        return mu, minimum + jax.nn.softplus(rho)

    def neg_log_prob(theta: Float[Array, "*shape 2"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        mu, sigma = moments(theta)
        return constant + jnp.log(sigma) + (freedom + 1) / 2 * jnp.log1p(jnp.square((x - mu) / sigma) / freedom)

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        mu, sigma = moments(theta)
        return mu + sigma * jax.random.t(key, freedom, mu.shape, mu.dtype)

    return Likelihood("student_t", neg_log_prob, _location, draw, 2, _check_finite("student_t"))


@described
def categorical() -> Likelihood:
    """Categorical distribution over k classes, with x one-hot along its last axis and `theta` the logits.

    If x has shape [..., k], each of the leading positions is an independent variable. Soft labels that sum to 1 are admitted.

    Returns:
        A likelihood with one number per element; its sum over an example is the cross-entropy.

    Example:
        >>> nats = categorical().neg_log_prob(jnp.zeros((4, 1)), jnp.array([0.0, 1.0, 0.0, 0.0]))
        >>> bool(jnp.isclose(nats.sum(), jnp.log(4.0)))
        True
    """

    def neg_log_prob(theta: Float[Array, "*shape 1"], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -x * jax.nn.log_softmax(theta[..., 0])

    def mean(theta: Array) -> Array:
        return jax.nn.softmax(theta[..., 0])

    def draw(key: Key[Array, ""], theta: Array) -> Array:
        return jax.nn.one_hot(jax.random.categorical(key, theta[..., 0]), theta.shape[-2], dtype=theta.dtype)

    def check(x: np.ndarray, where: str) -> None:
        low, high, sums = float(np.min(x)), float(np.max(x)), np.sum(x, axis=-1, dtype=np.float64)
        if not (low >= 0.0 and high <= 1.0 and np.allclose(sums, 1.0, atol=1e-4)):
            raise UsageError(
                f"categorical() admits data in [0, 1] that sums to 1 along the last axis, but {where} spans "
                f"[{low:g}, {high:g}] with sums from {np.min(sums):g} to {np.max(sums):g}; give one-hot categories"
            )

    def num_discrete_dims(x: np.ndarray) -> int | None:
        return math.prod(x.shape[1:-1]) if _zeros_and_ones(x) else None

    return Likelihood(
        "categorical", neg_log_prob, mean, draw, 1, check, discrete=True, num_discrete_dims=num_discrete_dims
    )


def _location(theta: Array) -> Array:
    return theta[..., 0]


def _check_finite(name: str) -> Check:
    def check(x: np.ndarray, where: str) -> None:
        if not np.all(np.isfinite(x)):
            raise UsageError(
                f"{name}() admits finite data, but {where} holds NaN or Inf; clean the data, or skip what is missing with "
                f"skip_missing({name}()), as `aejax train tabular --missing mask` does"
            )

    return check
