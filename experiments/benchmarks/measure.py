"""What is measured: start-up, examples per second, time to a goal, and cost against size. Only one contender computes at a
time, and whoever is measured repeatedly takes turns with the others, in reverse order every other round.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from derive import crossing
from job import Job
from worker import Worker, peak_memory

EXPERIMENT = Path(__file__).resolve().parent.parent / "dae.py"
SWEEPS = {"hidden": "a step", "batch_size": "a step", "examples": "an epoch"}
"""The arguments of a job that are swept, and what is timed against each."""


class Plan(NamedTuple):
    """How much is measured."""

    data: str
    rounds: int
    seconds: float
    """How long a round should take."""
    starts: int
    """How often every start-up is timed."""
    seeds: int
    """How often every contender trains to its goal."""
    between: float
    """Seconds of training between evaluations, on the way to a goal."""
    limit: float
    """Seconds of training after which a goal counts as missed."""
    repeats: int
    """Rounds at each point of a sweep."""
    hidden: tuple[int, ...]
    batch_size: tuple[int, ...]
    examples: tuple[int, ...]


def in_turn(names: Iterable[str], r: int) -> list[str]:
    """A drift within the round favors nobody."""
    return list(names)[:: 1 if r % 2 == 0 else -1]


def rates(workers: Mapping[str, Worker], plan: Plan) -> dict[str, list[float]]:
    """Steps a second in every round, by name. Rounds are about as long for the fast as for the slow."""
    steps = {name: _steps_in(plan.seconds, worker) for name, worker in workers.items()}
    found: dict[str, list[float]] = {name: [] for name in workers}
    for r in range(plan.rounds):
        for name in in_turn(workers, r):
            done, seconds = workers[name].train(steps[name])
            found[name].append(done / seconds)
        _tell(f"round {r + 1} of {plan.rounds}")
    return found


def _steps_in(seconds: float, worker: Worker) -> int:
    """How many steps take so long, once the worker is warm."""
    n = 1
    while True:
        steps, took = worker.train(n)
        if took > seconds / 3:
            return max(1, round(seconds * steps / took))
        n = 2 * steps


def times_to_goals(
    workers: Mapping[str, Worker], tasks: Mapping[str, str], goals: Mapping[str, float], job: Job, plan: Plan
) -> dict[str, list[dict]]:
    """For every seed the seconds and steps of training until the test MSE is below the goal, None where it is missed.

    Judging is not counted; the first step is, with what compiling or loading a program it takes. `curve` holds (steps,
    seconds, MSE) at every evaluation.
    """
    found: dict[str, list[dict]] = {name: [] for name in workers}
    for seed in range(plan.seeds):
        for name in in_turn(workers, seed):
            worker, goal, n = workers[name], goals[tasks[name]], 1
            steps, seconds = 1, worker.make(job._replace(seed=seed))
            curve = [(steps, seconds, worker.mse())]
            while curve[-1][2] >= goal and seconds < plan.limit:
                done, took = worker.train(n)
                steps, seconds = steps + done, seconds + took
                curve.append((steps, seconds, worker.mse()))
                n = max(1, min(4 * n, round(plan.between * done / took)))
            found[name].append({"seed": seed, **crossing(curve, goal), "curve": curve})
        _tell(f"goals, seed {seed + 1} of {plan.seeds}")
    return found


def sweeps(workers: Mapping[str, Worker], job: Job, plan: Plan) -> dict[str, dict[str, list[list[float]]]]:
    """For each of SWEEPS and each name the seconds at every value, repeated; of a step, or of an epoch."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for what, per in SWEEPS.items():
        found[what] = {name: [] for name in workers}
        for value in getattr(plan, what):
            here, steps = job._replace(**{what: value}), {}
            epoch = here.examples / here.batch_size
            for name, worker in workers.items():
                worker.make(here)
                at_least = math.ceil(epoch) if per == "an epoch" else 1
                steps[name] = max(at_least, _steps_in(plan.seconds, worker))
                found[what][name].append([])
            for r in range(plan.repeats):
                for name in in_turn(workers, r):
                    done, seconds = workers[name].train(steps[name])
                    found[what][name][-1].append(seconds / done * (epoch if per == "an epoch" else 1))
        _tell(f"cost against {what}")
    return found


def start_ups(cold: Mapping[str, dict | None], once: Callable[[str, str], dict], plan: Plan) -> dict[str, dict]:
    """{name: {"cold", "warm": [once(name, cache folder)]}}: cold is a start with an empty cache of compiled programs.

    `cold` holds the first cold start of each, which left the cache `{name}-0`; None for those that compile nothing, whose
    starts all count as warm.
    """
    found: dict[str, dict] = {
        name: {"cold": [] if first is None else [first], "warm": []} for name, first in cold.items()
    }
    for r in range(plan.starts):
        for name in in_turn(found, r):
            if found[name]["cold"] and r > 0:
                found[name]["cold"].append(once(name, f"{name}-{r}"))
            found[name]["warm"].append(once(name, f"{name}-{r}"))
        _tell(f"start-ups, {r + 1} of {plan.starts}")
    return found


def first_step_of_command(data: str, cache: Path, folder: Path) -> dict[str, float]:
    """Seconds from the start of `aejax train` to the line in metrics.jsonl that its first and only step leaves."""
    run, start = folder / "first", time.perf_counter()
    process, log = _train_command(data, run, cache, steps=1), run / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    _end(process, run)
    return {"seconds": seconds}


def thousand_steps_of_command(data: str, cache: Path, folder: Path) -> dict[str, float]:
    """A thousand steps of `aejax train` with its default settings: its peak memory, and the rate it reports itself."""
    run, peak = folder / "thousand", 0.0
    process = _train_command(data, run, cache, steps=1000)
    while process.poll() is None:
        peak = max(peak, _peak_or_zero(process.pid))
        time.sleep(0.05)
    rate = json.loads((run / "result.json").read_text())["examples_per_second"]
    _end(process, run)
    return {"peak_MiB": peak, "examples_per_second": rate}


def _peak_or_zero(pid: int) -> float:
    try:
        return peak_memory(pid)
    except ValueError:  # it is ending, and holds no memory any more
        return 0.0


def _train_command(data: str, run: Path, cache: Path, steps: int) -> subprocess.Popen:
    flags = ["--data", data, "--steps", str(steps), "--run", str(run), "--no-evaluate"]
    return subprocess.Popen(
        [sys.executable, "-m", "aejax", "train", str(EXPERIMENT), *flags],
        stdout=subprocess.DEVNULL,
        stderr=run.with_suffix(".log").open("w"),
        env=os.environ | {"JAX_PLATFORMS": "cpu", "AEJAX_CACHE": str(cache)},
    )


def _end(process: subprocess.Popen, run: Path) -> None:
    if process.wait():
        raise SystemExit(f"aejax train failed:\n{run.with_suffix('.log').read_text()[-2000:]}")
    shutil.rmtree(run)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
