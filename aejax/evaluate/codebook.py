"""How a discrete code is used over a whole data set, and what it and the rest of an example cost in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from aejax.data import take
from aejax.keys import evaluation_key
from aejax.run import Run, map_examples
from aejax.types import Dataset


def codebook(run: Run, data: Dataset, terms: Mapping[str, float]) -> dict[str, Any] | None:
    """What `evaluate` writes of a model with discrete codes; None for another one.

    For each book how many codes occur at all, and their perplexity, exp of the entropy of their frequencies, both over the
    data set; `bits_per_dimension` is of the whole bound, code and likelihood, where the data are discrete.
    """
    model = run.experiment.model
    if model.codes is None or model.books is None:
        return None
    codes, key = jax.jit(model.codes), evaluation_key(run.experiment.seed, "encode")
    found = map_examples(lambda batch: codes(run.state.params, run.state.extras, batch, key), data)
    positions = math.prod(found.shape[1:-1])
    symbols = None if model.symbols is None else model.symbols(take(data, np.arange(min(data.size, 256)))["x"])
    return {
        "positions": positions,
        "books": [{"size": size, **use(found[..., i])} for i, size in enumerate(model.books)],
        "bits_per_dimension": None if symbols is None else terms["nelbo"] / (symbols * math.log(2)),
    }


def use(codes: np.ndarray) -> dict[str, Any]:
    """Of one book: how many of its codes occur, and the perplexity of their frequencies."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return {"used": len(counts), "perplexity": float(np.exp(-np.sum(share * np.log(share))))}
