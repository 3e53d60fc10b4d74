"""Images decoded from codes: traversals, static and animated, interpolations, and a plane of codes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from aejax.data import has_data, is_image, subset, take
from aejax.figures import page
from aejax.figures.examples import Block, data_range, some_of_each_class
from aejax.figures.pixels import coarse, pixels_png, tiles
from aejax.runs.run import Run

CODES = 1000
"""Number of test codes whose range the plane covers."""

SPAN, STATES = 3.0, 9
"""Range of a traversal, ±SPAN, which holds all but .3 % of a standard normal prior, and its number of values."""

SHARPEST = 64
"""Largest side in pixels; larger images are subsampled."""

PAIRS = 5
"""Number of pairs of test images to interpolate."""

GRID, WITHIN = 15, 0.98
"""Number of grid points along each side of the plane, and the fraction of the test codes' range that it covers."""

FRAMES, PAUSE = 24, 80
"""Frames of an animation, forth and back, and the duration of each in milliseconds."""

ANIMATED, SHARPEST_MOVING, LARGEST = (8, 4, 2, 1), 32, 300_000
"""Number of animated test images, the largest of these for which the file stays below LARGEST bytes; and their largest side in
pixels."""


def has_traversals(run: Run) -> bool:
    """Whether codes are real vectors that decode to images."""
    model, test = run.experiment.model, run.experiment.test
    if model.decode is None or model.encode is None or not is_image(test.shape) or not has_data(test):
        return False
    code = coded(run, np.arange(1))
    return code.ndim == 2 and code.dtype.kind == "f"


def coded(run: Run, positions: np.ndarray) -> np.ndarray:
    """Codes [n, ...] of these test examples."""
    return run.encode(subset(run.experiment.test, positions))


