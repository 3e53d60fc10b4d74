"""How a discrete code is used over a whole data set, and what it and the rest of an example cost in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from aejax.data import take
from aejax.evaluation.images import mse
from aejax.runs.run import Run
from aejax.types import Dataset, Discrete

SHUFFLED = 2_000
"""Examples among which a hierarchy's codes are exchanged, the first."""


def codebook(run: Run, data: Dataset, terms: Mapping[str, float]) -> dict[str, Any]:
    """For each codebook how many codes occur at all, and their perplexity, exp of the entropy of their frequencies, both over
    the data set; `bits_per_dimension` is of the whole bound, code and likelihood, where the data are discrete. The codebooks of
    a hierarchy stand one after the other, those next to x first, and its `levels` say what each is worth: the squared error
    where its codes are another example's.
    """
    discrete, count = run.experiment.model.discrete, run.experiment.model.data.num_discrete_dims
    assert discrete is not None
    codes = codes_by_level(run, data)
    dimensions = None if count is None else count(take(data, np.arange(min(data.size, 256)))["x"])
    return {
        "positions": sum(math.prod(level.shape[1:-1]) for level in codes),
        "codebooks": [
            {"size": size, **use(level[..., i])}
            for level, sizes in zip(codes, sizes_by_level(discrete))
            for i, size in enumerate(sizes)
        ],
        "bits_per_dimension": None if dimensions is None else terms["nelbo"] / (dimensions * math.log(2)),
        "levels": _worth(run, data, codes) if len(codes) > 1 else None,
    }


def codes_by_level(run: Run, data: Dataset) -> tuple[np.ndarray, ...]:
    """The codes [n, *positions, codebooks] of each level; one without a hierarchy."""
    codes = run.apply("codes", data)
    return codes if isinstance(codes, tuple) else (codes,)


def sizes_by_level(discrete: Discrete) -> tuple[tuple[int, ...], ...]:
    sizes = discrete.codebook_sizes
    return sizes if isinstance(sizes[0], tuple) else (sizes,)


def codebook_names(discrete: Discrete) -> list[str]:
    """Of all codebooks, for people."""
    sizes = sizes_by_level(discrete)
    return [
        ", ".join(
            part for part in (f"level {i}" if len(sizes) > 1 else "", f"codebook {k}" if len(level) > 1 else "") if part
        )
        or "codes"
        for i, level in enumerate(sizes)
        for k in range(len(level))
    ]


def _worth(run: Run, data: Dataset, codes: tuple[np.ndarray, ...]) -> list[dict[str, Any]]:
    """For each level its positions, and the mean squared error with its codes shuffled among the examples."""
    n = min(data.size, SHUFFLED)
    some, exchanged = data._replace(size=n), np.random.default_rng(0).permutation(n)
    x = take(some, np.arange(n))["x"]

    def error(level: int) -> float:
        shuffled = tuple(part[exchanged] if i == level else part[:n] for i, part in enumerate(codes))
        return float(np.mean(mse(x, run.decode(shuffled, some))))

    return [
        {"positions": math.prod(part.shape[1:-1]), "mse_shuffled": error(level)} for level, part in enumerate(codes)
    ]


def use(codes: np.ndarray) -> dict[str, Any]:
    """Of one book: how many of its codes occur, and the perplexity of their frequencies."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return {"used": len(counts), "perplexity": float(np.exp(-np.sum(share * np.log(share))))}
