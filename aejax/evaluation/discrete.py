"""Discrete codes over the test split: number of used codes, perplexity, and the cost of an example in bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aejax.evaluation.codebook import codebook
from aejax.evaluation.part import Part, Result
from aejax.figures.tables import Column, Number, Table
from aejax.runs.run import Run


def tables(result: Result) -> Sequence[Table]:
    books = result["codebooks"]
    names = [f"codebook {i}" for i in range(len(books))] if len(books) > 1 else ["codes"]
    columns = [
        Column("size", "", [b["size"] for b in books], None, 0),
        Column("used", "", [b["used"] for b in books], None, 0),
        Column("perplexity", "", [b["perplexity"] for b in books], None, 1),
    ]
    shown = [Table(f"Codebooks, {result['positions']} positions", names, columns)]
    if result["bits_per_dimension"] is not None:
        bound = Column("uniform prior", "bits per dimension", [result["bits_per_dimension"]], None, 4)
        shown.append(Table("Bound", ["test"], [bound]))
    if result["levels"]:
        errors = [level["mse_shuffled"] for level in result["levels"]]
        rows = [f"level {i} another example's" for i in range(len(errors))]
        shown.append(Table("Decoded from codes", rows, [Column("MSE", "per dimension", errors)]))
    return shown


def numbers(result: Result) -> Sequence[Number]:
    books = result["codebooks"]
    used = sum(b["used"] / b["size"] for b in books) / len(books)
    return [
        Number("codes used", "%", 100 * used, None, 1),
        Number("perplexity", "of the codes", sum(b["perplexity"] for b in books) / len(books), None, 1),
        Number("bound", "bits per dimension", result["bits_per_dimension"], "low", 4),
    ]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    from aejax.evaluation.code_maps import code_maps_section

    return code_maps_section(run, evaluation)


PART = Part(
    "codebook",
    lambda context: context.model.discrete is not None,
    lambda context: codebook(context.run, context.test, context.terms),
    tables,
    numbers,
    section,
    quick=True,
)
