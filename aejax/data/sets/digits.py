"""TFDS builder of scikit-learn's digits: 1797 handwritten digits of 8x8 pixels in 17 gray levels, shipped inside its wheel.

Importing this module registers the data set with TFDS as `digits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_DESCRIPTION = """Optical recognition of handwritten digits (the UCI data set's test set, as scikit-learn ships it):
images of 8x8 pixels, value / 16, in [0, 1]. The split into train and test is a fixed permutation."""
_CITATION = """@misc{alpaydin1998optical,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49},
}"""


class Digits(tfds.core.GeneratorBasedBuilder):
    """`image` float32 [8, 8, 1] in [0, 1] and `label`; 1438 examples to train, 359 to test, in scikit-learn's order."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        train, test = divided()
        return {"train": self._generate_examples(*train), "test": self._generate_examples(*test)}

    def _generate_examples(self, image: np.ndarray, label: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for position in range(len(image)):
            yield position, {"image": image[position], "label": int(label[position])}


def divided() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(images [n, 8, 8, 1], labels [n]) for training, and for testing."""
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    image = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(image))
    test = round(len(image) / 5)  # about one in five
    train, held_out = np.sort(order[test:]), np.sort(order[:test])
    return (image[train], label[train]), (image[held_out], label[held_out])
