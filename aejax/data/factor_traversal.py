"""Examples that differ in one factor of variation, while the others stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from aejax.data.sets import sprites
from aejax.data.splits import divide
from aejax.types import Dataset


def factor_traversal_of(splits: Sequence[Dataset], base: Int[np.ndarray, " f"], factor: int) -> Dataset | None:
    """Examples with the base's factors but this one, one for each of its values, in their order.

    Sprites are drawn, whether a split holds them or not. Of other data sets those are found that the splits hold: of a product
    of all factors every one, if the splits are all there is. None where nothing varies, and of streamed data, whose factors are
    not known without reading all.
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
