"""From a name or a path to Datasets, decoded or streamed, and back from what a run recorded of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aejax.data import cache
from aejax.data.arrays import npy_header, npy_readers, npy_streams, npz_readers, npz_splits
from aejax.data.images import image_files, image_readers
from aejax.data.named import identity, named_files, named_readers, named_streams, own_splits
from aejax.data.sets import sprites
from aejax.data.splits import (
    Reader,
    Readers,
    Spec,
    bounds,
    decoded_bytes,
    digest_of_files,
    divide,
    fingerprint_of_files,
    is_of_files,
    parse,
    streamed,
)
from aejax.errors import UsageError
from aejax.types import Dataset

STREAM_BYTES = 2 * 2**30
"""A data set that decoded takes more is streamed. A constant, so that a data set is read in the same way everywhere."""


VALIDATION = ("validation", "val", "valid")
"""What a source may call a validation split of its own."""


class Streamed(NamedTuple):
    """A data set that is to be streamed whatever its size: each example read from the disk and decoded at each use."""

    name: str | os.PathLike[str]


class Recorded(NamedTuple):
    """What a run's config.json holds of its data: enough to rebuild the experiment without them."""

    name: str
    splits: Mapping[str, Dataset]
    """By what was asked for, e.g. `train[:90%]`; without arrays."""


def load(
    data: str | os.PathLike[str] | Recorded | Streamed, splits: tuple[str, ...] = ("train", "test")
) -> tuple[Dataset, ...]:
    """One Dataset for each split, in TFDS's slicing language: `train`, `train[:90%]`, `train[100:200]`, `all`.

    `data` is `digits`, `fashion_mnist` or another name of TFDS (`emnist/letters`); or a path to a .npy, a .npz or a
    folder of images, written with a `/`, a leading `.` or `~`, or the suffix .npy or .npz; an `os.PathLike` is always a
    path. A path that has no splits of its own is split by a permutation of seed 0: a tenth is `test`, the rest `train`. The
    splits of a path are permuted, so that a slice of a source sorted by class holds every class; `all` is in the order of
    the source.

    The first time, a split is decoded into the cache (`$AEJAX_CACHE`, else `$XDG_CACHE_HOME/aejax`, else
    `~/.cache/aejax`); the arrays are memory-mapped views of it. A `Recorded` gives Datasets without arrays.

    What is larger than STREAM_BYTES when decoded, and all that is `Streamed`, is never copied into the cache: its Datasets
    have `read` instead of `arrays`, and hold the same examples in the same order. A .npz is not read by position, nor is
    a .npy in Fortran order: they are decoded whatever their size.

    Raises UsageError for unknown names and splits, empty slices, and data that cannot be held: not finite, of dtype
    object or of other integers than uint8, images that are broken or differ in size, labels that do not match. Of a
    streamed data set these come when the example is read.
    """
    if isinstance(data, Recorded):
        return tuple(_from_record(data, spec) for spec in splits)
    name = _name(data)
    source = _source(name)
    return tuple(_dataset(source, spec, f"{name}:{spec}", isinstance(data, Streamed)) for spec in splits)


def usual_splits(data: str | os.PathLike[str] | Recorded | Streamed) -> tuple[str, str, str]:
    """Splits to train, validate and test on. Those of a path or of one of our data sets that has a validation split, called
    as VALIDATION has it, are its own; of others the last tenth of `train` validates."""
    splits = data.splits if isinstance(data, Recorded) else _own_splits(_name(data))
    own = next((name for name in VALIDATION if name in splits), None)
    return ("train[:90%]", "train[90%:]", "test") if own is None else ("train", own, "test")


def open_split(name: str | os.PathLike[str]) -> Dataset:
    """One split by `NAME:SPLIT`, e.g. `digits:test[:10]` or `photos.npz:train`; a path alone means all its examples."""
    name = _name(name)
    path = _path(name)
    data, spec = (name, None) if path is not None and path.exists() else divide(name)
    if spec is None and path is None:
        raise UsageError(f"{name!r} names no split; write e.g. {name}:test (a folder is written ./{name})")
    return _dataset(_source(data), spec or "all", name)


def describe(datasets: tuple[Dataset, ...]) -> dict[str, Any]:
    """What config.json records of the Datasets that one `load` gave, JSON-able; `recorded` reads it back."""
    divided = [divide(dataset.name) for dataset in datasets]
    names = sorted({name for name, _ in divided})
    if len(names) != 1:
        raise UsageError(f"an experiment reads one data set, not {' and '.join(names)}; join them in one .npz")
    return {
        "name": names[0],
        "streamed": any(is_of_files(dataset.fingerprint) for dataset in datasets),
        "splits": {
            spec or "all": {
                "shape": list(dataset.shape),
                "size": dataset.size,
                "classes": None if dataset.classes is None else list(dataset.classes),
                "fingerprint": dataset.fingerprint,
            }
            for (_, spec), dataset in zip(divided, datasets)
        },
    }


def recorded(record: Mapping[str, Any]) -> Recorded:
    """The inverse of `describe`, without the arrays."""
    return Recorded(
        record["name"],
        {
            spec: Dataset(
                name=f"{record['name']}:{spec}",
                shape=tuple(split["shape"]),
                size=split["size"],
                classes=None if split["classes"] is None else tuple(split["classes"]),
                fingerprint=split["fingerprint"],
                arrays=None,
            )
            for spec, split in record["splits"].items()
        },
    )


