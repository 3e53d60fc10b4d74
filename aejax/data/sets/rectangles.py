"""Outlines of wide or tall rectangles, after the `rectangles` data set of Larochelle et al. 2007.

The paper does not specify the shortest side; 5 pixels is chosen here by the error of a support vector machine (Gaussian kernel,
C = 10, γ = 0.05). Over the seeds 0 to 4 it is 2.30 % when trained on training and validation images together, and 2.87 % on the
training images only; the paper's is 2.15 %.
"""

from __future__ import annotations

import numpy as np

from aejax.data.sets.recipe import Recipe

SIDE = 28
SIZES = {"train": 1000, "validation": 200, "test": 50_000}
CLASSES = ("wide", "tall")

_SHORTEST = 5
_DIFFERENCE = 3


def rectangles(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n images [n, 28, 28], uint8 0 or 255, and their labels [n], the position in CLASSES.

    A white outline of one pixel on black. Height and width are uniform on 5 … 28, redrawn while they differ by less than 3; the
    position is uniform among those where the rectangle fits. The label says which side is longer.
    """
    values = np.arange(_SHORTEST, SIDE + 1)
    pairs = np.stack(np.meshgrid(values, values, indexing="ij"), axis=-1).reshape(-1, 2)
    pairs = pairs[abs(pairs[:, 0] - pairs[:, 1]) >= _DIFFERENCE]
    size = pairs[rng.integers(len(pairs), size=n)]  # [n, 2]: height and width
    first = rng.integers(SIDE - size + 1)
    last = first + size - 1
    pixel = np.arange(SIDE)
    within = (pixel >= first[..., None]) & (pixel <= last[..., None])  # [n, 2, 28]
    inside = (pixel > first[..., None]) & (pixel < last[..., None])
    outline = _product(within) & ~_product(inside)
    return outline.astype(np.uint8) * 255, (size[:, 0] > size[:, 1]).astype(np.int64)


def _product(spans: np.ndarray) -> np.ndarray:
    """Rows and columns [n, 2, 28] -> the pixels [n, 28, 28] in both."""
    return spans[:, 0, :, None] & spans[:, 1, None, :]


_CITATION = """@inproceedings{larochelle2007empirical,
  author = {Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and Bergstra, James and Bengio, Yoshua},
  title = {An Empirical Evaluation of Deep Architectures on Problems with Many Factors of Variation},
  booktitle = {International Conference on Machine Learning},
  year = {2007},
}"""

RECIPE = Recipe(
    name="rectangles",
    about=(
        "`image` uint8 [28, 28, 1], an outline on black, and `label`, wide or tall: 1000, 200 and 50 000 examples. "
        "After Larochelle et al. 2007. See `sets.rectangles` for the rules. The seed determines the training and "
        "validation images; the test images are the same for every seed."
    ),
    shape=(SIDE, SIDE, 1),
    draw=rectangles,
    sizes=SIZES,
    classes=CLASSES,
    citation=_CITATION,
)
