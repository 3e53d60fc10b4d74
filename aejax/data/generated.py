"""TFDS builders of the data sets that are drawn by a random generator: `rectangles`, `convex`, `curves`, `mosaics` and
`waveforms`.

Importing this module registers them with TFDS. What an example is stands in a file for each, without TFDS; here is how
seeds, splits and threads share the work. Preparing `convex` takes 26 s of CPU time, the others less.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from aejax.data import convex, curves, mosaics, rectangles, waveforms

SEEDS = 10
"""Configs `0` to `9`; a bare name is the first."""

_CHUNK = 500  # images from one random stream: part of what a seed means


class Recipe(NamedTuple):
    """What tells one of these data sets from another."""

    draw: Callable[..., tuple[np.ndarray, np.ndarray | None]]
    """A generator and n -> images [n, h, w] or signals [n, t, c], uint8, and labels [n] or None."""
    sizes: Mapping[str, int]
    """Examples by split."""
    classes: tuple[str, ...] | None
    citation: str
    divided: bool = False
    """Whether `draw` also takes `test=`, because what the images are made of is divided into splits too."""


def drawn(recipe: Recipe, seed: int, split: str, threads: int | None = None) -> Iterator[tuple[np.ndarray, int | None]]:
    """Every image [h, w] or signal [t, c] of a split with its label, in an order and in bits that do not depend on `threads`.

    Each stretch of 500 images has a random stream of its own, by seed, split and its place. The streams of `test` do not
    depend on the seed: what is trained on several seeds is compared on the same images.
    """
    size, part = recipe.sizes[split], list(recipe.sizes).index(split)
    draw = partial(recipe.draw, test=split == "test") if recipe.divided else recipe.draw

    def stretch(start: int) -> list[tuple[np.ndarray, int | None]]:
        entropy = (0 if split == "test" else seed, part, start // _CHUNK)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        images, labels = draw(rng, min(_CHUNK, size - start))
        return list(zip(images, itertools.repeat(None) if labels is None else labels.tolist()))

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for examples in pool.map(stretch, range(0, size, _CHUNK)):
            yield from examples


with tfds.core.registered.skip_registration():

    class _Generated(tfds.core.GeneratorBasedBuilder):
        """What they have in common; each adds its recipe, and its feature where an example is no image of 28×28."""

        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES = {"1.0.0": "First version."}
        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name=str(seed), description=f"Seed {seed}.") for seed in range(SEEDS)
        ]

        recipe: ClassVar[Recipe]
        named: ClassVar[str] = "image"
        side: ClassVar[int] = 28

        def _info(self):
            features = {self.named: self._feature()}
            if self.recipe.classes:
                features["label"] = tfds.features.ClassLabel(names=list(self.recipe.classes))
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{type(self).__doc__} Seed {self.builder_config.name}.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=(self.named, "label") if self.recipe.classes else None,
                citation=self.recipe.citation,
                disable_shuffling=True,
            )

        def _feature(self):
            return tfds.features.Image(shape=(self.side, self.side, 1), dtype=np.uint8, encoding_format="png")

        def _stored(self, image):
            # TFDS encodes arrays with TensorFlow, Pillow's images without it.
            return Image.fromarray(image)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in self.recipe.sizes}

        def _generate_examples(self, split):
            examples = drawn(self.recipe, int(self.builder_config.name), split)
            for position, (image, label) in enumerate(examples):
                example = {self.named: self._stored(image)}
                yield position, example if label is None else {**example, "label": label}


_LAROCHELLE = """@inproceedings{larochelle2007empirical,
  author = {Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and Bergstra, James and Bengio, Yoshua},
  title = {An Empirical Evaluation of Deep Architectures on Problems with Many Factors of Variation},
  booktitle = {International Conference on Machine Learning},
  year = {2007},
}"""


_HINTON = """@article{hinton2006reducing,
  author = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  title = {Reducing the Dimensionality of Data with Neural Networks},
  journal = {Science},
  volume = {313},
  number = {5786},
  pages = {504--507},
  year = {2006},
}"""


_ALPAYDIN = """@misc{alpaydin1998optical,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49},
}"""


class Rectangles(_Generated):
    """`image` uint8 [28, 28, 1], an outline on black, and `label`, wide or tall: 1000, 200 and 50 000 examples.

    After Larochelle et al. 2007; `aejax.data.rectangles` has the rule. Training and validation images are of the
    seed; the test images are the same for every seed.
    """

    recipe = Recipe(rectangles.rectangles, rectangles.SIZES, rectangles.CLASSES, _LAROCHELLE)


class Convex(_Generated):
    """`image` uint8 [28, 28, 1], regions on black, and `label`, nonconvex or convex: 6000, 2000 and 50 000 examples.

    After Larochelle et al. 2007; `aejax.data.convex` has the rule, and says what of it is tuned. Training and validation
    images are of the seed; the test images are the same for every seed.
    """

    recipe = Recipe(convex.convex, convex.SIZES, convex.CLASSES, _LAROCHELLE)


class Curves(_Generated):
    """`image` uint8 [28, 28, 1], a grey curve on black, without label: 20 000 to train, 10 000 to test.

    After Hinton & Salakhutdinov 2006, whose rendering is not known; `aejax.data.curves` has ours. Training images are of
    the seed; the test images are the same for every seed.
    """

    recipe = Recipe(curves.curves, curves.SIZES, None, _HINTON)


class Mosaics(_Generated):
    """`image` uint8 [64, 64, 1], sixteen handwritten digits of one class, and `label`, the digit: 5000 and 1000 examples.

    `aejax.data.mosaics` has the rule. Training images are of the seed; the test images, of digits that no training image has,
    are the same for every seed.
    """

    recipe = Recipe(mosaics.mosaics, mosaics.SIZES, mosaics.CLASSES, _ALPAYDIN, divided=True)
    side = mosaics.SIDE


class Waveforms(_Generated):
    """`signal` uint8 [512, 1], a tone, and `label`, plucked, bowed or wind: 5000 and 1000 examples.

    `aejax.data.waveforms` has the rule. Training signals are of the seed; the test signals are the same for every seed.
    """

    recipe = Recipe(waveforms.waveforms, waveforms.SIZES, waveforms.CLASSES, "")
    named = "signal"

    def _feature(self):
        return tfds.features.Tensor(shape=(waveforms.LENGTH, 1), dtype=np.uint8)

    def _stored(self, image):
        return image
