"""Images as pixels: strips, sheets of tiles and filters, as uint8 RGBA arrays and as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from aejax.figures.drawing import CHARACTER, INK, canvas, shorten


def strip(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Images [n, h, w, c] side by side as RGBA pixels; values from `low` to `high` are black to white."""
    return tiles(images, len(images), low, high)


def tiles(images: np.ndarray, columns: int, low: float, high: float, gap: int | None = None) -> np.ndarray:
    """Images [n, h, w, c], c = 1, 3 or 4 (RGBA, shown on white), in rows of `columns`, uint8 RGBA with transparent gaps."""
    images = _on_white(images, low, high) if images.shape[3] == 4 else images
    n, h, w, c = images.shape
    # NaN becomes black, so that a diverged run still has a page.
    scaled = np.nan_to_num((np.asarray(images, np.float64) - low) / ((high - low) or 1.0), nan=0.0)
    pixels = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    gap = max(1, round(w / 14)) if gap is None else gap
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, 4), np.uint8)
    for i in range(n):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w, :3] = pixels[i] if c == 3 else np.repeat(pixels[i], 3, axis=-1)
        sheet[top : top + h, left : left + w, 3] = 255
    return sheet


def _on_white(images: np.ndarray, low: float, high: float) -> np.ndarray:
    alpha = np.clip((images[..., 3:] - low) / ((high - low) or 1.0), 0, 1)
    return alpha * images[..., :3] + (1 - alpha) * high


def coarse(images: np.ndarray, sharpest: int) -> np.ndarray:
    """Images [n, h, w, c], subsampled so that no side has more than `sharpest` pixels."""
    stride = math.ceil(max(images.shape[1:3]) / sharpest)
    return images[:, ::stride, ::stride]


def filters(kernel: np.ndarray, shape: tuple[int, int, int], columns: int = 8) -> np.ndarray:
    """The 64 columns of largest norm of a kernel [prod(shape), units] as pixels, each with its own scale; 0 is gray."""
    norms = np.linalg.norm(kernel, axis=0)
    chosen = kernel[:, np.sort(np.argsort(-norms, kind="stable")[: 8 * columns])].T.reshape(-1, *shape)
    return tiles(signed(chosen), min(columns, len(chosen)), 0.0, 1.0)


def signed(images: np.ndarray) -> np.ndarray:
    """Images [n, h, w, c], each scaled to [0, 1] such that zero is .5, gray, and positive values are brighter."""
    largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + 0.5 * images / np.where(largest > 0, largest, 1.0)


def pixels_png(pixels: np.ndarray, at_least: int = 0) -> bytes:
    """Pixels as a PNG, enlarged by a whole factor until they are at least `at_least` wide."""
    factor = max(1, math.ceil(at_least / pixels.shape[1]))
    enlarged = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def labeled_strips(rows: Mapping[str, np.ndarray]) -> Figure:
    """Strips of pixels, as from `strip`, below each other with their names on the left."""
    names = [shorten(name) for name in rows]
    left, gap, width = 16 + CHARACTER * max(map(len, names)), 6, 700.0
    height = [width * s.shape[0] / s.shape[1] for s in rows.values()]
    size = left + width + 4, sum(height) + gap * (len(height) + 1)
    figure = canvas(size)
    y = size[1]
    for name, pixels, h in zip(names, rows.values(), height):
        y -= h + gap
        axes = figure.add_axes((left / size[0], y / size[1], width / size[0], h / size[1]))
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        figure.text(4 / size[0], (y + h / 2) / size[1], name, fontsize=10, color=INK, va="center")
    return figure
