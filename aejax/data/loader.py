"""The batches of a run, one stretch after the other, read ahead where the data set is streamed."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable

import numpy as np

from aejax.data.batches import batches_at, positions_at, rows_of, take
from aejax.types import Batch, Dataset

# Grain is imported inside: who trains in memory does not wait for it.

AHEAD_BYTES = 64 * 2**20
"""Bound for what is read ahead of the device."""

PIECE_BYTES = 4 * 2**20
"""What a thread reads and decodes at a time, so that several can work on one large batch."""

AHEAD_PIECES = 256

THREADS = max(4, min(32, os.cpu_count() or 1))
"""Decoders leave Python's lock while they work. More than one even on one core: some wait for the disk."""


def feed(
    dataset: Dataset, seed: int, step: int, batch_size: int, share: tuple[int, int] = (0, 1)
) -> Callable[[int], Batch]:
    """A function that gives the next n batches, from step `step` on, stacked as by `batches_at`: n -> leaves [n, b/of, ...].

    Which examples they are depends on the seed and the step alone, so a run resumes from its step. A streamed data set is
    read ahead by Grain's threads, up to AHEAD_BYTES, while the caller computes; they end when the function is forgotten.
    Raises what the reader raises, after which there are no more batches.
    """
    if dataset.read is None:
        return _from_memory(dataset, seed, step, batch_size, share)
    return _from_disk(dataset, seed, step, batch_size, share)


def _from_memory(
    dataset: Dataset, seed: int, step: int, batch_size: int, share: tuple[int, int]
) -> Callable[[int], Batch]:
    def next_batches(n: int) -> Batch:
        nonlocal step
        step += n
        return batches_at(dataset, seed, step - n, batch_size, n, share)

    return next_batches


def _from_disk(
    dataset: Dataset, seed: int, step: int, batch_size: int, share: tuple[int, int]
) -> Callable[[int], Batch]:
    import grain

    rows = rows_of(batch_size, share)
    positions_at(dataset.size, seed, step, batch_size, 1)  # refuses here what would fail in a thread
    example = 4 * math.prod(dataset.shape)
    per_piece = max(1, min(len(rows), PIECE_BYTES // example))
    pieces = -(-len(rows) // per_piece)
    ahead = max(1, min(AHEAD_PIECES, AHEAD_BYTES // (per_piece * example)))

    def read(i: int) -> Batch:
        """Piece i of the endless row of pieces."""
        at, piece = divmod(i, pieces)
        start = rows.start + piece * per_piece
        positions = positions_at(dataset.size, seed, at, batch_size, 1)[0, start : min(start + per_piece, rows.stop)]
        return take(dataset, positions)

    endless = grain.MapDataset.range(step * pieces, 2**62).map(read)
    iterator = iter(endless.to_iter_dataset(grain.ReadOptions(min(THREADS, ahead), ahead)))

    def next_batches(n: int) -> Batch:
        batches: dict[str, np.ndarray] = {}
        for i in range(n):
            for start in range(0, len(rows), per_piece):
                try:
                    piece = next(iterator)
                except BaseException:
                    iterator.close()  # or the next call would go on behind the gap
                    raise
                for name, leaf in piece.items():
                    if name not in batches:
                        batches[name] = np.empty((n, len(rows), *leaf.shape[1:]), leaf.dtype)
                    batches[name][i, start : start + len(leaf)] = leaf
        return {**batches, "index": np.tile(np.arange(rows.start, rows.stop, dtype=np.int32), (n, 1))}

    weakref.finalize(next_batches, iterator.close)
    return next_batches
