"""Splits: their names, how they are made from a source, checked, and read at each use if the data are larger than memory."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aejax.data.shuffling import shuffled
from aejax.data.units import found_in
from aejax.errors import UsageError
from aejax.types import Batch, Dataset, GroundTruth

Readers = Mapping[str, "Reader"]
"""The splits of a source by name, including `all`."""


class Reader(NamedTuple):
    """One split as given by its source."""

    size: int
    classes: tuple[str, ...] | None
    read: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    """Positions [n] in any order -> `x` [n, ...] and, if there are any, `label` [n], `factors` [n, f], `state` [n, t, s], and
    `length` [n] for sequences that differ in length."""
    factors: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None
    origin: str = ""
    """Description of where the split comes from."""
    passed_over: Mapping[str, int] = {}
    """Kind of file or array in the source that is not read -> how many."""
    missing: bool = False
    """Whether NaN is a missing value, and not an error."""
    columns: Sequence[str] = ()
    """Names of the columns of a table."""
    draw: Callable[[Any], Batch] | None = None
    """As in `Dataset`."""
    truth: GroundTruth | None = None


def with_all(splits: Readers) -> Readers:
    """Adds the split `all`: all splits in order."""
    splits = {name: split._replace(origin=OWN) for name, split in splits.items()}
    return {**splits, "all": joined(list(splits.values()))}


def permuted_with_all(splits: Readers) -> Readers:
    """The splits in a user's files, each permuted with seed 0 for the sake of slices; `all` in the order of the files."""
    splits = {name: split._replace(origin=OWN) for name, split in splits.items()}
    mixed = {name: _part(split, split.size, shuffled(split.size, 0)) for name, split in splits.items()}
    return {**mixed, "all": joined(list(splits.values()))}


HELD_OUT = "split here (a tenth, drawn with seed 0, is test)"
OWN = "in splits of its own"
"""Origin of splits that the source has itself."""


def with_a_tenth_held_out(whole: Reader) -> Readers:
    """Splits a source without splits: `test` is a tenth, by a permutation of seed 0, `train` the rest.

    Both stay permuted: a source is often sorted by class, and a slice such as `train[:90%]` must hold every class. `all` keeps
    the order of the source, and is the only split if there is a single example.
    """
    if whole.size < 2:
        return {"all": whole}
    order = shuffled(whole.size, 0)
    held_out = max(1, round(whole.size / 10))
    return {
        "train": _part(whole, whole.size - held_out, lambda at: order(at + held_out))._replace(origin=HELD_OUT),
        "test": _part(whole, held_out, order)._replace(origin=HELD_OUT),
        "all": whole,
    }


def joined(parts: list[Reader]) -> Reader:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.size for part in parts)])

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        pieces, places = [], []
        for part, start, stop in zip(parts, starts[:-1], starts[1:]):
            (inside,) = np.nonzero((positions >= start) & (positions < stop))
            if len(inside):
                pieces.append(part.read(positions[inside] - start))
                places.append(inside)
        order = np.argsort(np.concatenate(places))
        return {name: np.concatenate([piece[name] for piece in pieces])[order] for name in pieces[0]}

    return parts[0]._replace(size=int(starts[-1]), read=read)


def _part(whole: Reader, size: int, order: Callable[[np.ndarray], np.ndarray]) -> Reader:
    return whole._replace(size=size, read=lambda positions: whole.read(order(positions)))


# --- the syntax of splits: TFDS's slicing language, without importing TFDS, which takes most of a second

_SPEC = re.compile(r"(?P<split>[\w-]+)(?P<slice>\[(?P<start>[\d_.%-]*):(?P<stop>[\d_.%-]*)\])?")
_NAME_AND_SPEC = re.compile(rf"(?P<name>.+):(?P<spec>{re.sub(r'[?]P<[a-z]+>', '', _SPEC.pattern)})")


class Spec(NamedTuple):
    """A split and the requested part of it; None is an open end."""

    split: str
    start: float | None
    stop: float | None
    percent: bool
    """Whether start and stop are percentages or positions; negative ones count from the end."""


