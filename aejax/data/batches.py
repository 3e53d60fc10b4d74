"""Batches as pure functions of (data set, seed, step): a resumed run needs its step only. Streamed data are read ahead."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from aejax.data.reading import scaled
from aejax.data.shuffling import STORED, shuffled
from aejax.data.splits import at
from aejax.data.units import found_of, refuse_other_units
from aejax.errors import UsageError
from aejax.types import Batch, Check, Dataset, Found


def take(dataset: Dataset, positions: np.ndarray) -> Batch:
    """The examples at given positions.

    Args:
        dataset: Data set in memory or streamed.
        positions: int, of any shape [...].

    Returns:
        `x` [..., *shape] float32 in data range (uint8 becomes value / 255, bool 0 or 1, floats are unchanged unless the data
        set is standardized), `label` [...] int32, and the other arrays of the data set.

    Raises:
        UsageError: The data set was opened without its data.

    Example:
        >>> from aejax import load
        >>> train, _ = load((np.arange(20, dtype=np.uint8)[:, None], np.arange(20) % 2))
        >>> batch = take(train, np.array([0, 1]))
        >>> batch["x"].shape, batch["label"].shape
        ((2, 1), (2,))
    """
    if dataset.arrays is not None:
        batch = {name: array[positions] for name, array in dataset.arrays.items()}
    elif dataset.read is not None:
        read = dataset.read(positions.reshape(-1))
        batch = {name: array.reshape(*positions.shape, *array.shape[1:]) for name, array in read.items()}
    else:
        raise UsageError(f"{dataset.name} was opened without its data; load it by name instead")
    batch["x"] = scaled(_in_data_range(batch["x"]), dataset.scaling)
    if "target" in batch:
        batch["target"] = _in_data_range(batch["target"])
    return batch


def subset(dataset: Dataset, positions: np.ndarray) -> Dataset:
    """The examples at these positions as a data set, in memory or streamed like the original.

    Args:
        dataset: Data set.
        positions: int [n].

    Returns:
        A data set of n examples.
    """
    truth = None if dataset.truth is None else at(dataset.truth, lambda some: positions[some])
    dataset = dataset._replace(draw=None, truth=truth)
    if dataset.read is not None:
        read = dataset.read
        return dataset._replace(size=len(positions), fingerprint="", read=lambda some: read(positions[some]))
    arrays = {name: array[positions] for name, array in (dataset.arrays or {}).items()}
    return dataset._replace(size=len(positions), fingerprint="", arrays=arrays)


STREAMED_EXAMPLES = 10_000
"""Number of streamed examples that are evaluated; each use decodes or draws them."""


def evaluated_part(data: Dataset) -> Dataset:
    """The part of a split that is evaluated: all of it, or the first STREAMED_EXAMPLES of streamed data, noted in its name."""
    if data.read is None or data.size <= STREAMED_EXAMPLES:
        return data
    return data._replace(name=f"{data.name}, the first {STREAMED_EXAMPLES}", size=STREAMED_EXAMPLES)


def has_data(dataset: Dataset) -> bool:
    """Whether the examples of a data set can be read; they cannot if it was rebuilt from the record of a run."""
    return dataset.arrays is not None or dataset.read is not None


def batch_at(dataset: Dataset, seed: int, step: int, batch_size: int) -> Batch:
    """The batch of a training step: `take` of `batch_size` examples, and `index` [b] int32 = 0, 1, 2, …

    The permutations of successive epochs form an endless stream, of which step t reads positions t·b to (t+1)·b - 1. Batches
    are therefore always full and may straddle epochs, and each example occurs exactly once per epoch.
    """
    return {name: leaf[0] for name, leaf in batches_at(dataset, seed, step, batch_size, 1).items()}


def batches_at(
    dataset: Dataset, seed: int, step: int, batch_size: int, n: int, share: tuple[int, int] = (0, 1)
) -> Batch:
    """The batches of steps `step` to `step + n - 1`, stacked: leaves [n, b, ...].

    With `share` (i, of), for one of several processes, only the rows i·b/of to (i+1)·b/of - 1 of each batch are read, leaves
    [n, b/of, ...]; `index` is still the position in the whole batch.
    """
    rows = rows_of(batch_size, share)
    batch = take(dataset, positions_at(dataset.size, seed, step, batch_size, n)[:, rows.start : rows.stop])
    return {**batch, "index": np.tile(np.arange(rows.start, rows.stop, dtype=np.int32), (n, 1))}


def rows_of(batch_size: int, share: tuple[int, int]) -> range:
    """The rows of a batch that belong to process i of `of`."""
    _refuse_empty(batch_size)
    i, of = share
    if batch_size % of:
        raise UsageError(f"batch size {batch_size} is not divisible by {of} processes; use a multiple of {of}")
    return range(i * batch_size // of, (i + 1) * batch_size // of)


def positions_at(size: int, seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Positions in a data set of this size of the examples of n batches from step `step` on, [n, b]."""
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    return _stream(size, seed, step * batch_size, (step + n) * batch_size).reshape(n, batch_size)


