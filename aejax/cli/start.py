"""The beginning of every command: JAX is configured before its first use; and shared flags."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from aejax.data.reading import Crop, Missing, Standardize
from aejax.errors import UsageError
from aejax.training.checks import GPU_DETERMINISM
from aejax.training.compiled import keep_compiled
from aejax.training.processes import join

MOST_DEVICES = 1024
"""Each device of a CPU is a thread with files of its own."""


def start(
    devices: int,
    deterministic: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    peer_timeout: int = 30,
) -> None:
    """Configures JAX before its first use: CPU devices, kernels, other processes, and the cache of compiled programs."""
    if not 1 <= devices <= MOST_DEVICES:
        raise UsageError(f"--devices {devices}: it must be from 1 to {MOST_DEVICES}")
    if devices > max(1, jax.config.jax_num_cpu_devices):  # type: ignore[attr-defined]
        try:
            jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError:
            raise UsageError(
                f"--devices {devices}: the experiment file computes with JAX while it is imported, which fixes the number "
                "of CPU devices; move that into its function"
            ) from None
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {GPU_DETERMINISM}".strip()
    join(coordinator, processes, process, peer_timeout)
    keep_compiled()


def existing(
    run: Path,
    /,
    file: Path | None = None,
    data: str | None = None,
    parent: Path | None = None,
    allow_changed: bool = False,
) -> None:
    """The flags of every command on a run.
    Args:
        run: The run directory.
        file: The experiment file, if it has moved.
        data: The path of the data, if they have moved; they must be the same.
        parent: The run directory of the run that this one builds on, if it has moved.
        allow_changed: Accept an experiment file or data that has changed since the run was started, and input that does not
            seem to have the units of the training data.
    """


def chosen_checkpoint(checkpoint: str = "last") -> None:
    """
    Args:
        checkpoint: last, or best by the monitored validation metric.
    """


def reading(
    stream: bool = False,
    image_size: int | None = None,
    image_channels: int | None = None,
    image_crop: Crop = "center",
    standardize: Standardize = "none",
    missing: Missing = "refuse",
    large: bool = False,
) -> None:
    """How data are read.
    Args:
        stream: Read examples from the disk at each step. This is always done if they decode to more than 2 GiB.
        image_size: Scale and crop the images of a folder to this many pixels in height and width.
        image_channels: Convert the images of a folder to 1 (gray), 3 (RGB) or 4 (RGBA) channels.
        image_crop: With --image-size: the center, a random part (drawn once per file), or the whole image stretched.
        standardize: zscore or minmax: each column (of a signal: each channel), by the training split; norm: all by one
            number. Outputs are in the data's own units again.
        missing: mask: NaN is a missing value, which the likelihood does not score.
        large: Accept files that take more than 8 GiB in memory, and images of more than 179 million pixels.
    """


def joined(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, peer_timeout: int = 30
) -> None:
    """The flags of the commands that several processes can share.
    Args:
        coordinator: HOST:PORT of the first of several processes that train as one, or auto to read it from what SLURM,
            Kubernetes or Cloud TPU set.
        processes: How many processes there are.
        process: Which of them this is, from 0.
        peer_timeout: Seconds without a sign of one of the processes after which the others stop.
    """
