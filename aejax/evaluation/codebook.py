"""The use of a discrete code over a data set, and the cost of an example in bits."""

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
"""Number of examples, the first ones, among which the codes of a hierarchy are shuffled."""


def codebook(run: Run, data: Dataset, terms: Mapping[str, float]) -> dict[str, Any]:
    """For each codebook, the number of codes that occur and their perplexity, exp of the entropy of their frequencies.

    `bits_per_dimension` is the whole bound, code and likelihood, for discrete data. The codebooks of a hierarchy are listed
    from level 0, next to x, to the top. Its `levels` give the contribution of each: the squared error when its codes are
    replaced by those of another example.
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
    """The codes [n, *positions, codebooks] of each level; a single entry without a hierarchy."""
    codes = run.apply("codes", data)
    return codes if isinstance(codes, tuple) else (codes,)


def sizes_by_level(discrete: Discrete) -> tuple[tuple[int, ...], ...]:
    sizes = discrete.codebook_sizes
    return sizes if isinstance(sizes[0], tuple) else (sizes,)


def codebook_names(discrete: Discrete) -> list[str]:
    """Names of all codebooks, for people."""
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
    """For each level, its positions and the mean squared error with its codes shuffled among the examples."""
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
    """For one codebook, the number of codes that occur and the perplexity of their frequencies."""
    _, counts = np.unique(codes, return_counts=True)
    share = counts / counts.sum()
    return {"used": len(counts), "perplexity": float(np.exp(-np.sum(share * np.log(share))))}
