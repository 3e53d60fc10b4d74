"""aejax timed beside PyTorch and the libraries of peers, and its cost against size.

    python experiments/benchmarks/peers.py --make-venvs DIR

Every contender (contenders.py) lives in a worker process (worker.py) of an environment of its own; measure.py asks them by
turns, derive.py compares, show.py draws. README.md tells what is compared and what keeps it fair.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tyro
from contenders import CONTENDERS, ENVIRONMENTS, PRODUCT, SWEPT, TASKS
from derive import exponent, overhead, ratios, spread, time_to_goal, utilization
from job import LATENT, LEARNING_RATE, MASKED, MATMUL, Job, cores
from measure import (
    SWEEPS,
    Plan,
    first_step_of_command,
    rates,
    start_ups,
    sweeps,
    thousand_steps_of_command,
    times_to_goals,
)
from show import figure, into_readme, tables
from worker import Absent, Worker, opened

COMMAND = "aejax train"
"""The command itself, from its start to its first step, and over a thousand."""
PLAIN = "aejax AE"
NOISY = ("aejax DAE, exact count", "aejax DAE, Bernoulli")
HIDDEN = 512

HERE = Path(__file__).resolve().parent

QUICK = Plan(
    data="digits",
    rounds=2,
    seconds=0.1,
    starts=1,
    seeds=1,
    between=0.1,
    limit=1.0,
    repeats=1,
    hidden=(128, 512),
    batch_size=(64, 128),
    examples=(719, 1438),
)
DEFAULT = Plan(
    data="fashion_mnist",
    rounds=5,
    seconds=1.5,
    starts=1,
    seeds=1,
    between=1.0,
    limit=60.0,
    repeats=2,
    hidden=(128, 512, 2048),
    batch_size=(32, 128, 512),
    examples=(2_000, 10_000, 60_000),
)
FULL = DEFAULT._replace(
    rounds=15,
    seconds=2.0,
    starts=5,
    seeds=5,
    limit=180.0,
    repeats=5,
    hidden=(128, 256, 512, 1024, 2048),
    batch_size=(32, 64, 128, 256, 512, 1024),
    examples=(2_000, 5_000, 10_000, 20_000, 40_000, 60_000),
)


def benchmark(
    make_venvs: Path | None = None,
    contenders: tuple[str, ...] = (*CONTENDERS, COMMAND),
    goals: dict[str, float] = {name: task.goal for name, task in TASKS.items()},  # noqa: B006
    batch_size: int = 128,
    quick: bool = False,
    full: bool = False,
    out: Path = Path("benchmark"),
    readme: bool = False,
) -> None:
    """Times training beside the peers; writes results.json, table.md and figure.png.

    Args:
        make_venvs: A folder with an environment for each peer, made by pip where it is missing; without it there are no peers.
        contenders: Which of them to measure.
        goals: The test MSE of each task at which the clock stops.
        batch_size: Examples in a step.
        quick: Tiny, on digits: whether the command works at all.
        full: Everything, for the tables in README.md (under an hour).
        out: The folder to write into.
        readme: Also put the results into the README beside this file.
    """
    for name in contenders:
        if name not in (*CONTENDERS, COMMAND):
            raise SystemExit(f"no contender {name!r}; choose from: {'; '.join((*CONTENDERS, COMMAND))}")
    plan = QUICK if quick else FULL if full else DEFAULT
    out.mkdir(parents=True, exist_ok=True)
    result: dict = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": without_places([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "plan": plan._asdict(),
        "goals": goals,
        "absent": {},
    }
    if os.getloadavg()[0] > 0.5:
        print("the machine is busy; on few cores company slows PyTorch many times over", file=sys.stderr, flush=True)

    def save() -> None:
        (out / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = prepared(plan, batch_size, folder)
        result["settings"] = {
            **job._replace(folder="")._asdict(),
            "latent": LATENT,
            "learning_rate": LEARNING_RATE,
            "masked": MASKED,
            "matmul": MATMUL,
        }
        pythons = found_pythons(contenders, make_venvs, result["absent"])
        names = [name for name in contenders if name in pythons or name == COMMAND]
        measured(result, names, pythons, job, plan, folder, save)
    (out / "table.md").write_text(tables(result))
    figure(result, out / "figure.png")
    print(tables(result))
    if readme:
        into_readme(tables(result), HERE / "README.md")
        for name in ("results.json", "figure.png"):
            shutil.copyfile(out / name, HERE / name)


def without_places(command: list[str]) -> list[str]:
    """The command as others can repeat it: folders are theirs."""
    return ["DIR" if before in ("--make-venvs", "--out") else part for before, part in zip(["", *command], command)]


def machine() -> dict:
    told = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in told if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cores": cores(),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
    }


def prepared(plan: Plan, batch_size: int, folder: Path) -> Job:
    """The job, and the images as every worker reads them."""
    from aejax.data import load

    for name, split in zip(("train", "test"), load(plan.data, ("train", "test"))):
        x = np.asarray(split.arrays["x"])
        np.save(folder / f"{name}.npy", x if x.dtype == np.uint8 else np.round(x * 255).astype(np.uint8))
    x = np.load(folder / "test.npy")
    np.save(folder / "masked.npy", np.where(np.random.default_rng(0).random(x.shape) < MASKED, np.uint8(0), x))
    return Job(str(folder), batch_size, HIDDEN, examples=len(np.load(folder / "train.npy", mmap_mode="r")), seed=0)


def found_pythons(names: tuple[str, ...], folder: Path | None, absent: dict[str, str]) -> dict[str, Path]:
    """The Python of each contender, its environment made if need be; `absent` learns who has none, and why."""
    found: dict[str, Path] = {}
    for name in names:
        if name == COMMAND:
            continue
        environment = CONTENDERS[name].environment
        try:
            found[name] = Path(sys.executable) if environment == "aejax" else made(environment, folder)
        except Absent as why:
            absent[name] = str(why)
    return found


def made(environment: str, folder: Path | None) -> Path:
    if folder is None:
        raise Absent("no --make-venvs given")
    venv = folder.absolute() / environment
    python = venv / "bin" / "python"  # not resolved: the link is what makes it the environment's Python
    if not python.exists():
        print(f"installing {', '.join(ENVIRONMENTS[environment])} into {venv}", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True, text=True)
            # In one command, or a peer would bring a PyTorch of its own choice.
            pip = [str(python), "-m", "pip", "install", *ENVIRONMENTS[environment]]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except BaseException as error:
            shutil.rmtree(venv, ignore_errors=True)  # a half-made one would be taken for whole the next time
            if isinstance(error, subprocess.CalledProcessError):
                told = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
                raise Absent(f"not installed: {(told or [str(error)])[0]}") from None
            raise
    return python


def measured(
    result: dict,
    names: list[str],
    pythons: Mapping[str, Path],
    job: Job,
    plan: Plan,
    folder: Path,
    save: Callable[[], None],
) -> None:
    """Fills `result`, part by part; `save` keeps what is there so far."""

    def worker(name: str, cache: str) -> AbstractContextManager[Worker]:
        settings = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "caches" / cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        return opened(name, pythons.get(name, sys.executable), job, settings)

    def once(name: str, cache: str) -> dict[str, float]:
        if name == COMMAND:
            return first_step_of_command(plan.data, _with_data(folder / "caches" / cache), folder)
        with worker(name, cache) as it:
            return it.first

    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        cold: dict[str, dict | None] = {}
        for name in names:
            if name == COMMAND:
                cold[name] = once(name, f"{name}-0")
                continue
            try:
                workers[name] = stack.enter_context(worker(name, f"{name}-0"))
            except Absent as why:
                result["absent"][name] = str(why)
            else:
                cold[name] = workers[name].first if CONTENDERS[name].environment == "aejax" else None
        found = result["contenders"] = {
            name: {"environment": CONTENDERS[name].environment, "task": CONTENDERS[name].task} for name in workers
        }
        result["versions"] = {found[name]["environment"]: it.versions for name, it in workers.items()}

        starts = start_ups(cold, once, plan)
        if COMMAND in names:
            start = _starts(starts.pop(COMMAND))
            cache = _with_data(folder / "caches" / f"{COMMAND}-0")
            result["aejax_train"] = {"start": start, **thousand_steps_of_command(plan.data, cache, folder)}
        for name, start in starts.items():
            found[name]["start"] = _starts(start)
        save()

        product = stack.enter_context(worker(PRODUCT, PRODUCT))
        a_second = rates({**workers, PRODUCT: product}, plan)
        gflops = np.multiply(a_second.pop(PRODUCT), 2e-9 * MATMUL**3)
        for name, steps in a_second.items():
            found[name]["examples_per_second"] = spread(np.multiply(steps, job.batch_size))
            found[name]["peak_MiB"] = workers[name].peak()
        result["matmul_gflops"] = spread(gflops)
        result["ratios"] = ratios(a_second, {name: CONTENDERS[name].beside for name in a_second})
        if PLAIN in a_second:
            noisy = [name for name in NOISY if name in a_second]
            result["overheads"] = {name: overhead(a_second[name], a_second[PLAIN]) for name in noisy}
            size = int(np.prod(np.load(folder / "train.npy", mmap_mode="r").shape[1:]))
            widths = (size, job.hidden, LATENT, job.hidden, size)
            result["dense_layers"] = utilization(a_second[PLAIN], job.batch_size, widths, gflops)
        save()

        tasks = {name: CONTENDERS[name].task for name in workers}
        for name, runs in times_to_goals(workers, tasks, result["goals"], job, plan).items():
            found[name]["goal"] = {**time_to_goal(runs), "runs": runs}
        save()

        swept = sweeps({name: workers[name] for name in SWEPT if name in workers}, job, plan)
        result["cost"] = {what: _cost(what, getattr(plan, what), seconds) for what, seconds in swept.items()}
        save()


def _with_data(cache: Path) -> Path:
    """The cache folder of an `aejax train` that finds the data decoded, but no compiled programs."""
    from aejax.data import cache_folder

    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "data").exists():
        (cache / "data").symlink_to(cache_folder().absolute() / "data")
    return cache


def _starts(timed: Mapping[str, list[dict[str, float]]]) -> dict:
    """The spread over the starts of each number, for cold and warm ones."""
    return {
        kind: {what: spread([start[what] for start in starts]) for what in starts[0]} if starts else None
        for kind, starts in timed.items()
    }


def _cost(what: str, values: tuple[int, ...], seconds: Mapping[str, list[list[float]]]) -> dict:
    found = {}
    for name, points in seconds.items():
        spreads = [spread(point) for point in points]
        found[name] = {"seconds": spreads, "exponent": exponent(values, [point["median"] for point in spreads])}
    return {"of": SWEEPS[what], "values": values, "contenders": found}


if __name__ == "__main__":
    tyro.cli(benchmark)
