"""TFDS's slicing language for splits, `train[:90%]`, without importing TFDS (which costs most of a second)."""

from __future__ import annotations

import re
from typing import NamedTuple

from aejax.errors import UsageError

_SPEC = re.compile(r"(?P<split>[\w-]+)(?P<slice>\[(?P<start>[\d_.%-]*):(?P<stop>[\d_.%-]*)\])?")
_NAME_AND_SPEC = re.compile(rf"(?P<name>.+):(?P<spec>{re.sub(r'[?]P<[a-z]+>', '', _SPEC.pattern)})")


class Spec(NamedTuple):
    """A split and the part of it that is meant; None is the open end."""

    split: str
    start: float | None
    stop: float | None
    percent: bool
    """Whether start and stop are percentages or positions; negative ones count from the end."""


def parse(spec: str) -> Spec:
    """`train`, `train[100:200]`, `train[:90%]`, `train[-10%:]`; sums of splits and shards are refused.

    As in TFDS, one `%` makes both ends percentages. `all` is a split like any other: every split in turn.
    """
    found = _SPEC.fullmatch(spec)
    if not found:
        raise _unreadable(spec)
    start, stop = found["start"], found["stop"]
    if not found["slice"]:
        return Spec(found["split"], None, None, False)
    if not start and not stop:
        raise _unreadable(spec)
    percent = "%" in start + stop
    try:
        ends = [(float if percent else int)(end.removesuffix("%")) if end else None for end in (start, stop)]
    except ValueError:
        raise _unreadable(spec) from None
    if percent and any(abs(end or 0) > 100 for end in ends):
        raise UsageError(f"split {spec!r} reaches beyond 100 %; use percentages from -100% to 100%")
    return Spec(found["split"], ends[0], ends[1], percent)


def bounds(spec: Spec, size: int, where: str) -> tuple[int, int]:
    """First position and the one after the last, in a split of `size` examples. `where` is for the message.

    Percentages are rounded to the nearest position, halves to the even one, as TFDS does.
    """
    start, stop = (
        default if end is None else round(end * size / 100.0) if spec.percent else int(end)
        for end, default in ((spec.start, 0), (spec.stop, size))
    )
    if abs(start) > size or abs(stop) > size:
        raise UsageError(f"{where} reaches beyond the {size} examples of the split; ask for positions up to {size}")
    start, stop = (end + size if end < 0 else end for end in (start, stop))
    if start >= stop:
        raise UsageError(f"{where} is empty: positions {start} to {stop} of {size}; let the start lie before the end")
    return start, stop


def divide(name: str) -> tuple[str, str | None]:
    """`digits:test[:10]` -> (`digits`, `test[:10]`); without a split the second is None."""
    found = _NAME_AND_SPEC.fullmatch(name)
    return (found["name"], found["spec"]) if found else (name, None)


def _unreadable(spec: str) -> UsageError:
    return UsageError(f"split {spec!r} is not understood; write train, train[:90%], train[90%:] or train[100:200]")
