"""The model's own terms on the test split, unweighted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aejax.evaluation.part import Part, Result
from aejax.figures.tables import Column, Number, Table, is_number
from aejax.figures.words import label, term_decimals, unit


def tables(result: Result) -> Sequence[Table]:
    """`denoising_nll` is the `nll` of corrupted input, so it is shown in another column of the same row."""
    bases = [term for term in result if base_of(term, result) == term]
    rows = {}
    for prefix, name in (("", "test"), ("denoising_", "test, corrupted")):
        values = [result.get(prefix + base) for base in bases]
        if any(map(is_number, values)):
            rows[name] = values
    columns = [
        Column(label(base), unit(base), [values[i] for values in rows.values()], None, term_decimals(base))
        for i, base in enumerate(bases)
    ]
    return [Table("Terms of the model", list(rows), columns)]


def numbers(result: Result) -> Sequence[Number]:
    return [
        Number(label(term), unit(term), value, None, term_decimals(term))
        for term, value in result.items()
        if not term.endswith("mse")
    ]


def base_of(term: str, terms: Mapping[str, Any]) -> str:
    """The term of clean input that corresponds to a term of corrupted input."""
    clean = term.removeprefix("denoising_")
    return clean if clean in terms else term


PART = Part("terms", lambda context: True, lambda context: context.terms, tables, numbers, quick=True, missing=True)