def eval_batches(dataset: Dataset, batch_size: int) -> Iterator[tuple[Batch, int]]:
    """All examples in order, in batches of one size, each with its number of valid rows.

    The last batch is padded with the last example; `index` [b] int32 is the position in the data set.
    """
    _refuse_empty(batch_size)
    for start in range(0, dataset.size, batch_size):
        positions = np.minimum(np.arange(start, start + batch_size), dataset.size - 1)
        batch = {**take(dataset, positions), "index": positions.astype(np.int32)}
        yield batch, min(batch_size, dataset.size - start)


def checked_by(dataset: Dataset, check: Check, batch_size: int) -> Dataset:
    """The data set after a check of all its examples: at once if they are in memory, else whenever they are read."""
    if dataset.read is None:
        for batch, _ in eval_batches(dataset, batch_size):
            check(batch["x"], dataset.name)
        return dataset
    from_disk = dataset.read

    def read(positions: np.ndarray) -> Mapping[str, np.ndarray]:
        examples = from_disk(positions)
        x = scaled(_in_data_range(examples["x"]), dataset.scaling)
        check(x, f"{dataset.name}, among its examples {positions.min()} to {positions.max()},")
        return examples

    return dataset._replace(read=read)


def in_units(dataset: Dataset, trained: Found, batch_size: int) -> Dataset:
    """The data set, after checking that it has the units of a run's training data.

    Streamed data are also checked whenever they are read.
    """
    given, numbers = found_of(dataset), dataset.size * math.prod(dataset.shape)
    refuse_other_units(trained, given, numbers, dataset.name)
    if dataset.read is None:
        return dataset

    def check(x: np.ndarray, where: str) -> None:
        wider = given._replace(low=min(given.low, float(np.nanmin(x))), high=max(given.high, float(np.nanmax(x))))
        refuse_other_units(trained, wider, numbers, where)

    return checked_by(dataset._replace(scaling=None), check, batch_size)._replace(scaling=dataset.scaling)


def _in_data_range(x: np.ndarray) -> np.ndarray:
    # A single pass: a cast followed by a division takes twice as long.
    return np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x.astype(np.float32, copy=False)


