"""How the KL term of a bound is weighted in training: `(kl [b, m], step, axis) -> [b]`, nats.

`kl` holds an example's divergence in parts, one a dimension of the latent where those are independent. `axis` as in
`aejax.collectives`. The bound itself has the plain sum (`weighted(1.0)`); what differs is another objective, and no bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from aejax.collectives import mean
from aejax.objective.schedules import Strength, schedule_of
from aejax.types import Axis

KLCost = Callable[[Array, Any, str | None], Array]


def weighted(beta: Strength) -> KLCost:
    """KL cost β · KL (Higgins et al. 2017, eq. 4).

    Args:
        beta: Weight, or a schedule; one that rises from 0 to 1 is the warm-up of Bowman et al. (2016).

    Returns:
        A KL cost with one term per example, [b].
    """
    at = schedule_of("weighted", "beta", beta, 0.0, math.inf)
    return lambda kl, step, axis: at(step) * jnp.sum(kl, axis=1)


def capacity(gamma: Strength, nats: Strength) -> KLCost:
    """KL cost γ · |E KL - C| (Burgess et al. 2018, eq. 8).

    Args:
        gamma: Weight γ, or a schedule.
        nats: Capacity C in nats, or a schedule that lets it grow.

    Returns:
        A KL cost. The mean is over the global batch, so the term is the same for all its examples.
    """
    weight, at = (
        schedule_of("capacity", "gamma", gamma, 0.0, math.inf),
        schedule_of("capacity", "nats", nats, 0.0, math.inf),
    )

    def cost(kl: Array, step: Any, axis: Axis) -> Array:
        held = jnp.abs(mean(jnp.mean(jnp.sum(kl, axis=1)), axis) - at(step))
        return jnp.full(len(kl), weight(step) * held)

    return cost


def free_bits(nats: Strength, beta: Strength = 1.0) -> KLCost:
    """KL cost β · Σ_j max(λ, E KL_j): below λ nats a dimension costs nothing more (Kingma et al. 2016, eq. 15).

    Where the KL has no parts (posteriors or priors that are not diagonal), λ is for the whole KL.

    Args:
        nats: λ, or a schedule.
        beta: Weight β, or a schedule.

    Returns:
        A KL cost. The mean is over the global batch, so the term is the same for all its examples.
    """
    floor, weight = (
        schedule_of("free_bits", "nats", nats, 0.0, math.inf),
        schedule_of("free_bits", "beta", beta, 0.0, math.inf),
    )

    def cost(kl: Array, step: Any, axis: Axis) -> Array:
        return jnp.full(len(kl), weight(step) * jnp.sum(jnp.maximum(floor(step), mean(jnp.mean(kl, axis=0), axis))))

    return cost
