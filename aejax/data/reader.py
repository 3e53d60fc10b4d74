"""What stands between a source of data and its use, by the cache or as a stream: examples by position, split by split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Readers = Mapping[str, "Reader"]
"""A source's splits by name, `all` among them."""


class Reader(NamedTuple):
    """One split as its source gives it."""

    size: int
    classes: tuple[str, ...] | None
    read: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    """Positions [n] in any order -> `x` [n, ...] and, with classes, `label` [n], with factors, `factors` [n, f], with states,
    `state` [n, t, s]; of sequences that differ in length, `length` [n]."""
    factors: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None


def with_all(splits: Readers) -> Readers:
    """Adds the split `all`: the splits in their order."""
    return {**splits, "all": _joined(list(splits.values()))}


def permuted_with_all(splits: Readers) -> Readers:
    """The splits that a user's files give, each in a permutation of seed 0, as slices need; `all` in the files' order."""
    mixed = {name: _part(split, np.random.default_rng(0).permutation(split.size)) for name, split in splits.items()}
    return {**mixed, "all": _joined(list(splits.values()))}


def with_a_tenth_held_out(whole: Reader) -> Readers:
    """Splits a source that has no splits of its own: `test` is a tenth, by a permutation of seed 0, `train` the rest.

    Both stay permuted: a source is often sorted by class, and a slice such as `train[:90%]` must hold every class. `all`
    keeps the order of the source, and is alone where a single example cannot be split.
    """
    if whole.size < 2:
        return {"all": whole}
    order = np.random.default_rng(0).permutation(whole.size)
    held_out = max(1, round(whole.size / 10))
    return {
        "train": _part(whole, order[held_out:]),
        "test": _part(whole, order[:held_out]),
        "all": whole,
    }


def _joined(parts: list[Reader]) -> Reader:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.size for part in parts)])

    def read(positions):
        pieces, places = [], []
        for part, start, stop in zip(parts, starts[:-1], starts[1:]):
            (inside,) = np.nonzero((positions >= start) & (positions < stop))
            if len(inside):
                pieces.append(part.read(positions[inside] - start))
                places.append(inside)
        order = np.argsort(np.concatenate(places))
        return {name: np.concatenate([piece[name] for piece in pieces])[order] for name in pieces[0]}

    return parts[0]._replace(size=int(starts[-1]), read=read)


def _part(whole: Reader, chosen: np.ndarray) -> Reader:
    return whole._replace(size=len(chosen), read=lambda positions: whole.read(chosen[positions]))
