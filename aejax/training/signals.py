"""SIGINT and SIGTERM while a run trains: noted, so that it can save first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Within, SIGINT and SIGTERM are noted instead of obeyed; yields a function that tells the signal, or 0.

    A second signal is obeyed at once. Outside the main thread Python delivers no signals, and nothing is installed.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(signum: int, frame: Any) -> None:
        noted.append(signum)
        for s, handler in previous.items():
            signal.signal(s, handler)

    for s in previous:
        signal.signal(s, note)
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
