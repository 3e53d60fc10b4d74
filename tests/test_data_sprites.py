"""Sprites: images as functions of their factors, and factors on their way to batches."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aejax.data import ReadAs, available, batch_at, factor_traversal_of, load, take
from aejax.data.named import _factors_of, _reader
from aejax.data.sets.sprites import FACTORS, KINDS, factors_at, render

SMALL = KINDS["sprites_small"]


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_position_moves_the_sprite_and_nothing_else(kind):
    rng = np.random.default_rng(0)
    factors = factors_at(kind, rng.integers(np.prod(kind.sizes), size=300))
    origin = factors.copy()
    origin[:, 3:] = 0
    for image, start, (*_, x, y) in zip(render(kind, factors), render(kind, origin), factors):
        assert image.any()
        np.testing.assert_array_equal(image, np.roll(start, (y, x), axis=(0, 1)))
        assert image.sum() == start.sum()


def test_scale_grows_and_every_orientation_is_another():
    glyphs = render(SMALL, factors_at(SMALL, np.arange(np.prod(SMALL.sizes)).reshape(SMALL.sizes)[..., 0, 0].ravel()))
    glyphs = glyphs.reshape(*SMALL.sizes[:3], 28, 28)
    area = glyphs.sum((3, 4)).mean(axis=2)
    assert (np.diff(area, axis=1) > 0).all()
    np.testing.assert_allclose(area[:, -1] / area[:, 0], 4, rtol=0.15)
    window = glyphs[..., :17, :17]
    assert glyphs.sum() == window.sum()
    # Each is another one, also of a shape that is symmetric, but where the smallest are too coarse.
    distinct = [len(np.unique(shape.reshape(-1, 17 * 17), axis=0)) for shape in window]
    assert distinct == [61, 75, 80]
    # Half a turn is half a step from any orientation, and square and ellipse look nearly as they did; a heart does not.
    halfway = window[..., ::-1, ::-1]
    nearest = (halfway[:, :, :, None] != window[:, :, None]).mean((4, 5)).min(axis=3)
    assert nearest[2].mean() > 2.0 * nearest[:2].mean()


def test_factors_reach_batches_and_tell_the_image():
    train, test = load("sprites_small")
    assert train.factors == test.factors == FACTORS
    assert train.size + test.size == np.prod(SMALL.sizes)
    (listed,) = (line for line in available() if line.name == "sprites_small")
    assert listed.sizes == {"train": train.size, "test": test.size}
    batch = batch_at(train, 0, 3, 50)
    assert batch["factors"].dtype == np.int32
    np.testing.assert_array_equal(render(SMALL, batch["factors"]), batch["x"] == 1)
    (streamed,) = load(ReadAs(stream=True, data="sprites_small"), ("train",))
    np.testing.assert_array_equal(take(streamed, np.arange(40))["x"], take(train, np.arange(40))["x"])
    full, _ = load("sprites")  # too large to be held
    assert full.read is not None
    assert full.factors == FACTORS
    assert take(full, np.arange(3))["x"].shape == (3, 64, 64, 1)


def test_one_factor_varies_and_the_others_stay():
    splits = load("sprites_small")
    unnamed = [split._replace(name=split.name.replace("sprites_small", "others")) for split in splits]
    base = take(splits[1], np.arange(1))["factors"][0]
    for k, size in enumerate(SMALL.sizes):
        drawn, found = (take(factor_traversal_of(of, base, k), np.arange(size)) for of in (splits, unnamed))
        np.testing.assert_array_equal(drawn["factors"][:, k], np.arange(size))
        assert (np.delete(drawn["factors"], k, axis=1) == np.delete(base, k)).all()
        for leaf in ("x", "factors"):
            np.testing.assert_array_equal(drawn[leaf], found[leaf])
    assert factor_traversal_of([unnamed[0]._replace(arrays=None)], base, 0) is None
    alone = {name: array[:1] for name, array in unnamed[1].arrays.items()}
    assert factor_traversal_of([unnamed[1]._replace(arrays=alone)], base, 0) is None


@pytest.mark.parametrize("name", ["dsprites", "shapes3d", "smallnorb"])
def test_factors_of_tfds(name):
    label = tfds.features.ClassLabel(num_classes=5)
    features = {"image": tfds.features.Image(shape=(2, 2, 1)), "label_shape": label, "label_hue": label}
    features["value_hue"] = tfds.features.Scalar(np.float32)
    factors = _factors_of(tfds, features)
    assert factors == ("shape", "hue")
    assert _factors_of(tfds, {"image": features["image"], "label_hue": label}) is None

    class Source(list):
        def __getitems__(self, positions):
            return [self[i] for i in positions]

    source = Source({"image": np.ones((2, 2, 1), np.uint8), "label_shape": i, "label_hue": 4 - i} for i in range(5))
    batch = _reader(source, "image", None, None, factors, f"{name}:train").read(np.array([3, 1]))
    np.testing.assert_array_equal(batch["factors"], [[3, 1], [1, 3]])
    assert batch["x"].dtype == (np.bool_ if name == "dsprites" else np.uint8)  # 0 and 1 there are no gray values
