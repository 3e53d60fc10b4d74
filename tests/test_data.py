import importlib
import json
import os
import struct
import subprocess
import sys
import time
import urllib.error
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from aejax.data import (
    Name,
    ReadAs,
    available,
    batch_at,
    batches_at,
    cache,
    describe,
    eval_batches,
    load,
    located,
    open_split,
    prepare,
    recorded,
    take,
    usual_splits,
)
from aejax.data.arrays import MOST_CLASSES
from aejax.data.loading import VALIDATION
from aejax.data.splits import Reader, bounds, divide, parse
from aejax.types import Dataset
from tiny import refusal


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A TFDS data dir and a cache that the tests of this file share; digits come to lie in them."""
    return {name: str(tmp_path_factory.mktemp(name.lower())) for name in ("TFDS_DATA_DIR", "AEJAX_CACHE")}


@pytest.fixture
def digits(prepared, monkeypatch):
    for name, value in prepared.items():
        monkeypatch.setenv(name, value)
    return "digits"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder to put files in, with a cache and a TFDS data dir of its own that are empty."""
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def counting(size, shape=(2,), dtype=np.float32):
    """A data set whose example i is filled with i and labeled i."""
    x = np.broadcast_to(np.arange(size, dtype=dtype).reshape(-1, *(1 for _ in shape)), (size, *shape))
    return Dataset("counting:all", shape, size, None, "0", {"x": x, "label": np.arange(size, dtype=np.int32)})


def saved(path, **arrays):
    if path.suffix == ".npy":
        np.save(path, arrays["x"])
    else:
        np.savez(path, **arrays)
    return str(path)


def painted(path, size=(3, 4), mode="L", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


# Batches


@pytest.mark.parametrize(("size", "batch_size"), [(10, 1), (10, 4), (10, 10), (7, 20), (64, 24)])
def test_every_example_comes_once_an_epoch(size, batch_size):
    steps = 3 * size  # that is 3·batch_size epochs
    stream = np.concatenate([batch_at(counting(size), 5, step, batch_size)["label"] for step in range(steps)])
    assert stream.shape == (steps * batch_size,)
    np.testing.assert_array_equal(
        np.sort(stream.reshape(-1, size), axis=1), np.tile(np.arange(size), (3 * batch_size, 1))
    )


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_batch_size():
    data = counting(100)
    epochs = [batch_at(data, seed, step, 100)["label"] for seed in (0, 1) for step in (0, 1)]
    assert len({epoch.tobytes() for epoch in epochs}) == 4
    by_tens = np.concatenate([batch_at(data, 0, step, 10)["label"] for step in range(20)])
    np.testing.assert_array_equal(by_tens, np.concatenate(epochs[:2]))


def test_batches_are_pure():
    data = counting(50)
    first = batch_at(data, 3, 17, 8)
    for step in (0, 99, 16, 18):
        batch_at(data, 3, step, 8)
    first["x"][:] = -1  # a batch is the caller's own
    again, once_more = batch_at(data, 3, 17, 8), batch_at(data, 3, 17, 8)
    assert again.keys() == once_more.keys() == {"x", "label", "index"}
    for name, leaf in again.items():
        np.testing.assert_array_equal(leaf, once_more[name])
    assert (again["x"] >= 0).all()


@pytest.mark.parametrize(("size", "batch_size", "step", "n"), [(10, 4, 0, 6), (7, 20, 3, 5), (100, 8, 1000, 1)])
def test_batches_at_stacks_batch_at(size, batch_size, step, n):
    data = counting(size, shape=(2, 3))
    together = batches_at(data, 1, step, batch_size, n)
    for offset in range(n):
        for name, leaf in batch_at(data, 1, step + offset, batch_size).items():
            np.testing.assert_array_equal(together[name][offset], leaf)
            assert together[name].dtype == leaf.dtype
    np.testing.assert_array_equal(together["index"], np.tile(np.arange(batch_size), (n, 1)))


def test_in_order_is_every_example_and_pads_with_the_last():
    batches = list(eval_batches(counting(10), 4))
    assert [valid for _, valid in batches] == [4, 4, 2]
    assert {batch["x"].shape for batch, _ in batches} == {(4, 2)}
    labels = np.concatenate([batch["label"][:valid] for batch, valid in batches])
    np.testing.assert_array_equal(labels, np.arange(10))
    np.testing.assert_array_equal(batches[-1][0]["label"], [8, 9, 9, 9])
    np.testing.assert_array_equal(batches[-1][0]["index"], batches[-1][0]["label"])
    assert batches[0][0]["index"].dtype == np.int32


def test_take_gives_float32_in_data_range():
    every = np.arange(256, dtype=np.uint8)[:, None]
    data = counting(256)._replace(arrays={"x": every})
    np.testing.assert_array_equal(take(data, np.arange(256))["x"], every.astype(np.float32) / np.float32(255))
    for x in (every > 9, every.astype(np.float32)):
        taken = take(data._replace(arrays={"x": x}), np.array([[3, 200]]))["x"]
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, x[[[3, 200]]].astype(np.float32))


def test_nothing_is_drawn_without_data_or_with_impossible_numbers():
    assert "counting" in refusal(take, counting(3)._replace(arrays=None), np.arange(2))
    assert "batch size 0" in refusal(batch_at, counting(3), 0, 0, 0)
    assert "seed -1" in refusal(batch_at, counting(3), -1, 0, 2)


# The slicing language

