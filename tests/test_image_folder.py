"""A folder of images: every file is an example, refused, or said to be passed over; a split never becomes a class."""

import contextlib
import shutil
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aejax.data import ReadAs, describe, found_line, load, open_split, usual_splits
from aejax.data.image_folder import SUFFIXES, image_folder
from aejax.errors import UsageError
from tiny import refusal


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))


def painted(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 4), value).save(path, format=None if path.suffix.lower() in (".png", ".bmp", ".tif") else "PNG")


def filled(root, *files):
    for i, file in enumerate(files):
        path = root / file
        if path.suffix.lower() in SUFFIXES:
            painted(path, value=10 + i)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
    return root


# Splits and classes

TRAINING, TESTING = ["train", "Train", "TRAINING", "training"], ["test", "Test", "testing"]
VALIDATING = ["validation", "valid", "val", "dev", "Val", "validate"]


@pytest.mark.parametrize("train", TRAINING)
@pytest.mark.parametrize("test", TESTING)
def test_folders_called_like_splits_are_splits(tmp_path, train, test):
    root = filled(tmp_path / "a", f"{train}/0.png", f"{train}/1.png", f"{train}/2.png", f"{test}/0.png")
    parts = load(root, ("train", "test"))
    assert [part.size for part in parts] == [3, 1]
    assert parts[0].classes is None


@pytest.mark.parametrize("validation", VALIDATING)
def test_a_validation_folder_validates(tmp_path, validation):
    root = filled(tmp_path / "a", "train/0.png", "train/1.png", "test/0.png", f"{validation}/0.png")
    assert [part.size for part in load(root, usual_splits(root))] == [2, 1, 1]


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "cats"),
        ("test", "valid"),
        ("test",),
        ("train", "training"),
        ("train", "val", "valid", "dev", "validation"),
        ("train2017", "val2017"),
        ("train_images", "test_images"),
        ("images_train", "images_test"),
        ("trainset", "testset"),
        ("eval", "cats"),
        ("held_out", "train"),
        ("bus", "train", "car"),
    ],
)
def test_a_name_like_a_splits_never_becomes_a_class(tmp_path, folders):
    root = filled(tmp_path / "a", *(f"{folder}/{i}.png" for folder in folders for i in range(3)))
    message = refusal(open_split, f"{root}/")
    assert folders[0] in message
    assert "train" in message
    nested = filled(
        tmp_path / "b", *(f"train/{folder}/{i}.png" for folder in folders for i in range(3)), "test/cats/0.png"
    )
    assert "the name of a split" in refusal(open_split, f"{nested}/")


@pytest.mark.parametrize(
    "name", ["trains", "bullet_train", "test_tube", "valley", "device", "contest", "developer", "xtra"]
)
def test_other_words_are_classes(tmp_path, name):
    root = filled(tmp_path / "a", f"{name}/0.png", "other/0.png")
    assert open_split(f"{root}/").classes == tuple(sorted((name, "other")))


def test_a_folder_without_images_is_neither_split_nor_class(tmp_path):
    root = filled(tmp_path / "a", "train/0.png", "test/0.png", "annotations/0.xml", "annotations/deep/1.xml")
    train, test = load(root)
    assert (train.size, test.size, train.found.passed_over) == (1, 1, {".xml files": 2})


def test_images_below_classes_are_refused_by_name(tmp_path):
    root = filled(tmp_path / "a", "cat/0.png", "cat/old/1.png")
    assert str(root / "cat" / "old" / "1.png") in refusal(open_split, f"{root}/")
    root = filled(tmp_path / "b", "train/cat/0.png", "train/cat/old/1.png", "test/cat/0.png")
    assert str(root / "train" / "cat" / "old" / "1.png") in refusal(open_split, f"{root}/")


def test_a_link_to_its_own_folder_does_not_go_round_for_ever(tmp_path):
    root = filled(tmp_path / "a", "cat/0.png")
    (root / "again").symlink_to(root)
    assert "below the class folder" in refusal(open_split, f"{root}/")


# What is passed over


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_passed_over_is_counted_and_said(tmp_path, stream):
    names = ["0.png", "1.PNG", "2.jfif", "a.heic", "b.heic", "c.txt", ".hidden", ".cache/x.png", "README"]
    root = filled(tmp_path / "a", *names)
    (root / "gone.png").symlink_to(tmp_path / "nowhere")
    data = ReadAs(stream=True, data=root) if stream else root
    (every,) = load(data, ("all",))
    assert every.size == 3
    assert every.found.passed_over == {
        ".heic files": 2,
        ".txt files": 1,
        "hidden files": 2,
        "unnamed files": 1,
        "broken links and other entries that are not files": 1,
    }
    assert "2 .heic files" in found_line(describe((every,)))
    (root / "new.txt").write_text("written after the images were cached")
    assert load(data, ("all",))[0].found.passed_over[".txt files"] == 2