def _stream(size: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Positions `start` to `stop - 1` of the concatenated permutations of epochs 0, 1, 2, …"""
    epochs = range(start // size, (stop - 1) // size + 1)
    ranges = [np.arange(max(start - epoch * size, 0), min(stop - epoch * size, size)) for epoch in epochs]
    return np.concatenate([_order(size, seed, epoch)(part) for epoch, part in zip(epochs, ranges)])


_Order = Callable[[np.ndarray], np.ndarray]

_orders: OrderedDict[tuple[int, int, int], _Order] = OrderedDict()
_ordering = threading.Lock()  # otherwise all threads of one stream would compute the same permutation

_KEPT = 32
"""Maximum number of cached permutations: those of the members that train together, for two epochs where one ends."""
_KEPT_BYTES = 128 * 2**20
"""Beyond two permutations, at most this many bytes are cached; a permutation takes eight bytes per example."""


def _order(size: int, seed: int, epoch: int) -> _Order:
    key = (size, seed, epoch)
    with _ordering:
        if key not in _orders:
            while len(_orders) >= _KEPT or (len(_orders) > 1 and _kept_bytes() + _bytes(size) > _KEPT_BYTES):
                _orders.popitem(last=False)
            _orders[key] = shuffled(size, (seed, epoch))
        _orders.move_to_end(key)
        return _orders[key]


def _kept_bytes() -> int:
    return sum(_bytes(size) for size, _, _ in _orders)


def _bytes(size: int) -> int:
    return 8 * size if size <= STORED else 0


def _refuse_empty(batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is not a number of examples; use 1 or more")


# --- the batches of a run, one chunk after the other

# Grain is imported inside functions, so that training in memory does not wait for it.

AHEAD_BYTES = 64 * 2**20
"""Bound on the data that are read ahead of the device, in bytes."""

PIECE_BYTES = 4 * 2**20
"""Bytes that a thread reads and decodes at a time, so that several threads can share one large batch."""

AHEAD_PIECES = 256

THREADS = max(4, min(32, os.cpu_count() or 1))
"""Decoders release Python's lock while they work. More than one thread even on one core, because some wait for the disk."""


def batch_loader(
    dataset: Dataset, seed: int, step: int, batch_size: int, share: tuple[int, int] = (0, 1)
) -> Callable[[int], Batch]:
    """A function that returns the next n batches from step `step` on, stacked as by `batches_at`: n -> leaves [n, b/of, ...].

    The examples depend on the seed and the step only, so a run resumes from its step. Streamed data are read ahead by Grain's
    threads, up to AHEAD_BYTES, while the caller computes; the threads end when the function is garbage-collected. It raises
    what the reader raises, and returns no more batches after that.

    For a data set with `draw` the batches are positions only, as `position` and `index`, see `drawn`.
    """
    if dataset.draw is not None:
        return _positions(dataset, seed, step, batch_size, share)
    if dataset.read is None:
        return _from_memory(dataset, seed, step, batch_size, share)
    return _from_disk(dataset, seed, step, batch_size, share)


def drawn(dataset: Dataset) -> Callable[[Batch], Batch]:
    """From what `batch_loader` gives to the batch of a step, in JAX: draws the examples of a data set with `draw`."""
    draw = dataset.draw
    if draw is None:
        return lambda batch: batch
    return lambda batch: {**draw(batch["position"]), "index": batch["index"]}


def _positions(
    dataset: Dataset, seed: int, step: int, batch_size: int, share: tuple[int, int]
) -> Callable[[int], Batch]:
    rows = rows_of(batch_size, share)

    def next_batches(n: int) -> Batch:
        nonlocal step
        step += n
        positions = positions_at(dataset.size, seed, step - n, batch_size, n)[:, rows.start : rows.stop]
        index = np.tile(np.arange(rows.start, rows.stop, dtype=np.int32), (n, 1))
        return {"position": positions.astype(np.int32), "index": index}

    return next_batches


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
    positions_at(dataset.size, seed, step, batch_size, 1)  # fails here instead of in a thread
    example = 4 * math.prod(dataset.shape)
    per_piece = max(1, min(len(rows), PIECE_BYTES // example))
    pieces = -(-len(rows) // per_piece)
    ahead = max(1, min(AHEAD_PIECES, AHEAD_BYTES // (per_piece * example)))

    def read(i: int) -> Batch:
        """Piece i of the endless sequence of pieces."""
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
                    iterator.close()  # otherwise the next call would continue after the gap
                    raise
                for name, leaf in piece.items():
                    if name not in batches:
                        batches[name] = np.empty((n, len(rows), *leaf.shape[1:]), leaf.dtype)
                    batches[name][i, start : start + len(leaf)] = leaf
        return {**batches, "index": np.tile(np.arange(rows.start, rows.stop, dtype=np.int32), (n, 1))}

    weakref.finalize(next_batches, iterator.close)
    return next_batches
