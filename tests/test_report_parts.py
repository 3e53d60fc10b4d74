"""The report's parts as functions of plain values: drawings, maps, tables, the log, the command that makes a run again."""

import re
import shlex
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from aejax.flags import parse
from aejax.report import drawing, figures, page, pixels
from aejax.report.comparison import means_and_deviations
from aejax.report.pictures import some_of_each_class, tsne
from aejax.report.records import again, read_log, said, unit
from aejax.train import Settings
from aejax.types import Dataset


@pytest.mark.parametrize("limit", [40.0, 100.0])
def test_labels_do_not_overlap_and_keep_their_order(limit):
    rng = np.random.default_rng(0)
    for n in range(1, 7):
        heights = rng.choice([6.0, 12.0], n)
        wanted = np.sort(rng.uniform(0, limit, n))
        placed = np.array(figures.spread(wanted.tolist(), heights.tolist(), limit))
        needed = (heights[1:] + heights[:-1]) / 2
        assert np.all(np.diff(placed) >= needed - 1e-9)
        if heights.sum() <= limit:
            assert placed[0] >= heights[0] / 2 - 1e-9
            assert placed[-1] <= limit - heights[-1] / 2 + 1e-9
    assert figures.spread([20.0, 60.0], [10.0, 10.0], 100.0) == [20.0, 60.0]


def test_tiles_hold_the_pixels():
    images = np.zeros((3, 2, 2, 1))
    images[0] = [[[0.0], [0.2]], [[1.0], [7.0]]]
    images[2] = np.nan
    sheet = pixels.tiles(images, 2, 0.0, 1.0)
    assert sheet.shape == (5, 5, 4)
    assert sheet[:2, :2, 0].tolist() == [[0, 51], [255, 255]]
    assert np.all(sheet[2, :, 3] == 0)
    assert np.all(sheet[3:, 3:, 3] == 0)
    assert np.all(sheet[3:, :2] == [0, 0, 0, 255])


def test_filters_are_the_columns_of_the_kernel():
    kernel = np.zeros((4, 70))
    kernel[:, 69] = [1.0, -1.0, 0.5, 0.0]
    sheet = pixels.filters(kernel, (2, 2, 1))
    shown = sheet[-2:, -2:, 0]
    assert shown.tolist() == [[255, 0], [191, 128]]
    assert np.all(sheet[:2, :2, 0] == 128)


def test_a_signed_image_is_grey_where_it_is_zero_and_mirrored_where_its_sign_is():
    image = np.random.default_rng(0).standard_normal((1, 4, 4, 1))
    image[0, 0, 0, 0] = 0.0
    shown = pixels.signed(image)
    assert shown[0, 0, 0, 0] == 0.5
    assert np.abs(shown - 0.5).max() == 0.5
    np.testing.assert_allclose(pixels.signed(-3.0 * image), 1.0 - shown)
    assert np.all(pixels.signed(0.0 * image) == 0.5)


def test_a_histogram_tells_its_counts_and_edges():
    with drawing.style():
        text = drawing.svg(
            figures.histogram("activity", "units", ("dead", 97), [0.0, 0.1, 30.0, 100.0], [31, 0, 1234], "%")
        )
    words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"dead", "97", "31", "0", "1\u2009234", "0.1", "30", "100", "activity", "units", "%"} <= set(words)


def test_terms_are_told_in_their_units():
    told = {term: unit(term) for term in ("nll", "walkback_nll", "denoising_mse", "dead_units", "hutchinson_variance")}
    assert told == {
        "nll": "nats per example",
        "walkback_nll": "nats per example",
        "denoising_mse": "per dimension",
        "dead_units": "active for no example",
        "hutchinson_variance": "nats²",
    }
    assert said("kl_sparsity") == "KL sparsity"
    assert said("rho_hat") == "ρ hat"


