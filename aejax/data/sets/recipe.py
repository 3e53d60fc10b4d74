"""The definition of a generated data set: one file in this folder exports a `Recipe`, and `generated.py` lists them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

_CHUNK = 500  # examples per random stream; changing it changes the data of every seed


class Recipe(NamedTuple):
    """Everything that distinguishes one generated data set from another."""

    name: str
    """Name by which it is loaded."""
    about: str
    """Description of an example, for TFDS."""
    shape: tuple[int, ...]
    """Shape of an example: an image [h, w, 1], a signal [t, c], or a sequence [t, ...]."""
    draw: Callable[..., tuple[np.ndarray | None, ...]]
    """(random generator, n) -> images [n, h, w] or signals [n, t, c], uint8, and labels [n] or None; or sequences [n, t, ...],
    bool or float32, labels [n] or None, and states [n, t, s], float32."""
    sizes: Mapping[str, int]
    """Number of examples per split."""
    classes: tuple[str, ...] | None = None
    citation: str = ""
    feature: str = "image"
    """`image`, `signal` or `sequence`."""
    dtype: type = np.uint8
    divided: bool = False
    """Whether `draw` also takes `test=`, because its raw material is divided into splits too."""
    states: tuple[str, ...] | None = None
    """Names of the components of a sequence's state."""
    note: str = ""
    """Note in `aejax data list`."""


def drawn(recipe: Recipe, seed: int, split: str, threads: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Every image [h, w], signal [t, c] or sequence [t, ...] of a split with its label, and the states [t, s] of a sequence.

    Order and bits do not depend on `threads`. Each chunk of 500 examples has its own random stream, determined by seed, split
    and position. The streams of `test` do not depend on the seed, so that models trained on several seeds are compared on the
    same images.
    """
    size, part = recipe.sizes[split], list(recipe.sizes).index(split)
    draw = partial(recipe.draw, test=split == "test") if recipe.divided else recipe.draw

    def chunk(start: int) -> list[tuple[Any, ...]]:
        entropy = (0 if split == "test" else seed, part, start // _CHUNK)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        parts = draw(rng, min(_CHUNK, size - start))
        return list(zip(*(itertools.repeat(None) if part is None else part for part in parts)))

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for examples in pool.map(chunk, range(0, size, _CHUNK)):
            yield from examples
