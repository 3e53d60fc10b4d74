"""Image distances: definitions, limits, and scikit-image as the oracle of SSIM."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aejax.errors import UsageError
from aejax.evaluation import images
from aejax.evaluation.images import PSNR_CAP, mse, psnr, ssim


def pair(shape, seed=0, noise=0.2):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=shape)
    return x, np.clip(x + noise * rng.normal(size=shape), 0.0, 1.0)


def test_mse_is_the_mean_over_the_dimensions_of_each_example():
    x, y = pair((5, 3, 2, 4))
    np.testing.assert_allclose(mse(x, y), [np.mean((a - b) ** 2) for a, b in zip(x, y)], rtol=1e-12)
    np.testing.assert_allclose(mse(jnp.asarray(x), jnp.asarray(y)), mse(x, y), rtol=1e-5)


def test_mse_of_unsigned_integers_does_not_wrap_around():
    black, white = np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)
    np.testing.assert_array_equal(mse(black, white), [255.0**2] * 2)
    np.testing.assert_array_equal(mse(black == 0, white == 0), [1.0] * 2)


@pytest.mark.parametrize("distance", [mse, psnr, ssim])
def test_unequal_shapes_are_refused_instead_of_broadcast(distance):
    with pytest.raises(UsageError, match=r"\(2, 8, 8, 1\) with \(1, 8, 8, 1\)"):
        distance(np.zeros((2, 8, 8, 1)), np.zeros((1, 8, 8, 1)))


def test_psnr_agrees_with_scikit_image():
    x, y = pair((4, 9, 9, 1))
    oracle = [peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in zip(x, y)]
    np.testing.assert_allclose(psnr(x, y, data_range=2.0), oracle, rtol=1e-12)


def test_psnr_gains_twenty_decibels_from_a_tenth_of_the_error():
    x = np.zeros((1, 10))
    np.testing.assert_allclose(psnr(x, x + 0.01) - psnr(x, x + 0.1), 20.0)


def test_psnr_of_equal_images_is_finite_and_above_that_of_rounding_to_8_bits():
    x, _ = pair((3, 8, 8, 1))
    np.testing.assert_array_equal(psnr(x, x), PSNR_CAP)
    rounded = psnr(x, np.round(x * 255) / 255)
    assert np.all((rounded > 55) & (rounded < 65))


@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 16, 21, 3), (3, 7, 30, 1)])
@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_agrees_with_scikit_image(shape, data_range):
    x, y = pair(shape)
    oracle = [structural_similarity(a, b, data_range=data_range, channel_axis=-1) for a, b in zip(x, y)]
    np.testing.assert_allclose(ssim(x, y, data_range), oracle, rtol=0, atol=1e-9)
    single = ssim(x.astype(np.float32), y.astype(np.float32), data_range)
    np.testing.assert_allclose(single, oracle, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "fits"), [((6, 8), 5), ((5, 9), 5), ((4, 4), 3), ((3, 3), 3)])
def test_ssim_shrinks_its_window_to_small_images(shape, fits):
    x, y = pair((2, *shape, 1))
    oracle = [structural_similarity(a, b, data_range=1.0, win_size=fits, channel_axis=-1) for a, b in zip(x, y)]
    np.testing.assert_allclose(ssim(x, y), oracle, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 784), (2, 28, 28), (2, 2, 8, 1), (2, 5, 8, 8, 1)])
def test_ssim_of_other_data_than_images_is_none(shape):
    assert ssim(*pair(shape)) is None


@pytest.mark.parametrize("window", [1, 4, -3])
def test_ssim_refuses_windows_without_a_center(window):
    with pytest.raises(UsageError, match="odd"):
        ssim(*pair((1, 9, 9, 1)), window=window)


def test_ssim_is_one_for_equal_images_symmetric_and_free_of_the_unit():
    x, y = pair((3, 12, 12, 3))
    np.testing.assert_allclose(ssim(x, x), 1.0, rtol=1e-12)
    np.testing.assert_allclose(ssim(x, y), ssim(y, x), rtol=1e-12)
    np.testing.assert_allclose(ssim(255 * x, 255 * y, data_range=255.0), ssim(x, y), rtol=1e-9)


def test_ssim_of_flat_images_is_the_luminance_term():
    dark, light = np.full((1, 8, 8, 1), 0.2), np.full((1, 8, 8, 1), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(ssim(dark, light), expected, rtol=1e-9)


def test_ssim_of_an_example_ignores_its_batch(monkeypatch):
    x, y = pair((7, 10, 10, 1))
    whole = ssim(x, y)
    monkeypatch.setattr(images, "CHUNK", 3 * 100)
    np.testing.assert_array_equal(ssim(x, y), whole)
    np.testing.assert_array_equal(ssim(x[4:5], y[4:5]), whole[4:5])
