"""Tables of numbers before they are formatted, for the terminal and for pages; means and standard deviations over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np


class Column(NamedTuple):
    """A column of numbers. `best` tells whether low or high is better, and highlights that number; None highlights none."""

    name: str
    unit: str
    values: Sequence[float | int | None]
    best: str | None = None
    decimals: int | None = None
    """Number of decimals; None for as many as the values need."""


class Table(NamedTuple):
    """A row per name. The row `ours` is highlighted."""

    caption: str
    names: Sequence[str]
    columns: Sequence[Column]
    ours: str | None = None


class Number(NamedTuple):
    """A number by which runs are compared."""

    name: str
    unit: str
    value: float | int | None
    best: str | None = None
    decimals: int | None = None
    needs_same_noise: bool = False
    """Whether runs are comparable only if they were restored from the same corruption."""


class Spread(NamedTuple):
    """Mean and sample standard deviation (n − 1) over seeds."""

    mean: float
    sd: float | None
    """None for a single value."""


def mean_sd(values: Sequence[float | int]) -> Spread:
    """Mean and sd of at least one value."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def with_numbers(columns: Sequence[Column]) -> list[Column]:
    """The columns that have a value."""
    return [c for c in columns if any(is_number(v) for v in c.values)]


def written(column: Column) -> tuple[list[str], set[str]]:
    """The numbers as text, and which of them are the best; those that are equal as text are equally good."""
    numbers = [v for v in column.values if is_number(v)]
    places = decimals(numbers) if column.decimals is None else column.decimals
    text = [fixed(v, places) for v in column.values]
    if column.best is None or len(numbers) < 2:
        return text, set()
    return text, {fixed({"low": min, "high": max}[column.best](numbers), places)}


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def decimals(values: Sequence[float | int], significant: int = 3) -> int:
    """As many decimals as give the smallest nonzero value this many significant digits, at most 7, so that a column aligns.

    Values that are zero with 7 decimals count as zero.
    """
    sizes = [abs(v) for v in values if abs(v) > 5e-8]
    return min(7, max(0, significant - 1 - math.floor(math.log10(min(sizes))))) if sizes else 1


def fixed(value: float | int | None, places: int) -> str:
    """With a proper minus sign, and without one before zero; a dash if there is no number."""
    return f"{value:z.{places}f}".replace("-", "−") if is_number(value) else "–"
