"""Data sets from what a user gives: a name, a path, or data in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aejax.data import cache
from aejax.data.batches import take
from aejax.data.image_folder import image_folder
from aejax.data.kinds import doubt
from aejax.data.reading import ReadAs, read_as, scaling_of
from aejax.data.shards import shards_in
from aejax.data.sources import THE_ARRAY, Source, as_written, is_image_file, path_of, source_of
from aejax.data.splits import (
    Reader,
    Readers,
    Spec,
    all_as_stored,
    bounds,
    decoded_bytes,
    divide,
    fingerprint_of_files,
    parse,
    streamed,
)
from aejax.data.tables import TABLES, table_columns
from aejax.data.units import found_in
from aejax.errors import UsageError
from aejax.types import Dataset

STREAM_BYTES = 2 * 2**30
"""Data sets that take more bytes decoded are streamed. A constant, so that a data set is read the same way on every machine."""


VALIDATION = ("validation", "val", "valid", "dev")
"""Possible names of a validation split in a source."""


class Recorded(NamedTuple):
    """The record of data in config.json: enough to rebuild the experiment without the data."""

    name: str
    splits: Mapping[str, Dataset]
    """Requested split, e.g. `train[:90%]` -> data set without arrays."""


def load(data: Any, splits: tuple[str, ...] = ("train", "test"), **options: Any) -> tuple[Dataset, ...]:
    """Opens splits of a data set.

    A name is `digits`, `fashion_mnist` or another name of TFDS (`emnist/letters`). A path leads to a .npy, .npz, .csv, .tsv
    or .parquet file or a folder of images; it contains a `/`, starts with `.` or `~`, or has one of these suffixes. An
    `os.PathLike` is always a path, and a bare word is a path if no data set has that name. In memory, data are an array [n,
    ...] (NumPy, JAX, PyTorch), a table of numbers, a pair (x, label), or a mapping of arrays that are named as in a .npz (see
    `aejax.data.array_files.npz_readers`).

    Splits follow the slicing language of TFDS: `train`, `train[:90%]`, `train[100:200]`, `all`. Data without splits are split
    by a permutation of seed 0: a tenth is `test`, the rest `train`. The splits of a path are permuted, so that a slice of a
    source sorted by class holds every class; `all` keeps the order of the source.

    The first time, a split is decoded into the cache (`$AEJAX_CACHE`, else `$XDG_CACHE_HOME/aejax`, else `~/.cache/aejax`), and
    its arrays are memory-mapped from there. Data that take more than 2 GiB decoded, and data with `stream=True`, are not
    cached: their Datasets have `read` instead of `arrays`, with the same examples in the same order. A .npz, and a .npy in
    Fortran order, cannot be read by position and are always decoded.

    Args:
        data: A name, a path, data in memory, a `ReadAs` of one of these, or the record of a run.
        splits: Splits to open, in the order in which they are returned.
        options: How the data are read: `stream`, `image_size`, `image_channels`, `image_crop`, `standardize`, `missing`, as in
            `aejax.data.ReadAs`.

    Returns:
        One `Dataset` per split, with examples of one shape.

    Raises:
        UsageError: A name or split is unknown, a slice is empty, or the data cannot be used: not finite, of dtype object or of
            integers other than uint8, images that are broken or differ in size, labels that do not match. For streamed data
            these errors arise when an example is read.

    Example:
        >>> train, test = load((np.zeros((20, 3)), np.arange(20) % 2))
        >>> train.size, test.size, train.shape, train.classes
        (18, 2, (3,), ('0', '1'))
    """
    if isinstance(data, Recorded):
        return tuple(_from_record(data, spec) for spec in splits)
    reading = read_as(data, options)
    source = source_of(as_written(reading.data), reading)
    datasets = tuple(_dataset(source, spec, f"{source.given}:{spec}", reading) for spec in splits)
    if reading.standardize != "none":
        scaling = scaling_of(_examples_for_scaling(datasets[0]), reading.standardize, datasets[0].name)
        datasets = tuple(dataset._replace(scaling=scaling) for dataset in datasets)
    asked = {parse(spec).split for spec in splits}
    unused = (
        {} if source.named or "all" in asked else {f"split {name}": 1 for name in source.splits() if name not in asked}
    )
    return tuple(_with_passed_over(dataset, unused) for dataset in datasets)


def usual_splits(data: Any, training: str = "90%") -> tuple[str, str, str]:
    """The splits for training, validation and test.

    Data with a validation split of their own keep it; otherwise the end of `train` is held out.

    Args:
        data: As in `load`.
        training: Share of `train` to train on if there is no validation split.

    Returns:
        Three splits, for `load`.

    Example:
        >>> usual_splits("digits")
        ('train[:90%]', 'train[90%:]', 'test')
    """
    reading = read_as(data)
    splits = data.splits if isinstance(data, Recorded) else source_of(as_written(reading.data), reading).splits()
    own = next((name for name in VALIDATION if name in splits), None)
    return (f"train[:{training}]", f"train[{training}:]", "test") if own is None else ("train", own, "test")


def open_split(given: Any, options: Mapping[str, Any] = {}) -> Dataset:
    """The examples that a user means by a data set, a name with a split, a path, or data in memory.

    Args:
        given: A `Dataset`, which is returned unchanged; `NAME:SPLIT` (`digits:test[:10]`, `photos.npz:train`); a path, which
            alone means all its examples; or data in memory, as `load` accepts them.
        options: How the data are read, as in `aejax.data.ReadAs`; those for images apply to folders of images only.

    Returns:
        One `Dataset`, not standardized.

    Raises:
        UsageError: As in `load`, or a name has no split.

    Example:
        >>> open_split("digits:test[:10]").size
        10
    """
    if isinstance(given, Dataset):
        return given
    reading = read_as(given, {**options, "standardize": "none"})
    given = reading.data
    if not isinstance(given, str | os.PathLike):
        return _dataset(source_of(given, reading), "all", THE_ARRAY, reading)
    name = as_written(given)
    path = path_of(name)
    data, spec = (name, None) if path is not None and path.exists() else divide(name)
    if spec is None and path is None:
        raise UsageError(f"{name!r} names no split; write e.g. {name}:test")
    return _dataset(source_of(data, reading), spec or "all", name, reading)


def located(data: str) -> str:
    """A path as absolute; the name of a data set unchanged."""
    path = path_of(data)
    return data if path is None else os.path.abspath(path)


def file_names(given: Any) -> list[str] | None:
    """The names of the image files in a folder, relative to it, in the order of `open_split(folder)`; None for other data."""
    name = as_written(read_as(given).data)
    path = path_of(name) if isinstance(name, str) else None
    if path is not None and is_image_file(path):
        return [path.name]
    if path is None or not path.is_dir() or shards_in(path) is not None:
        return None
    return [os.path.relpath(file, path) for file in image_folder(path).listed()]


def column_names(given: Any) -> list[str] | None:
    """The names of the columns of numbers of a table file; None for other data."""
    name = as_written(read_as(given).data)
    path = path_of(name) if isinstance(name, str) else None
    return None if path is None or path.suffix not in TABLES or not path.exists() else table_columns(path)


def is_missing(data: str) -> bool:
    """Whether it is a path that does not exist."""
    path = path_of(data)
    return path is not None and not path.exists()


def prepare(data: str) -> tuple[Dataset, ...]:
    """Downloads and prepares every split of a data set, caches those that are not streamed, and opens them."""
    source = source_of(data, ReadAs(data))
    splits = source.streams() or source.readers()
    return tuple(_dataset(source, split, f"{data}:{split}", ReadAs(data)) for split in splits if split != "all")


def _dataset(source: Source, spec: str, name: str, reading: ReadAs) -> Dataset:
    dataset = _opened(source, parse(spec), name, reading.stream)._replace(reading=reading.options())
    if source.of_arrays and dataset.found is not None:
        dataset = dataset._replace(found=dataset.found._replace(doubt=doubt(dataset.shape) or ""))
    return _with_passed_over(dataset, source.passed_over)


def _opened(source: Source, split: Spec, name: str, as_stream: bool) -> Dataset:
    if as_stream or source.drawn:
        return _stream(source, split, name)
    if source.identity() is None:
        return _held(_split_of(source.readers(), split, source.name), split, name)
    folder = cache.folder_of(source.name, source.identity(), split.split)
    entry = cache.open_entry(folder)  # first, because with a warm cache nothing is imported
    if entry is None:
        streams = source.streams()
        if streams is not None and decoded_bytes(streams) > STREAM_BYTES:
            return _stream(source, split, name)
        reader = _split_of(source.readers(), split, source.name)
        entry = cache.make_entry(folder, reader, f"{source.name}:{split.split}")
    start, stop = bounds(split, len(entry.arrays["x"]), name)
    arrays, fingerprint = cache.part_of(entry, start, stop)
    shape, size = arrays["x"].shape[1:], stop - start
    return Dataset(
        name, shape, size, entry.classes, fingerprint, arrays, None, entry.factors, entry.states, entry.found
    )._replace(target=_target(arrays))


def _held(reader: Reader, split: Spec, name: str) -> Dataset:
    """A split of data that are already in memory."""
    start, stop = bounds(split, reader.size, name)
    positions = np.arange(start, stop)
    arrays = all_as_stored(reader.read(positions), positions, name, reader.missing)
    shape, found = arrays["x"].shape[1:], found_in(arrays["x"], reader.origin, name)
    found = found._replace(passed_over=reader.passed_over, columns=reader.columns)
    fingerprint = cache.fingerprint_of(arrays)
    return Dataset(
        name, shape, stop - start, reader.classes, fingerprint, arrays, None, reader.factors, reader.states, found
    )._replace(target=_target(arrays))


def _target(arrays: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    return arrays["target"].shape[1:] if "target" in arrays else None


def _stream(source: Source, split: Spec, name: str) -> Dataset:
    readers = source.streams()
    if readers is None:
        raise UsageError(f"{source.name} is not read by position; to stream it, save its x as .npy, in C order")
    reader = _split_of(readers, split, source.name)
    start, stop = bounds(split, reader.size, name)
    return streamed(name, reader, start, stop, fingerprint_of_files(source.files(), split.split, start, stop))


_FOR_SCALING = 10_000
"""Number of streamed examples, evenly spaced, from which statistics are estimated."""


def _examples_for_scaling(dataset: Dataset) -> np.ndarray:
    most = dataset.size if dataset.read is None else min(dataset.size, _FOR_SCALING)
    return np.asarray(take(dataset, np.linspace(0, dataset.size - 1, most).astype(np.int64))["x"])


def _split_of(readers: Readers, split: Spec, name: str) -> Reader:
    if split.split not in readers:
        raise UsageError(f"{name} has no split {split.split!r}; it has {', '.join(readers)}")
    return readers[split.split]


def _with_passed_over(dataset: Dataset, more: Mapping[str, int]) -> Dataset:
    if not more or dataset.found is None:
        return dataset
    return dataset._replace(found=dataset.found._replace(passed_over={**dataset.found.passed_over, **more}))


def _from_record(data: Recorded, spec: str) -> Dataset:
    if spec not in data.splits:
        raise UsageError(f"the run recorded no split {spec!r} of {data.name}; it recorded {', '.join(data.splits)}")
    return data.splits[spec]
