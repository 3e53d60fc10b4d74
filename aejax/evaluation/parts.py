"""The list of what is evaluated. A new metric is a Part in a file of its own, and a line here."""

from __future__ import annotations

from aejax.evaluation import bounds, discrete, encoder, factors, probing, restoration, sequences, sparse, terms
from aejax.evaluation.part import Part

PARTS: tuple[Part, ...] = (
    restoration.RESTORATION,
    restoration.RECONSTRUCTION,
    terms.PART,
    probing.PROBES,
    probing.ROBUSTNESS,
    bounds.PART,
    discrete.PART,
    sequences.PART,
    factors.PART,
    sparse.PART,
    encoder.PART,
)
"""In the order in which they are shown."""
