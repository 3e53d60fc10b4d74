"""A process that watches over one of several that train together.

When JAX loses the process that coordinates the others, it aborts from C++ with fifty lines, and nothing in the same process can
prevent that. So the command works in a child: what C++ writes goes to a file, and an abort becomes one line.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType

from aejax.signals import SIGNALS

LOST = (
    "another process of this run was lost, or the connection to it; what was saved is kept: start all of them again with "
    "`aejax resume`"
)

_NEVER_MET = "not all processes came to the --coordinator within --peer-timeout; check HOST:PORT and start each of them"


def supervised(work: Callable[[], int]) -> int:
    """The exit code of the work, which is done in a child process; signals are passed on to it.

    If the child dies in another way, this prints what happened in one line and, with --debug, what JAX said of it.
    """
    ours, childs = os.pipe()
    heard = tempfile.TemporaryFile()  # noqa: SIM115 (open until both processes have ended)
    stderr = os.dup(2)
    child = os.fork()  # nothing has been imported yet that starts threads
    if child == 0:
        os.close(childs)
        os.setpgid(0, 0)  # a Ctrl-C on the terminal reaches it through its parent only
        os.dup2(heard.fileno(), 2)
        sys.stderr = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
        threading.Thread(target=_end_with, args=(ours,), daemon=True).start()
        return work()
    os.close(ours)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        os.kill(child, signum)

    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if -code not in SIGNALS:
        heard.seek(0)
        said = heard.read()
        never_met = b"RegisterTask" in said  # the call by which a process joins the others
        aborted = _NEVER_MET if never_met else LOST
        how = aborted if code == -signal.SIGABRT else f"the process was ended by {signal.Signals(-code).name}"
        print(f"aejax: error: {how}", file=sys.stderr, flush=True)
        if "--debug" in sys.argv:
            sys.stderr.buffer.write(said)
    return 1 if code == -signal.SIGABRT else 128 - code


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, whose end of the pipe is then closed."""
    os.read(parent, 1)
    os._exit(1)
