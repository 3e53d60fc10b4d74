"""The units of data: their dtype and range, recorded where a run is trained and compared with all that it is given later.

Data in other units have the right shape and give wrong numbers without a word: floats from 0 to 255 where uint8 was meant, -1 to
1 where 0 to 1 was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aejax.errors import UsageError
from aejax.types import Dataset, Found

MARGIN = 0.5
"""How far beyond the training data other examples, or noise on them, may lie, in spans of the training data."""

SMALLER = 100.0
"""Data whose span is smaller than that of the training data by this factor are in another unit."""

ENOUGH = 64
"""If none of at least this many numbers is negative, that is no coincidence where training data lie on both sides of zero."""

_WHITE = {"uint8": 255.0}
_PIECE = 2**22  # numbers looked at at a time


def found_in(x: np.ndarray, origin: str, where: str) -> Found:
    """What is found of examples as stored: uint8, bool or float32."""
    rows = max(1, _PIECE // max(1, math.prod(x.shape[1:])))
    pieces = [x[start : start + rows] for start in range(0, len(x), rows)]
    low, high = min(float(piece.min()) for piece in pieces), max(float(piece.max()) for piece in pieces)
    if x.dtype == np.uint8 and (low, high) == (0.0, 1.0):
        raise UsageError(
            f"{where} holds only 0 and 1 as uint8, of which 255 is white; save it as bool, or as 0 and 255"
        )
    white = _WHITE.get(x.dtype.name, 1.0)
    return Found(x.dtype.name, low / white, high / white, origin)


def found_of(dataset: Dataset) -> Found:
    """What was found when it was opened, else what its array holds."""
    if dataset.found is not None:
        return dataset.found
    if dataset.arrays is None:
        raise UsageError(f"{dataset.name} was opened without its data; load it by name instead")
    return found_in(dataset.arrays["x"], "", dataset.name)


def joined(parts: Sequence[Found | None]) -> Found | None:
    """The units of several splits of one data set; None where those of one are not known."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    return found[0]._replace(low=min(part.low for part in found), high=max(part.high for part in found))


def refuse_other_units(trained: Found, given: Found, numbers: int, where: str) -> None:
    """Raises UsageError where data (`numbers` of them in all) are not in the units that a run was trained on."""
    as_floats = trained.dtype == "float32"
    # Of bytes and bits the units are known, whatever these examples hold.
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
    return f"uint8 from {255 * found.low:.0f} to {255 * found.high:.0f}, of which 255 is read as 1"
