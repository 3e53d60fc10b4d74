"""Data from files of NumPy arrays: .npy and .npz. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from aejax.data.splits import Reader, Readers, as_stored, checked, permuted_with_all, with_a_tenth_held_out
from aejax.errors import UsageError

_LABELS = ("label", "y")
_OF_SEQUENCES = ("state", "length")
_ROWS = 4096
_Parts = Mapping[str, Mapping[str, np.ndarray]]
"""Split -> what it is -> array."""

MOST_CLASSES = 10_000
"""A label beyond is a code or a year, not the number of a class."""


def npy_readers(path: Path) -> Readers:
    """One array [n, ...] of examples; a tenth of it is the test split."""
    shape, *_ = _npy_header(path)
    _refuse_shape(shape, str(path))
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    return with_a_tenth_held_out(_reader({"x": x}, None, str(path)))


def npy_streams(path: Path) -> Readers | None:
    """The same splits, each example read from the file when it is asked for; None for an array in Fortran order, where the
    numbers of an example lie scattered over the whole file."""
    shape, fortran_order, dtype, offset = _npy_header(path)
    _refuse_shape(shape, str(path))
    if fortran_order:
        return None
    row = np.dtype((dtype, shape[1:]))

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        # Not through a memory map, whose pages would count as this process's memory.
        x = np.empty(len(positions), row)
        flat = memoryview(x.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # NumPy declares the buffer protocol from Python 3.12 on
        file = os.open(path, os.O_RDONLY)
        try:
            for i, position in enumerate(positions.tolist()):
                read_bytes = os.pread(file, row.itemsize, offset + position * row.itemsize)
                if len(read_bytes) < row.itemsize:
                    raise UsageError(f"{path} ends within example {position} of {shape[0]}; save it again with np.save")
                flat[i * row.itemsize : (i + 1) * row.itemsize] = read_bytes
        finally:
            os.close(file)
        return {"x": x}

    return with_a_tenth_held_out(checked(Reader(shape[0], None, read), str(path)))


def npy_header(path: Path) -> str:
    """Shape, order, dtype and where the numbers begin."""
    shape, fortran_order, dtype, offset = _npy_header(path)
    return f"{dtype.str} {shape} {fortran_order} {offset}"


def npz_splits(path: Path) -> list[str]:
    """Names of the splits in a .npz, without reading its arrays."""
    with _opened_npz(path) as file:
        return [name.removeprefix("x_") for name in file.files if name.startswith("x_")]


def npz_readers(path: Path) -> Readers:
    """`x` and, if there, `label` (or `y`), a tenth of them the test split; or `x_train`, `x_test`, `label_train`, …

    Any other word after `x_` is a split of that name. Beside `x` [n, t, ...], sequences, there may be `state` [n, t, s], and
    `length` [n], how many of the t steps are theirs where the rest is padding.
    """
    with _opened_npz(path) as file:
        names = list(file.files)
        wanted = [name for name in names if name.partition("_")[0] in ("x", *_LABELS, *_OF_SEQUENCES)]
        arrays = {name: _without_objects(file, name, path) for name in wanted}
    splits = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    if ("x" in arrays) == bool(splits):
        raise UsageError(
            f"{path} holds {', '.join(names) or 'nothing'}; name its arrays x (and label), or x_train and x_test "
            "(and label_train, label_test)"
        )
    if not splits:
        parts, classes = _numbered({"": _of_split(arrays, "")}, path)
        return with_a_tenth_held_out(_reader(parts[""], classes, str(path)))
    own: _Parts = {split: _of_split(arrays, f"_{split}") for split in splits}
    _refuse_unlike(path, own)
    parts, classes = _numbered(own, path)
    return permuted_with_all({split: _reader(part, classes, f"{path} (x_{split})") for split, part in parts.items()})


def _npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran order, dtype and the offset of the first number. NumPy's own messages for an object array
    speak of pickles."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran_order, dtype = headers[version](file)
            offset = file.tell()
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise _unreadable(path) from error
    _refuse_objects(dtype, str(path))
    return shape, fortran_order, dtype, offset


@contextlib.contextmanager
def _opened_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A UsageError if it cannot be read, also within."""
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} cannot be read as a .npz file; save it again with np.savez") from error


def _unreadable(path: Path) -> UsageError:
    return UsageError(f"{path} cannot be read as a .npy file; save it again with np.save")


