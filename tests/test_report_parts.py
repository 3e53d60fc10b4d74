"""The report's parts as functions of plain values: drawings, maps, tables, the log, the command that makes a run again."""

import base64
import io
import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from aejax.cli.flags import parse
from aejax.cli.start import reading
from aejax.evaluation import traversals as paths
from aejax.figures import charts, drawing, pixels, tables
from aejax.figures.examples import some_of_each_class
from aejax.figures.words import UNITS, label, unit
from aejax.reports.comparison import kl_distortion_section, looks, means_and_deviations
from aejax.reports.grouping import differences
from aejax.reports.pictures import tsne
from aejax.reports.records import Record, again
from aejax.runs.metrics_log import read_log
from aejax.runs.run import Run
from aejax.training.settings import Settings
from aejax.types import Dataset, Experiment, Model, TrainState


@pytest.mark.parametrize("limit", [40.0, 100.0])
def test_labels_do_not_overlap_and_keep_their_order(limit):
    rng = np.random.default_rng(0)
    for n in range(1, 7):
        heights = rng.choice([6.0, 12.0], n)
        wanted = np.sort(rng.uniform(0, limit, n))
        placed = np.array(charts.spread(wanted.tolist(), heights.tolist(), limit))
        needed = (heights[1:] + heights[:-1]) / 2
        assert np.all(np.diff(placed) >= needed - 1e-9)
        if heights.sum() <= limit:
            assert placed[0] >= heights[0] / 2 - 1e-9
            assert placed[-1] <= limit - heights[-1] / 2 + 1e-9
    assert charts.spread([20.0, 60.0], [10.0, 10.0], 100.0) == [20.0, 60.0]


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


def test_a_signed_image_is_gray_where_it_is_zero_and_mirrored_where_its_sign_is():
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
            charts.histogram("activity", "units", ("dead", 97), [0.0, 0.1, 30.0, 100.0], [31, 0, 1234], "%")
        )
    words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert {"dead", "97", "31", "0", "1\u2009234", "0.1", "30", "100", "activity", "units", "%"} <= set(words)


def test_a_term_has_the_unit_of_what_it_is_made_of():
    """Terms that are added share theirs; what it was measured on, and of which level, changes nothing."""
    assert unit("nelbo") == unit("distortion") == unit("kl") == unit("nll") == "nats per example"
    for term in ("nll", "mse", "bpd", "perplexity", "error"):
        assert unit(f"denoising_{term}") == unit(f"walkback_{term}") == unit(f"{term}_1") == unit(term)
    # Not in nats: a standard deviation is, its square is not; a code's length in bits says so.
    assert unit("hutchinson_variance") == "nats²"
    assert unit("bits_per_code") == "bits"
    assert len({label(term) for term in UNITS}) == len(UNITS)


def test_svg_is_xml_with_colors_for_light_and_dark():
    labels = ["</text><script>$x$</script>", "\x00\x1b", "Ω 数字"]
    with drawing.style():
        series = [charts.Series(label, [0, 1, 2], [1.0, np.nan, 2.0 * i]) for i, label in enumerate(labels)]
        text = drawing.svg(charts.panel("nll", "nats & more", series, "step", mark=(1.0, "trained")))
        drawing.png(charts.panel("nll", "nats & more", series, "step"))
    ElementTree.fromstring(text)
    assert "prefers-color-scheme:dark" in text
    assert drawing.BLUE not in text.replace(re.search("<style>.*?</style>", text)[0], "")
    assert "font-family: DejaVu" not in text
    assert "DejaVu" not in text


def test_a_long_curve_keeps_its_mean():
    x, y = np.arange(10_001.0), np.random.default_rng(0).random(10_001)
    thin_x, thin_y = charts._thinned(x, y)
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
    assert tables.decimals([0.0123, 1.5, 0.0]) == 4
    assert tables.fixed(0.0123, 4) == "0.0123"
    assert tables.decimals([0.0123, 1e-32]) == 4  # which are zero in seven places
    assert tables.fixed(-1.5, 1) == "−1.5"
    assert tables.fixed(-0.0001, 2) == "0.00"
    assert tables.fixed(None, 3) == tables.fixed(float("nan"), 3) == "–"
    text, best = tables.written(tables.Column("MSE", "", [0.10000001, 0.1, None, 0.2], "low"))
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
        "data": {"reading": {"missing": "mask"}},
        "settings": Settings(devices=2)._asdict(),
    }
    words = shlex.split(again(config))
    assert words[:3] == ["aejax", "train", "my experiments/x.py"]
    parsed, how = parse("aejax train", [experiment, reading], words[3:])
    assert how["missing"] == "mask"
    assert parsed == {**arguments, "hidden": (512, 64), "devices": 2}


