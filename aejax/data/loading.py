"""Data sets from what a user gives: a name, a path, or data in memory."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.data import cache
from aejax.data.array_files import npy_header, npy_readers, npy_streams, npz_readers, npz_splits
from aejax.data.given import given_readers
from aejax.data.image_folder import image_folder
from aejax.data.images import image_readers
from aejax.data.kinds import doubt
from aejax.data.named import identity, is_known, named_files, named_readers, named_streams, own_splits
from aejax.data.sets import sprites
from aejax.data.splits import (
    OWN,
    Reader,
    Readers,
    Spec,
    all_as_stored,
    bounds,
    decoded_bytes,
    digest_of_files,
    divide,
    fingerprint_of_files,
    parse,
    streamed,
)
from aejax.data.tables import table_readers
from aejax.data.units import found_in
from aejax.errors import UsageError
from aejax.types import Dataset

STREAM_BYTES = 2 * 2**30
"""Data sets that take more bytes decoded are streamed. A constant, so that a data set is read the same way on every machine."""


THE_ARRAY = "the array"
"""Name of data in memory in messages."""

VALIDATION = ("validation", "val", "valid", "dev")
"""Possible names of a validation split in a source."""


class Streamed(NamedTuple):
    """A data set that is streamed whatever its size: each example is read from disk and decoded at each use."""

    name: str | os.PathLike[str]


class Name(str):
    """The name of a data set, even if the current folder holds a file or folder of that name."""


class Recorded(NamedTuple):
    """The record of data in config.json: enough to rebuild the experiment without the data."""

    name: str
    splits: Mapping[str, Dataset]
    """Requested split, e.g. `train[:90%]` -> data set without arrays."""


def load(data: Any, splits: tuple[str, ...] = ("train", "test")) -> tuple[Dataset, ...]:
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
    its arrays are memory-mapped from there. Data that take more than 2 GiB decoded, and data wrapped in `Streamed`, are not
    cached: their Datasets have `read` instead of `arrays`, with the same examples in the same order. A .npz, and a .npy in
    Fortran order, cannot be read by position and are always decoded.

    Args:
        data: A name, a path, data in memory, `Streamed(path)`, or the record of a run.
        splits: Splits to open, in the order in which they are returned.

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
    source = _source(_name(data))
    datasets = tuple(_dataset(source, spec, f"{source.given}:{spec}", isinstance(data, Streamed)) for spec in splits)
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
    splits = data.splits if isinstance(data, Recorded) else _source(_name(data)).splits()
    own = next((name for name in VALIDATION if name in splits), None)
    return (f"train[:{training}]", f"train[{training}:]", "test") if own is None else ("train", own, "test")


def open_split(given: Any) -> Dataset:
    """The examples that a user means by a data set, a name with a split, a path, or data in memory.

    Args:
        given: A `Dataset`, which is returned unchanged; `NAME:SPLIT` (`digits:test[:10]`, `photos.npz:train`); a path, which
            alone means all its examples; or data in memory, as `load` accepts them.

    Returns:
        One `Dataset`.

    Raises:
        UsageError: As in `load`, or a name has no split.

    Example:
        >>> open_split("digits:test[:10]").size
        10
    """
    if isinstance(given, Dataset):
        return given
    if not isinstance(given, str | os.PathLike):
        return _dataset(_source(given), "all", THE_ARRAY)
    name = _name(given)
    path = _path(name)
    data, spec = (name, None) if path is not None and path.exists() else divide(name)
    if spec is None and path is None:
        raise UsageError(f"{name!r} names no split; write e.g. {name}:test")
    return _dataset(_source(data), spec or "all", name)


def located(data: str) -> str:
    """A path as absolute; the name of a data set unchanged."""
    path = _path(data)
    return data if path is None else os.path.abspath(path)


def file_names(given: Any) -> list[str] | None:
    """The names of the image files in a folder, relative to it, in the order of `open_split(folder)`; None for other data."""
    name = _name(given)
    path = _path(name) if isinstance(name, str) else None
    if path is None or not path.is_dir():
        return None
    return [os.path.relpath(file, path) for file in image_folder(path).listed()]


def is_missing(data: str) -> bool:
    """Whether it is a path that does not exist."""
    path = _path(data)
    return path is not None and not path.exists()


def prepare(data: str) -> tuple[Dataset, ...]:
    """Downloads and prepares every split of a data set, caches those that are not streamed, and opens them."""
    source = _source(data)
    splits = source.streams() or source.readers()
    return tuple(_dataset(source, split, f"{data}:{split}") for split in splits if split != "all")


class _Source(NamedTuple):
    """A source of examples. It is cheap to create; `readers` and `streams` import, download and decode."""

    given: str
    """As requested."""
    name: str
    identity: Callable[[], object]
    """Identity of the files on this machine, for the cache; None for data in memory, which are not cached."""
    readers: Callable[[], Readers]
    """Readers that read once, in order."""
    streams: Callable[[], Readers | None]
    """Readers for any position at any time; None if that is impossible."""
    files: Callable[[], str]
    """Digest that identifies the files on any machine, without reading them."""
    splits: Callable[[], Collection[str]]
    """Names of the splits of the source, as far as they are known without reading the data."""
    passed_over: Mapping[str, int] = {}
    """Files and arrays that are known to be ignored without reading the data."""
    named: bool = False
    """Whether it is the name of a data set, whose splits are known; looking them up here takes time."""
    of_arrays: bool = False
    """Whether the kind of example is known from its shape only."""


def _source(data: Any) -> _Source:
    if not isinstance(data, str):
        return _of_memory(data)
    path = _path(data)
    if data in sprites.KINDS:
        return _of_sprites(data)
    if path is None:
        readers = functools.cache(lambda: named_readers(data))
        streams = functools.cache(lambda: named_streams(data, readers()))
        files = lambda: digest_of_files(named_files(data))
        return _Source(
            data, data, lambda: identity(data), readers, streams, files, lambda: own_splits(data), named=True
        )
    if path.is_dir():
        return _of_images(data, path)
    if path.is_file() and path.suffix in _OF_ARRAYS:
        return _of_arrays(data, path)
    if path.is_file():
        raise UsageError(f"{path} is neither {', '.join(_OF_ARRAYS)} nor a folder of images; save it as one of these")
    raise UsageError(f"there is no file or folder {path}; check the path, or give the name of a data set")


def _of_memory(data: Any) -> _Source:
    readers = given_readers(data, THE_ARRAY)
    own = [split for split, reader in readers.items() if reader.origin == OWN]
    return _Source("array", THE_ARRAY, lambda: None, lambda: readers, lambda: None, str, lambda: own, of_arrays=True)


def _of_sprites(name: str) -> _Source:
    identity = [name, str(sprites.VERSION)]
    readers = functools.partial(sprites.sprites_readers, name)
    return _Source(name, name, lambda: identity, readers, readers, lambda: digest_of_files(identity), tuple)


_OF_ARRAYS = {
    ".npy": npy_readers,
    ".npz": npz_readers,
    ".csv": table_readers,
    ".tsv": table_readers,
    ".parquet": table_readers,
}


def _of_arrays(given: str, path: Path) -> _Source:
    return _Source(
        given,
        path.name,
        lambda: _stamps(path, [str(path)]),
        functools.cache(functools.partial(_OF_ARRAYS[path.suffix], path)),
        functools.cache(lambda: npy_streams(path) if path.suffix == ".npy" else None),
        lambda: digest_of_files([f"{path.name} {path.stat().st_size} {npy_header(path)}"]),
        functools.cache(lambda: npz_splits(path) if path.suffix == ".npz" else ()),
        of_arrays=True,
    )


def _of_images(given: str, path: Path) -> _Source:
    held = image_folder(path)
    listed = [*held.listed(), *held.tables]

    def lines() -> Iterator[str]:
        yield "turned as EXIF says"  # the way they are read is part of their identity
        for file in listed:
            yield f"{os.path.relpath(file, path)} {os.stat(file).st_size}"
        for table in held.tables:
            yield hashlib.sha256(Path(table).read_bytes()).hexdigest()

    return _Source(
        given,
        path.name,
        functools.cache(lambda: _stamps(path, listed)),
        functools.cache(lambda: image_readers(path, held)),
        functools.cache(lambda: image_readers(path, held, streamed=True)),
        functools.cache(lambda: digest_of_files(lines())),
        lambda: [split for split in held.files if split],
        held.passed_over,
    )


def _stamps(path: Path, listed: list[str]) -> object:
    stats = [(file, os.stat(file)) for file in listed]
    return ["path", str(path.resolve()), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]]


def _name(data: Any) -> Any:
    """Names and paths as written on the command line; data in memory unchanged."""
    data = data.name if isinstance(data, Streamed) else data
    if not isinstance(data, os.PathLike):
        return data
    path = os.fsdecode(data)
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)


def _path(data: str) -> Path | None:
    """The path that is meant, or None for the name of a data set."""
    if isinstance(data, Name):
        return None
    path = Path(data).expanduser()
    if path.suffix in _OF_ARRAYS or data.startswith((".", "~", os.sep)) or data.endswith(os.sep):
        return path
    if not data or not path.exists():
        return None
    if os.sep not in data and is_known(data):
        raise UsageError(
            f"{data} is the name of a data set and of a {'folder' if path.is_dir() else 'file'} here; write .{os.sep}{data} for "
            "the latter, and for the former start from another folder"
        )
    return path


def _dataset(source: _Source, spec: str, name: str, as_stream: bool = False) -> Dataset:
    dataset = _opened(source, parse(spec), name, as_stream)
    if source.of_arrays and dataset.found is not None:
        dataset = dataset._replace(found=dataset.found._replace(doubt=doubt(dataset.shape) or ""))
    return _with_passed_over(dataset, source.passed_over)


def _opened(source: _Source, split: Spec, name: str, as_stream: bool) -> Dataset:
    if as_stream:
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
    )


def _held(reader: Reader, split: Spec, name: str) -> Dataset:
    """A split of data that are already in memory."""
    start, stop = bounds(split, reader.size, name)
    positions = np.arange(start, stop)
    arrays = all_as_stored(reader.read(positions), positions, name)
    shape, found = arrays["x"].shape[1:], found_in(arrays["x"], reader.origin, name)
    found = found._replace(passed_over=reader.passed_over)
    fingerprint = cache.fingerprint_of(arrays)
    return Dataset(
        name, shape, stop - start, reader.classes, fingerprint, arrays, None, reader.factors, reader.states, found
    )


def _stream(source: _Source, split: Spec, name: str) -> Dataset:
    readers = source.streams()
    if readers is None:
        raise UsageError(f"{source.name} is not read by position; to stream it, save its x as .npy, in C order")
    reader = _split_of(readers, split, source.name)
    start, stop = bounds(split, reader.size, name)
    return streamed(name, reader, start, stop, fingerprint_of_files(source.files(), split.split, start, stop))


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
