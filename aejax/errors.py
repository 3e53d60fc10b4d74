"""Errors that a user can cause: one exception, which the command line prints as one line with exit code 2, and checks of
numbers before they reach a compiled step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax


class UsageError(Exception):
    """A mistake that the user can correct. The message says on one line what is wrong, where, and how to correct it.

    Example:
        >>> try:
        ...     aejax.load("digits", ("trian",))
        ... except aejax.UsageError as error:
        ...     print(str(error)[:27])
        digits has no split 'trian'
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


def printable(text: str) -> str:
    """Text on one line, with control characters, such as a name in a stranger's file may have, as escapes."""
    line = " ".join(text.splitlines())
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def non_negative(name: str, what: str, value: Any) -> Any:
    """A number of at least 0; a traced number, which differs between members of one program, is not checked."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not 0.0 <= float(value) < math.inf:  # also true for NaN
        raise UsageError(f"{name}({what}={value}): {what} must be a number of at least 0")
    return float(value)


def positive(name: str, what: str, value: Any) -> Any:
    """A number above 0; a traced number is not checked."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not 0.0 < float(value) < math.inf:
        raise UsageError(f"{name}({what}={value}): {what} must be a positive number")
    return float(value)


def at_least_one(name: str, what: str, value: int | Sequence[int]) -> None:
    """A number of at least 1, or a tuple of such numbers; sizes of arrays have 32 bits."""
    numbers = value if isinstance(value, Sequence) else (value,)
    if any(not 1 <= one < 2**31 for one in numbers):
        shown = tuple(value) if isinstance(value, Sequence) else value
        each = f"each number in {what}" if isinstance(value, Sequence) else what
        how = "at least 1" if any(one < 1 for one in numbers) else "below 2³¹"
        raise UsageError(f"{name}({what}={shown}): {each} must be {how}")


def at_most(name: str, what: str, value: int, most: int = 1000) -> None:
    """A number of parts that are built one after the other, of which many would take for ever."""
    if value > most:
        raise UsageError(f"{name}({what}={value}): {what} must be at most {most}")
