"""What is the same for all runs on the same data, computed once in a process: a command that judges many runs fits each
baseline once.

Kept are small results only, classifiers and matrices, never examples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from aejax.types import Dataset

T = TypeVar("T")

MOST = 8
"""Results that are kept, the latest: a covariance takes up to 128 MB."""

_kept: dict[Hashable, Any] = {}


def remembered(what: Hashable, data: Sequence[Dataset], make: Callable[[], T]) -> T:
    """`make()`, or what it gave for the same `what` of the same data before. Data without a fingerprint are not known again."""
    if not all(d.fingerprint for d in data):
        return make()
    key = (what, *((d.name, d.fingerprint, d.shape, d.size) for d in data))
    if key not in _kept:
        while len(_kept) >= MOST:
            _kept.pop(next(iter(_kept)))
        _kept[key] = make()
    return _kept[key]
