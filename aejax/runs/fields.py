"""The fields of the JSON files in a run directory, which may be damaged or come from anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NUMBER, OPTIONAL = (int, float), type(None)
CONFIG: Mapping[str, Any] = {
    "source": (dict, OPTIONAL),
    "source/file": str,
    "source/sha256": str,
    "source/arguments": dict,
    "source/arguments/data": str,
    "source/arguments/seed": int,
    "source/arguments/steps": int,
    "source/arguments/batch_size": int,
    "seed": int,
    "steps": int,
    "batch_size": int,
    "monitor": str,
    "data": dict,
    "data/name": str,
    "?data/reading": dict,
    "?data/scaling": (dict, OPTIONAL),
    "?data/scaling/shift": list,
    "?data/scaling/shift/*": NUMBER,
    "?data/scaling/scale": list,
    "?data/scaling/scale/*": NUMBER,
    "data/splits": dict,
    "data/splits/*": dict,
    "data/splits/*/shape": list,
    "data/splits/*/shape/*": int,
    "data/splits/*/size": int,
    "data/splits/*/classes": (list, OPTIONAL),
    "data/splits/*/fingerprint": str,
    "?data/splits/*/found": (dict, OPTIONAL),
    "?data/splits/*/found/dtype": str,
    "?data/splits/*/found/low": NUMBER,
    "?data/splits/*/found/high": NUMBER,
    "?data/splits/*/found/origin": str,
    "?data/splits/*/found/passed_over": dict,
    "?data/splits/*/found/doubt": str,
    "?data/splits/*/found/missing": int,
    "?data/splits/*/found/columns": list,
    "settings": dict,
    "resumed": list,
    "resumed/*": dict,
    "versions": dict,
    "platform": dict,
    "started": str,
}
"""Fields of config.json; other programs use the same file name."""

FIELDS: Mapping[str, Mapping[str, Any]] = {
    "result.json": {
        "step": int,
        "digest": str,
        "metrics": dict,
        "metrics/*": (*NUMBER, OPTIONAL),
        "seconds": NUMBER,
        "?cost": (dict, OPTIONAL),
        "cost/flops_per_step": NUMBER,
        "cost/bytes_per_step": NUMBER,
        "?cost/dtype": str,
        "cost/flops_per_second": (*NUMBER, OPTIONAL),
        "cost/peak_flops_per_second": NUMBER,
    },
    "group.json": {
        "members": list,
        "members/*": str,
        "varied": dict,
        "arguments": dict,
        "settings": dict,
        "source": (dict, OPTIONAL),
    },
    "sweep.json": {
        "groups": list,
        "groups/*": str,
        "together": dict,
        "apart": dict,
        "arguments": dict,
        "settings": dict,
        "reading": dict,
    },
    "eval.json": {"step": int, "data": str, "examples": int, "terms": dict},
}
"""File -> path of a field -> its type, where ? marks one that may be absent. The fields of what is None or absent are not looked
for."""


def wrong_field(value: Any, fields: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a JSON value, in words; None if nothing is."""
    for name, kind in fields.items():
        path = name.removeprefix("?")
        for found in _at(value, path.split("/")):
            if found is _ABSENT:
                if name == path:
                    return f"it lacks {path}"
                continue
            if not isinstance(found, kind) or (isinstance(found, bool) and kind in (int, NUMBER)):
                return f"{path} is {str(found)[:40]!r}"
    return None


_ABSENT = object()


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    """The values at a path, where * stands for every key or position; _ABSENT for a missing key."""
    if not path:
        yield value
        return
    first, rest = path[0], path[1:]
    if first == "*":
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _at(part, rest)
    elif isinstance(value, dict) and first in value:
        yield from _at(value[first], rest)
    elif isinstance(value, dict) and not rest:
        yield _ABSENT
