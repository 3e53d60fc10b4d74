"""Refusing a wrong number where it is given, and not within a compiled step."""

from __future__ import annotations

import math
from typing import Any

import jax

from aejax.errors import UsageError


def non_negative(name: str, what: str, value: Any) -> Any:
    """A number ≥ 0; a traced one, which varies between members of one program, is left alone."""
    if isinstance(value, jax.core.Tracer):
        return value
    if not 0.0 <= float(value) < math.inf:  # also refuses NaN
        raise UsageError(f"{name}({what}={value}): {what} must be a number of at least 0")
    return float(value)


def at_least_one(name: str, what: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name}({what}={value}): {what} must be at least 1")
