"""The commands: aejax train | sweep | resume | evaluate | report | encode | reconstruct | sample | verify | data.

Each is a function whose typed arguments are its flags. Errors that a user can correct are printed as one line, with exit code
2.
"""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from aejax.cli.recipes import experiments, new
from aejax.cli.reproducing import reproduce
from aejax.cli.searching import sweep
from aejax.cli.sharing import export, import_
from aejax.cli.training import resume, train, verify
from aejax.cli.using import data, encode, evaluate, impute, reconstruct, report, sample
from aejax.errors import UsageError, printable
from aejax.signals import Stopped, raised_signals
from aejax.supervision import LOST
from aejax.training.processes import is_lost
from aejax.training.recorder import Interrupted, NonFinite

USAGE = """usage: aejax COMMAND ...

  train NAME|FILE.py [--flag ...]    train an experiment, evaluate it, write its report; --help lists its hyperparameters
  sweep NAME|FILE.py --space ...     search for hyperparameters with Optuna; lr=1e-4..1e-2:log latent=4..64 is a space
  resume RUN                         continue an interrupted run to the bits it would have had; also a group or a search
  evaluate RUN                       evaluate a run on its test split, compared with baselines; writes eval.json
  report RUN [RUN ...]               one self-contained HTML page of a run, or of several compared
  encode RUN IN OUT.npy              codes of IN: a file of arrays or a table, a folder of images, or NAME:SPLIT
  reconstruct RUN IN OUT.npy         reconstructions of IN
  impute RUN IN OUT                  IN with its missing values replaced by reconstructions
  sample RUN OUT.npy                 samples of a generative model
  verify RUN                         replay a run from its configuration and compare digests
  reproduce NAME                     train a published row of the results again and compare its numbers
  data list | data prepare NAME      list the data sets; download and prepare one
  data inspect SOURCE                what is in a data set, a file or a folder, and which experiments take it
  export RUN FOLDER                  weights (safetensors), configuration and model card of a run, to share
  import FOLDER RUN                  a run of an exported folder
  experiments                        list the experiments that come with aejax, to be trained by name
  new NAME FILE.py                   copy one of them to start from

`aejax COMMAND --help` lists its flags. --debug shows tracebacks.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 success, 1 failure, 2 a mistake of the user, 128 + n on signal n."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]

    try:
        with raised_signals():
            return _run(args)
    except KeyboardInterrupt as stopped:
        return _interrupted(stopped)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:  # Python itself turns exceptions within the making of a class into others
            if isinstance(cause, Stopped):
                return _interrupted(cause)
            cause = cause.__cause__ or cause.__context__
        if debug and not isinstance(error, (BrokenPipeError, Interrupted, NonFinite)):
            raise
        return _reported(error)


def _interrupted(stopped: KeyboardInterrupt) -> int:
    print("aejax: interrupted", file=sys.stderr)
    return 128 + (stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT)


def _reported(error: Exception) -> int:
    """Prints an error as one line and returns the exit code; raises what is a mistake of ours."""
    if isinstance(error, BrokenPipeError):  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, Interrupted):
        print(f"aejax: {printable(str(error))}", file=sys.stderr)
        return 128 + error.signum
    if not isinstance(error, UsageError) and is_lost(error):
        print(f"aejax: error: {LOST}", file=sys.stderr, flush=True)
        os._exit(1)  # an orderly end would wait for the others
    if not isinstance(error, (UsageError, NonFinite)) and _of_the_machine(error) is None:
        raise error
    said = str(error) if isinstance(error, (UsageError, NonFinite)) else _of_the_machine(error)
    print(f"aejax: error: {printable(str(said))}", file=sys.stderr)
    return 1 if isinstance(error, NonFinite) else 2


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if args else 2
    command, rest = args[0], args[1:]
    if command == "--version":
        print(f"aejax {version('aejax')}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no command {command!r}; {meant}choose from {', '.join(COMMANDS)} (aejax --help)")
    return COMMANDS[command](rest)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    f.__name__.rstrip("_"): f
    for f in (
        train,
        sweep,
        resume,
        evaluate,
        report,
        encode,
        reconstruct,
        impute,
        sample,
        verify,
        reproduce,
        data,
        export,
        import_,
        experiments,
        new,
    )
}


def _of_the_machine(error: Exception) -> str | None:
    """What the operating system says of a file, a disk or memory; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        # TensorStore names a full disk only in its message.
        if full or "No space left on device" in str(cause) or "RESOURCE_EXHAUSTED: Error writing" in str(cause):
            where = f" ({name})" if (name := getattr(cause, "filename", None)) else ""
            mend = "free some and try again; continue a run that had begun with `aejax resume`"
            return f"no space left on the device{where}; {mend}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory; make the batch (--batch-size, --accumulate) or the nets smaller"
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; choose a path that can be used"
    return None
