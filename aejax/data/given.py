"""Data in memory, as a Python user gives them: arrays of any library, a table, or several arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aejax.data.arrays import known_names, mapping_readers
from aejax.data.splits import Readers
from aejax.data.tables import rows_of, table_arrays, with_columns
from aejax.errors import UsageError


def given_readers(given: Any, where: str, missing: bool = False) -> Readers:
    """The splits of data in memory.

    Accepted are an array x [n, ...] of NumPy, JAX or PyTorch, a table (pandas or polars) with numeric columns and optionally a
    column `label`, a pair (x, label), or a mapping of arrays that are named as in a .npz. Raises UsageError for anything else,
    with its type.
    """
    if isinstance(given, tuple) and len(given) == 2:
        given = dict(zip(("x", "label"), given))
    columns: list[str] = []
    if _is_table(given):
        named = _columns(given)
        columns, given = list(named), table_arrays(named, where)
    if not isinstance(given, Mapping):
        given = {"x": given}
    arrays = {str(name): _array(value, where) for name, value in given.items()}
    known = known_names(list(arrays), where)
    others = {f"array {name}": 1 for name in arrays if name not in known}
    readers = mapping_readers({name: array for name, array in arrays.items() if name in known}, where, others, missing)
    return with_columns(readers, columns)


def _array(value: Any, where: str) -> np.ndarray:
    if _is_table(value):
        value = rows_of(_columns(value), where)
    if not hasattr(value, "__array__"):
        raise UsageError(
            f"data are of type {type(value).__name__}; give a name or a path, an array or a table of numbers, (x, label), or a "
            "mapping of arrays named as in a .npz"
        )
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # for a tensor that requires a gradient or is on a device
        raise UsageError(
            f"{where}, a {type(value).__name__}, gives no array: {' '.join(str(error).split())}"
        ) from error
    if array.dtype.hasobject:
        raise UsageError(
            f"{where} has dtype object; give one array of numbers (sequences of several lengths: pad them to one in x "
            "[n, t, ...], and give {'x': x, 'length': length [n]})"
        )
    return array.astype(str) if array.dtype.kind in "ST" else array


def _is_table(value: Any) -> bool:
    """Whether it is a data frame of pandas or polars."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _columns(table: Any) -> dict[str, np.ndarray]:
    return {str(name): np.asarray(table[name]) for name in table.columns}
