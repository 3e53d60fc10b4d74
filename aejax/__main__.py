"""The command `aejax`: signals are handled before anything is imported, which takes seconds."""

import sys

from aejax.signals import end_at_once


def main() -> int:
    end_at_once()
    from aejax.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
