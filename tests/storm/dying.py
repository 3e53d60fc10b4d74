"""A command of aejax that kills itself at its n-th call of fsync, or of rename: python dying.py fsync 3 train ae ..."""

import itertools
import os
import signal
import sys

from aejax import __main__ as command


def dies_at(function, n):
    calls = itertools.count()

    def call(*args, **kwargs):
        if next(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    how, n = sys.argv[1], int(sys.argv[2])
    sys.argv = ["aejax", *sys.argv[3:]]
    if how == "fsync":
        os.fsync = dies_at(os.fsync, n)
    if how == "rename":
        os.rename = os.replace = dies_at(os.rename, n)
    sys.exit(command.main())
