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
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text on one line, with control characters, such as a name in a stranger's file may have, as escapes."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def non_negative(name: str, what: str, value: Any) -> Any:
    """A number of at least 0; a traced number, which differs between members of one program, is not checked."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not 0.0 <= float(value) < math.inf:  # also true for NaN
        raise UsageError(f"{name}({what}={value}): {what} must be a number of at least 0")
    return float(value)


def at_least_one(name: str, what: str, value: int | Sequence[int]) -> None:
    """A number of at least 1, or a tuple of such numbers."""
    if isinstance(value, Sequence):
        if any(one < 1 for one in value):
            raise UsageError(f"{name}({what}={tuple(value)}): each number in {what} must be at least 1")
    elif value < 1:
        raise UsageError(f"{name}({what}={value}): {what} must be at least 1")