def decoded(run: Run, z: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Images [n, h, w, c] of codes z [n, d], each with the test example at its position, whose label the decoder may need."""
    return run.decode(z.astype(np.float32), subset(run.experiment.test, positions))


def moved(run: Run, dimensions: np.ndarray, examples: int, states: np.ndarray) -> np.ndarray:
    """Images [dimensions, examples, states, h, w, c]: the first test examples' codes with one dimension set to each state."""
    code = coded(run, np.arange(examples))
    shape = len(dimensions), len(code), len(states)
    which, example, state = (axis.reshape(-1) for axis in np.indices(shape))
    z = code[example]
    z[np.arange(len(z)), dimensions[which]] = states[state]
    images = decoded(run, z, example)
    return images.reshape(*shape, *images.shape[1:])


def traversals_block(run: Run, dimensions: np.ndarray) -> Block:
    """A row per dimension: the first test image's code, decoded with that dimension varied.

    Folded below it is the same for several images, as an animation.
    """
    x = take(run.experiment.test, np.arange(min(ANIMATED[0], run.experiment.test.size)))["x"]
    still = flat(moved(run, dimensions, 1, np.linspace(-SPAN, SPAN, STATES)))
    pixels = tiles(coarse(still, SHARPEST), STATES, *data_range(x))
    caption = (
        f"The code of the first test image, with one dimension per row set to values from {-SPAN:g} (left) to {SPAN:g} (right). "
        f"Dimensions, sorted by KL (largest first): {', '.join(map(str, dimensions))}."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Traversals of the latent", "pixels wide")
    # A cosine, which slows down at both ends and closes the loop.
    states = -SPAN * np.cos(np.linspace(0, np.pi, FRAMES // 2 + 1))
    moving = moved(run, dimensions, len(x), states)
    file, shown = b"", 0
    for shown in ANIMATED:
        there = [flat(moving[:, :shown, i]) for i in range(len(states))]
        sheets = [tiles(coarse(f, SHARPEST_MOVING), min(shown, len(x)), *data_range(x)) for f in there]
        file = animation([*sheets, *sheets[-2:0:-1]])
        if len(file) < LARGEST:
            break
    caption = (
        f"The same for the first {min(shown, len(x))} test images (columns), from {-SPAN:g} to {SPAN:g} and back. Dimensions "
        "are sorted by KL (largest first)."
    )
    gif = "data:image/gif;base64," + base64.b64encode(file).decode()
    image += page.folded(
        "Traversals in motion", page.figure(gif, caption, "Animated traversals of the latent", "pixels")
    )
    return image, {"traversals": pixels_png(pixels, 1000)}


def interpolations_block(run: Run) -> Block:
    """Rows from one test image to another, decoded from the line between their codes; the ends are the images themselves.

    Lines are straight, not great circles. Great circles suit draws from a standard normal prior, which lie near a sphere.
    Posterior means do not (a dimension with zero KL has mean zero), and other priors have no center.
    """
    test = run.experiment.test
    ends = some_of_each_class(test)[0]
    ends = ends[: 2 * min(PAIRS, len(ends) // 2)]
    pairs = len(ends) // 2
    pair, state = (axis.reshape(-1) for axis in np.indices((pairs, STATES)))
    code, x = coded(run, ends), take(test, ends)["x"]
    way = np.linspace(0, 1, STATES)[state][:, None]
    z = (1 - way) * code[2 * pair] + way * code[2 * pair + 1]
    nearer = 2 * pair + (state > STATES // 2)
    between = decoded(run, z, ends[nearer])
    images = x.reshape(pairs, 2, 1, *test.shape)
    rows = np.concatenate([images[:, 0], between.reshape(pairs, STATES, *test.shape), images[:, 1]], axis=1)
    pixels = tiles(coarse(flat(rows), SHARPEST), STATES + 2, *data_range(x))
    caption = (
        "At both ends of a row are test images; between them are decodings along the straight line from one code to the "
        "other. The images are the first of each class, in turn."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Interpolations between test images", "pixels wide")
    return image, {"interpolations": pixels_png(pixels, 1000)}


def plane_block(run: Run) -> Block:
    """Codes with two components, decoded on a grid over the region of the test codes, for any prior."""
    test = run.experiment.test
    positions = np.arange(min(CODES, test.size))
    codes, x = coded(run, positions), take(test, positions)["x"]
    low, high = np.quantile(codes, [(1 - WITHIN) / 2, (1 + WITHIN) / 2], axis=0)
    across, up = (np.linspace(low[i], high[i], GRID) for i in range(2))
    z = np.stack([np.tile(across, GRID), np.repeat(up[::-1], GRID)], axis=1)
    images = decoded(run, z, np.zeros(len(z), np.int64))
    pixels = tiles(coarse(images, SHARPEST), GRID, *data_range(x))
    caption = (
        f"Decodings on a grid of codes: the first component runs from {low[0]:.2g} (left) to {high[0]:.2g}, the second from "
        f"{low[1]:.2g} (bottom) to {high[1]:.2g}. In each component, {100 * WITHIN:.0f} % of the test codes lie in this range."
    ).replace("-", "−")
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "The plane of codes, decoded", "pixels wide")
    return image, {"plane": pixels_png(pixels, 1000)}


def flat(images: np.ndarray) -> np.ndarray:
    """[..., h, w, c] as [n, h, w, c]."""
    return images.reshape(-1, *images.shape[-3:])


def animation(frames: Sequence[np.ndarray]) -> bytes:
    """RGBA pixels [h, w, 4], with the same transparent ones in all frames, as a GIF that repeats endlessly.

    All frames share 63 colors (for gray images 32, evenly spaced) and a transparent one.
    """
    rgba = np.concatenate(frames)
    rgb, solid = rgba[..., :3], rgba[..., 3] > 0
    if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2]):
        index = np.round(rgb[..., 0] * (31 / 255)).astype(np.uint8)
        palette = np.repeat(np.round(np.arange(32) * (255 / 31)).astype(np.uint8), 3).tolist()
    else:
        few = Image.fromarray(rgb).quantize(63, dither=Image.Dither.NONE)
        index, palette = np.asarray(few).copy(), (few.getpalette() or [])[: 3 * 63]
    empty = len(palette) // 3
    index[~solid] = empty
    sheets = []
    for part in np.split(index, len(frames)):
        sheet = Image.fromarray(part, "P")
        sheet.putpalette([*palette, 0, 0, 0])
        sheets.append(sheet)
    buffer = io.BytesIO()
    sheets[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=sheets[1:],
        duration=PAUSE,
        loop=0,
        transparency=empty,
        optimize=False,
    )
    return buffer.getvalue()
