"""Weights of the KL term: `(kl [b, m], step, axis) -> [b]`, in nats.

`kl` holds the KL of each example in m parts, one per latent dimension if these are independent. `axis` is as in
`aejax.collectives`. The ELBO has the plain sum, `weighted(1.0)`; with any other cost the objective is no longer a bound on
log p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from aejax.collectives import mean
from aejax.described import described
from aejax.objective.schedules import Strength, schedule_of
from aejax.types import Axis

KLCost = Callable[[Array, Any, str | None], Array]


@described
def weighted(beta: Strength) -> KLCost:
    """KL cost β · KL (Higgins et al. 2017, eq. 4).

    Args:
        beta: Weight β, or a schedule; one that rises from 0 to 1 is the warm-up of Bowman et al. (2016).

    Returns:
        A KL cost with one term per example, [b].

    Raises:
        UsageError: `beta` is negative.

    Example:
        >>> weighted(4.0)(jnp.array([[0.5, 1.0]]), 0, None).tolist()
        [6.0]
    """
    at = schedule_of("weighted", "beta", beta, 0.0, math.inf)
    return lambda kl, step, axis: at(step) * jnp.sum(kl, axis=1)


@described
def capacity(gamma: Strength, nats: Strength) -> KLCost:
    """KL cost γ · |E KL - C| (Burgess et al. 2018, eq. 8).

    Args:
        gamma: Weight γ, or a schedule.
        nats: Capacity C in nats, or a schedule that increases it.

    Returns:
        A KL cost [b]. The mean is over the global batch, so the cost is the same for all of its examples.

    Raises:
        UsageError: A number is negative.

    Example:
        >>> capacity(10.0, nats=2.0)(jnp.array([[0.5, 1.0]]), 0, None).tolist()
        [5.0]
    """
    weight, at = (
        schedule_of("capacity", "gamma", gamma, 0.0, math.inf),
        schedule_of("capacity", "nats", nats, 0.0, math.inf),
    )

    def cost(kl: Array, step: Any, axis: Axis) -> Array:
        held = jnp.abs(mean(jnp.mean(jnp.sum(kl, axis=1)), axis) - at(step))
        return jnp.full(len(kl), weight(step) * held)

    return cost


@described
def free_bits(nats: Strength, beta: Strength = 1.0) -> KLCost:
    """KL cost β · Σ_j max(λ, E KL_j): a dimension with less than λ nats is not penalized further (Kingma et al. 2016, eq. 15).

    For posteriors or priors that are not diagonal the KL has a single part, and λ applies to the whole KL.

    Args:
        nats: λ in nats, or a schedule.
        beta: Weight β, or a schedule.

    Returns:
        A KL cost [b]. The mean is over the global batch, so the cost is the same for all of its examples.

    Raises:
        UsageError: A number is negative.

    Example:
        >>> free_bits(0.75)(jnp.array([[0.5, 1.0]]), 0, None).tolist()
        [1.75]
    """
    floor, weight = (
        schedule_of("free_bits", "nats", nats, 0.0, math.inf),
        schedule_of("free_bits", "beta", beta, 0.0, math.inf),
    )

    def cost(kl: Array, step: Any, axis: Axis) -> Array:
        return jnp.full(len(kl), weight(step) * jnp.sum(jnp.maximum(floor(step), mean(jnp.mean(kl, axis=0), axis))))

    return cost
