"""Streamed data: the same examples in the same order as in memory, to the bit, and no more of them held than is said."""

import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from aejax.data import (
    ReadAs,
    as_recorded_source,
    batch_at,
    batch_loader,
    batches_at,
    describe,
    eval_batches,
    has_data,
    load,
    open_split,
    prepare,
    recorded,
    take,
)
from aejax.data import batches as feeds
from aejax.evaluation import evaluate
from aejax.keys import run_keys
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.reports.pictures import some_of_each_class
from aejax.runs.checkpoint import digest
from aejax.runs.run import Run
from aejax.training.step import Layout, init_state, make_runner
from aejax.training.trainer import train
from aejax.types import Dataset, Experiment
from tiny import refusal

loading = sys.modules["aejax.data.loading"]  # the function of that name hides it

SPLITS = ("train", "test", "all", "train[:90%]", "train[90%:]", "test[1:3]")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A TFDS data dir and a cache that the tests of this file share."""
    return {name: str(tmp_path_factory.mktemp(name.lower())) for name in ("TFDS_DATA_DIR", "AEJAX_CACHE")}


@pytest.fixture(autouse=True)
def folders(prepared, monkeypatch):
    for name, value in prepared.items():
        monkeypatch.setenv(name, value)


def photographed(folder: Path, size=(6, 5), mode="RGB"):
    """A folder of images with class folders and without splits."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = folder / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).convert(mode).save(path)
    return str(folder)


def divided(folder: Path):
    """A folder of images with splits."""
    photographed(folder / "train")
    photographed(folder / "test", mode="RGB")
    return str(folder)


def stored(folder: Path, dtype=np.float64):
    path = folder / "a.npy"
    np.save(path, np.random.default_rng(0).uniform(0, 255, (50, 3, 2)).astype(dtype))
    return str(path)


