"""The units of data: their dtype and range, recorded when a run is trained and compared with all data that it is given later.

Data in other units have the right shape and silently give wrong numbers: floats from 0 to 255 instead of uint8, or -1 to 1
instead of 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aejax.errors import UsageError
from aejax.types import Dataset, Found

MARGIN = 0.5
"""How far examples may lie beyond the range of the training data, as a fraction of that range."""

SMALLER = 100.0
"""Data whose range is smaller than that of the training data by this factor are in another unit."""

ENOUGH = 64
"""If training data have both signs and at least this many numbers have none below zero, they are in another unit."""

_WHITE = {"uint8": 255.0}
_PIECE = 2**22  # numbers examined at a time


def found_in(x: np.ndarray, origin: str, where: str) -> Found:
    """What is found in examples as stored: uint8, bool or float32."""
    rows = max(1, _PIECE // max(1, math.prod(x.shape[1:])))
    pieces = [x[start : start + rows] for start in range(0, len(x), rows)]
    missing = sum(int(np.isnan(piece).sum()) for piece in pieces) if x.dtype.kind == "f" else 0
    if missing == x.size:
        raise UsageError(f"{where} has no values: all are missing")
    # fmin and fmax pass over NaN.
    low, high = min(float(np.fmin.reduce(p, None)) for p in pieces), max(float(np.fmax.reduce(p, None)) for p in pieces)
    if x.dtype == np.uint8 and (low, high) == (0.0, 1.0):
        raise UsageError(
            f"{where} holds only 0 and 1 as uint8, where 255 means white; save it as bool, or as 0 and 255"
        )
    white = _WHITE.get(x.dtype.name, 1.0)
    return Found(x.dtype.name, low / white, high / white, origin, missing=missing)


def found_of(dataset: Dataset) -> Found:
    """What was found when the data set was opened, or else in its array."""
    if dataset.found is not None:
        return dataset.found
    if dataset.arrays is None:
        raise UsageError(f"{dataset.name} was opened without its data; load it by name instead")
    return found_in(dataset.arrays["x"], "", dataset.name)


def joined(parts: Sequence[Found | None]) -> Found | None:
    """The units of several splits of one data set; None if those of one are unknown."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    return found[0]._replace(low=min(part.low for part in found), high=max(part.high for part in found))


def refuse_other_units(trained: Found, given: Found, numbers: int, where: str) -> None:
    """Raises UsageError if data (`numbers` of them in all) are not in the units of the training data of a run."""
    as_floats = trained.dtype == "float32"
    # The units of uint8 and bool are known from the dtype.
    low, high = (trained.low, trained.high) if as_floats else (0.0, 1.0)
    span, spread = high - low, given.high - given.low
    outside = given.low < low - MARGIN * span or given.high > high + MARGIN * span
    smaller = given.dtype != "uint8" and 0.0 < spread * SMALLER < span
    signed = as_floats and low <= -high / 2 < 0.0
    positive = signed and given.low >= 0.0 and spread > 0.0 and numbers >= ENOUGH
    bytes_for_floats = given.dtype == "uint8" and as_floats
    if outside or smaller or positive or bytes_for_floats:
        raise UsageError(
            f"{where} holds {units(given)}, but this run was trained on {units(trained)}; convert it to the same units, or pass "
            "--allow-changed (in Python allow_changed=True) if it is in them"
        )


def units(found: Found) -> str:
    """In words: `uint8, 0 to 255 read as 0 to 1`, or `float32 from -2.5 to 3`."""
    if found.dtype == "float32":
        return f"float32 from {found.low:.4g} to {found.high:.4g}"
    if found.dtype == "bool":
        return "bool read as 0 and 1"
    return f"uint8 from {255 * found.low:.0f} to {255 * found.high:.0f}, where 255 is read as 1"
