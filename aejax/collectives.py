"""The only ways in which examples on different devices meet, and part again. `axis` is None on one device.

Terms that couple the batch (a mean activation, a permutation, a count of codes) are written with these, and with nothing
else; gradients through them are right because the step averages gradients over devices.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, PyTree


def gather(tree: PyTree, axis: str | None) -> PyTree:
    """Each leaf's rows of all devices, in global order; the tree itself on one device."""
    return tree if axis is None else jax.lax.all_gather(tree, axis, tiled=True)


def mean(tree: PyTree, axis: str | None) -> PyTree:
    """The mean over devices; the tree itself on one device."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def own(rows: Array, axis: str | None) -> Array:
    """Of one value for each row of all devices, in global order, this device's; the array itself on one device."""
    if axis is None:
        return rows
    b = len(rows) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(axis) * b, b)
