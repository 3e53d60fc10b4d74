"""What every worker is told and what it must be able to do: a Job and a Trainer; and the data, the same for all.

Only the standard library and NumPy are imported here, because aejax is not installed where the peers run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

LATENT = 64
LEARNING_RATE = 1e-3
MASKED = 0.3
MATMUL = 2048
CODES, CODE_WIDTH, CHANNELS, COMMITMENT = 512, 64, (64, 128), 0.25
"""Of the VQ-VAE: K, D, the channels after each halving of the image, and β."""
STATE, BELIEF, MAPPED, PAIRS, GAP = 16, 128, 256, 8, (1, 4)
"""Of the TD-VAE, to which the rows of an image are a sequence: dimensions of its state, widths of what runs over the frames
and of the frames' encoder, jumps in each sequence of a step, and the shortest and the longest."""


class Job(NamedTuple):
    """What a contender trains on, and how."""

    folder: str
    """Holds train.npy, test.npy and masked.npy, images uint8 [n, h, w, c]; `masked` is the test split, corrupted."""
    batch_size: int
    hidden: int
    """Width of the MLP's two hidden layers."""
    examples: int
    """The first so many of train.npy."""
    seed: int


class Trainer(NamedTuple):
    """A contender at work."""

    train: Callable[[int], int]
    """n -> the number of further steps that were done, at least n, and finished when it returns."""
    reconstruct: Callable[[np.ndarray], np.ndarray] | None
    """float32 images [b, h, w, c] in [0, 1] -> the same, reconstructed. None for what is no model."""
    compiling: Callable[[], float] = lambda: 0.0
    """Seconds that this process has spent compiling so far."""


def images(job: Job) -> np.ndarray:
    """The training images [n, h, w, c], mapped."""
    return np.load(Path(job.folder) / "train.npy", mmap_mode="r")[: job.examples]


def positions(job: Job, size: int, done: int, n: int) -> np.ndarray:
    """The examples of steps `done` to `done + n - 1`, [n · batch size]: the order in which aejax takes them, for everyone."""
    start, stop = done * job.batch_size, (done + n) * job.batch_size
    epochs = range(start // size, (stop - 1) // size + 1)
    return np.concatenate([_order(size, job.seed, e)[max(start - e * size, 0) : stop - e * size] for e in epochs])


@lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def cores() -> int:
    return len(os.sched_getaffinity(0))
