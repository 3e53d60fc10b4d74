"""Runs are killed at random moments, or at a call of fsync or rename, and resumed: the result and the log are the same."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np

COMMANDS = {
    "ae": ["ae", "--steps", "240", "--save-every", "24", "--log-every", "10", "--hidden", "16", "--latent", "4"],
    "group": [
        "ae",
        "--steps",
        "120",
        "--save-every",
        "24",
        "--log-every",
        "10",
        "--hidden",
        "16",
        "--latent",
        "4",
        "--seeds",
        "2",
    ],
    "vqvae": [
        "vqvae",
        "--steps",
        "60",
        "--save-every",
        "12",
        "--log-every",
        "5",
        "--hidden",
        "8",
        "--width",
        "4",
        "--codes",
        "8",
    ],
    "tdvae": ["tdvae_oscillator", "--steps", "60", "--save-every", "12", "--log-every", "5"],
    "pair": ["ae", "--steps", "60", "--save-every", "12", "--log-every", "5", "--hidden", "16", "--latent", "4"],
}
TRIES = 6


class Prepared(NamedTuple):
    folder: Path
    expected: dict[str, object]
    """What an uninterrupted run leaves."""
    seconds: dict[str, float]
    """The shortest time in which it was trained."""


class Process(NamedTuple):
    """A command in a process of its own."""

    pid: int
    said: Path
    """What it printed on standard error."""


def prepare(folder: Path) -> Prepared:
    import aejax.cli  # noqa: F401 (so that no process has to import it; nothing is computed before the fork)

    return Prepared(folder, {}, {})


def drawn(rng: np.random.Generator) -> list:
    """What is trained, and when it is killed: up to three times."""
    name = rng.choice(list(COMMANDS), p=[0.35, 0.25, 0.15, 0.1, 0.15])
    times = int(rng.integers(1, 4))
    return [
        str(name),
        *(
            [str(rng.choice(["moment", "fsync", "rename"], p=[0.5, 0.2, 0.3])), float(rng.random())]
            for _ in range(times)
        ),
    ]


def play(prepared: Prepared, parts: list) -> dict[str, int]:
    name, *kills = parts
    if name not in prepared.expected:
        run = prepared.folder / f"{name}-whole"
        assert finished(prepared, name, "train", run) == 0
        prepared.expected[name] = left_by(run)
    run = prepared.folder / "cut"
    shutil.rmtree(run, ignore_errors=True)
    killed = 0
    for how, where in kills:
        killed += kill(name, prepared, run, how, where)
    for _ in range(TRIES):
        code = (
            finished(prepared, name, "resume", run)
            if (run / "config.json").exists() or (run / "group.json").exists()
            else 2
        )
        if code == 2:  # it was killed before there was anything to resume
            code = finished(prepared, name, "train", run)
        if code == 0:
            break
    assert code == 0, f"{name} ends with {code}"
    assert left_by(run) == prepared.expected[name], f"{name} differs"
    return {"killed": killed, "ended before": len(kills) - killed}


def kill(name: str, prepared: Prepared, run: Path, how: str, where: float) -> bool:
    """Starts or resumes the run, and kills it; whether it was still at work."""
    verb = "resume" if (run / "config.json").exists() or (run / "group.json").exists() else "train"
    count = {"moment": -1, "fsync": int(3 * where), "rename": int(18 * where)}[how]
    processes = started(prepared, name, verb, run, how, count)
    if how == "moment":
        time.sleep((0.1 + 0.75 * where) * prepared.seconds[name])
        victim = processes[int(1000 * where) % len(processes)]
        os.kill(victim.pid, signal.SIGKILL)
    codes = [ended(process) for process in processes]
    return -signal.SIGKILL in codes


def started(prepared: Prepared, name: str, verb: str, run: Path, how: str = "moment", count: int = -1) -> list[Process]:
    command = [verb, *COMMANDS[name], "--run", str(run), "--overwrite"] if verb == "train" else [verb, str(run)]
    command += ["--no-evaluate", *(["--no-verbose"] if verb == "train" else [])]
    each: list[list[str]] = [[]]
    if name == "pair":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            where = ["--coordinator", f"127.0.0.1:{probe.getsockname()[1]}", "--processes", "2", "--peer-timeout", "12"]
        each = [[*where, "--process", str(i)] for i in range(2)]
    # Of a pair, the last process dies at a call.
    return [
        forked(prepared.folder / f"said-{i}", [*command, *own], how, count if i == len(each) - 1 else -1)
        for i, own in enumerate(each)
    ]


def forked(said: Path, args: list[str], how: str, count: int) -> Process:
    """The command in a fork of this process, which dies at a call of fsync or rename if `how` says so."""
    pid = os.fork()
    if pid:
        return Process(pid, said)
    code = 70
    try:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        sys.argv = ["aejax", *args]
        if how == "fsync":
            os.fsync = dies_at(os.fsync, count)
        if how == "rename":
            os.rename = os.replace = dies_at(os.rename, count)
        from aejax.__main__ import main

        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        import jax

        with contextlib.suppress(Exception):
            jax.distributed.shutdown()  # takes leave of the other process, as at the end of an interpreter
        os._exit(code)


def dies_at(function, n):
    calls = itertools.count()

    def call(*args, **kwargs):
        if next(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


def ended(process: Process) -> int:
    """The exit code of a process, or minus the signal that killed it."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    raise TimeoutError(f"a process did not end: {process.said.read_text()[-500:]}")


def finished(prepared: Prepared, name: str, verb: str, run: Path) -> int:
    began = time.monotonic()
    processes = started(prepared, name, verb, run)
    codes = [ended(process) for process in processes]
    for process in processes:
        said = process.said.read_text()
        assert "Traceback" not in said, said[-2000:]
    if verb == "train":
        prepared.seconds[name] = min(prepared.seconds.get(name, 100.0), time.monotonic() - began)
    return max(codes, key=abs)


def left_by(run: Path) -> object:
    """The digest of the result and the lines of the log, of a run or of the members of a group."""
    if (run / "group.json").exists():
        return [left_by(run / member) for member in json.loads((run / "group.json").read_text())["members"]]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("examples_per_second", None)
    return json.loads((run / "result.json").read_text())["digest"], lines


os.environ.setdefault("JAX_PLATFORMS", "cpu")
