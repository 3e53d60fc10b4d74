"""TFDS builders of the data sets that are drawn by a random generator: `rectangles`, `convex`, `curves`, `mosaics`, `waveforms`,
and the sequences `moving_digits`, `moving_fashion`, `oscillator`, `linear_gaussian`, `bouncing` and `maze`.

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

from aejax.data.sets import (
    bouncing,
    convex,
    curves,
    linear_gaussian,
    maze,
    mosaics,
    moving,
    oscillator,
    rectangles,
    waveforms,
)

SEEDS = 10
"""Configs `0` to `9`; a bare name is the first."""

_CHUNK = 500  # images from one random stream: part of what a seed means


class Recipe(NamedTuple):
    """What tells one of these data sets from another."""

    draw: Callable[..., tuple[np.ndarray | None, ...]]
    """A generator and n -> images [n, h, w] or signals [n, t, c], uint8, and labels [n] or None; or sequences [n, t, ...],
    bool or float32, labels [n] or None, and states [n, t, s], float32."""
    sizes: Mapping[str, int]
    """Examples by split."""
    classes: tuple[str, ...] | None
    citation: str
    divided: bool = False
    """Whether `draw` also takes `test=`, because what the images are made of is divided into splits too."""
    states: tuple[str, ...] | None = None
    """Names of the numbers of a sequence's state."""


