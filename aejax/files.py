"""Writing files so that a kill, a full disk or another process never leaves half of one, and reading those that may be damaged.

Whatever the package writes beside the user's data goes through `replacing`: into a new file under a name that nobody can
foresee, which is opened only if it does not exist, and then renamed. A link at the target is replaced, never followed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PARTIAL = ".aejax-"
"""Beginning of the name of a file that is not complete."""


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `file` once it is complete and on the disk; if anything fails, nothing is left."""
    beside = file.with_name(f"{PARTIAL}{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(beside, file)
    except OSError as error:
        if error.filename in (None, str(beside)):
            error.filename = str(file)  # the name that the user knows
        raise
    finally:
        with suppress(OSError):
            os.unlink(beside)


def write_bytes(file: Path, content: bytes) -> None:
    """Writes a file in one piece."""
    with replacing(file) as handle:
        handle.write(content)


def write_text(file: Path, content: str) -> None:
    """Writes a file as UTF-8, with a question mark for what UTF-8 cannot hold."""
    write_bytes(file, content.encode("utf-8", "replace"))


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON; numbers that JSON lacks (NaN, Inf) become null."""
    write_text(file, json.dumps(_finite(value), indent=1) + "\n")


def json_digest(value: Mapping[str, Any]) -> str:
    """sha256 of a value as JSON, the same before it is written and after it is read."""
    return hashlib.sha256(json.dumps(_finite(value), sort_keys=True).encode()).hexdigest()


def copy(source: Path, file: Path) -> None:
    """Writes the content of another file."""
    with open(source, "rb") as content, replacing(file) as handle:
        shutil.copyfileobj(content, handle)


def parsed_object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else: what is cut short, nested too deeply, or another kind of value."""
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
