"""A worker process, seen from within and from without: one contender, which trains when it is told to.

    PYTHON worker.py CONTENDER JOB

makes the contender, trains it by one step, and greets. Then each line of its standard input is a request, and each line of
its standard output the answer, in JSON. Only the standard library and NumPy are imported above, as in job.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contenders import CONTENDERS, ENVIRONMENTS, MEASURES, TASKS, Contender
from job import Job, Trainer

_JUDGED_AT_ONCE = 1000


class Absent(Exception):
    """A contender that cannot be had here, and why."""


class Worker(NamedTuple):
    """A worker process from without. Every function waits until the worker is done."""

    name: str
    versions: dict[str, str]
    first: dict[str, float]
    """`seconds` from the start of the process to the end of its first step, `compiling` of these, and `training`, the
    first step's own."""
    make: Callable[[Job], float]
    """Starts anew with another job; the seconds of its first step, which is done."""
    train: Callable[[int], tuple[int, float]]
    """n -> the number of steps done, at least n, and their seconds."""
    mse: Callable[[], float]
    """Of the reconstructed test split, per pixel."""
    peak: Callable[[], float]
    """The largest resident memory of the process so far, in MiB."""


def work(name: str, job: Job) -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print too

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    contender = (CONTENDERS | MEASURES)[name]
    try:
        trainer, first = _made(contender, job)
    except Exception as error:
        if contender.environment == "aejax":
            raise
        answer(absent=f"{type(error).__name__}: {error}".splitlines()[0])
        return
    packages = [re.split("[=<>]", requirement)[0] for requirement in ENVIRONMENTS[contender.environment]]
    answer(training=first, compiling=trainer.compiling(), versions={name: version(name) for name in packages})

    for line in sys.stdin:
        request = json.loads(line)
        if "make" in request:
            trainer = None  # so that both are never in memory
            job = Job(**request["make"])
            trainer, first = _made(contender, job)
            answer(seconds=first)
        elif "train" in request:
            start = time.perf_counter()
            steps = trainer.train(request["train"])
            answer(steps=steps, seconds=time.perf_counter() - start)
        else:
            answer(mse=_mse(trainer, job, TASKS[contender.task].shown))
    os._exit(0)  # a peer's thread may wait for ever


def _made(contender: Contender, job: Job) -> tuple[Trainer, float]:
    """The contender after one step, and the step's seconds."""
    trainer = contender.make(job)
    start = time.perf_counter()
    trainer.train(1)
    return trainer, time.perf_counter() - start


def _mse(trainer: Trainer, job: Job, shown: str) -> float:
    clean, seen = (np.load(Path(job.folder) / f"{name}.npy", mmap_mode="r") for name in ("test", shown))
    total = 0.0
    for start in range(0, len(clean), _JUDGED_AT_ONCE):
        at = slice(start, start + _JUDGED_AT_ONCE)
        x_hat = trainer.reconstruct(np.divide(seen[at], 255, dtype=np.float32))
        total += float(np.sum((x_hat - clean[at] / 255.0) ** 2))
    return total / clean.size


@contextmanager
def opened(name: str, python: Path | str, job: Job, settings: Mapping[str, str]) -> Iterator[Worker]:
    """A worker that has done its first step; `settings` are added to its environment variables. On leaving, it ends.

    Raises:
        Absent: the contender's packages cannot be imported, or it cannot be made.
    """
    log = Path(job.folder) / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.log"
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(python), str(Path(__file__).resolve()), name, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=job.folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} | settings,
    )

    def hear():
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker of {name} ended early:\n{log.read_text()[-2000:]}")
        return json.loads(line)

    def ask(request, value):
        print(json.dumps({request: value}), file=process.stdin, flush=True)
        return hear()

    def train(n):
        told = ask("train", n)
        return told["steps"], told["seconds"]

    with process:
        told = hear()
        seconds = time.perf_counter() - start
        if "absent" in told:
            raise Absent(told["absent"])
        first = {"seconds": seconds, "compiling": told["compiling"], "training": told["training"]}
        yield Worker(
            name=name,
            versions=told["versions"],
            first=first,
            make=lambda job: ask("make", job._asdict())["seconds"],
            train=train,
            mse=lambda: ask("mse", True)["mse"],
            peak=lambda: peak_memory(process.pid),
        )


def peak_memory(pid: int) -> float:
    """VmHWM of a running process, in MiB: what `wait4` tells would include its parent before the exec."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    work(sys.argv[1], Job(*json.loads(sys.argv[2])))
