"""How often the units of a sparse code are active, counted over a whole split: over a batch, rare units would look dead."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the histogram's bins, in fractions of examples. A bin includes its upper edge; dead units are counted apart."""


def nonzero(z: Float[Array, " b *code"]) -> Bool[Array, "b units"]:
    """Counts a unit as active if it is not zero: for rectified codes and for codes with a bottleneck.

    In a spatial code [b, h, w, c] a unit is a channel, which is active if it is active at any position.

    Args:
        z: Codes [b, ...].

    Returns:
        bool [b, units].

    Example:
        >>> nonzero(jnp.array([[0.0, 2.0, -1.0]])).tolist()
        [[False, True, True]]
    """
    return _units(z != 0)


def above_half(z: Float[Array, " b *code"]) -> Bool[Array, "b units"]:
    """Counts a unit as active if it is above one half: for sigmoid codes.

    Args:
        z: Codes [b, ...].

    Returns:
        bool [b, units].

    Example:
        >>> above_half(jnp.array([[0.2, 0.7]])).tolist()
        [[False, True]]
    """
    return _units(z > 0.5)


def active_terms(active: Bool[np.ndarray, "n units"]) -> dict[str, float]:
    """`active_units`, the mean number of active units per example, and `dead_units`, how many no example activates."""
    often = active.mean(axis=0, dtype=np.float64)
    return {"active_units": float(often.sum()), "dead_units": float(np.sum(often == 0))}


def activity_histogram(active: Bool[np.ndarray, "n units"]) -> list[int]:
    """Numbers of units: dead units first, then by the fraction of examples that activate them, in the bins of `EDGES`."""
    often = active.mean(axis=0, dtype=np.float64)
    dead = int(np.sum(often == 0))
    # A bin includes its upper edge, so a unit that is always active falls into the last one.
    bins = np.histogram(-often[often > 0], bins=-np.array(EDGES[::-1]))[0][::-1]
    return [dead, *map(int, bins)]


def _units(on: Bool[Array, " b *code"]) -> Bool[Array, "b units"]:
    return jnp.any(on, axis=tuple(range(1, on.ndim - 1)))


Activity = Callable[[Float[Array, " b *code"]], Bool[Array, "b units"]]
