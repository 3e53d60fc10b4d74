"""What a bound's divergence costs in training: `(kl [b, m], step, axis) -> [b]`, nats.

`kl` holds an example's divergence in parts, one a dimension of the latent where those are independent. `axis` as in
`aejax.collectives`. The bound itself has the plain sum (`weighted(1.0)`); what differs is another objective, and no bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from aejax.collectives import mean
from aejax.errors import UsageError, non_negative

Rate = Callable[[Array, Any, str | None], Array]

Strength = float | jax.Array | Callable[[Any], Any]
"""A number, or a schedule: step -> number (an Optax schedule serves). A traced number varies between members of one program."""


def weighted(beta: Strength) -> Rate:
    """β·KL (Higgins et al. 2017, eq. 4); with a schedule that rises from 0 to 1 the warm-up of Bowman et al. (2016)."""
    at = _schedule("weighted", "beta", beta)
    return lambda kl, step, axis: at(step) * jnp.sum(kl, axis=1)


def capacity(gamma: Strength, nats: Strength) -> Rate:
    """γ·|E KL − C| with C in `nats`, which a schedule lets grow (Burgess et al. 2018, eq. 8); the mean is over the global
    batch, and the term the same for all its examples."""
    weight, at = _schedule("capacity", "gamma", gamma), _schedule("capacity", "nats", nats)

    def rate(kl, step, axis):
        held = jnp.abs(mean(jnp.mean(jnp.sum(kl, axis=1)), axis) - at(step))
        return jnp.full(len(kl), weight(step) * held)

    return rate


def free_bits(nats: Strength, beta: Strength = 1.0) -> Rate:
    """β·Σ_j max(λ, E KL_j) with λ `nats` for each part, below which it costs nothing more (Kingma et al. 2016, eq. 15); the
    mean is over the global batch, and the term the same for all its examples. Where the divergence has no parts (other than
    diagonal posteriors and priors) λ is for all of it."""
    floor, weight = _schedule("free_bits", "nats", nats), _schedule("free_bits", "beta", beta)

    def rate(kl, step, axis):
        return jnp.full(len(kl), weight(step) * jnp.sum(jnp.maximum(floor(step), mean(jnp.mean(kl, axis=0), axis))))

    return rate


def cyclical(period: int, rising: float = 0.5, highest: float = 1.0) -> Callable[[Any], Any]:
    """A schedule for β: in each period of steps it rises evenly from 0 to `highest` during the fraction `rising`, and stays
    (Fu et al. 2019, eq. 6-7)."""
    if period < 1 or not 0.0 < rising <= 1.0 or not highest > 0.0:
        raise UsageError(
            f"cyclical(period={period}, rising={rising}, highest={highest}): a period of at least one step, "
            "a fraction above 0 up to 1, and a number above 0"
        )
    return lambda step: highest * jnp.minimum(1.0, (step % period) / (rising * period))


def _schedule(name: str, what: str, value: Strength) -> Callable[[Any], Any]:
    """Refuses a number below 0 here, at the edge; a traced one, and a schedule, are left alone."""
    if callable(value):

        def schedule(step):
            with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix the integer step with floats
                return jnp.asarray(value(step), jnp.float32)

        return schedule
    number = non_negative(name, what, value)
    return lambda step: number
