"""Plays the cases of one kind, one after the other, and prints a line of JSON for each."""

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

WORKERS = 2


def main(name: str, seed: str, first: str, cases: str, *only: str) -> None:
    said = os.fdopen(os.dup(1), "w", buffering=1)  # what a case prints goes elsewhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        for variable in ("AEJAX_CACHE", "TFDS_DATA_DIR", "XDG_STATE_HOME"):
            os.environ[variable] = f"{folder}/{variable}"
        kind = importlib.import_module(name)
        os.chdir(folder)
        prepared = kind.prepare(Path(folder))
        said.write("{}\n")
        numbers = [int(only[1])] if only else range(int(first), int(cases), WORKERS)
        for i in numbers:
            parts = kind.drawn(np.random.default_rng([int(seed), i]))
            outcomes, failure = attempt(kind, prepared, parts)
            event = {"case": i, "outcomes": outcomes}
            if failure is not None:
                event["failure"] = f"{reduced(kind, prepared, parts)}: {failure}"
            said.write(json.dumps(event) + "\n")


def attempt(kind: ModuleType, prepared: Any, parts: Sequence) -> tuple[dict[str, int], str | None]:
    """The outcomes of a case, and how it failed."""
    try:
        return kind.play(prepared, parts), None
    except Exception as error:
        where = [line for line in traceback.format_exc().splitlines() if line.startswith("  File")][-3:]
        said = " ".join(str(error).split())
        return {"failed": 1}, " | ".join(
            [*where, type(error).__name__, said if len(said) < 2000 else f"{said[:1200]} … {said[-600:]}"]
        )


def reduced(kind: ModuleType, prepared: Any, parts: Sequence) -> Sequence:
    """The first part of a case, and those of the others that are needed for it to fail."""
    i = 1
    while i < len(parts):
        fewer = [*parts[:i], *parts[i + 1 :]]
        if attempt(kind, prepared, fewer)[1] is not None:
            parts = fewer
        else:
            i += 1
    return parts


if __name__ == "__main__":
    main(*sys.argv[1:])
