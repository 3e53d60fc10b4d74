"""The only two ways in which examples on different devices meet. `axis` is None on one device.

Terms that couple the batch (a mean activation, a permutation, a count of codes) are written with these, and with nothing
else; gradients through them are right because the step averages gradients over devices.
"""

from __future__ import annotations

import jax
from jaxtyping import PyTree


def gather(tree: PyTree, axis: str | None) -> PyTree:
    """Each leaf's rows of all devices, in global order; the tree itself on one device."""
    return tree if axis is None else jax.lax.all_gather(tree, axis, tiled=True)


def mean(tree: PyTree, axis: str | None) -> PyTree:
    """The mean over devices; the tree itself on one device."""
    return tree if axis is None else jax.lax.pmean(tree, axis)
