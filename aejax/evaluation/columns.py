"""How well each column of a table is reconstructed, by its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aejax.data import take
from aejax.evaluation.part import Context, Part, Result
from aejax.figures.tables import Column, Table

MOST = 100
"""Tables with more columns have no table of their own."""


def columns(context: Context) -> Result:
    """Of each column of the test split, in its own units: the mean, the standard deviation (of n), the root mean squared error of
    the reconstruction, and the fraction of the variance that this explains. Missing values do not count.
    """
    found, scaling = context.experiment.train.found, context.experiment.train.scaling
    assert found is not None  # the part does not apply otherwise
    x = take(context.test, np.arange(context.test.size))["x"].astype(np.float64)
    x_hat = np.asarray(context.run.reconstruct(context.test), np.float64)
    scale = np.ones(x.shape[1]) if scaling is None else np.broadcast_to(scaling.scale, x.shape[1])
    shift = np.zeros(x.shape[1]) if scaling is None else np.broadcast_to(scaling.shift, x.shape[1])
    rows = []
    for i, name in enumerate(found.columns):
        there = np.isfinite(x[:, i])
        if not there.any():
            continue
        values, error = x[there, i], np.mean(np.square(x[there, i] - x_hat[there, i]))
        variance = float(np.var(values))
        rows.append(
            {
                "column": name,
                "mean": float(shift[i] + scale[i] * values.mean()),
                "sd": float(scale[i] * np.sqrt(variance)),
                "rmse": float(scale[i] * np.sqrt(error)),
                "r2": float(1.0 - error / variance) if variance > 0 else None,
            }
        )
    return {"columns": rows}


def tables(result: Result) -> Sequence[Table]:
    rows = result["columns"]
    of = lambda name: [row[name] for row in rows]
    shown = [
        Column("mean", "in its units", of("mean")),
        Column("sd", "in its units", of("sd")),
        Column("RMSE", "of the reconstruction", of("rmse")),
        Column("R²", "", of("r2"), None, 3),
    ]
    return [Table("Columns of the test split", of("column"), shown)] if rows else []


def applies(context: Context) -> bool:
    found, train = context.experiment.train.found, context.experiment.train
    named = found is not None and 0 < len(found.columns) == train.shape[0] <= MOST and len(train.shape) == 1
    return named and context.model.reconstruct is not None


PART = Part("columns", applies, columns, tables, lambda result: [], quick=True, missing=True)
