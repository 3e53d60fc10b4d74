"""Sprites: the factors of dSprites (Matthey et al. 2017) with our own rendering: `sprites` and `sprites_small`.

An image is a function of its factors, and nothing is stored. Every shape at every scale and orientation is drawn once, with its
rows as the bits of words, and an image is made by shifting those words. The images differ from dSprites' in their pixels, and
orientations stop one step before the full turn, which dSprites contains twice.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from aejax.data.splits import Reader, Readers, with_a_tenth_held_out

FACTORS = ("shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")

VERSION = 2
"""Part of the data set's identity. Increase it when the images change."""


class Kind(NamedTuple):
    """The size of the images, and the number of values of each factor."""

    side: int
    scales: int
    orientations: int
    positions: int
    """Number of horizontal and of vertical positions, one pixel apart."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values per factor, in the order of FACTORS."""
        return len(SHAPES), self.scales, self.orientations, self.positions, self.positions

    @property
    def images(self) -> int:
        """Number of images, one for every combination of factors; divisible by ten."""
        return math.prod(self.sizes)


KINDS = {"sprites": Kind(64, 6, 40, 32), "sprites_small": Kind(28, 4, 20, 12)}


def sprites_readers(name: str) -> Readers:
    """`train`, `test` (a tenth, by a permutation of seed 0) and `all`, in the order of the factors."""
    kind = KINDS[name]

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        factors = factors_at(kind, positions)
        return {"x": render(kind, factors), "factors": factors}

    return with_a_tenth_held_out(Reader(kind.images, None, read, FACTORS))


def factors_at(kind: Kind, positions: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n f"]:
    """The factors of the images at these positions, int32; the last factor varies fastest."""
    return np.stack(np.unravel_index(positions, kind.sizes), axis=1).astype(np.int32)


def render(kind: Kind, factors: Int[np.ndarray, "n f"]) -> Bool[np.ndarray, "n h w 1"]:
    """The images with these factors; x counts to the right, y downwards."""
    shape, scale, orientation, x, y = factors.T
    glyph = np.ravel_multi_index((shape, scale, orientation), kind.sizes[:3])
    rows = np.arange(kind.side) + (kind.positions - 1 - y[:, None])
    words = _words(kind)[glyph[:, None], rows] >> x[:, None].astype(np.uint64)
    # The first bit of a word in the byte order that unpacking expects.
    octets = words.astype(">u8").view(np.uint8).reshape(len(factors), kind.side, 8)
    return np.unpackbits(octets, axis=2, count=kind.side).view(np.bool_)[..., None]


@functools.cache
def _words(kind: Kind) -> np.ndarray:
    """The rows of every glyph as words [glyphs, rows], with the leftmost pixel in the highest bit, and empty rows above and
    below as a margin for shifts.
    """
    window = kind.side - kind.positions + 1
    inked = _glyphs(kind, window)
    bits = np.uint64(1) << np.arange(63, 63 - window, -1, dtype=np.uint64)
    words = np.where(inked, bits, np.uint64(0)).sum(axis=2, dtype=np.uint64)
    empty = np.zeros((len(words), kind.positions - 1), np.uint64)
    words = np.concatenate([empty, words, empty], axis=1)
    words.flags.writeable = False
    return words


def _glyphs(kind: Kind, window: int) -> np.ndarray:
    """Every shape, scale and orientation in its own window, [glyphs, window, window].

    A pixel is on if its center is inside the shape. At the largest scale, 1, a shape fills a circle of half the window; the
    smallest scale is ½.
    """
    center = np.arange(window) - (window - 1) / 2
    # With an odd number of steps per turn, square and ellipse, which have symmetries of a quarter and a half turn, never
    # repeat an orientation. (On a grid of pixels small ones sometimes look alike: 25 of the 720 glyphs of `sprites` have a
    # duplicate, 24 of the 240 of `sprites_small`, 17 % of whose test images also occur in the training split.)
    angle = 2 * np.pi * np.arange(kind.orientations) / (kind.orientations + 1)
    scale = np.linspace(0.5, 1.0, kind.scales)
    cos, sin = (f(angle)[None, :, None, None] / (scale[:, None, None, None] * window / 2) for f in (np.cos, np.sin))
    across, down = center[None, None, None, :], center[None, None, :, None]
    u, w = cos * across + sin * down, cos * down - sin * across
    square = np.maximum(abs(u), abs(w)) <= 0.7
    ellipse = (u / 0.95) ** 2 + (w / 0.55) ** 2 <= 1
    # (a² + b² − 1)³ ≤ a²b³, shifted and scaled into the unit circle.
    a, b = u / 0.8, (0.1 - w) / 0.8
    heart = (a**2 + b**2 - 1) ** 3 <= a**2 * b**3
    return np.stack([square, ellipse, heart]).reshape(-1, window, window)
