"""Data sets by name or path, held once as memory-mapped arrays or streamed; batches as pure functions of (seed, step)."""

from aejax.data.batches import batch_at, batches_at, chosen, has_data, in_order, take
from aejax.data.cache import cache_folder
from aejax.data.factor_traversal import one_varied
from aejax.data.load import (
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
from aejax.data.loader import feed
from aejax.data.named import Available, available

__all__ = [
    "Available",
    "Recorded",
    "Streamed",
    "as_recorded_source",
    "available",
    "batch_at",
    "batches_at",
    "cache_folder",
    "chosen",
    "describe",
    "feed",
    "has_data",
    "in_order",
    "load",
    "one_varied",
    "open_split",
    "prepare",
    "recorded",
    "take",
    "usual_splits",
]
