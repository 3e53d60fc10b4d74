"""Data from files of NumPy arrays: .npy and .npz. Nothing is ever unpickled."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax.data.cache import as_stored
from aejax.data.reader import Reader, Readers, permuted_with_all, with_a_tenth_held_out
from aejax.data.streams import checked
from aejax.errors import UsageError

_LABELS = ("label", "y")
_ROWS = 4096


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

    def read(positions):
        # Not through a memory map, whose pages would count as this process's memory.
        x = np.empty(len(positions), row)
        flat = memoryview(x.reshape(-1).view(np.uint8))
        file = os.open(path, os.O_RDONLY)
        try:
            for i, position in enumerate(positions.tolist()):
                found = os.pread(file, row.itemsize, offset + position * row.itemsize)
                if len(found) < row.itemsize:
                    raise UsageError(f"{path} ends within example {position} of {shape[0]}; save it again with np.save")
                flat[i * row.itemsize : (i + 1) * row.itemsize] = found
        finally:
            os.close(file)
        return {"x": x}

    return with_a_tenth_held_out(checked(Reader(shape[0], None, read), str(path)))


def npy_header(path: Path) -> str:
    """Shape, order, dtype and where the numbers begin."""
    shape, fortran_order, dtype, offset = _npy_header(path)
    return f"{dtype.str} {shape} {fortran_order} {offset}"


def npz_readers(path: Path) -> Readers:
    """`x` and, if there, `label` (or `y`), a tenth of them the test split; or `x_train`, `x_test`, `label_train`, …

    Any other word after `x_` is a split of that name.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            wanted = [name for name in names if name.partition("_")[0] in ("x", *_LABELS)]
            arrays = {name: _without_objects(file, name, path) for name in wanted}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{path} cannot be read as a .npz file; save it again with np.savez") from error
    splits = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    if ("x" in arrays) == bool(splits):
        raise UsageError(
            f"{path} holds {', '.join(names) or 'nothing'}; name its arrays x (and label), or x_train and x_test "
            "(and label_train, label_test)"
        )
    if not splits:
        label = _label(arrays, "")
        return with_a_tenth_held_out(_reader(_with(arrays["x"], label), _classes([label]), str(path)))
    labels = {split: _label(arrays, f"_{split}") for split in splits}
    _refuse_unlike(path, {f"x_{split}": arrays[f"x_{split}"] for split in splits}, labels)
    classes = _classes(list(labels.values()))
    return permuted_with_all(
        {split: _reader(_with(arrays[f"x_{split}"], labels[split]), classes, f"{path} (x_{split})") for split in splits}
    )


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


def _with(x: np.ndarray, label: np.ndarray | None) -> Mapping[str, np.ndarray]:
    return {"x": x} if label is None else {"x": x, "label": label}


def _label(arrays: Mapping[str, np.ndarray], suffix: str) -> np.ndarray | None:
    return next((arrays[f"{name}{suffix}"] for name in _LABELS if f"{name}{suffix}" in arrays), None)


def _classes(labels: list[np.ndarray | None]) -> tuple[str, ...] | None:
    """Numbers are all the names there are."""
    present = [label for label in labels if label is not None and label.dtype.kind in "iu" and label.size]
    return tuple(map(str, range(1 + max(int(label.max()) for label in present)))) if present else None


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
    return Reader(len(x), classes, lambda positions: {name: array[positions] for name, array in arrays.items()})


def _refuse_shape(shape: tuple[int, ...], where: str) -> None:
    if 0 in shape:
        raise UsageError(f"{where} is empty, of shape {shape}; give at least one example")
    if len(shape) < 2:
        raise UsageError(f"{where} has shape {shape}; the first axis counts examples: reshape numbers to [n, 1]")


def _refuse_unlike(path: Path, xs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray | None]) -> None:
    """Splits that differ in range, shape or labels would train on one thing and test on another."""
    first, *others = xs
    for other in others:
        kinds = [f"{xs[name].dtype}{list(xs[name].shape[1:])}" for name in (first, other)]
        if kinds[0] != kinds[1]:
            raise UsageError(f"{path}: {first} is {kinds[0]} but {other} is {kinds[1]}; make them alike")
    if len({label is None for label in labels.values()}) > 1:
        without = ", ".join(split for split, label in labels.items() if label is None)
        raise UsageError(f"{path} has no labels for {without}; give them for every split or for none")
