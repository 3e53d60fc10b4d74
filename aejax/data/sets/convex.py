"""Regions that are convex or not, after the `convex` data set of Larochelle et al. 2007.

The paper does not specify the number of half-planes, the distribution of their distances, or how convexity is tested. Here the
number starts at 0, the test is exact, and the distribution of distances is *tuned* until a support vector machine has the
paper's error; natural choices make the task much easier or harder. With a Gaussian kernel, C = 10 and γ = 0.02, its error over
the seeds 0 to 2 is 19.35 % when trained on training and validation images together, and 20.35 % on the training images only;
the paper's is 19.13 %. Methods can therefore be compared with each other on this set, but hardly with the paper's numbers.
"""

from __future__ import annotations

import numpy as np

from aejax.data.sets.recipe import Recipe

SIDE = 28
SIZES = {"train": 6000, "validation": 2000, "test": 50_000}
CLASSES = ("nonconvex", "convex")

# Signed distance of a half-plane's border from the center; at the lower end every pixel is on.
_DISTANCE = (-19.8, 3.5)
_MOST_PARTS = 4


def convex(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n images [n, 28, 28], uint8 0 or 255, and their labels [n], the position in CLASSES, each with probability ½.

    Convex: the pixels of the intersection of m half-planes, m + 1 ~ Geometric(0.195), redrawn below 19 pixels. Not convex: the
    union of two to four such sets of at least 10 pixels each, with Geometric(0.07), redrawn while it is convex. A half-plane is
    x cos θ + y sin θ ≥ b, with θ uniform and b uniform on (−19.8, 3.5), in pixels from the center.
    """
    label = rng.integers(2, size=n)
    image = np.empty((n, SIDE, SIDE), bool)
    image[label == 1] = _intersections(rng, int(label.sum()), 0.195, 19)
    image[label == 0] = _unions(rng, n - int(label.sum()))
    return image.astype(np.uint8) * 255, label


def hull(image: np.ndarray) -> np.ndarray:
    """The pixels whose centers lie in the convex hull of the centers that are on, [n, h, w] bool, exactly."""
    height, width = image.shape[1:]
    column = np.arange(width)
    # Between every pair of rows: lines that join the leftmost pixels, and the rightmost pixels, lie within the hull. Empty
    # rows are placed so far outside that no line from them is outermost.
    far = 100.0 * width * height
    left = np.where(image.any(2), image.argmax(2), far)
    right = np.where(image.any(2), width - 1 - image[..., ::-1].argmax(2), -far)
    leftmost, rightmost = left.copy(), right.copy()
    for first in range(height):
        for last in range(first + 2, height):
            share = np.arange(1, last - first) / (last - first)
            between = slice(first + 1, last)
            for ends, outermost, outer in ((left, leftmost, np.minimum), (right, rightmost, np.maximum)):
                line = ends[:, first, None] + (ends[:, last] - ends[:, first])[:, None] * share
                outer(outermost[:, between], line, out=outermost[:, between])
    # A line meets a row at a multiple of 1 / (last - first), so values that should equal a column differ from it by rounding
    # only.
    rounding = 1e-6
    return (column >= leftmost[..., None] - rounding) & (column <= rightmost[..., None] + rounding)


def _unions(rng: np.random.Generator, n: int) -> np.ndarray:
    images = np.empty((0, SIDE, SIDE), bool)
    while len(images) < n:
        parts = rng.integers(2, _MOST_PARTS + 1, size=n)
        sets = _intersections(rng, int(parts.sum()), 0.07, 10)
        union = np.logical_or.reduceat(sets, np.cumsum(parts) - parts, axis=0)
        images = np.concatenate([images, union[(hull(union) != union).any((1, 2))]])
    return images[:n]


def _intersections(rng: np.random.Generator, n: int, rate: float, pixels: int) -> np.ndarray:
    """n intersections of half-planes [n, 28, 28] bool, of at least the given number of pixels."""
    center = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    images = np.empty((0, SIDE, SIDE), bool)
    while len(images) < n:
        planes = rng.geometric(rate, size=n) - 1
        image = np.ones((n, SIDE, SIDE), bool)
        for j in range(planes.max(initial=0)):
            cut = np.flatnonzero(planes > j)
            angle = rng.uniform(0, 2 * np.pi, len(cut)).astype(np.float32)
            distance = rng.uniform(*_DISTANCE, len(cut)).astype(np.float32)
            x, y = np.cos(angle)[:, None] * center, np.sin(angle)[:, None] * center
            image[cut] &= x[:, None, :] + y[:, :, None] >= distance[:, None, None]
            # Sets that are already too small are not cut further.
            planes[cut[image[cut].sum((1, 2)) < pixels]] = 0
        images = np.concatenate([images, image[image.sum((1, 2)) >= pixels]])
    return images[:n]


_CITATION = """@inproceedings{larochelle2007empirical,
  author = {Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and Bergstra, James and Bengio, Yoshua},
  title = {An Empirical Evaluation of Deep Architectures on Problems with Many Factors of Variation},
  booktitle = {International Conference on Machine Learning},
  year = {2007},
}"""

RECIPE = Recipe(
    name="convex",
    about=(
        "`image` uint8 [28, 28, 1], regions on black, and `label`, nonconvex or convex: 6000, 2000 and 50 000 "
        "examples. After Larochelle et al. 2007. See `sets.convex` for the rules, some of which are tuned. The seed "
        "determines the training and validation images; the test images are the same for every seed."
    ),
    shape=(SIDE, SIDE, 1),
    draw=convex,
    sizes=SIZES,
    classes=CLASSES,
    citation=_CITATION,
)
