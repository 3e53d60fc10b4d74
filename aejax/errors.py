"""What a user can cause: one exception, which the command line prints as one line and answers with exit code 2; and checks of
numbers where they are given, before they reach a compiled step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax


class UsageError(Exception):
    """A mistake the user can mend. The message says what is wrong, where, and how to mend it, on one line."""


def non_negative(name: str, what: str, value: Any) -> Any:
    """A number ≥ 0; a traced one, which varies between members of one program, is left alone."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not 0.0 <= float(value) < math.inf:  # also refuses NaN
        raise UsageError(f"{name}({what}={value}): {what} must be a number of at least 0")
    return float(value)


def at_least_one(name: str, what: str, value: int | Sequence[int]) -> None:
    """A number ≥ 1, or numbers that are."""
    if isinstance(value, Sequence):
        if any(one < 1 for one in value):
            raise UsageError(f"{name}({what}={tuple(value)}): each number in {what} must be at least 1")
    elif value < 1:
        raise UsageError(f"{name}({what}={value}): {what} must be at least 1")