def parse(spec: str) -> Spec:
    """`train`, `train[100:200]`, `train[:90%]`, `train[-10%:]`; sums of splits and shards are refused.

    As in TFDS, one `%` makes both ends percentages. `all` is a split like any other: all splits in turn.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        raise _unreadable(spec)
    start, stop = match["start"], match["stop"]
    if not match["slice"]:
        return Spec(match["split"], None, None, False)
    if not start and not stop:
        raise _unreadable(spec)
    percent = "%" in start + stop
    try:
        ends = [(float if percent else int)(end.removesuffix("%")) if end else None for end in (start, stop)]
    except ValueError:
        raise _unreadable(spec) from None
    if percent and any(abs(end or 0) > 100 for end in ends):
        raise UsageError(f"split {spec!r} reaches beyond 100 %; use percentages from -100% to 100%")
    return Spec(match["split"], ends[0], ends[1], percent)


def bounds(spec: Spec, size: int, where: str) -> tuple[int, int]:
    """First position and the one after the last, in a split of `size` examples. `where` is for the message.

    Percentages are rounded to the nearest position, halves to the even one, as in TFDS.
    """
    start, stop = (
        default if end is None else round(end * size / 100.0) if spec.percent else int(end)
        for end, default in ((spec.start, 0), (spec.stop, size))
    )
    if abs(start) > size or abs(stop) > size:
        raise UsageError(f"{where} reaches beyond the {size} examples of the split; ask for positions up to {size}")
    start, stop = (end + size if end < 0 else end for end in (start, stop))
    if start >= stop:
        few = spec.percent and size < 5
        mend = "give 6 examples or more, or splits of your own" if few else "let the start lie before the end"
        raise UsageError(f"{where} is empty: positions {start} to {stop} of {size}; {mend}")
    return start, stop


def divide(name: str) -> tuple[str, str | None]:
    """`digits:test[:10]` -> (`digits`, `test[:10]`); without a split the second is None."""
    match = _NAME_AND_SPEC.fullmatch(name)
    return (match["name"], match["spec"]) if match else (name, None)


def _unreadable(spec: str) -> UsageError:
    return UsageError(f"split {spec!r} is not understood; write train, train[:90%], train[90%:] or train[100:200]")


# --- the stored form of examples

_KEPT = {"label": np.int32, "factors": np.int32, "length": np.int32, "state": np.float32}


def all_as_stored(
    batch: Mapping[str, np.ndarray], positions: np.ndarray, where: str, missing: bool = False
) -> dict[str, np.ndarray]:
    """Output of a reader in the dtypes of the cache; UsageError as in `as_stored`."""
    return {
        name: array.astype(_KEPT[name], copy=False)
        if name in _KEPT
        else as_stored(array, positions, where if name == "x" else f"{where} ({name})", missing and name == "x")
        for name, array in batch.items()
    }


def as_stored(x: np.ndarray, positions: np.ndarray, where: str, missing: bool = False) -> np.ndarray:
    """Examples of a source in the dtype of the cache; UsageError for other dtypes and, with the position, for NaN and Inf.

    With `missing`, NaN stands for a missing value and is kept.
    """
    if x.dtype in (np.uint8, np.bool_):
        return x
    if x.dtype not in (np.float16, np.float32, np.float64):
        raise UsageError(f"{where} has dtype {x.dtype}; convert it to float32, or to uint8 if it holds 0 to 255")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    finite = ~np.isinf(x) if missing else np.isfinite(x)
    if not finite.all():
        first = np.argwhere(~finite)[0]
        position = [int(positions[first[0]]), *map(int, first[1:])]
        remedy = "; if it is a missing value, pass --missing mask" if np.isnan(x[tuple(first)]) else ""
        raise UsageError(
            f"{where} holds {x[tuple(first)]} at position {position} (as float32); remove or replace it{remedy}"
        )
    return x


# --- streamed splits, read at each use

LOOKED_AT = 256
LOOKED_AT_BYTES = 8 * 2**20
"""Bytes of a streamed split, at most, from which the range of all examples is estimated."""

_PREFIX = "files:"
# Part of every fingerprint. Increase it when the same files are read as different examples.
_LAYOUT = 1


def checked(reader: Reader, where: str) -> Reader:
    """A reader whose examples are as the cache would store them: in its dtypes, finite, all alike.

    `where` names the source in messages. Any error in reading becomes a UsageError.
    """
    kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        try:
            batch = reader.read(positions)
        except UsageError:
            raise
        except Exception as error:  # errors of the disk, the format or the decoder
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UsageError(f"{where} cannot be read ({reason}); look whether it is complete") from error
        batch = all_as_stored(batch, positions, where, reader.missing)
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
    """Bytes that all splits take as arrays, from the size of the first example of each."""
    return sum(
        reader.size * sum(array.nbytes for array in reader.read(np.arange(1)).values())
        for split, reader in readers.items()
        if split != "all"
    )


def streamed(name: str, reader: Reader, start: int, stop: int, fingerprint: str) -> Dataset:
    """The examples from `start` to `stop` of a split, none of which is kept in memory."""
    example = reader.read(np.arange(start, start + 1))
    first = example["x"]
    # These are read before the first step in any case.
    looked_at = max(1, min(LOOKED_AT, LOOKED_AT_BYTES // (4 * math.prod(first.shape))))
    some = reader.read(np.unique(np.linspace(start, stop - 1, looked_at).astype(np.int64)))["x"]
    return Dataset(
        name,
        first.shape[1:],
        stop - start,
        reader.classes,
        fingerprint,
        None,
        lambda positions: reader.read(positions + start),
        reader.factors,
        reader.states,
        found_in(some, reader.origin, name)._replace(passed_over=reader.passed_over, columns=reader.columns),
        target=example["target"].shape[1:] if "target" in example else None,
        draw=None if reader.draw is None else from_start(reader.draw, start),
        truth=None if reader.truth is None else at(reader.truth, lambda positions: positions + start),
    )


def from_start(draw: Callable[[Any], Batch], start: int) -> Callable[[Any], Batch]:
    return lambda positions: draw(positions + start)


def at(truth: GroundTruth, moved: Callable[[np.ndarray], np.ndarray]) -> GroundTruth:
    """The features of the examples at these positions of the original."""
    return truth._replace(activations=lambda positions: truth.activations(moved(positions)))


def digest_of_files(lines: Iterable[str]) -> str:
    """sha256 of what a source reports about its files, line by line."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def fingerprint_of_files(digest: str, split: str, start: int, stop: int) -> str:
    """`files:` and the sha256 of the files' digest and the requested part of them."""
    return _PREFIX + hashlib.sha256(json.dumps([_LAYOUT, digest, split, start, stop]).encode()).hexdigest()


def is_of_files(fingerprint: str) -> bool:
    """Whether it is the fingerprint of a streamed data set."""
    return fingerprint.startswith(_PREFIX)
