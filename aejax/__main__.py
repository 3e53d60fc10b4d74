"""The command `aejax`: signals are handled before anything is imported, which takes seconds."""

import contextlib
import os
import sys

from aejax.signals import end_at_once
from aejax.supervision import supervised


def main() -> int:
    end_at_once()
    several = any(word.split("=")[0] == "--coordinator" for word in sys.argv)
    code = supervised(_work) if several else _work()
    if code != 0 and not several:
        # Threads of Orbax would hold up the end for minutes, waiting for a folder that the disk refused. Of several processes
        # each takes leave of the others.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    return code


def _work() -> int:
    from aejax.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
