"""The signals that end a process: SIGINT, SIGTERM and SIGHUP.

While the package is imported they end it at once, in a command they are raised, so that it cleans up on its way out, and while a
run trains they are noted, so that it saves first. Signals that are ignored, as SIGHUP is under nohup, stay ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_INTERRUPTED = b"aejax: interrupted\n"


def end_at_once() -> None:
    """Ends the process on a signal from here on. Nothing has begun that would be lost."""

    def leave(signum: int, frame: FrameType | None) -> None:
        os.write(2, _INTERRUPTED)
        os._exit(128 + signum)

    for signum in _handlers():
        signal.signal(signum, leave)
    sys.unraisablehook = _unraisable


def _unraisable(lost: Any) -> None:
    """What is said of an exception that could not be raised: nothing of those of Orbax that it raises elsewhere too.

    When a checkpoint turns out to be damaged, Orbax is still reading the rest of it.
    """
    code = getattr(lost.object, "cr_code", None)
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(lost.exc_traceback)]
    files += [] if code is None else [code.co_filename]
    of_orbax = any(f"{os.sep}orbax{os.sep}" in file for file in files)
    if not of_orbax and str(lost.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(lost)


class Stopped(KeyboardInterrupt):
    """A signal ended the command."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raises Stopped on the first signal. A second one ends the process at once, as does one that Python could not raise."""
    if threading.current_thread() is not threading.main_thread():  # where Python delivers no signals
        yield
        return
    handlers = _handlers()
    unraisable = sys.unraisablehook

    def stop(signum: int, frame: FrameType | None) -> None:
        for other in handlers:
            signal.signal(other, leave)
        raise Stopped(signum)

    def leave(signum: int, frame: FrameType | None) -> None:
        os._exit(128 + signum)

    def not_raised(lost: Any) -> None:
        """Called for an exception inside a destructor or a callback of the garbage collector, where it would get lost."""
        if isinstance(lost.exc_value, Stopped):
            os.write(2, _INTERRUPTED)
            os._exit(128 + lost.exc_value.signum)
        unraisable(lost)

    sys.unraisablehook = not_raised
    for signum in handlers:
        signal.signal(signum, stop)
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Records SIGINT, SIGTERM and SIGHUP instead of acting on them, so that a run can save first.

    It yields a function that returns the signal's number, or 0. A second signal acts at once. Outside the main thread Python
    delivers no signals, and nothing is installed.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = _handlers()

    def restore() -> None:
        for s, handler in previous.items():
            signal.signal(s, handler)

    def note(signum: int, frame: FrameType | None) -> None:
        noted.append(signum)
        restore()

    for s in previous:
        signal.signal(s, note)
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        restore()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Lets a signal wait until the end of the block: for libraries that would take its exception for an error of their own."""
    with noted_signals() as noted:
        yield
    if signum := noted():
        os.kill(os.getpid(), signum)


def _handlers() -> dict[int, Any]:
    """The handler of each signal that is not ignored."""
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    return {signum: handler for signum, handler in handlers.items() if handler is not signal.SIG_IGN}
