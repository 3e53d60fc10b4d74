"""Functions applied to all examples of a data set, in padded batches of one size and bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

from aejax.data import eval_batches
from aejax.types import Batch, Dataset

INFERENCE_BATCH = 256
"""One padded batch size for everything outside training, so that each function compiles once."""

INFERENCE_BYTES = 8 * 2**20
"""Bound on such a batch of x in bytes; the activations of large images take many times as much."""


def inference_batch(data: Dataset) -> int:
    """Number of examples per batch outside training."""
    return max(1, min(INFERENCE_BATCH, INFERENCE_BYTES // (4 * math.prod(data.shape)), data.size))


Watch = Callable[[int, int], None]
"""(examples done, examples of the data set)."""

_watching: ContextVar[Watch | None] = ContextVar("watching", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Calls `watch` after each batch that `map_examples` is done with inside, so that the time left can be shown."""
    token = _watching.set(watch)
    try:
        yield
    finally:
        _watching.reset(token)


def map_examples(f: Callable[[Batch], Any], data: Dataset) -> Any:
    """f, a function of a batch, over all examples in order: trees of [n, ...] in NumPy, without padding."""
    parts, done, watch = [], 0, _watching.get()
    for batch, valid in eval_batches(data, inference_batch(data)):
        parts.append(jax.tree.map(lambda leaf, n=valid: np.asarray(leaf)[:n], f(batch)))
        done += valid
        if watch is not None:
            watch(done, data.size)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def means(terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each term over all examples, in double precision."""
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in terms.items()}
