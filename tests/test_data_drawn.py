"""Mosaics and waveforms: what of an example is alike all over it, what its label says, and that a seed decides all."""

import numpy as np
import pytest

from aejax.data import load
from aejax.data.sets import mosaics, waveforms
from aejax.data.sets.digits import divided
from aejax.data.sets.generated import BUILDERS
from aejax.data.sets.recipe import drawn


def test_a_mosaic_is_sixteen_digits_of_its_class_in_two_grays_and_a_slope():
    for test, (ink, labels) in zip((False, True), divided()):
        image, label = mosaics.mosaics(np.random.default_rng(0), 60, test)
        assert (image.shape, image.dtype) == ((60, 64, 64), np.uint8)
        for one, digit in zip(image[:4], label):
            # Doubled pixels differ by the slope alone.
            assert np.abs(np.diff(one.astype(int).reshape(32, 2, 64), axis=1)).max() <= 2
            cells = one[::2, ::2].astype(float).reshape(4, 8, 4, 8).transpose(0, 2, 1, 3).reshape(16, 64)
            candidates = ink[labels == digit].reshape(-1, 64)
            ramp = np.linspace(-0.5, 0.5, 8)
            design = [np.ones(64), np.repeat(ramp, 8), np.tile(ramp, 8)]
            signs = []
            for cell in cells:
                # Each cell is gray + gap · ink + slope of one of the split's digits: by least squares nothing is left.
                best = min(
                    (np.linalg.lstsq(np.stack([*design, c], 1), cell, rcond=None) for c in candidates),
                    key=lambda found: found[1].sum(),
                )
                if best[1].sum() < 64:
                    signs.append(np.sign(best[0][3]))
            assert len(signs) >= 14  # what is cut at black or white is not linear
            assert len(set(signs)) == 1
    images, _ = mosaics.mosaics(np.random.default_rng(1), 400, False)
    corners = images[:, 0, 0] > images.reshape(400, -1).mean(1)  # paper against all
    assert 0.4 < corners.mean() < 0.6


def spectrum(x):
    """The power [n, 257] of the signals' middle half."""
    window = np.hanning(256)
    return np.abs(np.fft.rfft((x[:, 128:384, 0] / 127.5 - 1.0) * window, 512)) ** 2


def test_waveforms_sound_as_their_class_says():
    x, label = waveforms.waveforms(np.random.default_rng(0), 600)
    assert (x.shape, x.dtype) == ((600, 512, 1), np.uint8)
    assert set(label) == {0, 1, 2}
    loudest = np.abs(x.astype(float) - 127.5).max(axis=(1, 2)) / 127.5
    assert loudest.min() > 0.37
    energy = np.square(x[..., 0] / 127.5 - 1.0)
    late = energy[:, 384:].sum(1) / energy.sum(1)
    plucked, bowed, wind = (label == k for k in range(3))
    assert np.median(late[plucked]) < 0.02 < 0.2 < np.median(late[bowed])
    silent = energy[wind][:, -2:].mean()
    assert silent < 0.01 < energy[bowed][:, -2:].mean()
    power = spectrum(x)
    fundamental = power[:, 3:24].argmax(1) + 3  # of the transform of 512: a period of 24 to 128 samples is at 4 to 21
    assert fundamental.min() >= 3
    second = np.array([p[2 * f - 1 : 2 * f + 2].max() / p[f] for p, f in zip(power, fundamental)])
    high = fundamental >= 8  # where the window tells the harmonics apart
    assert np.median(second[wind & high]) < 0.01 < 0.1 < np.median(second[bowed & high])


@pytest.mark.parametrize(("name", "builder"), [("mosaics", BUILDERS["mosaics"]), ("waveforms", BUILDERS["waveforms"])])
def test_they_are_data_sets_by_name_and_seed(name, builder, tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    recipe = builder.recipe._replace(sizes={"train": 11, "test": 10})
    monkeypatch.setattr(builder, "recipe", recipe)
    for seed, data in ((0, load(name)), (3, load(f"{name}/3"))):
        for part, split in zip(data, recipe.sizes):
            image, label = zip(*drawn(recipe, seed, split))
            assert part.classes == recipe.classes
            np.testing.assert_array_equal(part.arrays["x"].reshape(np.shape(image)), image)
            np.testing.assert_array_equal(part.arrays["label"], label)
    (train, test), (other, the_same) = load(name), load(f"{name}/3")
    assert train.fingerprint != other.fingerprint
    assert test.fingerprint == the_same.fingerprint
    assert train.shape == ((64, 64, 1) if name == "mosaics" else (512, 1))
