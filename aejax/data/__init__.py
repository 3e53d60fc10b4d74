"""Data sets by name or path, held once as memory-mapped arrays or streamed; batches as pure functions of (seed, step)."""

from aejax.data.batches import batch_at, batch_loader, batches_at, eval_batches, has_data, subset, take
from aejax.data.cache import cache_folder
from aejax.data.factor_traversal import factor_traversal_of
from aejax.data.loading import (
    Recorded,
    Streamed,
    as_recorded_source,
    describe,
    load,
    open_split,
    prepare,
    recorded,
    usual_splits,
)
from aejax.data.named import Available, available

__all__ = [
    "Available",
    "Recorded",
    "Streamed",
    "as_recorded_source",
    "available",
    "batch_at",
    "batch_loader",
    "batches_at",
    "cache_folder",
    "describe",
    "eval_batches",
    "factor_traversal_of",
    "has_data",
    "load",
    "open_split",
    "prepare",
    "recorded",
    "subset",
    "take",
    "usual_splits",
]
