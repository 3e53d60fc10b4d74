"""From a name or a path to Datasets, and back from what a run recorded of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aejax.data import cache
from aejax.data.arrays import npy_readers, npz_readers
from aejax.data.images import image_files, image_readers
from aejax.data.named import identity, named_readers
from aejax.data.reader import Readers
from aejax.data.splits import bounds, divide, parse
from aejax.errors import UsageError
from aejax.types import Dataset


class Recorded(NamedTuple):
    """What a run's config.json holds of its data: enough to rebuild the experiment without them."""

    name: str
    splits: Mapping[str, Dataset]
    """By what was asked for, e.g. `train[:90%]`; without arrays."""


def load(data: str | Recorded, splits: tuple[str, ...] = ("train", "test")) -> tuple[Dataset, ...]:
    """One Dataset for each split, in TFDS's slicing language: `train`, `train[:90%]`, `train[100:200]`, `all`.

    `data` is `digits`, `fashion_mnist` or another name of TFDS (`emnist/letters`); or a path to a .npy, a .npz or a
    folder of images, written with a `/`, a leading `.` or `~`, or the suffix .npy or .npz. A path that has no splits of
    its own is split by a permutation of seed 0: a tenth is `test`, the rest `train`. The splits of a path are permuted, so
    that a slice of a source sorted by class holds every class; `all` is in the order of the source.

    The first time, a split is decoded into the cache (`$AEJAX_CACHE`, else `$XDG_CACHE_HOME/aejax`, else
    `~/.cache/aejax`); the arrays are memory-mapped views of it. A `Recorded` gives Datasets without arrays.

    Raises UsageError for unknown names and splits, empty slices, and data that cannot be held: not finite, of dtype
    object or of other integers than uint8, images that are broken or differ in size, labels that do not match.
    """
    if isinstance(data, Recorded):
        return tuple(_from_record(data, spec) for spec in splits)
    source = _source(data)
    return tuple(_dataset(source, spec, f"{data}:{spec}") for spec in splits)


def open_split(name: str) -> Dataset:
    """One split by `NAME:SPLIT`, e.g. `digits:test[:10]` or `photos.npz:train`; a path alone means all its examples."""
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


def prepare(data: str) -> tuple[Dataset, ...]:
    """Downloads, prepares and caches every split of a data set, and opens them."""
    source = _source(data)
    return tuple(_dataset(source, split, f"{data}:{split}") for split in source.readers() if split != "all")


class _Source(NamedTuple):
    """Where examples come from: cheap to make; `readers` is the part that imports, downloads and decodes."""

    name: str
    identity: object
    readers: Callable[[], Readers]


def _source(data: str) -> _Source:
    path = _path(data)
    if path is None:
        return _Source(data, identity(data), functools.cache(functools.partial(named_readers, data)))
    if path.is_dir():
        files = image_files(path)
        listed = [file for by_class in files.values() for paths in by_class.values() for file in paths]
        readers: Callable[[], Readers] = functools.partial(image_readers, path, files)
    elif path.is_file() and path.suffix in _OF_ARRAYS:
        listed, readers = [path], functools.partial(_OF_ARRAYS[path.suffix], path)
    elif path.is_file():
        raise UsageError(f"{path} is neither .npy nor .npz nor a folder of images; save it as one of these")
    else:
        raise UsageError(f"there is no file or folder {path}; check the path, or give the name of a data set")
    stats = [(str(file), file.stat()) for file in listed]
    what = ["path", str(path.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
    return _Source(path.name, what, functools.cache(readers))


_OF_ARRAYS = {".npy": npy_readers, ".npz": npz_readers}


def _path(data: str) -> Path | None:
    """The path that is meant, or None for the name of a data set. A bare word is always a name."""
    path = Path(data).expanduser()
    is_path = path.suffix in _OF_ARRAYS or data.startswith((".", "~", os.sep)) or data.endswith(os.sep)
    return path if is_path or (os.sep in data and path.exists()) else None


def _dataset(source: _Source, spec: str, name: str) -> Dataset:
    split = parse(spec)
    folder = cache.folder_of(source.name, source.identity, split.split)
    entry = cache.open_entry(folder)
    if entry is None:
        readers = source.readers()
        if split.split not in readers:
            raise UsageError(f"{source.name} has no split {split.split!r}; it has {', '.join(readers)}")
        entry = cache.make_entry(folder, readers[split.split], f"{source.name}:{split.split}")
    start, stop = bounds(split, len(entry.arrays["x"]), name)
    arrays, fingerprint = cache.part_of(entry, start, stop)
    return Dataset(name, arrays["x"].shape[1:], stop - start, entry.classes, fingerprint, arrays)


def _from_record(data: Recorded, spec: str) -> Dataset:
    if spec not in data.splits:
        raise UsageError(f"the run recorded no split {spec!r} of {data.name}; it recorded {', '.join(data.splits)}")
    return data.splits[spec]