names = st.text(string.ascii_lowercase[:3] + ".", min_size=1, max_size=3).filter(lambda name: name.strip("."))
folders = st.sampled_from(
    ["", "cat", "dog", "train", "test", "val", "Training", "cat/deep", "train/cat", "train/dog", "test/cat"]
)
files = st.tuples(folders, names, st.sampled_from([*SUFFIXES[:4], ".png", ".png", ".PNG", ".txt", "", ".heic", ".npy"]))


def counted(root, made):
    """Files read and passed over, or refused all together."""
    try:
        held = image_folder(root)
    except UsageError:
        return 0, len(made)
    return len(held.listed()), sum(held.passed_over.values())


def every_file_is_accounted_for(listed):
    with tempfile.TemporaryDirectory() as folder:
        made = set()
        for inside, name, suffix in listed:
            path = Path(folder, inside, name + suffix)
            with contextlib.suppress(
                FileExistsError, IsADirectoryError, NotADirectoryError
            ):  # as a folder of that name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                made.add(path)
        made = {path for path in made if path.is_file()}
        read, passed_over = counted(Path(folder), made)
        assert read + passed_over == len(made)
        assert sorted(path for path in made if path.is_file()) == sorted(made)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(files, max_size=12))
def test_every_file_is_read_or_refused_or_passed_over(listed):
    every_file_is_accounted_for(listed)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(files, max_size=12))
def test_every_file_of_thousands_of_folders_is_read_or_refused_or_passed_over(listed):
    every_file_is_accounted_for(listed)


# A table beside the images


def table(folder, *rows):
    (folder / "metadata.csv").write_text("\n".join(rows))


@pytest.mark.parametrize("stream", [False, True])
def test_a_table_beside_the_images_gives_labels_and_factors(tmp_path, stream):
    root = filled(tmp_path / "a", *(f"{i}.png" for i in range(12)))
    table(root, "file_name,label,size,angle", *(f"{i}.png,class {i % 3},{i // 6},{i}" for i in range(12)))
    (every,) = load(ReadAs(stream=True, data=root) if stream else root, ("all",))
    assert (every.classes, every.factors) == (("class 0", "class 1", "class 2"), ("size", "angle"))
    batch = every.read(np.arange(12)) if stream else every.arrays
    value = batch["x"][:, 0, 0, 0].astype(int) - 10  # the number in the file's name
    np.testing.assert_array_equal(batch["label"], value % 3)
    np.testing.assert_array_equal(batch["factors"], np.stack([value // 6, value], axis=1))


def test_tables_of_splits_name_files_from_their_own_folder(tmp_path):
    root = filled(tmp_path / "a", "train/0.png", "train/1.png", "test/0.png")
    table(root / "train", "file_name,label", "0.png,10", "1.png,9")
    table(root / "test", "file_name,label", "0.png,9")
    train, test = load(root)
    assert train.classes == ("9", "10")  # numbers in their order
    assert sorted(zip(train.arrays["x"][:, 0, 0, 0].tolist(), train.arrays["label"].tolist())) == [(10, 1), (11, 0)]
    assert test.arrays["label"].tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "file_name"),
        (("name,label", "0.png,a"), "file_name"),
        (("file_name,label", "0.png,a"), "1.png has no line"),
        (("file_name,label", "0.png,a", "1.png,b", "2.png,c"), "2.png"),
        (("file_name,label", "0.png,a", "0.png,b"), "twice"),
        (("file_name,label", "0.png", "1.png,b"), "row 1"),
        (("file_name,weight", "0.png,1.5", "1.png,2"), "whole numbers"),
        (("file_name,size", "0.png,-1", "1.png,2"), "whole numbers"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, rows, words):
    root = filled(tmp_path / "a", "0.png", "1.png")
    table(root, *rows)
    message = refusal(open_split, f"{root}/")
    assert words in message
    assert "metadata.csv" in message


def test_a_table_with_labels_beside_class_folders_is_refused(tmp_path):
    root = filled(tmp_path / "a", "cat/0.png", "dog/0.png")
    table(root, "file_name,label", "cat/0.png,cat", "dog/0.png,dog")
    assert "class folders" in refusal(open_split, f"{root}/")
    table(root, "file_name,size", "cat/0.png,0", "dog/0.png,1")
    assert open_split(f"{root}/").factors == ("size",)


def test_a_moved_folder_of_images_has_the_same_fingerprint(tmp_path):
    root = filled(tmp_path / "a", "0.png", "1.png")
    table(root, "file_name,label", "0.png,a", "1.png,b")
    before = [load(data, ("all",))[0].fingerprint for data in (root, ReadAs(stream=True, data=root))]
    shutil.move(root, tmp_path / "b")
    assert [
        load(data, ("all",))[0].fingerprint for data in (tmp_path / "b", ReadAs(stream=True, data=tmp_path / "b"))
    ] == before
    table(tmp_path / "b", "file_name,label", "0.png,b", "1.png,a")  # of the same size
    assert load(ReadAs(stream=True, data=tmp_path / "b"), ("all",))[0].fingerprint != before[1]
