"""Checks on the accelerator at hand that the bits keep their promises, and times each family's step.

    python experiments/benchmarks/accelerator.py --out accelerator.json

Each experiment is trained twice under --deterministic, and once more from its middle checkpoint as if it had been killed: all
three digests are to be equal. The random draws of one key are to be those of the CPU, to the bit. Then each is trained alone,
as users do, and the examples/s of its last half are those of the table. `--quick` does the same in small on a CPU. It exits
with 1 where a promise is broken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import tyro

FAMILIES = ("dae", "conv_dae", "sparse", "vae", "iwae", "vqvae", "vqvae2", "tdvae_digits", "factor_vae")
DRAWS = """
import hashlib, json, sys, jax, numpy as np
digest = lambda a: hashlib.sha256(np.asarray(a).tobytes()).hexdigest()
key, device = jax.random.key(7), jax.devices(sys.argv[1])[0]
with jax.default_device(device):
    bits = jax.random.bits(key, (4096,))
    order = jax.random.permutation(key, 4096)
    print(json.dumps({"bits": digest(bits), "permutation": digest(order), "kind": device.device_kind, "jax": jax.__version__}))
"""


def accelerator(
    families: tuple[str, ...] = FAMILIES,
    steps: int = 200,
    timed_steps: int = 3_000,
    rounds: int = 3,
    jobs: int = 4,
    quick: bool = False,
    out: Path | None = None,
) -> int:
    """Promises about bits, and speed.

    Args:
        families: Shipped experiments, by name.
        steps: Of a run whose digest is compared.
        timed_steps: Of a run that is timed.
        rounds: How often each is timed, in turns.
        jobs: Runs at a time while digests are compared; one while speed is measured.
        quick: Two families, few steps and one round, on the CPU.
        out: Where a JSON file of all results goes.
    """
    platform = None
    if quick:
        families, steps, timed_steps, rounds, platform = ("dae", "vae"), 20, 40, 1, "cpu"
    devices = {name: _draws(name) for name in (("cpu",) if quick else ("cpu", "gpu"))}
    here = list(devices.values())[-1]
    draws_agree = all(device["bits"] == here["bits"] for device in devices.values())
    draws_agree &= all(device["permutation"] == here["permutation"] for device in devices.values())
    print(f"{here['kind']}, jax {here['jax']}; draws equal to the CPU's: {draws_agree}", flush=True)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        rows = dict(zip(families, pool.map(lambda name: _digests(name, steps, Path(folder), platform), families)))
        for name, row in rows.items():
            print(f"{name:14s} {'same bits' if row['same'] else 'BITS DIFFER'}  {row['digests'][0][:12]}", flush=True)
        speeds: dict[str, list[float]] = {name: [] for name in families}
        for i in range(rounds):
            for name in families if i % 2 == 0 else families[::-1]:
                speeds[name].append(_examples_per_second(name, timed_steps, Path(folder), platform))
    for name in families:
        rows[name]["examples_per_second"] = speeds[name]
        print(f"{name:14s} {median(speeds[name]):12.0f} examples/s, median of {rounds}", flush=True)
    if out is not None:
        found = {"device": here["kind"], "jax": here["jax"], "steps": steps, "timed_steps": timed_steps}
        out.write_text(json.dumps({**found, "draws_agree": draws_agree, "families": rows}, indent=1) + "\n")
    return 0 if draws_agree and all(row["same"] for row in rows.values()) else 1


def _draws(platform: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", DRAWS, platform], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _digests(name: str, steps: int, folder: Path, platform: str | None) -> dict[str, Any]:
    runs = [folder / f"{name}_{i}" for i in range(2)]
    for run in runs:
        _train(name, steps, run, platform, "--deterministic", "--save-every", str(steps // 2))
    killed = folder / f"{name}_killed"
    shutil.copytree(runs[0], killed)
    shutil.rmtree(killed / "checkpoints" / str(steps))
    (killed / "result.json").unlink()
    _aejax("resume", str(killed), platform=platform)
    digests = [json.loads((run / "result.json").read_text())["digest"] for run in (*runs, killed)]
    return {"digests": digests, "same": len(set(digests)) == 1}


def _examples_per_second(name: str, steps: int, folder: Path, platform: str | None) -> float:
    run = folder / f"{name}_{time.monotonic_ns()}"
    _train(name, steps, run, platform, "--log-every", str(steps // 4), "--save-every", str(steps))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["examples_per_second"] for line in lines if line["split"] == "train"]
    return median(speeds[len(speeds) // 2 :])


def _train(name: str, steps: int, run: Path, platform: str | None, *more: str) -> None:
    _aejax("train", name, "--steps", str(steps), "--run", str(run), "--no-evaluate", *more, platform=platform)


def _aejax(*command: str, platform: str | None) -> None:
    wanted = {} if platform is None else {"JAX_PLATFORMS": platform}
    done = subprocess.run(
        [sys.executable, "-m", "aejax", *command],
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **wanted},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"aejax {' '.join(command)}:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    sys.exit(tyro.cli(accelerator))
