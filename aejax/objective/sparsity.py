"""How often the units of a sparse code are active: over a whole split, where a batch would call rare units dead."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Fractions of examples between which the histogram counts units, each bin with its upper edge; before them, the dead ones."""


def nonzero(z: Float[Array, " b *code"]) -> Bool[Array, "b units"]:
    """Active where the code is not zero: for rectified and selected codes. Of a spatial code [b, h, w, c] a unit is a
    channel, active anywhere.

    Args:
        z: Codes [b, ...].

    Returns:
        bool [b, units].
    """
    return _units(z != 0)


def above_half(z: Float[Array, " b *code"]) -> Bool[Array, "b units"]:
    """Which sigmoid units are active: those above one half.

    Args:
        z: Codes [b, ...].

    Returns:
        bool [b, units].
    """
    return _units(z > 0.5)


def active_terms(active: Bool[np.ndarray, "n units"]) -> dict[str, float]:
    """`active_units`, the mean number an example activates; `dead_units`, the number that no example activates."""
    often = active.mean(axis=0, dtype=np.float64)
    return {"active_units": float(often.sum()), "dead_units": float(np.sum(often == 0))}


def activity_histogram(active: Bool[np.ndarray, "n units"]) -> list[int]:
    """Numbers of units: dead, then by the fraction of examples that activate them, in the bins of `EDGES`."""
    often = active.mean(axis=0, dtype=np.float64)
    dead = int(np.sum(often == 0))
    # Each bin has its upper edge: a unit that is always active is in the last.
    bins = np.histogram(-often[often > 0], bins=-np.array(EDGES[::-1]))[0][::-1]
    return [dead, *map(int, bins)]


def _units(on: Bool[Array, " b *code"]) -> Bool[Array, "b units"]:
    return jnp.any(on, axis=tuple(range(1, on.ndim - 1)))


Activity = Callable[[Float[Array, " b *code"]], Bool[Array, "b units"]]