def test_svg_is_xml_with_colours_for_light_and_dark():
    labels = ["</text><script>$x$</script>", "\x00\x1b", "Ω 数字"]
    with drawing.style():
        series = [figures.Series(label, [0, 1, 2], [1.0, np.nan, 2.0 * i]) for i, label in enumerate(labels)]
        text = drawing.svg(figures.panel("nll", "nats & more", series, "step", mark=(1.0, "trained")))
        drawing.png(figures.panel("nll", "nats & more", series, "step"))
    ElementTree.fromstring(text)
    assert "prefers-color-scheme:dark" in text
    assert drawing.BLUE not in text.replace(re.search("<style>.*?</style>", text)[0], "")
    assert "font-family: DejaVu" not in text
    assert "DejaVu" not in text


def test_a_long_curve_keeps_its_mean():
    x, y = np.arange(10_001.0), np.random.default_rng(0).random(10_001)
    thin_x, thin_y = figures._thinned(x, y)
    assert len(thin_x) <= 500
    counts = np.append(np.full(len(thin_x) - 1, 26), 10_001 - 26 * (len(thin_x) - 1))
    assert np.isclose(np.average(thin_y, weights=counts), y.mean())


def test_examples_are_the_first_of_each_class_in_turn():
    data = Dataset("d:test", (1,), 6, ("a", "b", "c"), "", {"label": np.array([1, 1, 0, 2, 0, 1])})
    assert some_of_each_class(data)[0].tolist() == [2, 0, 3, 4, 1, 5]


def test_the_map_keeps_clusters_apart_however_few_the_codes():
    codes = np.random.default_rng(0).standard_normal((10, 4)) + np.repeat([[0.0], [50.0]], 5, axis=0)
    plane = tsne(codes)
    distance = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    assert distance[:5, :5].max() < distance[:5, 5:].min()


def test_numbers_align_and_keep_their_digits():
    assert page.decimals([0.0123, 1.5, 0.0]) == 4
    assert page.fixed(0.0123, 4) == "0.0123"
    assert page.decimals([0.0123, 1e-32]) == 4  # which are zero in seven places
    assert page.fixed(-1.5, 1) == "−1.5"
    assert page.fixed(-0.0001, 2) == "0.00"
    assert page.fixed(None, 3) == page.fixed(float("nan"), 3) == "–"
    text, best = page.written(page.Column("MSE", "", [0.10000001, 0.1, None, 0.2], "low"))
    assert text == ["0.100", "0.100", "–", "0.200"]
    assert best == {"0.100"}


def test_deviations_have_two_digits_and_one_place():
    assert means_and_deviations([[1.0, 3.0], [1.0, 1.0], [5.0], [None, 2.0, 4.0]]) == [
        "2.0 ± 1.4",
        "1.0 ± 0.0",
        "–",
        "3.0 ± 1.4",
    ]


def test_log_passes_over_what_a_kill_left(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        '{"step": 1, "split": "train", "nll": 2.0, "examples_per_second": 9}\n[1]\n{"nll": 3}\n'
        '{"step": 2, "split": "train", "nll": NaN}\n{"step": 3, "split": "tra'
    )
    log = read_log(tmp_path / "m.jsonl")
    assert list(log) == ["train"]
    assert list(log["train"]) == ["nll"]
    assert np.array_equal(log["train"]["nll"], ([1, 2], [2.0, np.nan]), equal_nan=True)


def test_the_command_that_makes_the_run_again_parses_to_its_arguments():
    def experiment(
        data: str,
        hidden: tuple[int, ...],
        lr: float,
        note: str | None,
        seed: int,
        devices: int,
        tied: bool = False,
        deep: bool = True,
    ):
        pass

    arguments = {
        "data": "./my data.npz",
        "hidden": [512, 64],
        "lr": 1e-3,
        "tied": True,
        "deep": False,
        "note": None,
        "seed": 3,
    }
    config = {
        "source": {"file": "my experiments/x.py", "arguments": arguments},
        "settings": Settings(devices=2)._asdict(),
    }
    words = shlex.split(again(config))
    assert words[:3] == ["aejax", "train", "my experiments/x.py"]
    (parsed,) = parse("aejax train", [experiment], words[3:])
    assert parsed == {**arguments, "hidden": (512, 64), "devices": 2}
