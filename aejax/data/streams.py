"""Data larger than memory: splits whose examples are read from their source at each use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from aejax.data.cache import all_as_stored
from aejax.data.reader import Reader, Readers
from aejax.errors import UsageError
from aejax.types import Dataset

_PREFIX = "files:"
# Part of every fingerprint: raise it when the same files come to be read as other examples.
_LAYOUT = 1


def checked(reader: Reader, where: str) -> Reader:
    """The examples as the cache would keep them: in its dtypes, finite, all alike. `where` names the source in messages.

    Whatever goes wrong in reading is a UsageError.
    """
    kinds: dict[str, tuple] = {}

    def read(positions):
        try:
            batch = reader.read(positions)
        except UsageError:
            raise
        except Exception as error:  # of the disk, of the format, of the decoder
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise UsageError(f"{where} cannot be read ({told}); look whether it is complete") from error
        batch = all_as_stored(batch, positions, where)
        for name, array in batch.items():
            kind = array.dtype, array.shape[1:]
            if kinds.setdefault(name, kind) != kind:
                raise UsageError(
                    f"{where} has examples {name} of {kinds[name]} and, among positions {positions.min()} to "
                    f"{positions.max()}, of {kind}; make them alike"
                )
        return batch

    return reader._replace(read=read)


def decoded_bytes(readers: Readers) -> int:
    """What all the splits take as arrays, judged by the first example of each."""
    return sum(
        reader.size * sum(array.nbytes for array in reader.read(np.arange(1)).values())
        for split, reader in readers.items()
        if split != "all"
    )


def streamed(name: str, reader: Reader, start: int, stop: int, fingerprint: str) -> Dataset:
    """The examples from `start` up to `stop` of a split, none of which is held."""
    shape = reader.read(np.arange(start, start + 1))["x"].shape[1:]
    return Dataset(
        name,
        shape,
        stop - start,
        reader.classes,
        fingerprint,
        None,
        lambda positions: reader.read(positions + start),
        reader.factors,
        reader.states,
    )


def digest_of_files(told: Iterable[str]) -> str:
    """sha256 over what a source tells of its files, line by line."""
    digest = hashlib.sha256()
    for line in told:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def fingerprint_of_files(digest: str, split: str, start: int, stop: int) -> str:
    """`files:` and the sha256 over the files' digest and the part of them that is meant."""
    return _PREFIX + hashlib.sha256(json.dumps([_LAYOUT, digest, split, start, stop]).encode()).hexdigest()


def is_of_files(fingerprint: str) -> bool:
    """Whether it is a streamed data set's."""
    return fingerprint.startswith(_PREFIX)
