"""The list of parts of the evaluation. A new metric is a Part in its own file, and a line here."""

from __future__ import annotations

from aejax.evaluation import (
    bounds,
    columns,
    dictionary,
    discrete,
    encoder,
    factors,
    probing,
    restoration,
    sequences,
    sparse,
    terms,
)
from aejax.evaluation.part import Part

PARTS: tuple[Part, ...] = (
    restoration.RESTORATION,
    restoration.RECONSTRUCTION,
    terms.PART,
    columns.PART,
    probing.PROBES,
    probing.ROBUSTNESS,
    bounds.PART,
    discrete.PART,
    sequences.PART,
    factors.PART,
    sparse.PART,
    dictionary.PART,
    encoder.PART,
)
"""Parts in the order in which they are shown."""
