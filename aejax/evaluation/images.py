"""Distances between examples and their reconstructions: one number per example, in NumPy.

Callers average over examples: the mean of `psnr` is not the PSNR of the mean `mse`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float, Shaped

from aejax.data import is_image
from aejax.errors import UsageError

Examples = np.ndarray | Array

PSNR_CAP = 100.0
"""In dB. Rounding to 8 bits costs 59 dB, so only images equal to about 1e-5 of the data range reach it."""

CHUNK = 2**16
"""Number of pixels that `ssim` processes at a time; its nine float64 arrays of that size fit into a core's cache."""


def mse(x: Shaped[Examples, "n ..."], y: Shaped[Examples, "..."]) -> Float[np.ndarray, " n"]:
    """Squared error, mean over the dimensions of an example."""
    x, y = _flat_pair(x, y)
    return np.asarray(np.mean(np.square(x - y), axis=1, dtype=np.float64))


def psnr(x: Shaped[Examples, "n ..."], y: Shaped[Examples, "..."], data_range: float = 1.0) -> Float[np.ndarray, " n"]:
    """Peak signal-to-noise ratio 10 log₁₀(data_range² / mse) in dB, at most `PSNR_CAP`.

    Equal images have an infinite ratio; the cap keeps means over examples finite.
    """
    relative = mse(x, y) / data_range**2
    return -10.0 * np.log10(np.maximum(relative, 10.0 ** (-PSNR_CAP / 10.0)))


def ssim(
    x: Shaped[Examples, "n ..."], y: Shaped[Examples, "..."], data_range: float = 1.0, window: int = 7
) -> Float[np.ndarray, " n"] | None:
    """Structural similarity of images [n, height, width, channels] (Wang et al. 2004, eq. 13); None for other data.

    It uses a uniform window and averages over channels and over all positions where the window lies inside the image. Variances
    are sample variances (divided by window² - 1). Both are scikit-image's defaults. For images smaller than the window, the
    window is the largest odd one that fits; below 3 pixels the result is None.
    """
    if window < 3 or window % 2 == 0:
        raise UsageError(f"ssim(window={window}): the window must be odd and at least 3")
    _refuse_unequal_shapes(x, y)
    if not is_image(x.shape[1:]) or min(x.shape[1:3]) < 3:
        return None
    n, height, width, channels = x.shape
    largest_that_fits = min(height, width) - (min(height, width) + 1) % 2
    size = min(window, largest_that_fits)
    chunk = max(1, CHUNK // (height * width * channels))
    result = np.empty(n)
    for start in range(0, n, chunk):
        part = slice(start, start + chunk)
        result[part] = np.mean(_ssim_map(_planes(x[part]), _planes(y[part]), data_range, size), axis=(1, 2, 3))
    return result


def _ssim_map(
    x: Float[np.ndarray, "n c h w"], y: Float[np.ndarray, "n c h w"], data_range: float, size: int
) -> Float[np.ndarray, "n c i j"]:
    """SSIM at every position of a size×size window inside the image."""
    # Wang et al. 2004, §III.B: K₁ = .01, K₂ = .03, C = (K L)².
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    pixels = size**2
    sum_x, sum_y = _window_sums(x, size), _window_sums(y, size)
    product = sum_x * sum_y / pixels
    squares = (sum_x * sum_x + sum_y * sum_y) / pixels
    covariance = (_window_sums(x * y, size) - product) / (pixels - 1)
    variances = (_window_sums(x * x + y * y, size) - squares) / (pixels - 1)
    luminance = (2 * product / pixels + c1) / (squares / pixels + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _window_sums(z: Float[np.ndarray, "n c h w"], size: int) -> Float[np.ndarray, "n c i j"]:
    """Sums over every size×size window inside the image, from cumulative sums."""
    n, channels, height, width = z.shape
    area = np.zeros((n, channels, height + 1, width + 1))
    np.cumsum(np.cumsum(z, axis=3), axis=2, out=area[:, :, 1:, 1:])
    rows = area[:, :, size:] - area[:, :, :-size]
    return rows[:, :, :, size:] - rows[:, :, :, :-size]


def _planes(x: Shaped[Examples, "n h w c"]) -> Float[np.ndarray, "n c h w"]:
    """Channels in float64, because cumulative sums cancel."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(x), 3, 1), dtype=np.float64)


def _flat_pair(x: Examples, y: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Both as floating-point arrays [n, d]; differences of unsigned integers would wrap around."""
    _refuse_unequal_shapes(x, y)
    x, y = (np.asarray(a, dtype=np.result_type(a.dtype, np.float32)) for a in (x, y))
    return x.reshape(len(x), -1), y.reshape(len(y), -1)


def _refuse_unequal_shapes(x: Examples, y: Examples) -> None:
    if x.shape != y.shape:
        raise UsageError(f"cannot compare examples of shape {x.shape} with {y.shape}; pass arrays of one shape")
