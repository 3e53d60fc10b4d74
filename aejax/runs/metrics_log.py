"""metrics.jsonl, with one JSON object per log point."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aejax.files import parsed_object, write_text
from aejax.runs.tracking import Tracker, tracked

Log = Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
"""split -> term -> (steps [n], values [n])."""


class Write(Protocol):
    """Writes one line: the step, the name of the split, {term: value}, and the speed if it was measured."""

    def __call__(
        self, step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None = None, /
    ) -> None: ...


@contextmanager
def metrics_log(directory: Path, tracker: Tracker = "none") -> Iterator[Write]:
    """Yields a function that writes a line to metrics.jsonl, and to a tracker."""
    with open(directory / "metrics.jsonl", "a") as file, tracked(directory, tracker) as track:

        def write(step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None = None, /) -> None:
            speed = {} if examples_per_second is None else {"examples_per_second": examples_per_second}
            file.write(json.dumps({"step": step, "split": split, **terms, **speed}) + "\n")
            file.flush()
            track(step, {f"{split}/{name}": v for name, v in terms.items() if not isinstance(v, list)})  # no histograms

        yield write


def truncate_log(directory: Path, step: int) -> None:
    """Drops lines after the checkpoint, and a line cut short by a kill; those steps are run again."""
    file = directory / "metrics.jsonl"
    if not file.exists():
        return
    write_text(file, "".join(f"{line}\n" for line, entry in _entries(file) if entry["step"] <= step))


def read_log(file: Path) -> Log:
    """The numbers in metrics.jsonl."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for _, entry in _entries(file) if file.exists() else []:
        step, split = entry.pop("step"), entry.pop("split")
        for name, value in entry.items():
            if name != "examples_per_second" and isinstance(value, (int, float)):
                points.setdefault(split, {}).setdefault(name, []).append((step, value))
    return {
        split: {name: tuple(np.array(pairs, float).T) for name, pairs in terms.items()}
        for split, terms in points.items()
    }


def _entries(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a log and its content. Damaged lines, such as one cut short by a kill, are passed over."""
    for line in file.read_text("utf-8", "replace").splitlines():
        entry = parsed_object(line)
        if entry is not None and type(entry.get("step")) is int and isinstance(entry.get("split"), str):
            yield line, entry
