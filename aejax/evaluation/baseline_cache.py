"""What is the same for all runs on the same data, computed once in a process: a command that judges many runs fits each
baseline once.

Kept are results only, numbers, classifiers and matrices, never examples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from aejax.types import Dataset

T = TypeVar("T")

MOST = 100
"""Results that are kept, those last asked for."""

_kept: dict[Hashable, Any] = {}


def remembered(what: Hashable, data: Sequence[Dataset], make: Callable[[], T]) -> T:
    """`make()`, or what it gave for the same `what` of the same data before. Data without a fingerprint are not known again."""
    if not all(d.fingerprint for d in data):
        return make()
    key = (what, *((d.name, d.fingerprint, d.shape, d.size) for d in data))
    _kept[key] = _kept.pop(key) if key in _kept else make()
    if len(_kept) > MOST:
        _kept.pop(next(iter(_kept)))
    return _kept[key]