def readable(seed=0, batch_size=10, terms=None):
    """A run whose codes can be read off its images, 2×2 pixels of which two are the code's and one the label, and its terms."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, (12, 2, 2, 1)).astype(np.float32)
    label = (np.arange(12) % 3).astype(np.int32)
    test = Dataset("d:test", (2, 2, 1), 12, ("a", "b", "c"), "", {"x": x, "label": label})

    def encode(params, extras, batch, key):
        return batch["x"][:, 0, :, 0] + 0.0 * batch["label"].astype(np.float32)[:, None]  # so that it needs a label

    def decode(params, extras, z, batch):
        label = batch["label"].astype(z.dtype) / 4
        return jnp.stack([z, jnp.stack([label, 0 * label], axis=1)], axis=1)[..., None]

    model = Model(lambda key, batch: ({}, {}), lambda *given: None, lambda *given: {}, encode, decode)
    config = {"source": None, "data": {"name": "d", "splits": {}}, "batch_size": batch_size, "steps": 1, "seed": seed}
    experiment = Experiment(model, optax.sgd(0.1), test, test, batch_size, 1, seed)
    run = Run(Path("runs") / f"{batch_size}-{seed}", config, experiment, TrainState(np.int32(0), {}, {}, ()))
    return Record(run, {}, None, None if terms is None else {"terms": terms})


def sheet_of(png, columns):
    """Gray values of a sheet of 2×2 tiles, [rows, columns, 2, 2] in [0, 1]."""
    gray = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 0]
    factor = gray.shape[1] // (3 * columns - 1)
    gray = np.pad(gray[::factor, ::factor], ((0, 1), (0, 1)))
    return gray.reshape(-1, 3, columns, 3).transpose(0, 2, 1, 3)[:, :, :2, :2] / 255


def test_a_traversal_moves_one_dimension_of_an_image_that_keeps_its_label():
    record = readable()
    x, states = record.run.experiment.test.arrays["x"], np.linspace(-3, 3, 5)
    assert paths.has_traversals(record.run)
    found = paths.moved(record.run, np.array([1, 0]), 4, states)
    for row, dimension in enumerate((1, 0)):
        for i in range(4):
            np.testing.assert_allclose(found[row, i, :, 0, dimension, 0], states, rtol=1e-6)
            np.testing.assert_allclose(found[row, i, :, 0, 1 - dimension, 0], x[i, 0, 1 - dimension, 0], rtol=1e-6)
            np.testing.assert_allclose(found[row, i, :, 1, 0, 0], (i % 3) / 4)


def test_traversals_move_there_and_back_for_ever():
    html, pngs = paths.traversals_block(readable().run, np.array([0, 1]))
    assert list(pngs) == ["traversals"]
    (gif,) = re.findall('data:image/gif;base64,([^"]*)', html)
    moving = Image.open(io.BytesIO(base64.b64decode(gif)))
    assert moving.info["loop"] == 0
    shown = []
    for i in range(moving.n_frames):  # equal ones that follow each other are one, shown for longer
        moving.seek(i)
        shown += [np.asarray(moving.convert("RGBA"))] * (moving.info["duration"] // paths.PAUSE)
    assert len(shown) == paths.FRAMES
    # The first tile's first pixel is the dimension that moves: black at -3, white at 3, and gray when it is between 0 and 1.
    states = -3 * np.cos(2 * np.pi * np.arange(paths.FRAMES) / paths.FRAMES)
    np.testing.assert_allclose([f[0, 0, 0] / 255 for f in shown], np.clip(states, 0, 1), atol=0.5 / 31 + 0.005)
    assert all(np.array_equal(shown[i], shown[-i]) for i in range(1, paths.FRAMES))
    assert all(f[2, 0, 3] == 0 and f[0, 0, 3] == 255 for f in shown)


def test_an_animation_keeps_colors():
    frames = np.zeros((2, 4, 4, 4), np.uint8)
    frames[..., 3] = 255
    frames[0, :2, :, 0] = frames[1, 2:, :, 2] = 200
    moving = Image.open(io.BytesIO(paths.animation(list(frames))))
    assert moving.n_frames == len(frames)
    for i, frame in enumerate(frames):
        moving.seek(i)
        assert np.abs(np.asarray(moving.convert("RGBA")).astype(int) - frame).max() <= 8


def test_an_interpolation_goes_straight_from_one_image_to_the_other():
    record = readable()
    data = record.run.experiment.test
    _, pngs = paths.interpolations_block(record.run)
    sheet = sheet_of(pngs["interpolations"], paths.STATES + 2)
    pairs = some_of_each_class(data)[0].reshape(-1, 2)
    assert len(sheet) == len(pairs) == paths.PAIRS
    x, label = data.arrays["x"][..., 0], data.arrays["label"]
    for row, (a, b) in zip(sheet, pairs):
        np.testing.assert_allclose(row[[0, -1]], x[[a, b]], atol=0.003)
        np.testing.assert_allclose(row[1:-1, 0], np.linspace(x[a, 0], x[b, 0], paths.STATES), atol=0.003)
        # What else the decoder is told is the nearer image's.
        assert np.array_equal(np.round(4 * row[[1, -2], 1, 0]), label[[a, b]])


def test_the_plane_is_decoded_as_it_is_mapped():
    record = readable()
    _, pngs = paths.plane_block(record.run)
    sheet = sheet_of(pngs["plane"], paths.GRID)
    low, high = np.quantile(record.run.experiment.test.arrays["x"][:, 0, :, 0], [0.01, 0.99], axis=0)
    np.testing.assert_allclose(sheet[0, 0, 0], [low[0], high[1]], atol=0.003)  # the top left
    np.testing.assert_allclose(sheet[-1, -1, 0], [high[0], low[1]], atol=0.003)


def test_lines_of_equal_bound_enter_where_the_axes_end():
    x, y = (0.0, 20.0), (10.0, 30.0)
    found = charts.isolines(x, y, np.array([22.0, 25.0, 31.0]))
    assert {20.0, 25.0, 30.0} <= {c for c, _ in found}
    for c, end in found:
        assert sum(end) == pytest.approx(c)
        assert end[1] == y[1] or end[0] == x[0]
        assert x[0] <= end[0] < x[1]
        assert y[0] < end[1] <= y[1]
    # Runs whose bounds agree are not hatched over.
    assert len(charts.isolines(x, y, np.array([25.0, 25.0 + 1e-9]))) <= 6


def test_runs_are_points_at_their_rate_and_distortion():
    groups = [
        charts.Traded("beta 1", [5.0, 5.5], [17.0, 16.5], drawing.BLUE),
        charts.Traded("beta 4", [1.0], [26.0], drawing.ORANGE),
    ]
    axes = charts.kl_distortion(groups, joined=True).axes[0]
    first, second, path, *lines = (line.get_xydata() for line in axes.lines)
    assert first.tolist() == [[5.0, 17.0], [5.5, 16.5]]
    assert second.tolist() == [[1.0, 26.0]]
    assert path.tolist() == [[5.25, 16.75], [1.0, 26.0]]
    sums = [c for c, _ in charts.isolines(axes.get_xlim(), axes.get_ylim(), np.array([22.0, 22.0, 27.0]))]
    assert len(lines) == len(sums) > 2
    assert {text.get_text() for text in axes.texts} == {"beta 1", "beta 4", *map(charts.grouped, sums)}


def test_rate_and_distortion_are_of_two_runs_that_have_them():
    one, other = {"kl": 5.0, "distortion": 17.0}, {"kl": 6.0, "distortion": 15.0, "more": 1.0}

    def section(*records):
        differing = differences(records)
        return kl_distortion_section(records, differing, looks(records, differing))

    found = section(
        readable(terms=one), readable(batch_size=20, terms=other), readable(seed=1), readable(seed=2, terms={})
    )
    assert list(found.pngs) == ["kl-distortion"]
    assert section(readable(terms=one), readable(batch_size=20, terms={"nll": 3.0})) is None
    assert section(readable(terms=one), readable(batch_size=20, terms={**other, "kl": None})) is None
