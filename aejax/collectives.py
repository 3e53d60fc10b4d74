"""The only communication between devices. `axis` is None on one device.

Terms that depend on the whole batch (a mean activation, a permutation, counts of codes) use these functions only. Gradients
through them are correct because the step averages gradients over devices.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, PyTree


def gather(tree: PyTree, axis: str | None) -> PyTree:
    """The rows of all devices for each leaf, in global order; the tree itself on one device."""
    return tree if axis is None else jax.lax.all_gather(tree, axis, tiled=True)


def mean(tree: PyTree, axis: str | None) -> PyTree:
    """The mean over devices; the tree itself on one device."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def own(rows: Array, axis: str | None) -> Array:
    """This device's part of values for the rows of all devices, in global order; the array itself on one device."""
    if axis is None:
        return rows
    b = len(rows) // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(axis) * b, b)