SOURCES = {
    "digits": lambda folder: "digits",
    "folder": photographed,
    "folder with splits": divided,
    "float64": stored,
    "uint8": lambda folder: stored(folder, np.uint8),
    "bool": lambda folder: stored(folder, np.bool_),
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return SOURCES[request.param](folder)


def same(a, b):
    assert a.keys() == b.keys()
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype
        np.testing.assert_array_equal(leaf, b[name])


def wide(size=1000, shape=(64, 64, 4), read=None):
    """A streamed data set of large examples: example i is filled with i."""

    def of_positions(positions):
        return {"x": np.broadcast_to(positions.reshape(-1, 1, 1, 1), (len(positions), *shape)).astype(np.float32)}

    return Dataset("wide:all", shape, size, None, "files:", None, read or of_positions)


def feeding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain")]


def wait_for_threads():
    gc.collect()
    until = time.monotonic() + 5
    while feeding_threads() and time.monotonic() < until:
        time.sleep(0.01)
    return feeding_threads()


# The same as in memory


def test_a_stream_is_what_lies_in_memory(source):
    for held, read in zip(load(source, SPLITS), load(ReadAs(stream=True, data=source), SPLITS), strict=True):
        assert held.arrays is not None
        assert read.arrays is None
        assert read[:4] == held[:4]  # name, shape, size, classes
        same(take(read, np.arange(read.size)), take(held, np.arange(held.size)))
        for share in ((0, 1), (1, 2)):
            same(batches_at(read, 3, 5, 8, 4, share), batches_at(held, 3, 5, 8, 4, share))
        for (a, a_valid), (b, b_valid) in zip(eval_batches(read, 7), eval_batches(held, 7), strict=True):
            assert a_valid == b_valid
            same(a, b)


def test_positions_come_in_any_order_and_shape(source):
    for held, read in zip(load(source, SPLITS), load(ReadAs(stream=True, data=source), SPLITS), strict=True):
        positions = np.random.default_rng(1).integers(0, held.size, (3, 4))
        same(take(read, positions), take(held, positions))


def test_a_run_ends_in_the_same_digest():
    held, read = (load(data, ("train[:90%]",))[0] for data in ("digits", ReadAs(stream=True, data="digits")))
    model = autoencoder(MLP((), 8), MLP((), held.shape), bernoulli(), corrupt=masking(0.3))
    optimizer = optax.sgd(1e-3)
    run_step = make_runner(model, optimizer, Layout(), 64)
    keys = run_keys(0)
    first = jax.tree.map(np.asarray, init_state(model, optimizer, keys.init, batch_at(held, 0, 0, 64)))

    def trained(data, stretches):
        state, next_batches = first, batch_loader(data, 0, 0, 64)
        for n in stretches:
            batches = {name: np.resize(leaf, (10, *leaf.shape[1:])) for name, leaf in next_batches(n).items()}
            state, _ = run_step(state, keys.run, batches, np.int32(n))
        return digest(state.params, state.extras)

    assert trained(read, [10, 10, 10]) == trained(held, [10, 10, 10]) == trained(read, [3, 7, 10, 1, 9])


def test_a_streamed_run_is_evaluated_as_one_in_memory(tmp_path):
    held, read = (load(data, ("train[:10%]", "test[:80%]")) for data in ("digits", ReadAs(stream=True, data="digits")))
    model = autoencoder(MLP((), 4), MLP((), (8, 8, 1)), bernoulli(), corrupt=masking(0.3))
    run = train(Experiment(model, optax.sgd(1e-3), *held, 32, 1, 0), tmp_path / "run")
    streaming = Run(run.directory, run.config, run.experiment._replace(train=read[0], test=read[1]), run.state)
    assert evaluate(streaming) == evaluate(run)
    for _, test_set in (held, read):
        shown, _ = some_of_each_class(test_set)
        assert take(test_set, shown)["label"].tolist() == list(range(10))


def test_only_the_first_of_a_large_streamed_split_are_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr("aejax.evaluation.baselines.STREAMED_EXAMPLES", 50)
    monkeypatch.setattr("aejax.data.batches.STREAMED_EXAMPLES", 50)
    train_set, test_set = load(ReadAs(stream=True, data="digits"), ("train[:10%]", "test[:80]"))
    model = autoencoder(MLP((), 4), MLP((), train_set.shape), bernoulli())
    run = train(Experiment(model, optax.sgd(1e-3), train_set, test_set, 32, 1, 0), tmp_path / "run")
    result = evaluate(run)
    assert result["examples"] == 50
    assert result["data"] == "digits:test[:80], the first 50"
    mse = np.mean((run.reconstruct(take(test_set, np.arange(50))["x"]) - take(test_set, np.arange(50))["x"]) ** 2)
    assert result["reconstruction"]["model"]["mse"] == pytest.approx(mse, rel=1e-4)


# Which data sets are streamed


def test_what_is_larger_than_the_bound_is_streamed_and_never_cached(source, tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    whole = open_split(f"{source}:all") if source == "digits" else open_split(source)
    size = sum(array.nbytes for array in whole.arrays.values())
    cached = {path for path in (tmp_path / "cache" / "data").rglob("*") if path.is_file()}
    for path in cached:
        path.unlink()
    monkeypatch.setattr(loading, "STREAM_BYTES", size - 1)
    before = load(source, SPLITS) + prepare(source)
    assert all(data.read is not None for data in before)
    assert not [path for path in (tmp_path / "cache" / "data").rglob("*") if path.is_file()]
    monkeypatch.setattr(loading, "STREAM_BYTES", size)
    assert all(data.arrays is not None for data in load(source, SPLITS))


def test_what_is_not_read_by_position_is_decoded_or_refused(tmp_path, monkeypatch):
    x = np.arange(40.0).reshape(20, 2)
    np.save(tmp_path / "columns.npy", np.asfortranarray(x))
    np.savez(tmp_path / "a.npz", x=x)
    monkeypatch.setattr(loading, "STREAM_BYTES", 0)
    for name in ("columns.npy", "a.npz"):
        assert open_split(str(tmp_path / name)).arrays is not None
        message = refusal(load, ReadAs(stream=True, data=str(tmp_path / name)))
        assert name in message
        assert ".npy, in C order" in message


def test_a_record_says_that_it_was_streamed(source):
    held, read = load(source), load(ReadAs(stream=True, data=source))
    for datasets, streamed in ((held, False), (read, True)):
        record = json.loads(json.dumps(describe(datasets)))
        assert record["streamed"] == streamed
        again = as_recorded_source(record, source)
        assert again == (ReadAs(stream=True, data=source) if streamed else source)
        assert describe(load(again)) == describe(load(recorded(record))) == record
        assert not any(map(has_data, load(recorded(record))))
    assert all(map(has_data, held + read))


def test_fingerprints_tell_files_and_slices_apart(tmp_path):
    def fingerprints(data, splits=("train", "train[:50%]", "test", "all")):
        return [data.fingerprint for data in load(ReadAs(stream=True, data=data), splits)]

    folder = photographed(tmp_path / "one")
    found = fingerprints(folder) + fingerprints("digits") + fingerprints(stored(tmp_path))
    assert len(set(found)) == len(found)
    assert all(fingerprint.startswith("files:") for fingerprint in found)
    assert fingerprints(photographed(tmp_path / "two")) == fingerprints(folder)  # wherever it lies
    assert fingerprints("digits", ("train[:719]",)) == fingerprints("digits", ("train[:50%]",))
    before = fingerprints(str(tmp_path / "a.npy"))
    stored(tmp_path, np.float32)
    assert fingerprints(str(tmp_path / "a.npy")) != before
    with (tmp_path / "two" / "a" / "00.png").open("ab") as file:
        file.write(b"one more comment")
    assert fingerprints(str(tmp_path / "two")) != fingerprints(folder)


# The feed


@pytest.mark.parametrize("data", ["digits", ReadAs(stream=True, data="digits")])
@pytest.mark.parametrize(("step", "share"), [(0, (0, 1)), (25, (0, 1)), (25, (2, 4)), (10_000, (1, 2))])
def test_a_feed_goes_on_from_any_step(data, step, share):
    (held,) = load("digits", ("train",))
    (given,) = load(data, ("train",))
    next_batches = batch_loader(given, 1, step, 64, share)
    for n in (1, 3, 20, 2):
        same(next_batches(n), batches_at(held, 1, step, 64, n, share))
        step += n


def test_shares_make_up_the_batch():
    (data,) = load("digits", ("train",))
    whole = batches_at(data, 0, 7, 24, 3)
    parts = [batches_at(data, 0, 7, 24, 3, (i, 4)) for i in range(4)]
    same({name: np.concatenate([part[name] for part in parts], axis=1) for name in whole}, whole)
    assert "multiple of 5" in refusal(batches_at, data, 0, 0, 24, 1, (0, 5))
    assert "multiple of 5" in refusal(batch_loader(data, 0, 0, 24, (0, 5)), 1)
    assert "multiple of 5" in refusal(batch_loader, load(ReadAs(stream=True, data="digits"))[0], 0, 0, 24, (0, 5))
    assert "seed -1" in refusal(batch_loader, load(ReadAs(stream=True, data="digits"))[0], -1, 0, 24)


def test_what_is_read_ahead_is_bounded(monkeypatch):
    example = 4 * math.prod((64, 64, 4))
    monkeypatch.setattr(feeds, "AHEAD_BYTES", 64 * example)
    monkeypatch.setattr(feeds, "PIECE_BYTES", 8 * example)
    rows, lock = [0], threading.Lock()

    def read(positions):
        with lock:
            rows[0] += len(positions)
        return wide().read(positions)

    data = wide(read=read)
    next_batches = batch_loader(data, 0, 0, 20)  # in pieces of 8, 8 and 4
    taken = 0
    for _ in range(5):
        same(next_batches(2), batches_at(wide(), 0, taken, 20, 2))
        taken += 2
        time.sleep(0.1)
        assert 0 < rows[0] - 20 * taken <= 64
    del next_batches
    assert wait_for_threads() == []


def test_a_feed_that_is_forgotten_ends_its_threads():
    (data,) = load(ReadAs(stream=True, data="digits"), ("train",))
    next_batches = batch_loader(data, 0, 0, 64)
    next_batches(3)
    assert feeding_threads()
    del next_batches
    assert wait_for_threads() == []


def test_a_process_ends_while_its_feed_is_reading(prepared):
    program = """
from aejax.data import ReadAs, batch_loader, load
next_batches = batch_loader(load(ReadAs(stream=True, data="digits"))[0], 0, 0, 64)
next_batches(2)
"""
    start = time.monotonic()
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert time.monotonic() - start < 30


def test_what_goes_wrong_in_a_thread_is_the_callers(tmp_path):
    folder = Path(photographed(tmp_path))
    (data,) = load(ReadAs(stream=True, data=str(folder)), ("train",))
    (folder / "a" / "02.png").write_bytes(b"text")
    next_batches = batch_loader(data, 0, 0, 9)
    assert "02.png" in refusal(lambda: [next_batches(1) for _ in range(5)])
    with pytest.raises(ValueError, match="closed"):  # and does not go on behind the gap
        next_batches(1)
    assert wait_for_threads() == []


def test_a_damaged_source_is_refused_when_it_is_read(tmp_path):
    x = np.random.default_rng(0).random((3000, 3), np.float32)
    x[1701, 1] = np.nan  # not among those that are looked at when it is opened
    np.save(tmp_path / "a.npy", x)
    (data,) = load(ReadAs(stream=True, data=str(tmp_path / "a.npy")), ("all",))
    message = refusal(take, data, np.array([3, 1701]))
    assert "nan" in message
    assert "[1701, 1]" in message
    take(data, np.array([3, 2999]))
    os.truncate(tmp_path / "a.npy", (tmp_path / "a.npy").stat().st_size - 4)
    assert "ends within example 2999" in refusal(take, data, np.array([3, 2999]))
    (tmp_path / "a.npy").unlink()
    assert "a.npy" in refusal(take, data, np.array([3]))


@pytest.mark.parametrize(("size", "mode", "words"), [((5, 6), "RGB", "6x5 RGB"), ((6, 5), "L", "5x6 L")])
def test_an_image_unlike_the_others_is_named_when_it_is_read(tmp_path, monkeypatch, size, mode, words):
    monkeypatch.setattr("aejax.data.images._LOOKED_AT", 3)
    monkeypatch.setattr("aejax.data.splits.LOOKED_AT", 1)
    folder = Path(photographed(tmp_path))
    Image.fromarray(np.zeros((*size, 3), np.uint8)).convert(mode).save(folder / "a" / "02.png")
    (data,) = load(ReadAs(stream=True, data=str(folder)), ("all",))
    take(data, np.array([0, 5]))
    message = refusal(take, data, np.arange(5))
    assert "02.png" in message
    assert words in message


def test_orders_are_kept_for_many_seeds_but_few_when_large(monkeypatch):
    from aejax.data import batches

    monkeypatch.setattr(batches, "_KEPT_BYTES", 10 * 8 * 100)
    for seed in range(20):
        batches._order(100, seed, 0)
    assert len(batches._orders) == 10
    for epoch in range(5):
        batches._order(10_000, 0, epoch)
        assert len(batches._orders) <= 10
    assert list(batches._orders) == [(10_000, 0, 3), (10_000, 0, 4)]
    assert batches._order(100, 3, 1)(np.arange(100)).tolist() == np.random.default_rng((3, 1)).permutation(100).tolist()
