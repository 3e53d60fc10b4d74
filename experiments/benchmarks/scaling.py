"""What a run costs on many accelerators, on paper: from XLA's count of one step, and what an accelerator and its links can do.

    python experiments/benchmarks/scaling.py

Nothing is trained and no data are needed. Printed as the README has it.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import tyro

from aejax.data import Recorded
from aejax.runs.experiment import build, load_file
from aejax.runs.shapes import abstract_state
from aejax.training.cost import step_cost
from aejax.types import Dataset

EXPERIMENT = Path(__file__).resolve().parent.parent / "conv_dae.py"


def scaling(
    devices: tuple[int, ...] = (8, 64, 512),
    per_device: int = 64,
    size: int = 256,
    examples: int = 1_281_167,
    epochs: int = 100,
    hidden: tuple[int, ...] = (128, 256, 512, 512),
    blocks: int = 4,
    latent: int = 256,
    peak: float = 312e12,
    share: float = 0.4,
    link: float = 50e9,
    devices_per_host: int = 8,
    decode: float = 200.0,
    cores_per_host: int = 96,
) -> None:
    """The table.

    Args:
        devices: Numbers of accelerators.
        per_device: Examples of a batch on each.
        size: Height and width of the images, of three channels.
        examples: In the training set.
        epochs: Passes over it.
        hidden: Channels of the convolutions.
        blocks: Residual blocks.
        latent: Components of the code.
        peak: FLOP/s of an accelerator in the arithmetic used (bfloat16).
        share: Of the peak that a step reaches.
        link: Bytes/s at which an accelerator sends and receives in an all-reduce over all of them.
        devices_per_host: Accelerators that one host feeds.
        decode: Images of that size that a core decodes in a second (stream.py measures it).
        cores_per_host: That decode.
    """
    shape = (size, size, 3)
    splits = {
        s: Dataset(f"images:{s}", shape, examples, None, "", None) for s in ("train[:90%]", "train[90%:]", "test")
    }
    _, function = load_file(EXPERIMENT)
    counted = 4  # the cost is linear in the batch but for the optimizer's share
    given = {"hidden": hidden, "blocks": blocks, "latent": latent, "dtype": "bfloat16", "batch_size": counted}
    experiment = build(function, given, data=Recorded("images", splits))
    cost = step_cost(experiment)
    weights = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(abstract_state(experiment).params))
    optimizer = 15 * weights  # Adam's arithmetic, once a step
    flops = (cost.flops - optimizer) / counted

    compute = per_device * flops / (share * peak)
    print(
        f"{weights / 1e6:.1f} M parameters, {flops / 1e9:.1f} GFLOP an example, {compute * 1e3:.0f} ms a step of {per_device}"
    )
    heads = (
        "accelerators",
        "batch",
        "steps",
        "FLOP, all",
        "all-reduce a step",
        "ms",
        "input a host",
        "cores",
        "hours",
        "bound by",
    )
    print(f"\n| {' | '.join(heads)} |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for n in devices:
        volume = 2 * 4 * weights * (n - 1) / n
        reduce = volume / link
        hosts = max(1, n // devices_per_host)
        batch = n * per_device
        steps = examples * epochs // batch
        step = max(compute, per_device * devices_per_host / (decode * cores_per_host)) + reduce
        images = batch / hosts / step
        cores = images / decode
        told = "input" if cores > 0.99 * cores_per_host else "communication" if reduce > compute else "computation"
        print(
            f"| {n} | {batch} | {steps:,} | {steps * batch * flops:.2g} | {volume / 1e6:.0f} MB | {reduce * 1e3:.0f} "
            f"| {images:,.0f} images/s, {images * 12 * size**2 / 1e9:.1f} GB/s | {cores:.0f} "
            f"| {steps * step / 3600:.1f} | {told} |"
        )
    even = reduce * share * peak / flops
    print(f"\ncommunication takes as long as computation at {even:.0f} examples on an accelerator; input binds")
    fastest = decode * cores_per_host / devices_per_host
    print(
        f"when an example takes an accelerator less than {1e3 / fastest:.2f} ms (it takes {1e3 * flops / share / peak:.2f})"
    )


if __name__ == "__main__":
    tyro.cli(scaling)
