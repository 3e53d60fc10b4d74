"""Folders of .npy files as one data set: global order, targets, and what is refused; permutations of very many positions."""

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.data import open_split, shuffling, take
from aejax.data.shuffling import shuffled
from aejax.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    """Twelve files of 20 and more rows, with targets."""
    rng, folder = np.random.default_rng(0), tmp_path / "activations"
    (folder / "target").mkdir(parents=True)
    for i in range(12):
        x = rng.normal(size=(20 + i, 6)).astype(np.float16)
        np.save(folder / f"part-{i}.npy", x)
        np.save(folder / "target" / f"part-{i}.npy", 2 * x[:, :4].astype(np.float32))
    (folder / "notes.txt").write_text("layer 3")
    return folder


def in_order(folder):
    return np.concatenate([np.load(folder / f"part-{i}.npy") for i in range(12)]).astype(np.float32)


def test_the_examples_are_those_of_all_files_in_the_order_of_their_numbers(folder):
    data = open_split(folder)
    batch = take(data, np.arange(data.size))
    np.testing.assert_array_equal(batch["x"], in_order(folder))
    np.testing.assert_array_equal(batch["target"], 2 * batch["x"][:, :4])
    assert (data.shape, data.target) == ((6,), (4,))
    assert data.found.passed_over == {".txt files": 1}


def test_splits_are_shuffled_over_all_files_and_streamed_alike(folder):
    train, test = aejax.load(folder)
    streamed, _ = aejax.load(folder, stream=True)
    all_of = lambda data: take(data, np.arange(data.size))
    np.testing.assert_array_equal(all_of(streamed)["x"], all_of(train)["x"])
    np.testing.assert_array_equal(all_of(streamed)["target"], all_of(train)["target"])
    whole = in_order(folder)
    split = np.concatenate([all_of(train)["x"], all_of(test)["x"]])
    order = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in split]
    assert sorted(order) == list(range(len(whole)))
    files = np.repeat(np.arange(12), 20 + np.arange(12))[order]
    assert len(np.unique(files[:24])) > 6  # not file by file


def damage(folder, how):
    part = folder / "part-3.npy"
    x = np.load(part)
    match how:
        case "truncated":
            part.write_bytes(part.read_bytes()[:-7])
        case "width":
            np.save(part, x[:, :5])
        case "dtype":
            np.save(part, x.astype(np.float32))
        case "NaN":
            x[4, 2] = np.nan
            np.save(part, x)
        case "integers":
            for file in folder.glob("*.npy"):
                np.save(file, np.load(file).astype(np.int64))
        case "order":
            np.save(part, np.asfortranarray(x))
        case "target missing":
            (folder / "target" / "part-3.npy").unlink()
        case "targets fewer":
            np.save(folder / "target" / "part-3.npy", np.zeros((5, 4), np.float32))
        case "target infinite":
            np.save(folder / "target" / "part-3.npy", np.full((23, 4), np.inf, np.float32))
    return how


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "part-3.npy cannot be read"),
        ("width", "part-3.npy holds examples of"),
        ("dtype", "part-3.npy holds examples of"),
        ("NaN", "holds nan at position [67, 2]"),
        ("integers", "dtype int64"),
        ("order", "Fortran order"),
        ("target missing", "give each shard of x one of target"),
        ("targets fewer", "give one target to each"),
        ("target infinite", "(target) holds inf at position"),
    ],
)
def test_what_is_damaged_or_does_not_fit_is_one_line(folder, how, said, tmp_path, capsys):
    damage(folder, how)
    run = tmp_path / "run"
    assert main(["train", "dictionary", "--data", str(folder), "--steps", "2", "--run", str(run)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line
    assert not run.exists()


def test_a_folder_of_images_stays_one(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(6):
        Image.fromarray(np.full((4, 4), 40 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    np.save(tmp_path / "photos" / "stray.npy", np.zeros((3, 2)))
    data = open_split(tmp_path / "photos")
    assert (data.size, data.shape) == (6, (4, 4, 1))
    assert data.found.passed_over == {".npy files": 1}


def test_an_array_has_a_target_too():
    x, y = np.random.default_rng(0).normal(size=(2, 30, 5))
    train, _ = aejax.load({"x": x, "target": y[:, :2]})
    assert train.target == (2,)
    for target, said in (
        (y[:29], "give [30, ...]"),
        (np.full((30, 2), np.nan), "(target) holds nan"),
        (y[:, 0], "give [30"),
    ):
        with pytest.raises(UsageError) as error:
            aejax.load({"x": x, "target": target})
        assert said in str(error.value)


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4097])
def test_a_permutation_without_memory_is_one_to_one(size, monkeypatch):
    monkeypatch.setattr(shuffling, "STORED", 0)
    orders = [shuffled(size, (seed, 0))(np.arange(size)) for seed in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(size))
    if size >= 100:
        assert not np.array_equal(orders[0], orders[1])
        assert abs(np.corrcoef(orders[0], np.arange(size))[0, 1]) < 0.3
        moved = shuffled(size, (0, 0))(np.array([7, 3, 7]))
        np.testing.assert_array_equal(moved, orders[0][[7, 3, 7]])
