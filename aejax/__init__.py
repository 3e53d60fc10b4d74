"""Autoencoders as pure functions in JAX, with explicit seeds and runs that replay bit for bit.

import aejax

run = aejax.open_run("runs/...")
z = run.encode(x)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    "plot",
    "report",
    "resume",
    "train",
    "usual_splits",
]

_HOMES = {
    "data": ("load", "usual_splits"),
    "errors": ("UsageError",),
    "runs.experiment": ("fit",),
    "runs.opening": ("open_run",),
    "runs.run": ("Run",),
    "training.recorder": ("Interrupted", "NonFinite"),
    "training.settings": ("Settings",),
    "training.trainer": ("resume", "train"),
    "types": ("Dataset", "Experiment", "Model", "TrainState"),
}
"""Module -> the names that are imported from it at their first use: JAX alone takes a second to import."""


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is not None:
        globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
        return value
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")  # `import aejax` alone gives aejax.models and the others
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def evaluate(
    run: Run, checkpoint: str = "last", draws: int = 5000, verbose: bool = True, quick: bool = False
) -> dict[str, Any]:
    """Evaluates a run on its test split, writes `eval.json` to the run directory, and returns its content.

    Args:
        run: A run opened with its data, or as `train` returned it.
        checkpoint: Name of the checkpoint at which the run was opened, for the record.
        draws: Draws of z per example for the estimate of a latent-variable model's −log p(x); 0 omits the estimate.
        verbose: Whether to show on standard error which part is computed.
        quick: Whether to compute only the terms, the reconstruction, and how codes are used.

    Returns:
        The numbers of `eval.json`, by section: terms, reconstruction, restoration, probes, …

    Raises:
        UsageError: The run was opened without its data.

    Example:
        >>> run = aejax.open_run("runs/mine", with_data=True)
        >>> numbers = aejax.evaluate(run)
        >>> sorted(numbers["terms"])
        ['mse', 'nll']
    """
    # Imported here because scikit-learn and matplotlib take seconds to import.
    from aejax.evaluation.evaluator import evaluate

    return evaluate(run, checkpoint, draws, verbose, quick)


def report(run: Run, *more: Run, out: str | Path | None = None) -> Path:
    """Writes a self-contained HTML page about a run, or a comparison of several runs.

    Args:
        run: A run opened with its data, or as `train` returned it.
        more: Runs to compare it with.
        out: Path of the page; by default `report.html` in the run directory, or `comparison.html` in the current folder for
            several runs (`comparison-2.html` and so on where that compares others).

    Returns:
        The path of the page.

    Raises:
        UsageError: The run was opened without its data.

    Example:
        >>> aejax.report(aejax.open_run("runs/mine", with_data=True)).name
        'report.html'
    """
    from aejax.reports import report

    return report([run, *more], None if out is None else Path(out))


def plot(run: Run, term: str | None = None) -> Figure:
    """Draws a term of a run against the training step, in training and validation.

    Args:
        run: A run, finished or not.
        term: Name of a logged term; by default the monitored one. A term and its `denoising_` variant are drawn together.

    Returns:
        A Matplotlib figure, which a notebook shows.

    Raises:
        UsageError: The run did not log the term.

    Example:
        >>> figure = aejax.plot(aejax.open_run("runs/mine"), "mse")
    """
    from aejax.reports import plot

    return plot(run, term)