SLICES = [
    "train",
    "train[:90%]",
    "train[90%:]",
    "train[100:200]",
    "train[-10:]",
    "train[:-10]",
    "train[-5%:]",
    "train[33.3%:66.6%]",
    "train[1:]",
    "train[:1]",
    "train[10:50%]",
    "train[10%:50]",
    "train[0:]",
    "train[:100%]",
    "train[-100%:50%]",
    "train[0.5%:2.5%]",
    "train[1_0:20]",
    "test",
    "test[7:8]",
]
NO_SLICES = [
    "train[:]",
    "train[]",
    "train[5]",
    "train[5%]",
    "train[a:b]",
    "train[:101%]",
    "train[:1001]",
    "train[1.5:3]",
    "train[1:2:3]",
    "train[::2]",
    "train[:5",
    "train[.:5]",
    "train[_:5]",
    "train[:--5]",
    "train[-1001:]",
]


@pytest.mark.parametrize("size", [1000, 997, 1797])
def test_slices_mean_what_they_mean_to_tfds(size):
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(dataset_name="d", data_dir="/", filetype_suffix="array_record")
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[n], num_bytes=0, filename_template=template)
        for name, n in {"train": size, "test": 10}.items()
    }
    for spec in SLICES:
        (theirs,) = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
        n = infos[theirs.splitname].num_examples
        expected = (theirs.splitname, (theirs.from_ or 0, n if theirs.to is None else theirs.to))
        assert (parse(spec).split, bounds(parse(spec), n, spec)) == expected, spec


@pytest.mark.parametrize("spec", NO_SLICES)
def test_what_tfds_refuses_is_refused(spec):
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(dataset_name="d", data_dir="/", filetype_suffix="array_record")
    info = tfds.core.SplitInfo(name="train", shard_lengths=[1000], num_bytes=0, filename_template=template)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        tfds.core.ReadInstruction.from_spec(spec).to_absolute({"train": info})
    refusal(lambda: bounds(parse(spec), 1000, spec))


@pytest.mark.parametrize("spec", ["train[5:5]", "train[900:10%]", "train[60%:40%]", "train+test", "train[1shard:]"])
def test_empty_slices_sums_and_shards_are_refused(spec):
    assert repr(spec)[1:-1] in refusal(lambda: bounds(parse(spec), 1000, spec))


def test_a_name_is_divided_at_its_split():
    assert divide("digits:test[:10]") == ("digits", "test[:10]")
    assert divide("mnist:3.0.1:train[:90%]") == ("mnist:3.0.1", "train[:90%]")
    assert divide("a/b.npz:test") == ("a/b.npz", "test")
    assert divide("mnist:3.0.1") == ("mnist:3.0.1", None)
    assert divide("digits") == ("digits", None)


# Data sets by name


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    train, test = load(digits)
    assert train.shape == test.shape == (8, 8, 1)
    assert train.classes == test.classes == tuple("0123456789")
    assert (train.size, test.size) == (1438, 359)
    assert {name: array.dtype for name, array in train.arrays.items()} == {"x": np.float32, "label": np.int32}
    ours = np.concatenate([np.c_[16 * s.arrays["x"].reshape(s.size, 64), s.arrays["label"]] for s in (train, test)])
    theirs = np.c_[load_digits(return_X_y=True)]
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert np.bincount(test.arrays["label"]).min() > 20


