"""Decoded splits on disk: a folder of plain .npy files, which are memory-mapped, and a meta.json that describes them.

Every folder is written under a temporary name and then renamed, so it is either complete or absent. If two processes write the
same folder, one wins and both read it. What is read is compared with digests that were taken when it was written, and a folder
that is damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from aejax.data.splits import Reader, all_as_stored
from aejax.data.units import found_in
from aejax.errors import UsageError
from aejax.files import write_json, write_text
from aejax.types import Dataset, Found

# Part of every key. Increase it when the files below, or the output of one of our builders, change their meaning.
_LAYOUT = 8
_CHUNK = 1024

SMALL = 64 * 2**20
"""Bytes of a split up to which all of it is compared when it is opened; of a larger split only a few blocks are."""
BLOCK = 4 * 2**20
_COMPARED = 8
"""Number of blocks of each array of a large split that are compared, drawn anew each time."""


class Entry(NamedTuple):
    """One cached split."""

    folder: Path
    arrays: Mapping[str, np.ndarray]
    """`x` [n, ...], uint8, bool or float32, and, if there, `label` [n], `factors` [n, f] and `length` [n], int32, and `state`
    [n, t, s], float32."""
    classes: tuple[str, ...] | None
    fingerprint: str
    factors: tuple[str, ...] | None
    states: tuple[str, ...] | None
    found: Found


def cache_folder() -> Path:
    """The folder that aejax keeps between processes.

    Returns:
        `$AEJAX_CACHE`, else `$XDG_CACHE_HOME/aejax`, else `~/.cache/aejax`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("AEJAX_CACHE") or f"{base}/aejax").expanduser()


def folder_of(name: str, identity: object, split: str) -> Path:
    """The folder of a split in the cache.

    `identity` (JSON-able) distinguishes sources with the same name; `name` only makes the folder readable.
    """
    digest = hashlib.sha256(json.dumps([_LAYOUT, identity]).encode()).hexdigest()[:20]
    return cache_folder() / "data" / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[-40:]}-{digest}" / split


def open_entry(folder: Path) -> Entry | None:
    """The split in this folder, or None if it is missing, or damaged, which is said on standard error."""
    if not folder.exists():
        return None
    entry = _read(folder)
    if entry is None:
        print(f"the cached data {folder} are damaged; they are made again", file=sys.stderr, flush=True)
    return entry


def _read(folder: Path) -> Entry | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["digest"] != _digest_of(meta):
            return None
        arrays = {}
        for name, expected in meta["arrays"].items():
            # A plain view of the map: indexing np.memmap itself is slower.
            arrays[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            if [arrays[name].dtype.str, list(arrays[name].shape)] != expected:
                return None
        classes, factors, states = (
            None if meta[names] is None else tuple(meta[names]) for names in ("classes", "factors", "states")
        )
        entry = Entry(folder, arrays, classes, meta["fingerprint"], factors, states, Found(**meta["found"]))
        return entry if _intact(entry, meta["blocks"]) else None
    except Exception:  # whatever JSON and NumPy raise for damaged files
        return None


def make_entry(folder: Path, reader: Reader, where: str) -> Entry:
    """Reads the whole split, checks it, and stores it. `where` names the source in messages.

    Raises UsageError for an empty split, values that are not finite, other dtypes, and a folder without write permission.
    """
    if reader.size == 0:
        raise UsageError(f"{where} has no examples; give at least one")
    with _replaced(folder) as temporary:
        _write(temporary, reader, where)
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in temporary.glob("*.npy")}
        meta = {
            "shape": list(arrays["x"].shape[1:]),
            "size": reader.size,
            "classes": reader.classes,
            "factors": reader.factors,
            "states": reader.states,
            "fingerprint": fingerprint_of(arrays),
            "found": found_in(arrays["x"], reader.origin, where)
            ._replace(passed_over=reader.passed_over, columns=reader.columns)
            ._asdict(),
            "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
            "blocks": {name: [_hash(block) for block in _blocks(array)] for name, array in arrays.items()},
        }
        write_json(temporary / "meta.json", {**meta, "digest": _digest_of(meta)})
    entry = _read(folder)
    if entry is None:
        raise UsageError(f"the cache folder {folder} cannot be read back; set AEJAX_CACHE to a folder on another disk")
    return entry


