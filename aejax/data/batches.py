"""Batches as pure functions of (data set, seed, step): a resumed run needs nothing but its step."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from aejax.errors import UsageError
from aejax.types import Batch, Dataset


def take(dataset: Dataset, positions: np.ndarray) -> Batch:
    """The examples at these positions, of any shape [...]: `x` [..., *shape] float32, `label` [...] int32, and
    what else it has.

    `x` is in data range: uint8 becomes value / 255, bool 0 or 1, floats stay. Raises UsageError for a data set that was
    opened without its data.
    """
    if dataset.arrays is not None:
        batch = {name: array[positions] for name, array in dataset.arrays.items()}
    elif dataset.read is not None:
        read = dataset.read(positions.reshape(-1))
        batch = {name: array.reshape(*positions.shape, *array.shape[1:]) for name, array in read.items()}
    else:
        raise UsageError(f"{dataset.name} was opened without its data; load it by name instead")
    batch["x"] = _in_data_range(batch["x"])
    return batch


def chosen(dataset: Dataset, positions: np.ndarray) -> Dataset:
    """The examples at these positions [n] as a data set; in memory where the data set is, else still streamed."""
    if dataset.read is not None:
        read = dataset.read
        return dataset._replace(size=len(positions), fingerprint="", read=lambda some: read(positions[some]))
    arrays = {name: array[positions] for name, array in (dataset.arrays or {}).items()}
    return dataset._replace(size=len(positions), fingerprint="", arrays=arrays)


def has_data(dataset: Dataset) -> bool:
    """Whether its examples can be taken: it was not rebuilt from what a run recorded."""
    return dataset.arrays is not None or dataset.read is not None


def batch_at(dataset: Dataset, seed: int, step: int, batch_size: int) -> Batch:
    """The batch of this step: `take` of `batch_size` examples, and `index` [b] int32, 0, 1, 2, …

    The epochs' permutations follow one another in an endless stream, and step t reads its positions t·b to (t+1)·b - 1:
    batches are always full, may straddle epochs, and each example comes exactly once an epoch.
    """
    return {name: leaf[0] for name, leaf in batches_at(dataset, seed, step, batch_size, 1).items()}


def batches_at(
    dataset: Dataset, seed: int, step: int, batch_size: int, n: int, share: tuple[int, int] = (0, 1)
) -> Batch:
    """The batches of steps `step` to `step + n - 1`, stacked: leaves [n, b, ...], in one gather.

    With `share` (i, of), for one of several processes, only rows i·b/of to (i+1)·b/of - 1 of each, leaves [n, b/of, ...];
    `index` is still the position in the whole batch.
    """
    rows = rows_of(batch_size, share)
    batch = take(dataset, positions_at(dataset.size, seed, step, batch_size, n)[:, rows.start : rows.stop])
    return {**batch, "index": np.tile(np.arange(rows.start, rows.stop, dtype=np.int32), (n, 1))}


def rows_of(batch_size: int, share: tuple[int, int]) -> range:
    """The rows of a batch that process i of so many has."""
    _refuse_empty(batch_size)
    i, of = share
    if batch_size % of:
        raise UsageError(f"batch size {batch_size} is not divisible by {of} processes; use a multiple of {of}")
    return range(i * batch_size // of, (i + 1) * batch_size // of)


def positions_at(size: int, seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Where in a data set of this size the examples of n batches from step `step` on lie, [n, b]."""
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    return _stream(size, seed, step * batch_size, (step + n) * batch_size).reshape(n, batch_size)


def in_order(dataset: Dataset, batch_size: int) -> Iterator[tuple[Batch, int]]:
    """All examples in order, in batches of one size, with the number of rows that count.

    The last batch is filled up by repeating the last example; `index` [b] int32 is the position in the data set.
    """
    _refuse_empty(batch_size)
    for start in range(0, dataset.size, batch_size):
        positions = np.minimum(np.arange(start, start + batch_size), dataset.size - 1)
        batch = {**take(dataset, positions), "index": positions.astype(np.int32)}
        yield batch, min(batch_size, dataset.size - start)


def _in_data_range(x: np.ndarray) -> np.ndarray:
    # One pass: a cast and then a division take twice as long.
    return np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x.astype(np.float32, copy=False)


def _stream(size: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Positions `start` to `stop - 1` of the permutations of epoch 0, 1, 2, … laid end to end."""
    epochs = range(start // size, (stop - 1) // size + 1)
    orders = [_order(size, seed, epoch)[max(start - epoch * size, 0) : stop - epoch * size] for epoch in epochs]
    return np.concatenate(orders)


_orders: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
_ordering = threading.Lock()  # or threads that feed one stream would all make the same order

_KEPT = 32
"""Orders kept at most: those of the members that train together, of two epochs where one ends."""
_KEPT_BYTES = 128 * 2**20
"""But beyond two no more than this: an order takes eight bytes per example."""


def _order(size: int, seed: int, epoch: int) -> np.ndarray:
    key = (size, seed, epoch)
    with _ordering:
        if key not in _orders:
            order = np.random.default_rng((seed, epoch)).permutation(size)
            order.flags.writeable = False  # it is shared between callers
            while len(_orders) >= _KEPT or (len(_orders) > 1 and _kept_bytes() + order.nbytes > _KEPT_BYTES):
                _orders.popitem(last=False)
            _orders[key] = order
        _orders.move_to_end(key)
        return _orders[key]


def _kept_bytes() -> int:
    return sum(order.nbytes for order in _orders.values())


def _refuse_empty(batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is not a number of examples; use 1 or more")
