"""`aejax data inspect`: what it finds is what was put in."""

import io

import numpy as np
import pytest
from PIL import Image

from aejax.cli import main
from aejax.data import load
from aejax.data.inspection import LOOKED_AT, inspect
from aejax.figures.pixels import pixels_png
from aejax.reports import inspection


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_duplicates_constants_and_classes_are_counted():
    rng = np.random.default_rng(0)
    x, test = rng.random((50, 4)).astype(np.float32), rng.random((20, 4)).astype(np.float32)
    x[:, 2] = test[:, 2] = 0.25  # a constant component
    x[10] = x[20] = x[30]  # two repeated
    test[:7] = x[40:47]  # seven shared
    label = np.arange(50) % 3
    splits = load({"x_train": x, "x_test": test, "y_train": label, "y_test": label[:20]})
    found = inspect(splits)
    assert (found.components, found.constant.tolist()) == (4, [[2]])
    assert found.repeated == [2, 0]
    assert found.shared == [(0, 1, 7)]
    assert [counts.tolist() for counts in found.balance] == [[17, 17, 16], [7, 7, 6]]
    every = np.concatenate([x, test])
    np.testing.assert_allclose((found.low, found.high), (every.min(), every.max()))
    np.testing.assert_allclose(
        (found.mean, found.sd), (every.mean(dtype=np.float64), every.std(dtype=np.float64)), rtol=1e-6
    )
    assert found.counts.sum() == every.size
    lines = "\n".join(inspection.lines(splits))
    for words in ("50 train", "1 of the 4 components: 2", "0 17, 1 17, 2 16", "repeated: 2", "shared: 7 of 20"):
        assert words in lines


def test_of_large_splits_the_first_are_looked_at_and_that_is_said():
    x = np.random.default_rng(0).random((2 * LOOKED_AT, 2)).astype(np.float32)
    splits = load(x)
    assert inspect(splits).examples == [LOOKED_AT, 2000]
    assert f"the first {LOOKED_AT} examples" in "\n".join(inspection.lines(splits))


@pytest.mark.parametrize(
    "shape", [(6,), (9, 2), (5, 6, 1), (5, 6, 3), (5, 6, 4), (7, 5, 6, 1), (5, 6, 2), (3, 300, 200, 1)]
)
@pytest.mark.parametrize("colors", [False, True])
def test_examples_of_any_shape_are_drawn(shape, colors):
    (data,) = load(np.random.default_rng(0).random((12, *shape)).astype(np.float32), ("all",))
    images = inspection.pictures(data)
    assert images.ndim == 4
    assert len(images) == 12
    assert inspection.grid(images).dtype == np.uint8
    text = inspection.in_text(images, colors)
    rows = [line for line in text.splitlines() if line]
    assert rows
    assert ("\x1b[38;2;" in text) == colors


def test_shades_follow_the_numbers():
    images = np.zeros((1, 4, 4, 1), np.float32)
    images[0, :, 2:] = 1.0
    assert inspection.in_text(images, False).splitlines()[:2] == ["  @@", "  @@"]


def test_the_command_says_draws_and_tries(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save("signals.npy", rng.standard_normal((60, 12, 2)).astype(np.float32))
    assert main(["data", "inspect", "signals.npy"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "signals.npy: 49 train[:90%], 5 train[90%:] and 6 test examples; signals or sequences of 12×2"
    )
    taken, *others = out[out.index("aejax train takes it for: ") :].splitlines()
    assert "tdvae_linear" in taken
    assert not {"dae", "vqvae"} & set(taken.replace(",", "").split())
    assert any("bernoulli() admits data in [0, 1]" in line for line in others if line.startswith("  not dae:"))
    with Image.open(tmp_path / "inspected-signals.png") as picture:
        assert picture.size[0] >= 640
    assert main(["data", "inspect", "signals.npy"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["data", "inspect", "nowhere.npy", "--out", "x.png"]) == 2
    assert main(["data", "inspect"]) == 2
    assert main(["data", "look"]) == 2


def test_pixels_of_a_transparent_image_lie_on_white():
    x = np.zeros((1, 2, 2, 4), np.float32)
    x[0, 0, 0] = [1, 0, 0, 1]
    pixels = np.asarray(Image.open(io.BytesIO(pixels_png(inspection.grid(x)))).convert("RGB"))
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[1, 1].tolist() == [255, 255, 255]
