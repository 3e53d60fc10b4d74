"""Examples that differ in one factor of variation only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from aejax.data.sets import sprites
from aejax.data.splits import divide
from aejax.types import Dataset


def factor_traversal_of(splits: Sequence[Dataset], base: Int[np.ndarray, " f"], factor: int) -> Dataset | None:
    """Examples with the base's factors except for one, which takes each of its values in order.

    Sprites are drawn, whether or not a split holds them. For other data sets, the examples are searched in the splits; if the
    data set has all combinations of factors and the splits are the whole of it, all are found. The result is None if nothing
    varies, and for streamed data, whose factors are unknown until all examples are read.
    """
    name, _ = divide(splits[0].name)
    if (kind := sprites.KINDS.get(name)) is not None:
        factors = np.tile(base.astype(np.int32), (kind.sizes[factor], 1))
        factors[:, factor] = np.arange(len(factors))
        arrays = {"x": sprites.render(kind, factors), "factors": factors}
    elif any(split.arrays is None for split in splits):
        return None
    else:
        held = [split.arrays for split in splits if split.arrays is not None]
        alike = [np.delete(part["factors"] == base[None], factor, axis=1).all(axis=1) for part in held]
        of_all = {leaf: np.concatenate([part[leaf][rows] for part, rows in zip(held, alike)]) for leaf in held[0]}
        _, first = np.unique(of_all["factors"][:, factor], return_index=True)
        arrays = {leaf: array[first] for leaf, array in of_all.items()}
    size = len(arrays["x"])
    label = f"{name}, of all values of a factor"
    return splits[0]._replace(name=label, size=size, fingerprint="", arrays=arrays, read=None) if size > 1 else None