def test_slices_are_views_that_cover_the_split(digits):
    whole, first, rest = load(digits, ("train", "train[:90%]", "train[90%:]"))
    assert first.size + rest.size == whole.size
    np.testing.assert_array_equal(np.concatenate([first.arrays["x"], rest.arrays["x"]]), whole.arrays["x"])
    assert first.name == "digits:train[:90%]"
    for part in (whole, first, rest):
        memory = part.arrays["x"]
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        assert isinstance(memory, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            part.arrays["x"][0] = 0


def test_all_is_every_split_in_turn(digits):
    train, test, both = load(digits, ("train", "test", "all"))
    for name, array in both.arrays.items():
        np.testing.assert_array_equal(array, np.concatenate([train.arrays[name], test.arrays[name]]))


def test_fingerprints_are_stable_and_tell_slices_apart(digits, prepared):
    specs = ("train", "test", "train[:50%]", "train[50%:]", "train[:719]")
    once, again = load(digits, specs), load(digits, specs)
    assert [a.fingerprint for a in once] == [a.fingerprint for a in again]
    assert len({a.fingerprint for a in once}) == 4
    assert once[2].fingerprint == once[4].fingerprint  # 50 % of 1438
    assert all(data.fingerprint == cache.fingerprint_of(data.arrays) for data in once)


@pytest.mark.parametrize("large", [False, True])
def test_the_fingerprint_of_a_slice_does_not_depend_on_what_is_kept(empty, monkeypatch, large):
    path = saved(empty / "a.npy", x=np.random.default_rng(0).random((20, 3)))
    expected = open_split(f"{path}:train[:9]").fingerprint
    monkeypatch.setattr(cache, "SMALL", 0 if large else cache.SMALL)
    for kept in [None, "torn"] if large else [None]:
        if kept is not None:
            (file,) = (empty.parent / "cache" / "data").glob("*/train/0-9.sha256")
            file.write_text(kept)
        assert open_split(f"{path}:train[:9]").fingerprint == expected


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("file", ["x.npy", "label.npy", "meta.json"])
def test_every_flipped_bit_in_the_cache_is_noticed(empty, monkeypatch, capsys, file, large):
    """Of small splits all bytes are compared, of large ones a sample, which here is all of it."""
    monkeypatch.setattr(cache, "SMALL", 0 if large else cache.SMALL)
    monkeypatch.setattr(cache, "BLOCK", 64)
    path = saved(empty / "a.npz", x=np.random.default_rng(0).random((20, 3)), y=np.arange(20))
    before = open_split(path)
    (folder,) = (empty.parent / "cache" / "data").glob("*/all")
    rng = np.random.default_rng(1)
    for _ in range(20):
        content = bytearray((folder / file).read_bytes())
        position = rng.integers(len(content))
        content[position] ^= 1 << rng.integers(8)
        (folder / file).write_bytes(content)
        after = open_split(path)
        assert after.fingerprint == before.fingerprint == cache.fingerprint_of(after.arrays)
        assert after.classes == before.classes
        assert after.found == before.found
        said = f"the cached data {folder} are damaged; they are made again\n"
        in_header = file.endswith(".npy") and position < 128  # of spaces for the most part
        assert capsys.readouterr().err in ([said, ""] if in_header else [said])


@pytest.mark.parametrize("change", ["byte", "dtype", "shape", "name"])
def test_fingerprints_are_sensitive(change):
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    other = {
        "byte": {"x": np.where(x == 11, 12, x).astype(np.uint8)},
        "dtype": {"x": x.view(np.bool_)},
        "shape": {"x": x.reshape(4, 3)},
        "name": {"y": x},
    }[change]
    assert cache.fingerprint_of({"x": x}) != cache.fingerprint_of(other)
    assert cache.fingerprint_of({"x": x}) == cache.fingerprint_of({"x": x.copy()})


def test_a_warm_cache_needs_neither_tfds_nor_scikit_learn(digits):
    load(digits, ("train", "test[:10]"))
    program = """
import sys
from aejax.data import load, open_split
load("digits", ("train", "test"))
open_split("digits:test[:10]")
print([name for name in ("tensorflow_datasets", "sklearn", "PIL") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_preparing_prints_nothing_to_stdout_and_downloads_nothing(empty, capsys):
    assert [data.name for data in prepare("digits")] == ["digits:train", "digits:test"]
    said = capsys.readouterr()
    assert said.out == ""
    assert "ownload" not in said.err
    assert "making digits in" in said.err
    assert (empty.parent / "cache" / "data_sets" / "digits").is_dir()
    assert not (empty.parent / "tfds").exists()


def test_the_data_sets_that_are_made_here_are_listed():
    from aejax.data import named

    assert {*named.DRAWN, "fashion_mnist"} == named._ours().keys()


def test_unknown_names_and_splits_are_refused(digits, tmp_path, monkeypatch):
    assert "fashion_mnist" in refusal(load, "fashon_mnist")
    assert "emnist/letters" in refusal(load, "emnist/lettres")
    assert "cannot be opened" in refusal(load, "digits:9.9.9")
    assert "train, test, all" in refusal(load, digits, ("validation",))
    assert "split apart" in refusal(load, "digits:train")
    assert "digits:test" in refusal(open_split, "digits")
    for name in ("", "two words", "huggingface:squad", "a/b/c"):
        assert repr(name) in refusal(load, name)


def test_a_bare_word_is_a_path_where_it_is_no_data_sets_name(empty, digits, monkeypatch):
    painted(empty / "photos" / "a.png")
    monkeypatch.chdir(empty)
    assert open_split("photos").shape == (4, 3, 1)
    assert located("photos") == str(empty / "photos")
    assert located("digits") == "digits"
    for name in ("digits", "sprites", "mnist"):  # ours, drawn, and one that only TFDS knows
        painted(empty / name / "a.png")
        message = refusal(load, name)
        assert f"./{name}" in message
        assert "from another folder" in message
        assert open_split(f"./{name}").shape == (4, 3, 1)
    assert load(Name("digits"))[0].shape == (8, 8, 1)  # as a run recorded it


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_too_few_examples_to_hold_some_out_are_refused_with_the_number_that_is_enough(empty, n):
    path = saved(empty / "a.npy", x=np.zeros((n, 2)))
    assert "give 6 examples or more" in refusal(load, path, usual_splits(path))
    path = saved(empty / "b.npy", x=np.zeros((6, 2)))
    assert [part.size for part in load(path, usual_splits(path))] == [4, 1, 1]


def test_a_format_that_is_not_read_by_position_says_so(empty):
    prepare("digits")
    (folder,) = Path(os.environ["AEJAX_CACHE"]).glob("data_sets/digits/*")
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in folder.glob("*.array_record-*"):
        path.rename(str(path).replace("array_record", "tfrecord"))
    assert "tfrecord" in next(line for line in available() if line.name == "digits").note
    load("digits")  # from the cache
    assert "array_record" in refusal(prepare, "digits")


def test_what_only_tensorflow_prepares_says_so(empty, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'aejax[tf]'" in refusal(load, "cifar10")


def test_other_prepared_data_sets_are_read(empty):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Ramp(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {
                    "signal": tfds.features.Tensor(shape=(5,), dtype=np.float64),
                    "side": tfds.features.ClassLabel(names=["left", "right"]),
                    "weight": tfds.features.Scalar(dtype=np.int64),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples(0, 8), "extra": self._generate_examples(8, 11)}

            def _generate_examples(self, start, stop):
                for i in range(start, stop):
                    yield i, {"signal": np.full(5, i, np.float64), "side": i % 2, "weight": i}

    builder = Ramp(data_dir=os.environ["TFDS_DATA_DIR"], file_format="array_record")
    builder.download_and_prepare()
    train, extra = load("ramp", ("train", "extra"))
    assert (train.shape, train.classes, extra.size) == ((5,), ("left", "right"), 3)
    np.testing.assert_array_equal(extra.arrays["x"], np.repeat([[8], [9], [10]], 5, axis=1).astype(np.float32))
    np.testing.assert_array_equal(extra.arrays["label"], [0, 1, 0])
    assert ("ramp", (5,), {"train": 8, "extra": 3}, True, "") in available()


def test_fashion_mnist_without_network_says_which_files_go_where(empty, monkeypatch):
    def unreachable(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    message = refusal(load, "fashion_mnist")
    assert str(Path(os.environ["TFDS_DATA_DIR"]) / "downloads" / "manual") in message
    assert "train-images-idx3-ubyte.gz" in message
    line = next(line for line in available() if line.name == "fashion_mnist")
    assert line.sizes == {"train": 60000, "test": 10000}
    assert not line.prepared


@pytest.fixture
def fashion_files():
    if "AEJAX_TEST_FASHION_MNIST" not in os.environ:
        pytest.skip("AEJAX_TEST_FASHION_MNIST is not set to the folder of the four original files")
    return sorted(Path(os.environ["AEJAX_TEST_FASHION_MNIST"]).glob("*-ubyte.gz"))


def by_hand(folder):
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("splits", [("test",), pytest.param(("train", "test"), marks=pytest.mark.slow)])
def test_fashion_mnist_is_known(empty, fashion_files, monkeypatch, splits):
    fashion_mnist = importlib.import_module("aejax.data.sets.fashion_mnist")
    monkeypatch.setattr(fashion_mnist, "_FILES", {split: fashion_mnist._FILES[split] for split in splits})
    manual = by_hand(Path(os.environ["TFDS_DATA_DIR"]) / "downloads" / "manual")
    for path in fashion_files:
        (manual / path.name).symlink_to(path)
    # Pixels' means and deviations: those of the training split are what the literature normalizes with.
    known = {"train": (6000, [0.2860, 0.3530]), "test": (1000, [0.2868, 0.3524])}
    for split, data in zip(splits, load("fashion_mnist", splits)):
        of_each_class, moments = known[split]
        assert data.shape == (28, 28, 1)
        assert data.arrays["x"].dtype == np.uint8
        assert data.classes[0] == "T-shirt/top"
        assert data.classes[9] == "Ankle boot"
        assert np.bincount(data.arrays["label"]).tolist() == [of_each_class] * 10
        x = data.arrays["x"].astype(np.float32) / np.float32(255)
        np.testing.assert_allclose([x.mean(dtype=np.float64), x.std(dtype=np.float64)], moments, atol=5e-5)
        start = time.perf_counter()
        batches_at(data, 0, 0, 128, 50)
        assert time.perf_counter() - start < 1  # a gather, not a decoding
    assert next(line for line in available() if line.name == "fashion_mnist").prepared


def test_damaged_fashion_mnist_files_are_refused(empty, fashion_files):
    manual = by_hand(Path(os.environ["TFDS_DATA_DIR"]) / "downloads" / "manual")
    for path in fashion_files:
        (manual / path.name).write_bytes(path.read_bytes() + b"more")
    assert "checksum" in refusal(load, "fashion_mnist")


# Data sets by path


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float16, np.float32, np.float64])
def test_arrays_are_held_as_stored_or_as_float32(empty, suffix, dtype):
    x = (255 * np.random.default_rng(0).integers(0, 2, (30, 4, 4))).astype(dtype)
    path = saved(empty / f"a{suffix}", x=x)
    data = open_split(path)
    assert data.arrays["x"].dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)
    np.testing.assert_array_equal(data.arrays["x"], x)
    assert (data.shape, data.size, data.classes, data.name) == ((4, 4), 30, None, path)


@pytest.mark.parametrize("size", [2, 9, 25, 1500])
def test_a_tenth_of_a_path_without_splits_is_its_test_split(empty, size):
    path = saved(empty / "a.npz", x=np.arange(size, dtype=np.float32)[:, None], y=np.arange(size) % 3)
    train, test, every = load(path, ("train", "test", "all"))
    assert test.size == max(1, round(size / 10))
    assert (np.diff(every.arrays["x"][:, 0]) > 0).all()  # in the order of the file
    together = np.concatenate([train.arrays["x"], test.arrays["x"]])
    np.testing.assert_array_equal(np.sort(together, axis=0), every.arrays["x"])
    for part in (train, test, every):
        np.testing.assert_array_equal(part.arrays["label"], part.arrays["x"][:, 0] % 3)
        assert part.classes == tuple(map(str, range(min(size, 3))))


def test_one_example_is_enough_to_encode(empty):
    path = saved(empty / "one.npy", x=np.ones((1, 3)))
    assert open_split(path).size == 1
    assert "all" in refusal(load, path)


@pytest.mark.parametrize("label", ["y", "label"])
def test_an_npz_may_have_splits_of_its_own(empty, label):
    arrays = {"x_train": np.ones((6, 2)), "x_test": np.zeros((3, 2)), "x_dev": np.full((2, 2), 5.0)}
    arrays |= {name.replace("x", label): np.arange(len(x), dtype=np.int64) for name, x in arrays.items()}
    path = saved(empty / "a.npz", **arrays)
    for split, size in {"train": 6, "test": 3, "dev": 2, "all": 11}.items():
        (data,) = load(path, (split,))
        assert data.size == size
        assert data.classes == tuple("012345")
    assert open_split(f"{path}:test[1:]").size == 2
    assert open_split(path).size == 11


# What is given as a path, and validation splits of one's own


def test_a_path_object_is_that_path_whatever_it_is_called(empty, digits, monkeypatch):
    """Not the data set, nor the file elsewhere, that has its last word for a name."""
    monkeypatch.chdir(empty)
    painted(empty / "mine" / "digits" / "a.png")
    for name, width in (("digits.npy", 5), ("mine/digits.npy", 3), ("mine/digits.npz", 4)):
        saved(empty / name, x=np.zeros((20, width), np.float32))
    for path, shape in (("digits.npy", (3,)), ("digits.npz", (4,)), ("digits", (4, 3, 1))):
        for given in (Path("mine", path), (empty / "mine" / path)):
            for data in (given, ReadAs(stream=True, data=given)) if path != "digits.npz" else (given,):
                assert load(data, ("all",))[0].shape == shape
    monkeypatch.chdir("mine")
    assert load(Path("digits"), ("all",))[0].shape == (4, 3, 1)
    assert open_split(Path("digits")).shape == (4, 3, 1)
    assert "there is no file or folder" in refusal(load, Path("emnist"))


@pytest.mark.parametrize("data", [[1, 2], None, 3, b"digits"])
def test_what_is_no_name_and_no_path_and_no_array_is_refused_by_its_type(data):
    assert type(data).__name__ in refusal(load, data)
    assert type(data).__name__ in refusal(open_split, data)


@pytest.mark.parametrize("name", VALIDATION)
def test_a_validation_split_of_ones_own_is_used(empty, name):
    parts = {"train": 30, name: 7, "test": 5}
    saved(empty / "v.npz", **{f"x_{split}": np.full((n, 2), n, np.float32) for split, n in parts.items()})
    for split, n in parts.items():
        for i in range(n):
            painted(empty / "images" / split / f"{i}.png", value=n)
    for data in (f"{empty}/v.npz", f"{empty}/images", ReadAs(stream=True, data=f"{empty}/images")):
        splits = usual_splits(data)
        assert [len(take(part, np.arange(part.size))["x"]) for part in load(data, splits)] == [30, 7, 5]
    again = recorded(describe(load(f"{empty}/v.npz", usual_splits(f"{empty}/v.npz"))))
    assert usual_splits(again) == ("train", name, "test")


def test_where_there_is_none_the_end_of_train_validates(empty):
    saved(empty / "x.npz", x_train=np.zeros((10, 2)), x_test=np.zeros((2, 2)))
    saved(empty / "x.npy", x=np.zeros((10, 2)))
    painted(empty / "images" / "a.png")
    for data in ("x.npz", "x.npy", "images"):
        assert usual_splits(empty / data) == ("train[:90%]", "train[90%:]", "test")


@pytest.mark.parametrize("suffix", ["", "_train"])
def test_labels_that_are_years_or_codes_are_numbered_and_keep_their_names(empty, suffix):
    years = np.array([20_241_231, 3_000_000_000, 20_241_231, 17] * 5)
    arrays = {f"x{suffix}": np.zeros((20, 2)), f"label{suffix}": years}
    (data,) = load(saved(empty / "a.npz", **arrays), ("all",))
    assert data.classes == ("17", "20241231", "3000000000")
    labels = take(data, np.arange(20))["label"]
    assert [data.classes[label] for label in labels] == [str(year) for year in years]


def test_labels_that_are_small_numbers_stay_as_they_are(empty):
    (data,) = load(saved(empty / "a.npz", x=np.zeros((4, 2)), label=np.array([0, 5, 5, 2])), ("all",))
    assert data.classes == tuple("012345")
    np.testing.assert_array_equal(take(data, np.arange(4))["label"], [0, 5, 5, 2])


def test_labels_that_tell_examples_and_not_classes_are_refused(empty):
    n = MOST_CLASSES + 1
    assert f"{n} different values" in refusal(
        load, saved(empty / "a.npz", x=np.zeros((n, 1)), label=np.arange(n)), ("all",)
    )


def test_labels_may_be_a_column_or_strings_or_numbers_with_names(empty):
    x, number = np.zeros((12, 2)), np.arange(12) % 3
    names = np.array(["ant", "bee", "cat"])
    for labels, classes in (
        ({"y": number[:, None]}, ("0", "1", "2")),
        ({"label": names[number]}, ("ant", "bee", "cat")),
        ({"label": number, "label_names": names}, ("ant", "bee", "cat")),
    ):
        path = saved(empty / f"{len(list(empty.iterdir()))}.npz", x=x, **labels)
        (data,) = load(path, ("all",))
        assert data.classes == classes
        np.testing.assert_array_equal(data.arrays["label"], number)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.eye(12)}, "label.argmax(1)"),
        ({"y": np.zeros(12)}, "label.astype(int)"),
        ({"y": np.zeros(12, int), "label_names": np.array(["a"]), "label": np.ones(12, int)}, "2 strings"),
        ({"label_names": np.array(["a"])}, "no labels"),
        ({"factor_names": np.array(["a"])}, "no factors"),
        ({"factors": np.zeros((12, 2), int), "factor_names": np.array(["a"])}, "2 strings"),
        ({"factors": np.zeros((12, 2))}, "whole numbers"),
        ({"factors": np.full((12, 2), -1)}, "whole numbers"),
        ({"factors": np.zeros(12, int)}, "[12, factors]"),
        ({"labels": np.zeros(12, int)}, "labels"),
        ({"X_test": np.zeros((3, 2))}, "X_test"),
        ({"train_x": np.zeros((3, 2))}, "train_x"),
        ({"mask": np.ones((12, 2), bool)}, "mask"),
    ],
)
def test_what_belongs_to_examples_fits_or_is_refused(empty, arrays, words):
    assert words in refusal(open_split, saved(empty / "a.npz", x=np.zeros((12, 2)), **arrays))


def test_factors_and_their_names_are_those_of_the_file(empty):
    factors = np.stack([np.arange(20) % 4, np.arange(20) % 5], axis=1)
    x = factors.astype(np.float32)
    path = saved(empty / "a.npz", x=x, factors=factors, factor_names=np.array(["shape", "size"]))
    for part in load(path):
        assert part.factors == ("shape", "size")
        np.testing.assert_array_equal(part.arrays["factors"], part.arrays["x"])
    path = saved(empty / "b.npz", x_train=x, x_test=x[:5], factors_train=factors, factors_test=factors[:5])
    assert load(path)[1].factors == ("0", "1")


def test_other_arrays_are_passed_over_and_said_to_be(empty):
    path = saved(
        empty / "a.npz", x_train=np.zeros((12, 2)), x_test=np.zeros((3, 2)), x_odd=np.zeros((3, 2)), noise=np.ones(3)
    )
    assert load(path)[0].found.passed_over == {"array noise": 1, "split odd": 1}
    assert load(path, ("all",))[0].found.passed_over == {"array noise": 1}


class Frame:
    """A table as pandas has it, as far as it is looked at."""

    def __init__(self, **columns):
        self.columns, self.held = list(columns), columns

    def __getitem__(self, name):
        return self.held[name]

    def to_numpy(self):
        return np.stack(list(self.held.values()), axis=1)


def test_data_in_memory_are_what_they_would_be_from_a_file(empty):
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 3)).astype(np.float32), np.arange(30) % 3
    path = saved(empty / "a.npz", x=x, label=y)
    splits = ("train[:90%]", "test", "all")
    for given in ((x, y), {"x": x, "y": y}, (jnp.asarray(x), jnp.asarray(y)), (x.astype(np.float64), y)):
        for mine, filed in zip(load(given, splits), load(path, splits)):
            assert mine._replace(name="", arrays=None) == filed._replace(name="", arrays=None)
            for name, array in filed.arrays.items():
                np.testing.assert_array_equal(mine.arrays[name], array)
    table = Frame(a=x[:, 0], b=x[:, 1], c=x[:, 2])
    np.testing.assert_array_equal(open_split(table).arrays["x"], x)
    assert "b" in refusal(load, Frame(a=x[:, 0], b=np.array(["word"] * 30)))
    assert "length [n]" in refusal(load, np.array([np.zeros(2), np.zeros(3)], dtype=object))
    assert "int64" in refusal(load, np.zeros((30, 3), np.int64))
    assert "nan" in refusal(load, np.full((30, 3), np.nan))


def test_a_large_array_is_cached_in_pieces_that_join(empty):
    x = np.asfortranarray(np.random.default_rng(0).random((2500, 3), np.float32))
    np.testing.assert_array_equal(open_split(saved(empty / "a.npy", x=x)).arrays["x"], x)


def broken(x, position, value):
    x = np.array(x, np.float64)
    x[position] = value
    return x


@pytest.mark.parametrize(
    ("name", "arrays", "words"),
    [
        ("a.npy", {"x": broken(np.zeros((2000, 3)), (1500, 2), np.nan)}, ["nan", "[1500, 2]", "replace"]),
        ("a.npy", {"x": broken(np.zeros((5, 2, 2)), (3, 1, 0), -np.inf)}, ["-inf", "[3, 1, 0]"]),
        ("a.npy", {"x": broken(np.zeros((5, 2)), (3, 1), 1e300)}, ["inf", "[3, 1]", "float32"]),
        ("a.npz", {"x": broken(np.zeros((5, 2)), (3, 1), np.nan)}, ["nan", "[3, 1]"]),
        ("a.npy", {"x": np.zeros((0, 3))}, ["empty"]),
        ("a.npz", {"x": np.zeros((4, 0))}, ["empty"]),
        ("a.npy", {"x": np.zeros(4)}, ["(4,)", "[n, 1]"]),
        ("a.npy", {"x": np.zeros((), np.float32)}, ["()"]),
        ("a.npy", {"x": np.array([[{}]])}, ["object"]),
        ("a.npz", {"x": np.array([[{}]])}, ["object"]),
        ("a.npz", {"x": np.zeros((4, 2)), "label": np.array([None] * 4)}, ["object"]),
        ("a.npy", {"x": np.zeros((4, 2), np.int64)}, ["int64", "float32", "uint8"]),
        ("a.npy", {"x": np.zeros((4, 2), np.complex64)}, ["complex64"]),
        ("a.npy", {"x": np.zeros((4, 2), "f4,i4")}, ["dtype"]),
        ("a.npz", {"x": np.zeros((4, 2)), "label": np.zeros(3, int)}, ["4", "(3,)"]),
        ("a.npz", {"x": np.zeros((4, 2)), "label": np.zeros((4, 10), int)}, ["(4, 10)"]),
        ("a.npz", {"x": np.zeros((4, 2)), "label": np.zeros(4)}, ["float64"]),
        ("a.npz", {"x": np.zeros((4, 2)), "label": np.array([0, 1, -1, 0])}, ["-1"]),
        ("a.npz", {"images": np.zeros((4, 2))}, ["images", "x_train"]),
        ("a.npz", {"x": np.zeros((4, 2)), "x_test": np.zeros((4, 2))}, ["x_test"]),
        ("a.npz", {"x_train": np.zeros((4, 2)), "x_test": np.zeros((4, 3))}, ["x_train", "x_test", "[3]"]),
        ("a.npz", {"x_train": np.zeros((4, 2)), "x_test": np.zeros((4, 2), np.uint8)}, ["uint8"]),
        ("a.npz", {"x_train": np.zeros((4, 2)), "x_test": np.zeros((4, 2)), "y_train": np.zeros(4, int)}, ["test"]),
    ],
)
def test_arrays_that_cannot_be_held_are_refused(empty, name, arrays, words):
    message = refusal(open_split, saved(empty / name, **arrays))
    assert all(word in message for word in [name, *words]), message
    assert not list((empty.parent / "cache" / "data").glob("*/*")), "a refused split left something in the cache"


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00junk", b"PK\x03\x04junk"])
def test_files_that_are_no_arrays_are_refused(empty, name, content):
    (empty / name).write_bytes(content)
    assert name in refusal(open_split, str(empty / name))


def test_missing_files_and_splits_are_refused(empty, monkeypatch):
    monkeypatch.chdir(empty)
    saved(empty / "a.npy", x=np.zeros((4, 2)))
    for missing in ("b.npy", "./nowhere", "/nowhere/at/all", "b.npz:train"):
        assert missing.partition(":")[0].removeprefix("./") in refusal(open_split, missing)
    assert "train, test, all" in refusal(open_split, "a.npy:validation")
    assert "empty" in refusal(open_split, "a.npy:train[2:2]")
    assert open_split("a.npy:train[:1]").size == 1
    assert "b.npy" in refusal(load, "b.npy")


@pytest.mark.parametrize(
    ("mode", "value", "shape", "dtype"),
    [
        ("L", 7, (4, 3, 1), np.uint8),
        ("RGB", (1, 2, 3), (4, 3, 3), np.uint8),
        ("RGBA", (1, 2, 3, 4), (4, 3, 4), np.uint8),
        ("1", 1, (4, 3, 1), np.bool_),
        ("P", 0, (4, 3, 3), np.uint8),
    ],
)
def test_a_folder_of_images(empty, mode, value, shape, dtype):
    for i in range(3):
        painted(empty / f"{i}.png", mode=mode, value=value)
    painted(empty / ".hidden.png", size=(9, 9))
    (empty / "notes.txt").write_text("no image")
    data = open_split(str(empty))
    assert (data.shape, data.size, data.classes) == (shape, 3, None)
    assert data.arrays["x"].dtype == dtype
    if mode != "P":
        assert (data.arrays["x"] == np.array(value, dtype)).all()


def test_class_folders_are_labels_and_train_and_test_are_splits(empty):
    for i, (split, name) in enumerate(
        [("train", "cat"), ("train", "ant"), ("train", "cat"), ("test", "bee"), ("test", "ant")]
    ):
        painted(empty / split / name / f"{i}.PNG", value=i)
    train, test, every = load(str(empty), ("train", "test", "all"))
    assert train.classes == test.classes == every.classes == ("ant", "bee", "cat")
    for part, expected in ((train, {1: 0, 0: 2, 2: 2}), (test, {4: 0, 3: 1})):
        assert dict(zip(part.arrays["x"][:, 0, 0, 0].tolist(), part.arrays["label"].tolist())) == expected
    np.testing.assert_array_equal(every.arrays["label"], [0, 2, 2, 0, 1])
    cats = open_split(str(empty / "train"))  # no splits inside: all of it, with the classes that are there
    assert (cats.size, cats.classes) == (3, ("ant", "cat"))


def test_images_that_cannot_be_held_are_refused(empty):
    painted(empty / "sizes" / "a.png")
    painted(empty / "sizes" / "b.png", size=(5, 6))
    message = refusal(open_split, str(empty / "sizes"))
    assert all(word in message for word in ("a.png", "3x4", "b.png", "5x6"))
    painted(empty / "modes" / "a.png")
    painted(empty / "modes" / "b.png", mode="RGB", value=(1, 2, 3))
    message = refusal(open_split, str(empty / "modes"))
    assert all(word in message for word in ("a.png", "3x4 L", "b.png", "3x4 RGB"))
    painted(empty / "mixed" / "a.png")
    painted(empty / "mixed" / "cat" / "b.png")
    assert "class folders" in refusal(open_split, str(empty / "mixed"))
    (empty / "none").mkdir()
    assert "no images" in refusal(open_split, str(empty / "none"))
    painted(empty / "half" / "train" / "a.png")
    (empty / "half" / "test").mkdir()
    assert "test" in refusal(load, str(empty / "half"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(empty, suffix, orientation):
    """Of two colors, on the left and on the right: where they come to lie is that of Pillow's own turning."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(empty / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(empty / f"a.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    (data,) = load(f"{empty}/", ("all",))
    assert data.shape == ((32, 16, 3) if orientation > 4 else (16, 32, 3))
    np.testing.assert_array_equal(take(data, np.arange(1))["x"][0], expected.astype(np.float32) / 255)


def test_a_palette_with_a_transparent_color_keeps_it(empty):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    image.save(empty / "a.png", transparency=0)
    (data,) = load(f"{empty}/", ("all",))
    assert data.shape == (4, 4, 4)
    np.testing.assert_array_equal(data.arrays["x"][0, 0, :2], [[10, 20, 30, 0], [40, 50, 60, 255]])


def sixteen_bits():
    """A PNG of 2x2 pixels, RGB, 16 bits a channel: Pillow reads such files, and writes none."""
    part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + np.full(6, 200, ">u2").tobytes()) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