def fingerprint_of(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of the arrays' names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _intact(entry: Entry, blocks: Mapping[str, list[str]]) -> bool:
    """Whether the arrays are as they were written; of a large split only some blocks are compared."""
    if _bytes(entry.arrays) <= SMALL:
        return _fingerprint(entry) == entry.fingerprint
    rng = np.random.default_rng()
    for name, array in entry.arrays.items():
        own = blocks[name]
        for i in rng.choice(len(own), min(len(own), _COMPARED), replace=False):
            if _hash(_blocks(array, int(i))[0]) != own[i]:
                return False
    return True


_known: dict[object, str] = {}
"""Small splits, and slices of them, whose files this process has read already -> their fingerprint."""


def _fingerprint(entry: Entry, start: int = 0, stop: int | None = None) -> str:
    """The fingerprint of a small split or of a slice of it, computed once while its files stay as they are."""
    stats = [(entry.folder / f"{name}.npy").stat() for name in sorted(entry.arrays)]
    key = (entry.folder, start, stop, *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
    if key not in _known:
        _known[key] = fingerprint_of({name: array[start:stop] for name, array in entry.arrays.items()})
    return _known[key]


def _bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _blocks(array: np.ndarray, only: int | None = None) -> list[memoryview]:
    """The bytes of an array in blocks, or one of the blocks."""
    content = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    numbers = range(-(-len(content) // BLOCK)) if only is None else [only]
    return [content[i * BLOCK : (i + 1) * BLOCK] for i in numbers]


def _hash(block: memoryview) -> str:
    return hashlib.blake2b(block, digest_size=16).hexdigest()


def _digest_of(meta: Mapping[str, Any]) -> str:
    """sha256 of what meta.json says, without the digest itself."""
    rest = {name: value for name, value in meta.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def refuse_damaged(dataset: Dataset) -> None:
    """Compares all examples of a data set in memory with its fingerprint; UsageError if they differ."""
    if dataset.arrays is not None and fingerprint_of(dataset.arrays) != dataset.fingerprint:
        raise UsageError(
            f"the examples of {dataset.name} in the cache are not those that were decoded; remove {cache_folder() / 'data'}, "
            "which is made again"
        )


def part_of(entry: Entry, start: int, stop: int) -> tuple[Mapping[str, np.ndarray], str]:
    """Views of the examples from `start` to `stop`, and their fingerprint; of a large split it is stored beside the arrays."""
    if (start, stop) == (0, len(entry.arrays["x"])):
        return entry.arrays, entry.fingerprint
    arrays = {name: array[start:stop] for name, array in entry.arrays.items()}
    if _bytes(entry.arrays) <= SMALL:
        return arrays, _fingerprint(entry, start, stop)
    path = entry.folder / f"{start}-{stop}.sha256"
    with contextlib.suppress(OSError):
        known = path.read_text("utf-8", "replace")
        if re.fullmatch("[0-9a-f]{64}", known):
            return arrays, known
    fingerprint = fingerprint_of(arrays)
    # An optimization only: if it cannot be written, it is computed again.
    with contextlib.suppress(OSError):
        write_text(path, fingerprint)
    return arrays, fingerprint


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then replaces `folder`."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _put(temporary, folder)
    except OSError as error:
        raise UsageError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}); set AEJAX_CACHE to another"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:  # rename does not replace a folder that is not empty
        if _read(folder) is not None:
            return  # another process was faster
        aside = temporary.with_name(f"{temporary.name}.damaged")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # the other process again; the caller opens what is there
            temporary.rename(folder)


def _write(folder: Path, reader: Reader, where: str) -> None:
    """Fills x.npy and label.npy chunk by chunk, so that a split may be larger than memory.

    It writes to files, not to memory maps, so that a full disk is an error and not a bus fault.
    """
    rows: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for start in range(0, reader.size, _CHUNK):
            for name, array in _chunk(reader, start, where).items():
                row = (array.dtype, array.shape[1:])
                if name not in files:
                    rows[name] = row
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    header = {"descr": array.dtype.str, "fortran_order": False, "shape": (reader.size, *row[1])}
                    np.lib.format.write_array_header_1_0(files[name], header)
                if row != rows[name]:
                    raise UsageError(
                        f"{where} has examples {name} of {rows[name]} and, from {start} on, of {row}; make them alike"
                    )
                files[name].write(np.ascontiguousarray(array).data)


def _chunk(reader: Reader, start: int, where: str) -> dict[str, np.ndarray]:
    positions = np.arange(start, min(start + _CHUNK, reader.size))
    try:
        chunk = reader.read(positions)
    except OSError as error:  # an error of the source; an OSError outside this block is the cache's
        raise UsageError(f"{where} cannot be read ({error.strerror or error}); look whether it is complete") from error
    return all_as_stored(chunk, positions, where, reader.missing)
