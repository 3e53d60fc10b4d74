"""Training the MLP autoencoder, timed beside PyTorch and pythae; start-up, memory, and the machine's matmul rate.

    python experiments/benchmarks/mlp.py --peers VENV/bin/python --out results.json

Contenders (contenders.py) live in worker processes that keep data and compiled programs warm. Asked on its standard
input, a worker runs one round of one contender; so they take turns, and one computes at a time. README.md tells what is
compared and what keeps it fair.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import tyro
from contenders import WIDTHS, Job, Round, cores

HERE = Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "dae.py"
PEERS = ("torch==2.13.0", "pythae==0.1.2")
PLAIN = "aejax AE"
NOISY = ("aejax DAE, exact-count masking", "aejax DAE, Bernoulli masking")
RATIOS = (
    ("aejax AE", "PyTorch AE"),
    ("aejax DAE, exact-count masking", "PyTorch DAE, Bernoulli masking"),
    ("aejax DAE, Bernoulli masking", "PyTorch DAE, Bernoulli masking"),
    ("aejax AE", "pythae AE"),
    ("aejax DAE, exact-count masking", "pythae AE"),
)


def benchmark(
    rounds: int = 10,
    steps: int = 300,
    batch_size: int = 128,
    data: str = "fashion_mnist",
    peers: Path | None = None,
    make_venv: Path | None = None,
    startup: bool = True,
    stretch: bool = False,
    out: Path = Path("results.json"),
) -> None:
    """Times training of the MLP 784-512-64-512-784 on the CPU: medians and spread over interleaved rounds.

    Args:
        rounds: How often every contender has its turn.
        steps: Training steps in a turn.
        batch_size: Examples in a step.
        data: A data set of 28×28 grey images, by name or path.
        peers: The Python of an environment that holds torch and pythae; without it they are left out.
        make_venv: Make that environment in this folder, if it is not there yet.
        startup: Also time `aejax train` to its first step, and measure its peak memory.
        stretch: Time only how the number of steps in a call of the runner matters, at batch sizes 128 and 512.
        out: The measurements of all rounds, as JSON.
    """
    peers = _made(make_venv) if make_venv else peers
    peers = peers.absolute() if peers else None  # not resolved: the link is what makes it the environment's Python
    load_before = os.getloadavg()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job = Job(_saved(data, folder), batch_size, steps)
        turns: dict[str, Round] = {}
        versions: dict[str, str] = {}
        absent: dict[str, str] = {}
        kinds = {"stretches": sys.executable} if stretch else {"aejax": sys.executable, "torch": peers, "pythae": peers}
        for kind, python in kinds.items():
            if python is None:
                absent[kind] = "no --peers given"
                continue
            hello, ask = stack.enter_context(_worker(kind, python, job, folder))
            if "absent" in hello:
                absent[kind] = hello["absent"]
                continue
            versions |= hello["versions"]
            turns |= {name: lambda ask=ask, name=name: ask(name) for name in hello["contenders"]}
        if startup and not stretch:
            turns["start-up"] = lambda: {"aejax train, to its first step": _first_step(data, folder)}
            turns["start-up"]()  # fills the caches

        measured: dict[str, list[float]] = {}
        for r in range(rounds):
            for name in list(turns)[:: 1 if r % 2 == 0 else -1]:  # a drift within the round favours nobody
                for what, value in turns[name]().items():
                    measured.setdefault(what, []).append(value)
            print(f"round {r + 1} of {rounds}", file=sys.stderr, flush=True)
        command = _training(data, folder) if startup and not stretch else {}

    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine() | {"load_before": load_before},
        "versions": {"python": platform.python_version(), **versions},
        "settings": {"rounds": rounds, "steps": steps, "batch_size": batch_size, "data": data, "widths": WIDTHS},
        "measured": {name: _spread(values, _unit(name)) for name, values in measured.items()},
        "derived": _derived(measured),
        "aejax_train": command,
        "absent": absent,
    }
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    _print(result)


def _made(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        # In one command, or pythae would bring a torch of its own choice.
        subprocess.run([str(python), "-m", "pip", "install", *PEERS], check=True)
    return python


def _saved(data: str, folder: Path) -> str:
    """The training examples as every worker reads them."""
    from aejax.data import load

    (train,) = load(data, ("train",))
    x = np.asarray(train.arrays["x"])
    if x.shape[1:] != (28, 28, 1) or x.dtype != np.uint8:
        raise SystemExit(f"{data} holds {x.dtype} {x.shape[1:]}; the benchmark is of uint8 images of 28×28×1")
    np.save(folder / "x.npy", x)
    return str(folder / "x.npy")


@contextmanager
def _worker(kind: str, python: Path | str, job: Job, folder: Path) -> Iterator[tuple[dict, Callable[[str], dict]]]:
    """A worker process: its greeting, and a function that asks it for a round by name."""
    log = folder / f"{kind}.log"
    process = subprocess.Popen(
        [str(python), str(HERE / "contenders.py"), kind, json.dumps(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    )

    def hear():
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker {kind} ended early:\n{log.read_text()[-2000:]}")
        return json.loads(line)

    def ask(name):
        print(name, file=process.stdin, flush=True)
        return hear()

    with process:  # on leaving, its standard input closes and it ends
        yield hear(), ask


def _train_command(data: str, run: Path, steps: int) -> subprocess.Popen:
    flags = ["--data", data, "--steps", str(steps), "--run", str(run), "--no-evaluate"]
    return subprocess.Popen(
        [sys.executable, "-m", "aejax", "train", str(EXPERIMENT), *flags],
        stdout=subprocess.DEVNULL,
        stderr=run.with_suffix(".log").open("w"),
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def _end(process: subprocess.Popen, run: Path) -> None:
    if process.wait():
        raise SystemExit(f"aejax train failed:\n{run.with_suffix('.log').read_text()[-2000:]}")
    shutil.rmtree(run)


def _first_step(data: str, folder: Path) -> float:
    """Seconds from the start of the command to the line in metrics.jsonl that its first and only step leaves."""
    run, start = folder / "first", time.perf_counter()
    process, log = _train_command(data, run, steps=1), run / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    _end(process, run)
    return seconds


def _training(data: str, folder: Path) -> dict[str, float]:
    """A thousand steps of the command with its default settings: its peak memory, and the rate it reports itself."""
    run, peak = folder / "thousand", 0
    process = _train_command(data, run, steps=1000)
    while process.poll() is None:  # VmHWM: what wait4 tells would include this process before the exec
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peak = int(line.split()[1])
        time.sleep(0.05)
    rate = json.loads((run / "result.json").read_text())["examples_per_second"]
    _end(process, run)
    return {"peak_resident_MiB": peak / 1024, "examples_per_second": rate}


def _machine() -> dict:
    told = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in told if line.startswith("model name")}
    return {"cpu": ", ".join(models) or platform.machine(), "cores": cores(), "system": platform.platform()}


def _spread(values: list[float], unit: str = "") -> dict:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values), "unit": unit, "rounds": values}


def _unit(name: str) -> str:
    return "s" if "first step" in name else "GFLOP/s" if name.startswith("matmul") else "examples/s"


def _derived(measured: dict[str, list[float]]) -> dict[str, dict]:
    """What compares two contenders: computed in every round, then the median of the rounds."""
    value = {name: np.array(values) for name, values in measured.items()}
    found = {f"{us} / {them}": value[us] / value[them] for us, them in RATIOS if us in value and them in value}
    if PLAIN in value:
        # Of the dense layers, for an example: 2 n m each for y = W x, dW and dx; the first layer has no dx.
        layers = [2 * n * m for n, m in pairwise(WIDTHS)]
        gflops = value[PLAIN] * (3 * sum(layers) - layers[0]) * 1e-9
        found |= {f"{name}: (step - AE's step) / AE's step": value[PLAIN] / value[name] - 1 for name in NOISY}
        found["aejax AE: GFLOP/s of its dense layers"] = gflops
        found["aejax AE: utilisation, of the matmul's median"] = gflops / value["matmul, median of 10"]
        usual = value[PLAIN] * 3 * sum(layers) * 1e-9  # 6 FLOP a weight and example, the dx that is spared included
        found["the same by the usual count, 6 FLOP a weight"] = usual / value["matmul, median of 10"]
    return {name: _spread(ratios.tolist()) for name, ratios in found.items()}


def _print(result: dict) -> None:
    machine, settings = result["machine"], result["settings"]
    load = machine["load_before"][0]
    print(f"\n{result['date']}, {machine['cpu']}, {machine['cores']} cores, load average before: {load:.1f}")
    print(", ".join(f"{name} {v}" for name, v in result["versions"].items()))
    print(f"{settings['rounds']} rounds of {settings['steps']} steps, batch {settings['batch_size']}\n")
    print("| | median | min | max | unit |\n|---|---:|---:|---:|---|")
    for name, row in {**result["measured"], **result["derived"]}.items():
        figures = [f"{row[k]:,.0f}" if row[k] >= 1000 else f"{row[k]:.3g}" for k in ("median", "min", "max")]
        print(f"| {name} | {' | '.join(figures)} | {row['unit']} |")
    if train := result["aejax_train"]:
        rate, peak = train["examples_per_second"], train["peak_resident_MiB"]
        print(f"\naejax train, 1000 steps: {rate:,.0f} examples/s by its own account; peak resident {peak:,.0f} MiB")
    for kind, why in result["absent"].items():
        print(f"left out: {kind} ({why})")


if __name__ == "__main__":
    tyro.cli(benchmark)
