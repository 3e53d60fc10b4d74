"""The autoencoder family as pure functions in JAX: one step, explicit seeds, runs that replay bit for bit.

import aejax

run = aejax.open_run("runs/...")
z = run.encode(x)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aejax.data import load, usual_splits
from aejax.errors import UsageError
from aejax.runs.experiment import fit
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.training.recorder import Interrupted, NonFinite
from aejax.training.settings import Settings
from aejax.training.trainer import resume, train
from aejax.types import Dataset, Experiment, Model, TrainState

__all__ = [
    "Dataset",
    "Experiment",
    "Interrupted",
    "Model",
    "NonFinite",
    "Run",
    "Settings",
    "TrainState",
    "UsageError",
    "evaluate",
    "fit",
    "load",
    "open_run",
    "report",
    "resume",
    "train",
    "usual_splits",
]


def evaluate(run: Run, checkpoint: str = "last", draws: int = 5000) -> dict[str, Any]:
    """Evaluates an opened run (with its data) on its test split, writes `eval.json`, and returns what it holds.

    Args:
        run: Opened with its data, or as `train` returned it.
        checkpoint: Which checkpoint it was opened at, for the record.
        draws: Draws of z for each example by which a latent-variable model's −log p(x) is estimated; 0 leaves it out.
    """
    # Imported here: it brings scikit-learn and matplotlib, which take seconds.
    from aejax.evaluation.evaluator import evaluate

    return evaluate(run, checkpoint, draws)


def report(run: Run, *more: Run, out: str | Path | None = None) -> Path:
    """Writes one self-contained HTML page of a run, or of several compared, and returns its path.

    Args:
        run: Opened with its data, or as `train` returned it.
        more: Runs to compare it with.
        out: The page; by default `report.html` in the run directory, or `comparison.html` here for several runs.
    """
    from aejax.reports import report

    return report([run, *more], None if out is None else Path(out))
