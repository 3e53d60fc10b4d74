"""What a drawn data set is: one file in this folder exports a `Recipe`, and `generated.py` lists them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

_CHUNK = 500  # images from one random stream: part of what a seed means


class Recipe(NamedTuple):
    """Everything that sets one drawn data set apart from another."""

    name: str
    """By which it is loaded."""
    about: str
    """What an example is, for TFDS's description."""
    shape: tuple[int, ...]
    """Of an example: an image [h, w, 1], a signal [t, c], or a sequence [t, ...]."""
    draw: Callable[..., tuple[np.ndarray | None, ...]]
    """A generator and n -> images [n, h, w] or signals [n, t, c], uint8, and labels [n] or None; or sequences [n, t, ...],
    bool or float32, labels [n] or None, and states [n, t, s], float32."""
    sizes: Mapping[str, int]
    """Examples by split."""
    classes: tuple[str, ...] | None = None
    citation: str = ""
    feature: str = "image"
    """`image`, `signal` or `sequence`."""
    dtype: type = np.uint8
    divided: bool = False
    """Whether `draw` also takes `test=`, because what the examples are made of is divided into splits too."""
    states: tuple[str, ...] | None = None
    """Names of the numbers of a sequence's state."""
    note: str = ""
    """What else `aejax data list` says."""


def drawn(recipe: Recipe, seed: int, split: str, threads: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Every image [h, w], signal [t, c] or sequence [t, ...] of a split with its label, and of a sequence its states [t, s];
    in an order and in bits that do not depend on `threads`.

    Each chunk of 500 examples has a random stream of its own, by seed, split and its place. The streams of `test` do not
    depend on the seed: what is trained on several seeds is compared on the same images.
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
