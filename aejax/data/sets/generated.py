"""TFDS builders of the randomly generated data sets, from their recipes. Importing this module registers them.

A new one is a file in this folder that exports a `Recipe`, and a line here. Preparing `convex` takes 26 s of CPU time, the
others less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

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
from aejax.data.sets.recipe import Recipe, drawn

SEEDS = 10
"""Configs `0` to `9`; a bare name means the first."""

RECIPES: tuple[Recipe, ...] = (
    rectangles.RECIPE,
    convex.RECIPE,
    curves.RECIPE,
    mosaics.RECIPE,
    waveforms.RECIPE,
    moving.MOVING_DIGITS,
    moving.MOVING_FASHION,
    oscillator.RECIPE,
    linear_gaussian.RECIPE,
    bouncing.RECIPE,
    maze.RECIPE,
)

with tfds.core.registered.skip_registration():

    class _Generated(tfds.core.GeneratorBasedBuilder):
        """The builder of one recipe."""

        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
        BUILDER_CONFIGS: ClassVar[list[Any]] = [
            tfds.core.BuilderConfig(name=str(seed), description=f"Seed {seed}.") for seed in range(SEEDS)
        ]
        recipe: ClassVar[Recipe]

        def _info(self) -> Any:
            recipe, features = self.recipe, {self.recipe.feature: _feature(self.recipe)}
            if recipe.classes:
                features["label"] = tfds.features.ClassLabel(names=list(recipe.classes))
            if recipe.states:
                features["state"] = tfds.features.Tensor(
                    shape=(recipe.shape[0], len(recipe.states)), dtype=np.float32, encoding="bytes"
                )
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{recipe.about} Seed {self.builder_config.name}.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=(recipe.feature, "label") if recipe.classes else None,
                citation=recipe.citation,
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(states=list(recipe.states)) if recipe.states else None,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(split) for split in self.recipe.sizes}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            recipe = self.recipe
            for position, (x, label, *state) in enumerate(drawn(recipe, int(self.builder_config.name), split)):
                # TFDS encodes images given as arrays with TensorFlow, but Pillow's images without it.
                example = {recipe.feature: Image.fromarray(x) if recipe.feature == "image" else x}
                if label is not None:
                    example["label"] = int(label)
                if state:
                    (example["state"],) = state
                yield position, example


def _feature(recipe: Recipe) -> Any:
    if recipe.feature == "image":
        return tfds.features.Image(shape=recipe.shape, dtype=np.uint8, encoding_format="png")
    if recipe.feature == "signal":
        return tfds.features.Tensor(shape=recipe.shape, dtype=recipe.dtype)
    # Compressed bytes: otherwise TFDS stores every boolean as a number of 64 bits.
    return tfds.features.Tensor(shape=recipe.shape, dtype=recipe.dtype, encoding="zlib")


def _builder(recipe: Recipe) -> Any:
    """A builder class. TFDS registers a class under its name in snake case: `MovingDigits` as moving_digits."""
    name = "".join(part.capitalize() for part in recipe.name.split("_"))
    return type(name, (_Generated,), {"__doc__": recipe.about, "__module__": __name__, "recipe": recipe})


BUILDERS = {recipe.name: _builder(recipe) for recipe in RECIPES}
