"""Training from a data set larger than memory, beside training from the same examples in memory: peak memory and speed.

    python experiments/benchmarks/stream.py --folder /tmp/stream --gigabytes 5 --out results.json

Makes a TFDS data set of noisy images, so large, once, then runs `aejax train conv_dae` on it in turns with and
without --stream, and times the loader alone. What it makes stays in the folder: the PNGs, and as much again decoded, from
which the runs in memory read.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import tyro
from PIL import Image
from tensorflow_datasets.core import shuffle

ROOT = Path(__file__).resolve().parent.parent.parent
SIDE = 128
NET = ("--hidden", "16", "32", "64", "--blocks", "1")
CHUNK = 64  # images that a process makes at a time
LOADER = """
import json, sys, time
from aejax.data import ReadAs, batch_loader, load
data, batch_size, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
(train,) = load(ReadAs(data, stream=True), ("train[:90%]",))
next_batches = batch_loader(train, 0, 0, batch_size)
next_batches(2)
start = time.perf_counter()
for _ in range(batches):
    next_batches(1)
print(json.dumps(batch_size * batches / (time.perf_counter() - start)))
"""


def benchmark(
    folder: Path,
    gigabytes: float = 5.0,
    steps: int = 100,
    batch_size: int = 64,
    rounds: int = 3,
    loader_batches: int = 100,
    images: int = 5000,
    out: Path | None = None,
) -> None:
    """Peak memory and examples/s of training with and without --stream, and of the streaming loader alone.

    Args:
        folder: Where the data set lies, or is made.
        gigabytes: Size of its files, in 10⁹ bytes.
        steps: Training steps in a run.
        batch_size: Examples in a step.
        rounds: How often either way has its turn.
        loader_batches: Batches over which the loader is timed.
        images: Images of it that are also written as a folder of PNGs, for the loader.
        out: The measurements of all rounds, as JSON.
    """
    os.environ |= {
        "TFDS_DATA_DIR": str(folder / "tfds"),
        "AEJAX_CACHE": str(folder / "cache"),
        "JAX_PLATFORMS": "cpu",
    }
    folder.mkdir(parents=True, exist_ok=True)
    load_before = os.getloadavg()
    name, size = made(folder, gigabytes)
    pngs = as_folder(folder / f"images-{images}", images)
    decoded(name)
    rates: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    turns = {
        "train, streamed": lambda: training(name, ["--stream"], folder / "run", steps, batch_size),
        "train, in memory": lambda: training(name, [], folder / "run", steps, batch_size),
        "loader alone, TFDS": lambda: loading(name, batch_size, loader_batches),
        "loader alone, folder of images": lambda: loading(pngs, batch_size, loader_batches),
    }
    for r in range(rounds):
        for what in list(turns)[:: 1 if r % 2 == 0 else -1]:  # a drift within the round favors nobody
            rate, peak = turns[what]()
            rates.setdefault(what, []).append(rate)
            peaks.setdefault(what, []).append(peak)
            print(f"round {r + 1} of {rounds}: {what} {rate:,.0f} examples/s, {peak:,.0f} MiB", file=sys.stderr)
    ratio = np.divide(rates["train, streamed"], rates["train, in memory"]).tolist()
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "load_before": load_before},
        "settings": {"rounds": rounds, "steps": steps, "batch_size": batch_size, "image": [SIDE, SIDE, 3]},
        "data": size,
        "examples_per_second": rates,
        "peak_resident_MiB": peaks,
        "streamed / in memory": ratio,
    }
    if out:
        out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


class NoisyImages(tfds.core.GeneratorBasedBuilder):
    """PNGs of 128×128×3: soft blotches of one of ten hues under noise that no compression takes away. Two per cent are test."""

    VERSION = tfds.core.Version("1.0.0")
    count = 0
    """Examples to make; the data sets of different counts lie in different folders."""

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "label": tfds.features.ClassLabel(names=[str(hue) for hue in range(10)]),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        train = self.count * 98 // 100
        return {
            "train": self._generate_examples(0, train),
            "test": self._generate_examples(train, self.count),
        }

    def _generate_examples(self, start, stop):
        for i, png in enumerate(pngs_of(start, stop), start):
            yield i, {"image": io.BytesIO(png), "label": i % 10}


def pngs_of(start: int, stop: int) -> Iterator[bytes]:
    """Images `start` up to `stop`, made on all cores; image i depends on i alone."""
    chunks = [range(first, min(first + CHUNK, stop)) for first in range(start, stop, CHUNK)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        for pngs in pool.imap(_pngs, chunks):
            yield from pngs


def _pngs(numbers: range) -> list[bytes]:
    return [_png(i) for i in numbers]


def _png(i: int) -> bytes:
    rng = np.random.default_rng(i)
    hue = np.array([0.5 + 0.4 * np.cos(2 * np.pi * (i % 10 / 10 + part / 3)) for part in range(3)])
    blotches = (hue * rng.uniform(0.3, 1.0, (4, 4, 1)) * 200).astype(np.uint8)
    soft = np.asarray(Image.fromarray(blotches).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    noisy = soft + rng.integers(0, 56, soft.shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "png", compress_level=1)
    return file.getvalue()


def made(folder: Path, gigabytes: float) -> tuple[str, dict]:
    """The data set's name and size, prepared if it is not there yet."""
    each = np.mean([len(png) for png in _pngs(range(CHUNK))])
    NoisyImages.count = max(1000, int(gigabytes * 1e9 / each))
    data_dir = folder / "tfds"
    builder = NoisyImages(data_dir=str(data_dir), file_format="array_record")
    if builder.is_prepared() and sum(part.num_examples for part in builder.info.splits.values()) != NoisyImages.count:
        raise SystemExit(f"{builder.data_path} is of another size; remove it, or choose another --folder")
    start = time.perf_counter()
    # Beyond this TFDS sorts on the disk, for which it needs TensorFlow; so the examples are held while they are made.
    shuffle.MAX_MEM_BUFFER_SIZE = 2**40
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    print(f"data set ready in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    stored = sum(file.stat().st_size for file in Path(builder.data_path).iterdir())
    told = {"examples": NoisyImages.count, "stored_bytes": stored, "decoded_bytes": NoisyImages.count * SIDE * SIDE * 3}
    return builder.name, told


def as_folder(folder: Path, count: int) -> str:
    """The first images as files, if they are not there yet."""
    if not folder.exists():
        beside = folder.with_name(f".{folder.name}")
        shutil.rmtree(beside, ignore_errors=True)
        for i, png in enumerate(pngs_of(0, count)):
            path = beside / str(i % 10) / f"{i:07}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        beside.rename(folder)
    return str(folder)


def decoded(name: str) -> None:
    """Puts the data set into the cache, however large: what lies there is read from there."""
    program = (
        f"import sys, aejax.data; sys.modules['aejax.data.loading'].STREAM_BYTES = 1 << 62; aejax.data.load({name!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def training(name: str, flags: list[str], run: Path, steps: int, batch_size: int) -> tuple[float, float]:
    """Examples per second by the run's own account, and its peak resident memory in MiB."""
    shutil.rmtree(run, ignore_errors=True)
    settings = {"--data": name, "--steps": steps, "--batch-size": batch_size, "--save-every": steps, "--run": run}
    given = [str(part) for pair in settings.items() for part in pair]
    command = ["train", str(ROOT / "experiments" / "conv_dae.py"), *given, *NET, "--no-evaluate", *flags]
    _, peak = measured([sys.executable, "-m", "aejax", *command], run.with_suffix(".log"))
    return json.loads((run / "result.json").read_text())["examples_per_second"], peak


def loading(data: str, batch_size: int, batches: int) -> tuple[float, float]:
    """Examples per second and peak resident memory in MiB of a process that only reads."""
    told, peak = measured([sys.executable, "-c", LOADER, data, str(batch_size), str(batches)], None)
    return json.loads(told), peak


def measured(command: list[str], log: Path | None) -> tuple[str, float]:
    """What a command prints, and its peak resident memory (VmHWM) in MiB."""
    peak = 0
    errors = log.open("w") if log else None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT)
    while process.poll() is None:  # VmHWM: what wait4 tells would include this process before the exec
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                peak = int(line.split()[1])
        time.sleep(0.02)
    told, _ = process.communicate()
    if errors:
        errors.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:] if log else ''}")
    return told, peak / 1024


def show(result: dict) -> None:
    size, settings = result["data"], result["settings"]
    print(
        f"\n{result['date']}, {result['machine']['cores']} cores, load before: {result['machine']['load_before'][0]:.1f}; "
        f"{size['examples']:,} images of {SIDE}×{SIDE}×3, {size['stored_bytes'] / 1e9:.2f} GB stored, "
        f"{size['decoded_bytes'] / 1e9:.2f} GB decoded; {settings['rounds']} rounds of {settings['steps']} steps, "
        f"batch {settings['batch_size']}\n"
    )
    print("| | examples/s, median | min | max | peak resident MiB |\n|---|---:|---:|---:|---:|")
    for what, rates in result["examples_per_second"].items():
        spread = f"{np.median(rates):,.0f} | {min(rates):,.0f} | {max(rates):,.0f}"
        print(f"| {what} | {spread} | {max(result['peak_resident_MiB'][what]):,.0f} |")
    ratio = result["streamed / in memory"]
    print(f"| streamed / in memory | {np.median(ratio):.2f} | {min(ratio):.2f} | {max(ratio):.2f} | |")


if __name__ == "__main__":
    tyro.cli(benchmark)
