"""Sources of data: what a user gives, as something that opens splits, streams examples and knows its own identity."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aejax.data.array_files import npy_header, npy_readers, npy_streams, npz_readers, npz_splits
from aejax.data.given import given_readers
from aejax.data.image_folder import SUFFIXES, ImageFolder, image_folder
from aejax.data.images import Fit, image_readers
from aejax.data.named import identity, is_known, named_files, named_readers, named_streams, own_splits
from aejax.data.reading import ReadAs
from aejax.data.sets import sprites, synthetic_features
from aejax.data.shards import Shards, shard_readers, shards_in, stamps
from aejax.data.splits import OWN, Readers, digest_of_files
from aejax.data.tables import TABLES, table_readers
from aejax.errors import UsageError

THE_ARRAY = "the array"
"""Name of data in memory in messages."""


class Name(str):
    """The name of a data set, even if the current folder holds a file or folder of that name."""


class Source(NamedTuple):
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
    drawn: bool = False
    """Whether examples are drawn where they are needed, and never stored."""


def source_of(data: Any, reading: ReadAs) -> Source:
    if not isinstance(data, str):
        return _of_memory(data, reading)
    path = path_of(data)
    if data in sprites.KINDS:
        return _of_sprites(data)
    if synthetic_features.named(data) is not None:
        return _of_synthetic_features(data)
    if path is None:
        readers = functools.cache(lambda: named_readers(data))
        streams = functools.cache(lambda: named_streams(data, readers()))
        files = lambda: digest_of_files(named_files(data))
        return Source(data, data, lambda: identity(data), readers, streams, files, lambda: own_splits(data), named=True)
    if path.is_dir() and (shards := shards_in(path)) is not None:
        return _of_shards(data, path, shards, reading)
    if path.is_dir():
        return _of_images(data, path, image_folder(path), reading)
    if path.is_file() and path.suffix in _OF_ARRAYS:
        return _of_arrays(data, path, reading)
    if is_image_file(path):
        return _of_images(data, path.parent, ImageFolder({"": {None: [str(path)]}}, [], {}), reading)
    if path.is_file():
        raise UsageError(
            f"{path} is neither {', '.join(_OF_ARRAYS)} nor a folder of images or .npy files; save it as one of these"
        )
    raise UsageError(f"there is no file or folder {path}; check the path, or give the name of a data set")


def is_image_file(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def _of_memory(data: Any, reading: ReadAs) -> Source:
    readers = given_readers(data, THE_ARRAY, reading.missing == "mask")
    own = [split for split, reader in readers.items() if reader.origin == OWN]
    return Source("array", THE_ARRAY, lambda: None, lambda: readers, lambda: None, str, lambda: own, of_arrays=True)


def _of_sprites(name: str) -> Source:
    identity = [name, str(sprites.VERSION)]
    readers = functools.partial(sprites.sprites_readers, name)
    return Source(name, name, lambda: identity, readers, readers, lambda: digest_of_files(identity), tuple)


def _of_synthetic_features(name: str) -> Source:
    identity = [name, str(synthetic_features.VERSION)]
    readers = functools.cache(lambda: synthetic_features.synthetic_features_readers(name))
    return Source(name, name, lambda: identity, readers, readers, lambda: digest_of_files(identity), tuple, drawn=True)


_OF_ARRAYS = {
    ".npy": npy_readers,
    ".npz": npz_readers,
    **dict.fromkeys(TABLES, table_readers),
}


def _of_arrays(given: str, path: Path, reading: ReadAs) -> Source:
    read_as = ["with missing values"] if reading.missing == "mask" else []
    return Source(
        given,
        path.name,
        lambda: _stamps(path, [str(path)], *read_as),
        functools.cache(functools.partial(_OF_ARRAYS[path.suffix], path, reading)),
        functools.cache(lambda: npy_streams(path, reading) if path.suffix == ".npy" else None),
        lambda: digest_of_files([f"{path.name} {path.stat().st_size} {npy_header(path)}"]),
        functools.cache(lambda: npz_splits(path) if path.suffix == ".npz" else ()),
        of_arrays=True,
    )


def _of_shards(given: str, path: Path, shards: Shards, reading: ReadAs) -> Source:
    files, read_as = stamps(shards), ["with missing values"] if reading.missing == "mask" else []
    readers = functools.cache(lambda: shard_readers(path, shards, reading))
    lines = lambda: [f"{os.path.relpath(f, path)} {os.stat(f).st_size} {npy_header(Path(f))}" for f in files]
    identity = functools.cache(lambda: _stamps(path, files, *read_as))
    digest = functools.cache(lambda: digest_of_files(lines()))
    return Source(given, path.name, identity, readers, readers, digest, tuple, shards.passed_over, of_arrays=True)


def _of_images(given: str, path: Path, held: ImageFolder, reading: ReadAs) -> Source:
    listed = [*held.listed(), *held.tables]
    fit = Fit(reading.image_size, reading.image_channels, reading.image_crop, reading.large)
    fitted = [] if fit[:3] == Fit()[:3] else [f"fitted to {fit[:3]}"]

    def lines() -> Iterator[str]:
        yield "turned as EXIF says"  # the way they are read is part of their identity
        yield from fitted
        for file in listed:
            yield f"{os.path.relpath(file, path)} {os.stat(file).st_size}"
        for table in held.tables:
            yield hashlib.sha256(Path(table).read_bytes()).hexdigest()

    return Source(
        given,
        path.name,
        functools.cache(lambda: _stamps(path, listed, *fitted)),
        functools.cache(lambda: image_readers(path, held, fit)),
        functools.cache(lambda: image_readers(path, held, fit, streamed=True)),
        functools.cache(lambda: digest_of_files(lines())),
        lambda: [split for split in held.files if split],
        held.passed_over,
    )


def _stamps(path: Path, listed: list[str], *read_as: str) -> object:
    stats = [(file, os.stat(file)) for file in listed]
    return ["path", str(path.resolve()), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats], *read_as]


def as_written(data: Any) -> Any:
    """Names and paths as written on the command line; data in memory unchanged."""
    if not isinstance(data, os.PathLike):
        return data
    path = os.fsdecode(data)
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)


def path_of(data: str) -> Path | None:
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