def as_recorded_source(record: Mapping[str, Any], data: str) -> str | Streamed:
    """The argument with which a run reads its data as it did when it recorded them."""
    of_files = any(is_of_files(split["fingerprint"]) for split in record["splits"].values())
    return Streamed(data) if of_files else data


def prepare(data: str) -> tuple[Dataset, ...]:
    """Downloads and prepares every split of a data set, caches those that are not streamed, and opens them."""
    source = _source(data)
    splits = source.streams() or source.readers()
    return tuple(_dataset(source, split, f"{data}:{split}") for split in splits if split != "all")


class _Source(NamedTuple):
    """Where examples come from: cheap to make; `readers` and `streams` are what imports, downloads and decodes."""

    name: str
    identity: Callable[[], object]
    """Of the files as they are on this machine, for the cache."""
    readers: Callable[[], Readers]
    """To read them once, in order."""
    streams: Callable[[], Readers | None]
    """To read them at any position, at any time; None where that cannot be done."""
    files: Callable[[], str]
    """A digest that tells them from others, on any machine, without reading them."""


def _source(data: str) -> _Source:
    path = _path(data)
    if data in sprites.KINDS:
        return _of_sprites(data)
    if path is None:
        readers = functools.cache(lambda: named_readers(data))
        streams = functools.cache(lambda: named_streams(data, readers()))
        return _Source(data, lambda: identity(data), readers, streams, lambda: digest_of_files(named_files(data)))
    if path.is_dir():
        return _of_images(path)
    if path.is_file() and path.suffix in _OF_ARRAYS:
        return _of_arrays(path)
    if path.is_file():
        raise UsageError(f"{path} is neither .npy nor .npz nor a folder of images; save it as one of these")
    raise UsageError(f"there is no file or folder {path}; check the path, or give the name of a data set")


def _of_sprites(name: str) -> _Source:
    identity = [name, str(sprites.VERSION)]
    readers = functools.partial(sprites.sprites_readers, name)
    return _Source(name, lambda: identity, readers, readers, lambda: digest_of_files(identity))


_OF_ARRAYS = {".npy": npy_readers, ".npz": npz_readers}


def _of_arrays(path: Path) -> _Source:
    return _Source(
        path.name,
        lambda: _stamps(path, [str(path)]),
        functools.cache(functools.partial(_OF_ARRAYS[path.suffix], path)),
        functools.cache(lambda: npy_streams(path) if path.suffix == ".npy" else None),
        lambda: digest_of_files([f"{path.name} {path.stat().st_size} {npy_header(path)}"]),
    )


def _of_images(path: Path) -> _Source:
    files = image_files(path)
    listed = [file for by_class in files.values() for paths in by_class.values() for file in paths]

    def lines() -> Iterator[str]:
        yield "turned as EXIF says"  # how they are read is part of what the examples are
        for file in listed:
            yield f"{os.path.relpath(file, path)} {os.stat(file).st_size}"

    return _Source(
        path.name,
        functools.cache(lambda: _stamps(path, listed)),
        functools.cache(lambda: image_readers(path, files)),
        functools.cache(lambda: image_readers(path, files, streamed=True)),
        functools.cache(lambda: digest_of_files(lines())),
    )


def _stamps(path: Path, listed: list[str]) -> object:
    stats = [(file, os.stat(file)) for file in listed]
    return ["path", str(path.resolve()), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]]


def _name(data: Any) -> str:
    """As it is written on the command line."""
    data = data.name if isinstance(data, Streamed) else data
    if isinstance(data, str):
        return data
    if not isinstance(data, os.PathLike):
        raise UsageError(
            f"data is given as {type(data).__name__}; give a name or a path (np.save and np.savez make files of arrays)"
        )
    path = os.fsdecode(data)
    return path if _path(path) is not None else os.path.join(os.curdir, path)


def _own_splits(name: str) -> Collection[str]:
    """Names of the splits, as far as they are known without reading the data."""
    path = _path(name)
    if path is None:
        return own_splits(name)
    if path.is_dir():
        return image_files(path)
    return npz_splits(path) if path.suffix == ".npz" and path.is_file() else ()


def _path(data: str) -> Path | None:
    """The path that is meant, or None for the name of a data set. A bare word is always a name."""
    path = Path(data).expanduser()
    is_path = path.suffix in _OF_ARRAYS or data.startswith((".", "~", os.sep)) or data.endswith(os.sep)
    return path if is_path or (os.sep in data and path.exists()) else None


def _dataset(source: _Source, spec: str, name: str, as_stream: bool = False) -> Dataset:
    split = parse(spec)
    if as_stream:
        return _stream(source, split, name)
    folder = cache.folder_of(source.name, source.identity(), split.split)
    entry = cache.open_entry(folder)  # first: on a warm cache nothing is imported
    if entry is None:
        streams = source.streams()
        if streams is not None and decoded_bytes(streams) > STREAM_BYTES:
            return _stream(source, split, name)
        reader = _split_of(source.readers(), split, source.name)
        entry = cache.make_entry(folder, reader, f"{source.name}:{split.split}")
    start, stop = bounds(split, len(entry.arrays["x"]), name)
    arrays, fingerprint = cache.part_of(entry, start, stop)
    shape, size = arrays["x"].shape[1:], stop - start
    return Dataset(name, shape, size, entry.classes, fingerprint, arrays, None, entry.factors, entry.states)


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


def _from_record(data: Recorded, spec: str) -> Dataset:
    if spec not in data.splits:
        raise UsageError(f"the run recorded no split {spec!r} of {data.name}; it recorded {', '.join(data.splits)}")
    return data.splits[spec]
