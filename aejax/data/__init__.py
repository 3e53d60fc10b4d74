"""Data sets by name or path, held once as memory-mapped arrays; batches as pure functions of (seed, step)."""

from aejax.data.batches import batch_at, batches_at, in_order, take
from aejax.data.cache import cache_folder
from aejax.data.load import Recorded, describe, load, open_split, prepare, recorded
from aejax.data.named import Available, available

__all__ = [
    "Available",
    "Recorded",
    "available",
    "batch_at",
    "batches_at",
    "cache_folder",
    "describe",
    "in_order",
    "load",
    "open_split",
    "prepare",
    "recorded",
    "take",
]
