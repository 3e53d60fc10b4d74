"""Atomic writes of files: written to a temporary file first, then renamed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `file` once it is complete."""
    beside = file.with_name(file.name + ".tmp")
    with open(beside, "wb") as handle:
        yield handle
    os.replace(beside, file)


def write_bytes(file: Path, content: bytes) -> None:
    with replacing(file) as handle:
        handle.write(content)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON; numbers that JSON lacks (NaN, Inf) become null."""
    write_bytes(file, (json.dumps(_finite(value), indent=1) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
