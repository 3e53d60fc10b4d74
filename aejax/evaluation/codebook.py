"""How a discrete code is used over a whole data set, and what it and the rest of an example cost in bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from aejax.data import take
from aejax.evaluation.images import mse
from aejax.keys import evaluation_key
from aejax.runs.run import Run, map_examples
from aejax.types import Dataset

SHUFFLED = 2_000
"""Examples among which a hierarchy's codes are exchanged, the first."""


def codebook(run: Run, data: Dataset, terms: Mapping[str, float]) -> dict[str, Any] | None:
    """What `evaluate` writes of a model with discrete codes; None for another one.

    For each book how many codes occur at all, and their perplexity, exp of the entropy of their frequencies, both over the
    data set; `bits_per_dimension` is of the whole bound, code and likelihood, where the data are discrete. The books of a
    hierarchy stand one after the other, those next to x first, and its `levels` tell what each is worth: the squared error
    where its codes are another example's.
    """
    model = run.experiment.model
    if model.codes is None or model.books is None:
        return None
    found = levels_of(run, data)
    symbols = None if model.symbols is None else model.symbols(take(data, np.arange(min(data.size, 256)))["x"])
    return {
        "positions": sum(math.prod(codes.shape[1:-1]) for codes in found),
        "books": [
            {"size": size, **use(codes[..., i])}
            for codes, sizes in zip(found, sizes_of(model.books))
            for i, size in enumerate(sizes)
        ],
        "bits_per_dimension": None if symbols is None else terms["nelbo"] / (symbols * math.log(2)),
        "levels": _worth(run, data, found) if len(found) > 1 else None,
    }


def levels_of(run: Run, data: Dataset) -> tuple[np.ndarray, ...]:
    """The codes [n, *positions, books] of each level; one without a hierarchy."""
    assert run.experiment.model.codes is not None
    codes, key = jax.jit(run.experiment.model.codes), evaluation_key(run.experiment.seed, "encode")
    found = map_examples(lambda batch: codes(run.state.params, run.state.extras, batch, key), data)
    return found if isinstance(found, tuple) else (found,)


def sizes_of(books: tuple) -> tuple[tuple[int, ...], ...]:
    """`Model.books` by level."""
    return books if isinstance(books[0], tuple) else (books,)


def _worth(run: Run, data: Dataset, found: tuple[np.ndarray, ...]) -> list[dict[str, Any]]:
    """For each level its positions, and the mean squared error with its codes shuffled among the examples."""
    n = min(data.size, SHUFFLED)
    decode, exchanged = decoder_of(run), np.random.default_rng(0).permutation(n)

    def error(level: int):
        def of_batch(batch):
            at = batch["index"]
            codes = (part[exchanged[at] if i == level else at] for i, part in enumerate(found))
            return mse(batch["x"], decode(tuple(codes), batch))

        return float(np.mean(map_examples(of_batch, data._replace(size=n))))

    return [
        {"positions": math.prod(codes.shape[1:-1]), "mse_shuffled": error(level)} for level, codes in enumerate(found)
    ]


def decoder_of(run: Run) -> Callable:
    """(codes as the model has them, batch) -> data range, of the run's parameters."""
    assert run.experiment.model.decode is not None
    decode = jax.jit(run.experiment.model.decode)
    return lambda codes, batch: np.asarray(decode(run.state.params, run.state.extras, codes, batch))


def use(codes: np.ndarray) -> dict[str, Any]:
    """Of one book: how many of its codes occur, and the perplexity of their frequencies."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return {"used": len(counts), "perplexity": float(np.exp(-np.sum(share * np.log(share))))}
