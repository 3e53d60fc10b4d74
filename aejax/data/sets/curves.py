"""Curves through three random points, after those of Hinton & Salakhutdinov 2006, who do not say how theirs were drawn.

This rendering has nearly the same PCA residual (5.6 squared error per image with 18 components, against 5.9), but other numbers
should be compared as ratios to PCA.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from aejax.data.sets.recipe import Recipe

SIDE = 28
SIZES = {"train": 20_000, "test": 10_000}

_MARGIN = 3.0  # range of the control points, in pixels
_SEGMENTS = 24  # segments of the polyline that approximates the curve to 0.02 pixels
_REACH = 1.5  # distance at which the ink ends
_BLUR = 0.7


def curves(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None]:
    """n gray images [n, 28, 28], uint8, of one curve each, without labels.

    A quadratic Bézier curve whose three control points are uniform in the square [3, 25]², where pixel i has its center at i +
    ½. Ink is clip(1.5 − distance to the curve, 0, 1), blurred by a Gaussian of σ = 0.7 pixels. An image is thus determined by
    six numbers.
    """
    points = rng.uniform(_MARGIN, SIDE - _MARGIN, (n, 3, 2)).astype(np.float32)
    ink = np.clip(_REACH - _distance(points), 0, 1)
    gray = gaussian_filter(ink, (0, _BLUR, _BLUR), mode="constant")
    return np.rint(255 * gray).astype(np.uint8), None


def _distance(points: np.ndarray) -> np.ndarray:
    """Distance of the center of every pixel to the curve with control points [n, 3, 2]: [n, 28, 28] float32."""
    t = np.linspace(0, 1, _SEGMENTS + 1, dtype=np.float32)[:, None]
    bernstein = np.concatenate([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    corners = np.einsum("sk,nkd->snd", bernstein, points)[..., None, None]  # [segments + 1, n, 2, 1, 1]
    center = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    y, x = center[:, None], center[None, :]
    nearest = np.full((len(points), SIDE, SIDE), np.inf, np.float32)
    for start, stop in zip(corners[:-1], corners[1:]):
        along = stop - start
        square = np.maximum((along**2).sum(1), np.float32(1e-12))  # the three points may coincide
        from_y, from_x = y - start[:, 0], x - start[:, 1]
        share = np.clip((from_y * along[:, 0] + from_x * along[:, 1]) / square, 0, 1)
        gap = (from_y - share * along[:, 0]) ** 2 + (from_x - share * along[:, 1]) ** 2
        np.minimum(nearest, gap, out=nearest)
    return np.sqrt(nearest)


_CITATION = """@article{hinton2006reducing,
  author = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  title = {Reducing the Dimensionality of Data with Neural Networks},
  journal = {Science},
  volume = {313},
  number = {5786},
  pages = {504--507},
  year = {2006},
}"""

RECIPE = Recipe(
    name="curves",
    about=(
        "`image` uint8 [28, 28, 1], a gray curve on black, without label: 20 000 to train, 10 000 to test. After "
        "Hinton & Salakhutdinov 2006, whose rendering is unknown; see `sets.curves` for ours. The seed determines the "
        "training images; the test images are the same for every seed."
    ),
    shape=(SIDE, SIDE, 1),
    draw=curves,
    sizes=SIZES,
    citation=_CITATION,
)
