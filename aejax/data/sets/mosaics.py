"""Mosaics of handwritten digits, 64×64: some properties are shared by the whole image, others vary locally.

They give each level of a hierarchy of codes something to represent.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from aejax.data.sets.recipe import Recipe

SIDE = 64
SIZES = {"train": 5000, "test": 1000}
CLASSES = tuple(str(digit) for digit in range(10))

_CELLS = 4  # a side
_ENLARGED = 2


def mosaics(rng: np.random.Generator, n: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """n gray images [n, 64, 64], uint8, and their labels [n], the digit.

    Sixteen of scikit-learn's digits of one class in a 4×4 grid, each upsampled from 8×8 to 16×16 pixels. Ink and paper are two
    gray levels of the whole image, at least .3 apart, either of which may be the darker; a linear gradient of up to ±.15 is
    added. The digits are those of the split `test`, or of `train`, of the data set `digits`.
    """
    ink, label = _digits(test)
    wanted = rng.integers(len(CLASSES), size=n)
    # Positions of the digits of each class, in the order of classes.
    order, counts = np.argsort(label, kind="stable"), np.bincount(label)
    first = np.cumsum(counts) - counts
    place = rng.random((n, _CELLS**2)) * counts[wanted, None]
    chosen = order[first[wanted, None] + place.astype(np.int64)]  # [n, 16]
    cells = ink[chosen].reshape(n, _CELLS, _CELLS, 8, 8).transpose(0, 1, 3, 2, 4)
    sheet = cells.reshape(n, 8 * _CELLS, 8 * _CELLS).repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2)
    gap, sign = rng.uniform(0.3, 0.7, (n, 1, 1)), rng.choice([-1.0, 1.0], (n, 1, 1))
    middle = 0.15 + gap / 2 + rng.random((n, 1, 1)) * (0.7 - gap)
    ramp = np.linspace(-0.5, 0.5, SIDE)
    slope = rng.uniform(-0.15, 0.15, (n, 2, 1, 1))
    light = slope[:, 0] * ramp[None, :, None] + slope[:, 1] * ramp[None, None, :]
    gray = middle + sign * gap * (sheet - 0.5) + light
    return np.rint(255 * np.clip(gray, 0, 1)).astype(np.uint8), wanted


@lru_cache
def _digits(test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ink [m, 8, 8] in [0, 1] and labels [m] of one split of the data set `digits`."""
    from aejax.data.sets.digits import divided

    train, held_out = divided()
    image, label = held_out if test else train
    return image[..., 0], label


_CITATION = """@misc{alpaydin1998optical,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49},
}"""

RECIPE = Recipe(
    name="mosaics",
    about=(
        "`image` uint8 [64, 64, 1], sixteen handwritten digits of one class, and `label`, the digit: 5000 and 1000 "
        "examples. See `sets.mosaics` for the rules. The seed determines the training images; the test images, of "
        "digits that no training image has, are the same for every seed."
    ),
    shape=(SIDE, SIDE, 1),
    draw=mosaics,
    sizes=SIZES,
    classes=CLASSES,
    divided=True,
    citation=_CITATION,
)
