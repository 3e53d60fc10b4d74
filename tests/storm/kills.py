"""Runs are killed at random moments, or at a call of fsync or rename, and resumed: the result and the log are the same."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
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
    "vqvae": ["vqvae", "--steps", "60", "--save-every", "12", "--log-every", "5", "--hidden", "8", "--latent", "4"],
    "tdvae": ["tdvae_oscillator", "--steps", "60", "--save-every", "12", "--log-every", "5"],
    "pair": ["ae", "--steps", "60", "--save-every", "12", "--log-every", "5", "--hidden", "16", "--latent", "4"],
}
TRIES = 6


class Prepared(NamedTuple):
    folder: Path
    expected: dict[str, object]
    seconds: dict[str, float]
    calls: dict[str, dict[str, int]]


def prepare(folder: Path) -> Prepared:
    return Prepared(folder, {}, {}, {})


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
        began = time.monotonic()
        assert finished(name, "train", run) == 0
        prepared.seconds[name] = time.monotonic() - began
        prepared.expected[name] = left_by(run)
    run = prepared.folder / "cut"
    subprocess.run(["rm", "-rf", str(run)], check=True)
    killed = 0
    for how, where in kills:
        killed += kill(name, prepared, run, how, where)
    for _ in range(TRIES):
        code = finished(name, "resume", run) if (run / "config.json").exists() or (run / "group.json").exists() else 2
        if code == 2:  # it was killed before there was anything to resume
            code = finished(name, "train", run)
        if code == 0:
            break
    assert code == 0, f"{name} ends with {code}"
    assert left_by(run) == prepared.expected[name], f"{name} differs"
    return {"killed": killed, "ended before": len(kills) - killed}


def kill(name: str, prepared: Prepared, run: Path, how: str, where: float) -> bool:
    """Starts or resumes the run, and kills it; whether it was still at work."""
    verb = "resume" if (run / "config.json").exists() or (run / "group.json").exists() else "train"
    count = "0" if how == "moment" else str(int(40 * where))
    processes = started(name, verb, run, how, count)
    if how == "moment":
        time.sleep(where * prepared.seconds[name])
        victim = processes[int(1000 * where) % len(processes)]
        alive = victim.poll() is None
        victim.send_signal(signal.SIGKILL)
    else:
        alive = False
    codes = [process.wait(timeout=180) for process in processes]
    return alive or any(code == -signal.SIGKILL for code in codes)


def started(name: str, verb: str, run: Path, how: str = "moment", count: str = "0") -> list[subprocess.Popen]:
    command = [verb, *COMMANDS[name], "--run", str(run), "--overwrite"] if verb == "train" else [verb, str(run)]
    command += ["--no-evaluate", *(["--no-verbose"] if verb == "train" else [])]
    each: list[list[str]] = [[]]
    if name == "pair":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{probe.getsockname()[1]}"
        each = [
            ["--coordinator", where, "--processes", "2", "--process", str(i), "--peer-timeout", "12"] for i in range(2)
        ]
    dying = [sys.executable, str(Path(__file__).with_name("dying.py")), how, count]
    return [
        subprocess.Popen(
            [*dying, *command, *own], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        if i == len(each) - 1
        else subprocess.Popen(
            [*dying[:-2], "moment", "0", *command, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for i, own in enumerate(each)
    ]


def finished(name: str, verb: str, run: Path) -> int:
    processes = started(name, verb, run)
    told = [process.communicate(timeout=180)[1] for process in processes]
    codes = [process.returncode for process in processes]
    for error in told:
        assert error is None or b"Traceback" not in error, error.decode()[-2000:]
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
