"""Data sets by name, by path or from memory, as memory-mapped arrays or streamed; batches as pure functions of (seed, step)."""

from aejax.data.batches import (
    STREAMED_EXAMPLES,
    batch_at,
    batch_loader,
    batches_at,
    checked_by,
    drawn,
    eval_batches,
    evaluated_part,
    has_data,
    in_units,
    subset,
    take,
)
from aejax.data.cache import cache_folder, refuse_damaged
from aejax.data.factor_traversal import factor_traversal_of
from aejax.data.kinds import is_image
from aejax.data.loading import (
    Recorded,
    column_names,
    file_names,
    is_missing,
    load,
    located,
    open_split,
    prepare,
    usual_splits,
)
from aejax.data.named import Available, available
from aejax.data.reading import ReadAs, nats_of_scaling, read_as, unscaled
from aejax.data.record import as_recorded_source, describe, found_line, recorded
from aejax.data.sources import Name
from aejax.data.units import found_of, joined

__all__ = [
    "STREAMED_EXAMPLES",
    "Available",
    "Name",
    "ReadAs",
    "Recorded",
    "as_recorded_source",
    "available",
    "batch_at",
    "batch_loader",
    "batches_at",
    "cache_folder",
    "checked_by",
    "column_names",
    "describe",
    "drawn",
    "eval_batches",
    "evaluated_part",
    "factor_traversal_of",
    "file_names",
    "found_line",
    "found_of",
    "has_data",
    "in_units",
    "is_image",
    "is_missing",
    "joined",
    "load",
    "located",
    "nats_of_scaling",
    "open_split",
    "prepare",
    "read_as",
    "recorded",
    "refuse_damaged",
    "subset",
    "take",
    "unscaled",
    "usual_splits",
]
