"""Which experiment files may be executed when a run is opened.

An experiment file is Python code, and a run directory may come from anybody. When a run is opened, the file that its config.json
names is executed only if it is one of those that come with aejax, if the user names it with `--file`, or if this user has trained
with it on this machine. For the last, the path and the SHA-256 of each file that is used are kept in `$XDG_STATE_HOME/aejax/` (by
default `~/.local/state/aejax/`). Both count: beside another copy of the same file there could be other modules, which it imports.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from aejax.files import parsed_object, write_json

MOST = 1000
"""Number of files that are remembered, the last ones."""


def record_file() -> Path:
    """The file of remembered experiments."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(f"{base}/aejax").expanduser() / "experiments.json"


def remember(file: Path, digest: str) -> None:
    """Notes that the user has executed this file. Where nothing can be written, nothing is remembered."""
    if is_remembered(file, digest):
        return
    known = {**_known(), str(file.resolve()): digest}
    with suppress(OSError):
        record_file().parent.mkdir(parents=True, exist_ok=True)
        write_json(record_file(), dict(list(known.items())[-MOST:]))


def is_remembered(file: Path, digest: str, allow_changed: bool = False) -> bool:
    """Whether the user has executed this file with this content, or with `allow_changed` with any."""
    known = _known().get(str(file.resolve()))
    return known is not None and (allow_changed or known == digest)


def _known() -> dict[str, str]:
    with suppress(OSError):
        return parsed_object(record_file().read_text("utf-8", "replace")) or {}
    return {}
