"""A folder of .npy files [n, ...] that hold examples one after the other, such as the activations of a network.

The examples are those of the files in the order of their names, numbers in them as numbers. Files of the same names in the
folder's sub-folder `target` hold what is to be predicted from each.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.data.array_files import row_reader
from aejax.data.image_folder import SUFFIXES
from aejax.data.reading import ReadAs
from aejax.data.splits import Reader, Readers, checked, joined, with_a_tenth_held_out
from aejax.errors import UsageError

TARGET = "target"


class Shards(NamedTuple):
    """The files of a folder."""

    x: list[Path]
    target: list[Path]
    """None, or as many as of x, with the same names."""
    passed_over: Mapping[str, int]


def shards_in(folder: Path) -> Shards | None:
    """The shards in a folder; None if it has none, or images."""
    entries = sorted(folder.iterdir(), key=lambda entry: _by_number(entry.name))
    x = [entry for entry in entries if entry.suffix == ".npy" and entry.is_file()]
    folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not x or set(folders) - {TARGET} or any(entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return None
    others = Counter(
        "hidden files" if entry.name.startswith(".") else f"{entry.suffix or 'other'} files"
        for entry in entries
        if entry not in x and not entry.is_dir()
    )
    target = [folder / TARGET / file.name for file in x] if TARGET in folders else []
    if target:
        there = {entry.name for entry in (folder / TARGET).glob("*.npy")}
        if unlike := sorted(there ^ {file.name for file in x}):
            raise UsageError(
                f"{folder / TARGET} and {folder} have other files, among them {unlike[0]}; give each shard of x one of target"
            )
    return Shards(x, target, others)


def shard_readers(folder: Path, shards: Shards, reading: ReadAs) -> Readers:
    """The splits of the shards, read by position: a tenth is `test`."""
    x, target = _all_of(shards.x), _all_of(shards.target) if shards.target else None
    if target is not None and target.size != x.size:
        raise UsageError(f"{folder} has {x.size} examples and {target.size} targets; give one target to each")

    def read(positions: np.ndarray) -> dict[str, Any]:
        beside = {} if target is None else {TARGET: target.read(positions)["x"]}
        return {**x.read(positions), **beside}

    whole = Reader(x.size, None, read, missing=reading.missing == "mask", passed_over=shards.passed_over)
    return with_a_tenth_held_out(checked(whole, str(folder)))


def _all_of(files: list[Path]) -> Reader:
    readers, rows = zip(*map(row_reader, files))
    for file, row in zip(files, rows):
        if row != rows[0]:
            raise UsageError(
                f"{file} holds examples of {row.base} and shape {row.shape}, {files[0]} of {rows[0].base} and {rows[0].shape}; "
                "save all shards alike"
            )
    return joined(list(readers))


def _by_number(name: str) -> list[Any]:
    """`part-2` comes before `part-10`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split("([0-9]+)", name)]


def stamps(shards: Shards) -> list[str]:
    """All files."""
    return [os.fspath(file) for file in [*shards.x, *shards.target]]
