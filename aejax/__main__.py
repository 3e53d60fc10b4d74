"""The command `aejax`: signals are handled before anything is imported, which takes seconds."""

import sys

from aejax.signals import end_at_once
from aejax.supervision import supervised


def main() -> int:
    end_at_once()
    several = any(word.split("=")[0] == "--coordinator" for word in sys.argv)
    return supervised(_work) if several else _work()


def _work() -> int:
    from aejax.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