def _without_objects(file: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return file[name]
    except ValueError as error:
        if "Object arrays" in str(error):
            raise _objects(f"{path} ({name})") from error
        raise


def _refuse_objects(dtype: np.dtype, where: str) -> None:
    if dtype.hasobject:
        raise _objects(where)


def _objects(where: str) -> UsageError:
    return UsageError(f"{where} has dtype object, which is never unpickled; save one array of float32 or uint8")


def _of_split(arrays: Mapping[str, np.ndarray], suffix: str) -> Mapping[str, np.ndarray]:
    """The arrays of one split by what they are; of two labels the first of _LABELS."""
    # A label of either name, `label` written last.
    names = {name: "label" if name in _LABELS else name for name in ("x", *_OF_SEQUENCES, *reversed(_LABELS))}
    return {key: arrays[f"{name}{suffix}"] for name, key in names.items() if f"{name}{suffix}" in arrays}


def _numbered(parts: _Parts, path: Path) -> tuple[_Parts, tuple[str, ...] | None]:
    """The arrays of the splits with labels from 0 on, and the classes' names, which are the numbers in the file.

    Labels below MOST_CLASSES stay as they are, whether or not each occurs. Larger ones, such as years or codes, are numbered in
    their order. Labels that `_reader` refuses are left to it.
    """
    labels = [part["label"] for part in parts.values() if "label" in part]
    if not labels or any(label.dtype.kind not in "iu" or not label.size or label.min() < 0 for label in labels):
        return parts, None
    most = max(int(label.max()) for label in labels)
    if most < MOST_CLASSES:
        return parts, tuple(map(str, range(1 + most)))
    distinct = np.unique(np.concatenate([label.ravel() for label in labels]))
    if len(distinct) > MOST_CLASSES:
        raise UsageError(
            f"{path} has labels of {len(distinct)} different values, as identifiers or times have; leave the labels out, or "
            f"number up to {MOST_CLASSES} classes"
        )
    numbered = {
        split: {**part, "label": np.searchsorted(distinct, part["label"])} if "label" in part else part
        for split, part in parts.items()
    }
    return numbered, tuple(map(str, distinct.tolist()))


def _reader(arrays: Mapping[str, np.ndarray], classes: tuple[str, ...] | None, where: str) -> Reader:
    x = arrays["x"]
    _refuse_shape(x.shape, where)
    for start in range(0, len(x), _ROWS):  # here, where a position is still the file's
        as_stored(x[start : start + _ROWS], np.arange(start, start + _ROWS), where)
    if "label" in arrays:
        label = arrays["label"]
        if label.shape != x.shape[:1]:
            raise UsageError(f"{where} has {len(x)} examples but labels of shape {label.shape}; give one for each")
        if label.dtype.kind not in "iu":
            raise UsageError(f"{where} has labels of dtype {label.dtype}; number the classes 0, 1, 2, …")
        if label.min() < 0:
            raise UsageError(f"{where} has the label {label.min()}; number the classes 0, 1, 2, …")
    _refuse_sequences(arrays, where)
    states = tuple(map(str, range(arrays["state"].shape[2]))) if "state" in arrays else None
    read = lambda positions: {name: array[positions] for name, array in arrays.items()}
    return Reader(len(x), classes, read, states=states)


def _refuse_sequences(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """States and lengths that do not belong to these sequences."""
    n, steps = arrays["x"].shape[:2]
    if "state" in arrays:
        state = arrays["state"]
        if state.ndim != 3 or state.shape[:2] != (n, steps) or state.shape[2] == 0:
            raise UsageError(
                f"{where} has states of shape {state.shape}; give [{n}, {steps}, numbers], as x has its steps"
            )
        if state.dtype.kind not in "fiub":
            raise UsageError(f"{where} has states of dtype {state.dtype}; convert them to float32")
        if not np.isfinite(state.astype(np.float32)).all():
            raise UsageError(f"{where} has states that are not finite (as float32); remove or replace them")
    if "length" in arrays:
        length = arrays["length"]
        if length.shape != (n,) or length.dtype.kind not in "iu" or length.min() < 1 or length.max() > steps:
            why = (
                f"from {length.min()} to {length.max()}" if length.dtype.kind in "iu" and length.size else "no integers"
            )
            raise UsageError(
                f"{where} has lengths of shape {length.shape}, {why}; give [{n}], each from 1 to the {steps} steps of x"
            )


def _refuse_shape(shape: tuple[int, ...], where: str) -> None:
    if 0 in shape:
        raise UsageError(f"{where} is empty, of shape {shape}; give at least one example")
    if len(shape) < 2:
        raise UsageError(f"{where} has shape {shape}; the first axis counts examples: reshape numbers to [n, 1]")


def _refuse_unlike(path: Path, parts: _Parts) -> None:
    """Splits that differ in range, shape or labels would train on one thing and test on another."""
    first, *others = parts
    for other in others:
        kinds = [f"{parts[split]['x'].dtype}{list(parts[split]['x'].shape[1:])}" for split in (first, other)]
        if kinds[0] != kinds[1]:
            raise UsageError(f"{path}: x_{first} is {kinds[0]} but x_{other} is {kinds[1]}; make them alike")
    for name in ("label", *_OF_SEQUENCES):
        without = [split for split, part in parts.items() if name not in part]
        if 0 < len(without) < len(parts):
            raise UsageError(f"{path} has no {name}s for {', '.join(without)}; give them for every split or for none")
    widths = {part["state"].shape[-1] for part in parts.values() if "state" in part}
    if len(widths) > 1:
        raise UsageError(f"{path} has states of {' and '.join(map(str, sorted(widths)))} numbers; make them alike")
