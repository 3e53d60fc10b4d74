"""Images that move to the left or right with periodic boundaries: `moving_digits` and `moving_fashion`.

After Gregor et al. 2019, who use MNIST. One frame shows where the image is, two frames show its direction.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np

from aejax.data.sets.recipe import Recipe

STEPS = 20
DIGITS_SIDE, FASHION_SIDE = 8, 28
DIGITS_SIZES = {"train": 5000, "test": 1000}
FASHION_SIZES = {"train": 10_000, "test": 2000}
DIGITS_CLASSES = tuple(str(digit) for digit in range(10))
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
STATES = ("position", "velocity")
"""Displacement to the right, 0 … side − 1 px, and velocity, −1 or 1 px per step."""


def moving_digits(rng: np.random.Generator, n: int, test: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n sequences [n, 20, 8, 8, 1], bool, their labels [n], the digit, and states [n, 20, 2], float32.

    Each moves one of scikit-learn's digits, of the split `test` or `train` of the data set `digits`, as `_moved` describes.
    """
    return _moved(rng, n, *_digits(test))


def moving_fashion(rng: np.random.Generator, n: int, test: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n sequences [n, 20, 28, 28, 1], bool, their labels [n], the class, and states [n, 20, 2], float32.

    Each moves an image of the split `test` or `train` of `fashion_mnist`, as `_moved` describes. Raises UsageError if that data
    set cannot be prepared.
    """
    with _reading:  # otherwise every drawing thread would prepare it
        images_and_labels = _fashion(test)
    return _moved(rng, n, *images_and_labels)


_reading = threading.Lock()


def _moved(
    rng: np.random.Generator, n: int, on: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images drawn uniformly from `on` [m, h, w], black and white, each starting at a random one of w positions.

    An image then moves one pixel per step to the left or right, with probability ½ each, with periodic boundaries.
    """
    side = on.shape[2]
    chosen = rng.integers(len(on), size=n)
    velocity = rng.choice([-1, 1], (n, 1))
    position = (rng.integers(side, size=(n, 1)) + velocity * np.arange(STEPS)) % side  # [n, t]
    source = (np.arange(side) - position[..., None]) % side  # [n, t, w]: the source column
    frames = np.take_along_axis(on[chosen][:, None], source[:, :, None], axis=3)
    state = np.stack(np.broadcast_arrays(position, velocity), axis=2)
    return frames[..., None], label[chosen], state.astype(np.float32)


@lru_cache
def _digits(test: bool) -> tuple[np.ndarray, np.ndarray]:
    """One split of `digits`: ink [m, 8, 8], thresholded at half the range of gray levels, and labels [m]."""
    from aejax.data.sets.digits import divided

    train, held_out = divided()
    image, label = held_out if test else train
    return image[..., 0] >= 0.5, label


@lru_cache
def _fashion(test: bool) -> tuple[np.ndarray, np.ndarray]:
    """One split of `fashion_mnist`: ink [m, 28, 28], thresholded at half the range of gray levels, and labels [m]."""
    from aejax.data.sets.fashion_mnist import arrays

    images, labels = arrays("test" if test else "train")
    return images >= 128, labels


_CITATION = """@inproceedings{gregor2019temporal,
  author = {Gregor, Karol and Papamakarios, George and Besse, Frederic and Buesing, Lars and Weber, Theophane},
  title = {Temporal Difference Variational Auto-Encoder},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
}"""

MOVING_DIGITS = Recipe(
    name="moving_digits",
    about=(
        "`sequence` bool [20, 8, 8, 1], a digit that moves to the left or to the right, and `label`: 5000 and 1000 "
        "examples. See `sets.moving` for the rules; `state` [20, 2] is position and velocity. The seed determines the "
        "training sequences; the test sequences, of digits that no training sequence has, are the same for every "
        "seed."
    ),
    shape=(STEPS, DIGITS_SIDE, DIGITS_SIDE, 1),
    draw=moving_digits,
    sizes=DIGITS_SIZES,
    classes=DIGITS_CLASSES,
    feature="sequence",
    dtype=np.bool_,
    divided=True,
    states=STATES,
    citation=_CITATION,
)

MOVING_FASHION = Recipe(
    name="moving_fashion",
    about=(
        "`sequence` bool [20, 28, 28, 1], a garment that moves to the left or to the right, and `label`: 10 000 and 2000 "
        "examples. See `sets.moving` for the rules; `state` [20, 2] is position and velocity. Needs `fashion_mnist`. The seed "
        "determines the training sequences; the test sequences, of its test images, are the same for every seed."
    ),
    shape=(STEPS, FASHION_SIDE, FASHION_SIDE, 1),
    draw=moving_fashion,
    sizes=FASHION_SIZES,
    classes=FASHION_CLASSES,
    feature="sequence",
    dtype=np.bool_,
    divided=True,
    states=STATES,
    note="from fashion_mnist",
    citation=_CITATION,
)
