"""A command gets SIGINT, SIGTERM or SIGHUP at a random moment: it ends at once with 128 + n and at most one line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COMMANDS = [
    ["train", "ae", "--steps", "3000", "--hidden", "16", "--no-verbose", "--overwrite"],
    ["evaluate", "finished"],
    ["encode", "finished", "digits:test", "codes.npy", "--overwrite"],
    ["report", "finished"],
    ["verify", "finished"],
    ["resume", "finished"],
]


def prepare(folder: Path) -> Path:
    command = [sys.executable, "-m", "aejax", "train", "ae", "--steps", "20", "--hidden", "8", "--run", "finished"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def drawn(rng: np.random.Generator) -> list:
    which, signum = int(rng.integers(len(COMMANDS))), int(rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
    return [[which, signum, float(rng.uniform(0.05, 4.0))]]


def play(folder: Path, parts: list) -> dict[str, int]:
    which, signum, seconds = parts[0]
    command = [sys.executable, "-m", "aejax", *COMMANDS[which]]
    if COMMANDS[which][0] == "train":
        command += ["--run", "interrupted"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signum)
    began = time.monotonic()
    _, said = process.communicate(timeout=50)
    lines = [line for line in said.splitlines() if not line.startswith(("evaluating", "digits:", "step "))]
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    assert len(lines) <= 1, said
    if process.returncode == 0:
        return {"ended before": 1}
    assert process.returncode in (128 + signum, -signum), (process.returncode, said)
    assert time.monotonic() - began < 10, "it took long to stop"
    return {signal.Signals(signum).name: 1}
