"""Files of NumPy arrays: .npy and .npz. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from aejax.data.arrays import known_names, mapping_readers, refuse_shape
from aejax.data.limits import refuse_many_bytes
from aejax.data.reading import ReadAs
from aejax.data.splits import Reader, Readers, checked, with_a_tenth_held_out
from aejax.errors import UsageError


def npy_readers(path: Path, reading: ReadAs) -> Readers:
    """One array [n, ...] of examples, a tenth of which is the test split."""
    shape, *_ = _npy_header(path)
    refuse_shape(shape, str(path))
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise _unreadable(path) from error
    return mapping_readers({"x": x}, str(path), missing=reading.missing == "mask")


def npy_streams(path: Path, reading: ReadAs) -> Readers | None:
    """The same splits, with each example read from the file on demand.

    None for an array in Fortran order, in which the numbers of one example are scattered over the whole file.
    """
    if _npy_header(path)[1]:
        return None
    rows, _ = row_reader(path)
    return with_a_tenth_held_out(checked(rows._replace(missing=reading.missing == "mask"), str(path)))


def row_reader(path: Path) -> tuple[Reader, np.dtype]:
    """The examples of a .npy file, read from the file at each use, and the type of one of them, with its shape."""
    shape, fortran_order, dtype, offset = _npy_header(path)
    refuse_shape(shape, str(path))
    if fortran_order:
        raise UsageError(
            f"{path} is in Fortran order, in which no example is in one piece; save np.ascontiguousarray(x)"
        )
    row = np.dtype((dtype, shape[1:]))

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        # Not through a memory map, whose pages would count towards this process's memory.
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

    return Reader(shape[0], None, read), row


def npy_header(path: Path) -> str:
    """Shape, order, dtype and the offset of the data."""
    shape, fortran_order, dtype, offset = _npy_header(path)
    return f"{dtype.str} {shape} {fortran_order} {offset}"


def npz_splits(path: Path) -> list[str]:
    """Names of the splits in a .npz, without reading its arrays."""
    with _opened_npz(path) as file:
        return [name.removeprefix("x_") for name in file.files if name.startswith("x_")]


def npz_readers(path: Path, reading: ReadAs) -> Readers:
    """Splits of a .npz: `x` and, if present, `label` (or `y`), a tenth of which is the test split; or `x_train`, `x_test`, …

    Any other word after `x_` names a split of that name. Labels are numbers from 0 on or strings; `label_names` gives the names
    of numbered classes. Beside `x` there may be `factors` [n, f], whole numbers (with `factor_names` [f]). Beside sequences `x`
    [n, t, ...] there may be `state` [n, t, s] (with `state_names` [s]) and `length` [n], the number of valid steps if the rest
    is padding. Arrays with other names are ignored, which is reported.
    """
    with _opened_npz(path) as file:
        names = list(file.files)
        known = known_names(names, str(path))
        refuse_many_bytes(sum(_bytes_of(file, name) for name in names if name in known), str(path), reading.large)
        arrays = {name: _without_objects(file, name, path) for name in names if name in known}
    others = {f"array {name}": 1 for name in names if name not in known}
    return mapping_readers(arrays, str(path), others, reading.missing == "mask")


def _npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran order, dtype and the offset of the data, which are there. NumPy's own messages for object arrays
    mention pickles.
    """
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _header(file)
            offset = file.tell()
        if offset + _size(shape, dtype) > path.stat().st_size:
            raise ValueError("its header describes more than it holds")
    except Exception as error:
        raise _unreadable(path) from error
    _refuse_objects(dtype, str(path))
    return shape, fortran_order, dtype, offset


def _header(file: IO[bytes] | zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The header of a .npy. NumPy evaluates it as a literal, so damage raises many kinds of errors, a TokenError among them."""
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return headers[version](file)


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of an array; ValueError for a negative side."""
    if any(side < 0 for side in shape):
        raise ValueError("its shape is negative")
    return math.prod(shape) * dtype.itemsize


def _bytes_of(file: np.lib.npyio.NpzFile, name: str) -> int:
    """Bytes that an array of a .npz takes, by its header; ValueError if the file cannot hold them.

    The size of a member, which `zipfile` never exceeds when it decompresses, bounds what the header may claim.
    """
    assert file.zip is not None  # which it is of a file that is open
    member = next(key for key in (f"{name}.npy", name) if key in file.zip.namelist())
    with file.zip.open(member) as content:
        shape, _, dtype = _header(content)
    size = _size(shape, dtype)
    if size > file.zip.getinfo(member).file_size and not dtype.hasobject:
        raise ValueError("a header describes more than the file holds")
    return size


@contextlib.contextmanager
def _opened_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The opened file; a UsageError if it or one of its members cannot be read."""
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as file:
            yield file
    except UsageError:
        raise
    except Exception as error:  # also for encryption, other compressions, and headers that are damaged
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
    return UsageError(
        f"{where} has dtype object, which is never unpickled; save one array of float32 or uint8 (sequences of several lengths: "
        "pad them to one in x [n, t, ...], and save in a .npz with it the array length [n])"
    )
