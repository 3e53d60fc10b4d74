"""The flags --sweep and --space: values of an experiment's arguments, written as terms such as `lr=1e-3,3e-4`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from aejax.errors import UsageError
from aejax.training.search import Range, Space

MOST_SEEDS = 10_000
"""A program of more members is a mistake, and would only fail for lack of memory."""


def varied_by(
    seeds: int, sweep: Sequence[str], arguments: Mapping[str, Any], hints: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """The varied arguments by name: swept values, then seeds."""
    varied = {}
    for term in sweep:
        name, values = _argument("--sweep", term, arguments)
        varied[name] = [_typed("--sweep", term, value, hints[name]) for value in values.split(",")]
    return {**varied, "seed": seeds_from(arguments["seed"], seeds)}


def space_of(terms: Sequence[str], arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> Space:
    """The space of a search: LOW..HIGH of a number, LOW..HIGH:log, or values separated by commas."""
    space: dict[str, Range | list[Any]] = {}
    for term in terms:
        name, values = _argument("--space", term, arguments)
        if ".." not in values:
            space[name] = [_typed("--space", term, value, hints[name]) for value in values.split(",")]
            continue
        ends, _, scale = values.partition(":")
        if hints[name] not in (int, float) or scale not in ("", "log"):
            raise UsageError(
                f"--space {term}: write LOW..HIGH or LOW..HIGH:log for a number, and VALUE,VALUE,… for others"
            )
        low, high = (_typed("--space", term, end, hints[name]) for end in ends.split("..", 1))
        space[name] = Range(low, high, scale == "log")
    return space


def seeds_from(first: int, count: int) -> list[int]:
    if not 1 <= count <= MOST_SEEDS:
        raise UsageError(f"--seeds {count}: it must be from 1 to {MOST_SEEDS}")
    return [first + i for i in range(count)]


def _argument(flag: str, term: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    name, equals, values = term.partition("=")
    name = name.replace("-", "_")
    if not equals:
        raise UsageError(f"{flag} {term}: write NAME=VALUE,VALUE,…, as in lr=1e-3,3e-4")
    if name == "seed":
        raise UsageError(f"{flag} seed: write --seeds N for N seeds from --seed on")
    if name not in arguments or name == "data":
        raise UsageError(f"{flag} {term}: the experiment has no argument {name} to vary; see its --help")
    return name, values


def _typed(flag: str, term: str, value: str, hint: Any) -> Any:
    """The value of an argument of this type: a number, a choice, yes or no, or widths as in 512x256."""
    choices = get_args(hint)
    try:
        if get_origin(hint) is Literal:
            return next(choice for choice in choices if str(choice) == value)
        if get_origin(hint) is tuple:
            return tuple(choices[0](part) for part in value.split("x"))
        if hint is bool:
            return {"true": True, "yes": True, "false": False, "no": False}[value.lower()]
        if hint in (int, float, str):
            typed = hint(value)
            if isinstance(typed, float) and not math.isfinite(typed):
                raise ValueError
            return typed
    except (ValueError, KeyError, StopIteration):
        expected = ", ".join(map(str, choices)) if get_origin(hint) is Literal else getattr(hint, "__name__", str(hint))
        raise UsageError(f"{flag} {term}: {value!r} is not one of its values ({expected})") from None
    raise UsageError(f"{flag} {term}: an argument of type {hint} cannot be varied; train runs one by one")
