"""A command of aejax in this process: its exit code and what it prints; and what must not happen while it runs."""

import contextlib
import io
import sys
import time

import jax

from aejax.signals import end_at_once

jax.config.update("jax_num_cpu_devices", 8)  # before the first command, as its own `--devices` would be

FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class", "os.startfile")

_executed: list[str] = []


def _watch(event: str, details: tuple) -> None:
    if event in FORBIDDEN:
        _executed.append(f"{event} {details}"[:300])


sys.addaudithook(_watch)
end_at_once()  # as in the process of a command


def aejax(*args: object) -> tuple[int, str]:
    """Exit code and standard error of a command that ends as a command should.

    It ends within time, in one line if it refuses something, without a traceback, and without executing anything.
    """
    from aejax.cli import main

    out, err = io.StringIO(), io.StringIO()
    _executed.clear()
    began = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    seconds, said = time.monotonic() - began, err.getvalue()
    assert not _executed, f"executed {_executed}"
    assert "Traceback" not in said, f"{args}: {said[:1000]} ... {said[-1000:]}"
    assert code in (0, 1, 2), (code, said)
    if code == 2:
        assert said.count("aejax: error: ") == 1, said
        assert said.splitlines()[-1].startswith("aejax: error: "), said
        assert len(said.splitlines()[-1]) < 2000, said
        drawn = "making " in said  # a data set, the first time
        assert seconds < 10 or drawn, f"refused after {seconds:.0f} s: {said}"
    assert all(c.isprintable() or c in "\n\t" for c in said), f"control characters: {said!r}"
    return code, said