@pytest.mark.parametrize("stream", [False, True])
def test_what_would_be_dropped_of_an_image_is_refused_by_the_files_name(empty, stream):
    pages = [Image.new("L", (4, 4), i) for i in range(3)]
    pages[0].save(empty / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(empty / "frames.gif", save_all=True, append_images=pages[1:])
    (empty / "deep.png").write_bytes(sixteen_bits())
    Image.new("RGB", (4, 4)).save(empty / "key.png", transparency=(0, 0, 0))
    Image.new("1", (15_000, 15_000)).save(empty / "huge.png")
    for name, words in {
        "pages.tif": "holds 3 images",
        "frames.gif": "holds 3 images",
        "deep.png": "16 bits",
        "key.png": "transparent",
        "huge.png": "pixels",
    }.items():
        folder = empty / Path(name).stem
        folder.mkdir()
        (empty / name).rename(folder / name)
        message = refusal(load, ReadAs(stream=True, data=f"{folder}/") if stream else f"{folder}/", ("all",))
        assert name in message
        assert words in message


@pytest.mark.parametrize("damage", ["truncated", "text", "nothing"])
def test_a_broken_image_is_named(empty, damage):
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(empty / f"{i}.png")
    good = (empty / "1.png").read_bytes()
    (empty / "1.png").write_bytes({"truncated": good[: len(good) // 2], "text": b"text", "nothing": b""}[damage])
    assert "1.png" in refusal(open_split, str(empty))


# The cache


@pytest.mark.parametrize(
    "damage", ["truncate x.npy", "remove label.npy", "remove meta.json", "empty meta.json", "other x.npy"]
)
def test_a_damaged_cache_entry_is_made_again(empty, damage):
    path = saved(empty / "a.npz", x=np.random.default_rng(0).random((20, 3)), y=np.arange(20))
    before = open_split(path)
    (folder,) = (empty.parent / "cache" / "data").glob("*/all")
    verb, name = damage.split()
    if verb == "truncate":
        (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    elif verb == "remove":
        (folder / name).unlink()
    elif verb == "empty":
        (folder / name).write_text("")
    else:
        np.save(folder / name, np.zeros((20, 3)))
    after = open_split(path)
    assert after.fingerprint == before.fingerprint == cache.fingerprint_of(after.arrays)
    assert sorted(file.name for file in folder.iterdir()) == ["label.npy", "meta.json", "x.npy"]
    assert [file.name for file in folder.parent.iterdir()] == ["all"]


def test_a_changed_file_is_read_anew(empty):
    path = saved(empty / "a.npy", x=np.zeros((5, 2)))
    before = open_split(path)
    saved(empty / "a.npy", x=np.ones((6, 2)))
    after = open_split(path)
    assert after.size == 6
    assert after.fingerprint != before.fingerprint
    assert (before.arrays["x"] == 0).all()


def test_a_split_is_there_whole_or_not_at_all(empty):
    def fails_halfway(positions):
        if positions[0] > 0:
            raise RuntimeError("power cut")
        return {"x": np.zeros((len(positions), 2), np.float32)}

    folder = cache.folder_of("a", "b", "train")
    with pytest.raises(RuntimeError, match="power cut"):
        cache.make_entry(folder, Reader(5000, None, fails_halfway), "a")
    assert cache.open_entry(folder) is None
    assert list(folder.parent.iterdir()) == []


def test_those_who_race_read_the_same(empty):
    path = saved(empty / "a.npy", x=np.random.default_rng(0).random((4000, 10)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_split(path), range(16)))
    assert len({data.fingerprint for data in found}) == 1
    assert all(data.fingerprint == cache.fingerprint_of(data.arrays) for data in found)
    (folder,) = (empty.parent / "cache" / "data").iterdir()
    assert [file.name for file in folder.iterdir()] == ["all"]


def test_a_cache_that_cannot_be_written_is_named(empty, monkeypatch):
    (empty / "file").write_text("")
    monkeypatch.setenv("AEJAX_CACHE", str(empty / "file"))
    assert "AEJAX_CACHE" in refusal(open_split, saved(empty / "a.npy", x=np.zeros((4, 2))))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AEJAX_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c/data"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/aejax/data"),
        ({"HOME": "/h"}, "/h/.cache/aejax/data"),
    ],
)
def test_where_the_cache_lies(monkeypatch, variables, expected):
    for name in ("AEJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache.folder_of("digits", "", "train").parent.parent) == expected


# What a run records


def test_a_record_stands_for_the_data(digits):
    specs = ("train[:90%]", "train[90%:]", "test")
    datasets = load(digits, specs)
    record = recorded(json.loads(json.dumps(describe(datasets))))
    assert record.name == "digits"
    rebuilt = load(record, specs)
    assert rebuilt == tuple(data._replace(arrays=None) for data in datasets)
    assert describe(rebuilt) == describe(datasets)
    assert "train[:80%]" in refusal(load, record, ("train[:80%]",))
    assert "without its data" in refusal(batch_at, rebuilt[0], 0, 0, 4)


def test_a_record_without_labels(empty):
    datasets = load(saved(empty / "a.npy", x=np.zeros((20, 2))))
    assert load(recorded(describe(datasets))) == tuple(data._replace(arrays=None) for data in datasets)


def test_a_record_is_of_one_data_set(digits, empty):
    other = open_split(saved(empty / "a.npy", x=np.zeros((20, 2))))
    assert "a.npy" in refusal(describe, (counting(3), other))


def test_a_slice_of_a_source_sorted_by_class_holds_every_class(empty):
    x = np.repeat(np.arange(10, dtype=np.float32) / 10, 40)[:, None] * np.ones((1, 3), np.float32)
    label = np.repeat(np.arange(10), 40)
    np.savez(empty / "one.npz", x=x, label=label)
    np.savez(empty / "two.npz", x_train=x, label_train=label, x_test=x, label_test=label)
    for name in ("one.npz", "two.npz"):
        for part in load(str(empty / name), ("train[:90%]", "train[90%:]", "test")):
            assert len(np.unique(part.arrays["label"])) == 10
            np.testing.assert_allclose(part.arrays["x"][:, 0] * 10, part.arrays["label"], rtol=1e-5)
    whole = open_split(str(empty / "one.npz"))
    np.testing.assert_array_equal(whole.arrays["label"], label)  # as in the file, so that codes can be matched to it
