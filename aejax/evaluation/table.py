"""What eval.json holds, as a table on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from aejax.evaluation.jacobian import LARGE

NAMES = {"input": "corrupted input", "model": "model", "pca": "PCA", "optimal_linear": "optimal linear"}
"""As people call what eval.json holds."""


def print_table(result: Mapping[str, Any]) -> None:
    """The numbers of eval.json on standard output, for a person."""
    console = Console()
    console.print(f"{result['data']}, {result['examples']} examples, step {result['step']}", highlight=False)
    console.print("  ".join(f"{name} {value:.4g}" for name, value in result["terms"].items()), highlight=False)
    restoration = result["restoration"] or {"trained": None, "sweep": []}
    if result["reconstruction"] is not None:
        table = Table("", "", "MSE", "PSNR dB", "SSIM")
        _add(table, "clean", result["reconstruction"])
        if restoration["trained"] is not None:
            _add(table, restoration["corruption"], restoration["trained"])
        console.print(table)
    if restoration["sweep"]:
        contenders = [name for name in restoration["sweep"][0] if name != "level"]
        table = Table("MSE of restoration at level", *(NAMES[name] for name in contenders))
        for level in restoration["sweep"]:
            table.add_row(f"{level['level']:g}", *(f"{level[name]['mse']:.5f}" for name in contenders))
        console.print(table)
    if result["probes"] is not None:
        under = result["robustness"]
        noise = under["corruption"]
        table = Table("accuracy", "logistic regression", f"under {noise}", "nearest neighbors", f"moved by {noise}")
        for name in ("codes", "raw", "pca"):
            if name in result["probes"]:
                accuracy, robust = result["probes"][name], under[name]
                moved = "" if robust["displacement"] is None else f"{robust['displacement']:.3f}"
                values = accuracy["logistic_regression"], robust["logistic_regression"], accuracy["nearest_neighbors"]
                table.add_row(name, *(f"{value:.3f}" for value in values), moved)
        console.print(table)
    if (latent := result["bound"]) is not None:
        console.print(f"latent: {latent['active_units']} of {latent['units']} units active", highlight=False)
        if (importance := latent["importance"]) is not None:
            bits = latent["bits_per_dimension"]
            console.print(
                f"-log p(x) by {importance['draws']} draws: {importance['nll']:.2f} nats, sampling error "
                f"{importance['sampling_error']:.2g}"
                + ("" if bits is None else f"; {bits['importance']:.4f} bits/dim"),
                highlight=False,
            )
    if (factors := result["disentanglement"]) is not None:
        scores = (f"{name} {metric['score']:.3f}" for name, metric in factors.items() if name != "factors")
        console.print(f"disentanglement of {', '.join(factors['factors'])}: {', '.join(scores)}", highlight=False)
    if (after := result["sequences"]) is not None and "one" in after:
        # Of the first step and the last that any judged sequence reaches.
        reached = [i for i, error in enumerate(after["one"]) if error is not None]
        for i in sorted({reached[0], reached[-1]} if reached else ()):
            console.print(
                f"{after['steps'][i]} after {after['seen']} frames: MSE {after['one'][i]:.4f}, of the mean future "
                f"{after['mean'][i]:.4f}, of the last frame held {after['held'][i]:.4f}",
                highlight=False,
            )
        for name, explained in (after["probes"] or {}).items():
            told = ", ".join(f"{of} {value:.3f}" for of, value in explained.items() if value is not None)
            console.print(f"R² of {name} by {told}", highlight=False)
    if (discrete := result["codebook"]) is not None:
        bits = discrete["bits_per_dimension"]
        console.print(
            f"codes at {discrete['positions']} positions: "
            + ", ".join(f"{b['used']} of {b['size']} used, perplexity {b['perplexity']:.1f}" for b in discrete["books"])
            + ("" if bits is None else f"; bound {bits:.4f} bits/dim"),
            highlight=False,
        )
    if (activity := result["activity"]) is not None:
        console.print(
            f"units {activity['units']}, of which an example activates {activity['active_units']:.4g}; "
            f"{activity['dead_units']:.0f} dead",
            highlight=False,
        )
    if (jacobian := result["jacobian"]) is not None:
        console.print(
            f"Jacobian: squared norm {jacobian['squared_norm']:.4g}; {jacobian['large_values']:.3g} of "
            f"{len(jacobian['singular_values'])} singular values above {100 * LARGE:.0f} % of the first",
            highlight=False,
        )


def _add(table: Table, title: str, scores: Mapping[str, Mapping[str, float | None]]) -> None:
    for i, (name, score) in enumerate(scores.items()):
        similarity = "" if score["ssim"] is None else f"{score['ssim']:.3f}"
        first = title if i == 0 else ""
        table.add_row(first, NAMES[name], f"{score['mse']:.5f}", f"{score['psnr']:.2f}", similarity)
    table.add_section()