def drawn(recipe: Recipe, seed: int, split: str, threads: int | None = None) -> Iterator[tuple]:
    """Every image [h, w], signal [t, c] or sequence [t, ...] of a split with its label, and of a sequence its states [t, s];
    in an order and in bits that do not depend on `threads`.

    Each stretch of 500 images has a random stream of its own, by seed, split and its place. The streams of `test` do not
    depend on the seed: what is trained on several seeds is compared on the same images.
    """
    size, part = recipe.sizes[split], list(recipe.sizes).index(split)
    draw = partial(recipe.draw, test=split == "test") if recipe.divided else recipe.draw

    def stretch(start: int) -> list[tuple]:
        entropy = (0 if split == "test" else seed, part, start // _CHUNK)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        parts = draw(rng, min(_CHUNK, size - start))
        return list(zip(*(itertools.repeat(None) if part is None else part for part in parts)))

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
        steps: ClassVar[int] = 20  # of a sequence

        def _info(self):
            features, states = {self.named: self._feature()}, self.recipe.states
            if self.recipe.classes:
                features["label"] = tfds.features.ClassLabel(names=list(self.recipe.classes))
            if states:
                features["state"] = tfds.features.Tensor(
                    shape=(self.steps, len(states)), dtype=np.float32, encoding="bytes"
                )
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{type(self).__doc__} Seed {self.builder_config.name}.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=(self.named, "label") if self.recipe.classes else None,
                citation=self.recipe.citation,
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(states=list(states)) if states else None,
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
            for position, (image, label, *state) in enumerate(examples):
                example = {self.named: self._stored(image)}
                if label is not None:
                    example["label"] = int(label)
                if state:
                    (example["state"],) = state
                yield position, example

    class _Sequences(_Generated):
        """What those have in common whose examples are sequences of frames, with states."""

        named = "sequence"
        frame: ClassVar[tuple[int, ...]]
        dtype: ClassVar[type] = np.bool_

        def _feature(self):
            # As bytes: TFDS keeps every boolean as a number of 64 bits otherwise.
            return tfds.features.Tensor(shape=(self.steps, *self.frame), dtype=self.dtype, encoding="zlib")

        def _stored(self, image):
            return image


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

    After Larochelle et al. 2007; `sets.rectangles` has the rule. Training and validation images are of the
    seed; the test images are the same for every seed.
    """

    recipe = Recipe(rectangles.rectangles, rectangles.SIZES, rectangles.CLASSES, _LAROCHELLE)


class Convex(_Generated):
    """`image` uint8 [28, 28, 1], regions on black, and `label`, nonconvex or convex: 6000, 2000 and 50 000 examples.

    After Larochelle et al. 2007; `sets.convex` has the rule, and says what of it is tuned. Training and validation
    images are of the seed; the test images are the same for every seed.
    """

    recipe = Recipe(convex.convex, convex.SIZES, convex.CLASSES, _LAROCHELLE)


class Curves(_Generated):
    """`image` uint8 [28, 28, 1], a gray curve on black, without label: 20 000 to train, 10 000 to test.

    After Hinton & Salakhutdinov 2006, whose rendering is not known; `sets.curves` has ours. Training images are of
    the seed; the test images are the same for every seed.
    """

    recipe = Recipe(curves.curves, curves.SIZES, None, _HINTON)


class Mosaics(_Generated):
    """`image` uint8 [64, 64, 1], sixteen handwritten digits of one class, and `label`, the digit: 5000 and 1000 examples.

    `sets.mosaics` has the rule. Training images are of the seed; the test images, of digits that no training image has,
    are the same for every seed.
    """

    recipe = Recipe(mosaics.mosaics, mosaics.SIZES, mosaics.CLASSES, _ALPAYDIN, divided=True)
    side = mosaics.SIDE


class Waveforms(_Generated):
    """`signal` uint8 [512, 1], a tone, and `label`, plucked, bowed or wind: 5000 and 1000 examples.

    `sets.waveforms` has the rule. Training signals are of the seed; the test signals are the same for every seed.
    """

    recipe = Recipe(waveforms.waveforms, waveforms.SIZES, waveforms.CLASSES, "")
    named = "signal"

    def _feature(self):
        return tfds.features.Tensor(shape=(waveforms.LENGTH, 1), dtype=np.uint8)

    def _stored(self, image):
        return image


_GREGOR = """@inproceedings{gregor2019temporal,
  author = {Gregor, Karol and Papamakarios, George and Besse, Frederic and Buesing, Lars and Weber, Theophane},
  title = {Temporal Difference Variational Auto-Encoder},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
}"""


class MovingDigits(_Sequences):
    """`sequence` bool [20, 8, 8, 1], a digit that moves to the left or to the right, and `label`: 5000 and 1000 examples.

    `sets.moving` has the rule; `state` [20, 2] is position and velocity. Training sequences are of the seed; the test
    sequences, of digits that no training sequence has, are the same for every seed.
    """

    recipe = Recipe(
        moving.moving_digits,
        moving.DIGITS_SIZES,
        moving.DIGITS_CLASSES,
        _GREGOR,
        divided=True,
        states=moving.STATES,
    )
    frame = moving.DIGITS_SIDE, moving.DIGITS_SIDE, 1


class MovingFashion(_Sequences):
    """`sequence` bool [20, 28, 28, 1], a garment that moves to the left or to the right, and `label`: 10 000 and 2000 examples.

    `sets.moving` has the rule; `state` [20, 2] is position and velocity. Needs `fashion_mnist`. Training sequences are of
    the seed; the test sequences, of its test images, are the same for every seed.
    """

    recipe = Recipe(
        moving.moving_fashion,
        moving.FASHION_SIZES,
        moving.FASHION_CLASSES,
        _GREGOR,
        divided=True,
        states=moving.STATES,
    )
    frame = moving.FASHION_SIDE, moving.FASHION_SIDE, 1


class Oscillator(_Sequences):
    """`sequence` float32 [200, 1], a noisy harmonic oscillation, without label: 5000 and 1000 examples.

    `sets.oscillator` has the rule; `state` [200, 2] is position and velocity. Training sequences are of the seed; the test
    sequences are the same for every seed.
    """

    recipe = Recipe(oscillator.oscillator, oscillator.SIZES, None, _GREGOR, states=oscillator.STATES)
    steps, frame, dtype = oscillator.STEPS, (1,), np.float32


class LinearGaussian(_Sequences):
    """`sequence` float32 [20, 2], seen of a linear-Gaussian state space, without label: 5000 and 1000 examples.

    `sets.linear_gaussian` has the rule and the exact filter; `state` [20, 2] is z. Training sequences are of the seed; the
    test sequences are the same for every seed.
    """

    recipe = Recipe(linear_gaussian.linear_gaussian, linear_gaussian.SIZES, None, "", states=linear_gaussian.STATES)
    frame, dtype = (2,), np.float32


class Bouncing(_Sequences):
    """`sequence` bool [20, 16, 16, 1], three balls in a box, without label: 5000 and 1000 examples.

    `sets.bouncing` has the rule; `state` [20, 12] is place and velocity of each ball. Training sequences are of the seed;
    the test sequences are the same for every seed.
    """

    recipe = Recipe(bouncing.bouncing, bouncing.SIZES, None, "", states=bouncing.STATES)
    frame = bouncing.SIDE, bouncing.SIDE, 1


class Maze(_Sequences):
    """`sequence` bool [20, 9, 9, 3], a player in a maze and a ghost that follows, without label: 5000 and 1000 examples.

    `sets.maze` has the rule; `state` [20, 4] is the cell of each. Training sequences are of the seed; the test sequences
    are the same for every seed.
    """

    recipe = Recipe(maze.maze, maze.SIZES, None, _GREGOR, states=maze.STATES)
    frame = maze.SIDE, maze.SIDE, 3
