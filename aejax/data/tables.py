"""Tables: .csv, .tsv and .parquet files, and data frames. Each row is an example, each numeric column one of its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from aejax.data.arrays import mapping_readers
from aejax.data.limits import refuse_many_bytes
from aejax.data.reading import ReadAs
from aejax.data.splits import Readers
from aejax.errors import UsageError

TABLES = (".csv", ".tsv", ".parquet")

_NUMBER = 8
"""Bytes of a number in a table."""

LABELS = ("label", "y")
"""Names of a column that holds the class of each row."""


def table_readers(path: Path, reading: ReadAs) -> Readers:
    """The rows of a .csv, .tsv or .parquet file, a tenth of which is the test split.

    The first row of a text file names the columns. A column `label` (or `y`) holds classes, numbers or words; all others must be
    numbers.
    """
    columns, missing = _columns(path, reading.large), reading.missing == "mask"
    return with_columns(mapping_readers(table_arrays(columns, str(path)), str(path), missing=missing), columns)


def table_columns(path: Path) -> list[str]:
    """Names of the columns of numbers."""
    return _of_numbers(_columns(path, large=True))


def with_columns(readers: Readers, columns: Iterable[str]) -> Readers:
    """The splits of a table, with the names of its columns of numbers."""
    names = _of_numbers(columns)
    return {split: reader._replace(columns=names) for split, reader in readers.items()}


def _of_numbers(columns: Iterable[str]) -> list[str]:
    names = list(map(str, columns))
    label = next((name for name in LABELS if name in names), None)
    return [name for name in names if name != label]


def _columns(path: Path, large: bool) -> dict[str, np.ndarray]:
    from pyarrow import csv, parquet  # takes a tenth of a second to import

    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                refuse_many_bytes(_NUMBER * file.metadata.num_rows * file.metadata.num_columns, str(path), large)
                table = file.read()
        else:
            # Two characters, a digit and a comma, can become a number of eight bytes.
            refuse_many_bytes(_NUMBER // 2 * path.stat().st_size, str(path), large)
            delimiter = "\t" if path.suffix == ".tsv" else ","
            table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter))
        names = table.column_names
        columns = [column.to_numpy() for column in table.columns]
    except UsageError:
        raise
    except Exception as error:  # errors of Arrow, of the disk, and of bytes that are not UTF-8
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{path} cannot be read as a table: {reason}; save it again") from error
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"{path} has several columns called {', '.join(repeated[:5])}; give each its own name")
    return dict(zip(names, columns))


def table_arrays(columns: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Columns [n] by name as `x` [n, d] and, if there is such a column, `label` [n]."""
    label = next((name for name in LABELS if name in columns), None)
    arrays = {"x": rows_of({name: column for name, column in columns.items() if name != label}, where)}
    if label is not None:
        values = columns[label]
        try:
            arrays["label"] = values.astype(str) if values.dtype.kind in "OSTU" else values
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} has bytes in its column {label}; save it as text or as numbers") from error
    return arrays


def rows_of(columns: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Columns of numbers side by side, [n, d]; other columns are refused by name."""
    words = [name for name, column in columns.items() if column.dtype.kind not in "fiub"]
    if words:
        raise UsageError(
            f"{where} has columns that are not numeric: {', '.join(words[:5])}; leave them out or encode them as numbers "
            "(pandas.get_dummies); the column of classes is called label"
        )
    if not columns:
        raise UsageError(f"{where} has no column of numbers; give at least one")
    x = np.stack(list(columns.values()), axis=1)
    with np.errstate(over="ignore"):  # what exceeds float32 is refused as infinite
        return x if x.dtype == bool else x.astype(np.float32)
