"""The figures of rate and distortion on Fashion-MNIST in docs/pages/results.md, made by collect.py from rows/."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aejax.figures import charts, drawing

PIXELS = 28 * 28

PAPER = 228.70
"""-log p(x) of a VAE with a standard normal prior in nats (Norouzi et al. 2020); ours of the same net is 228.79."""

Results = Mapping[str, Mapping[str, Any]]


def of_bits(results: Results) -> bytes:
    """Variational models of binarized images as a PNG; nats per example."""
    shown = {
        n: r
        for n, r in results.items()
        if "bound/bits_per_dimension/nelbo" in r["metrics"] and not n.startswith("cvae")
    }
    with drawing.style():
        figure = charts.kl_distortion(_points(shown, 1.0), joined=False)
        (axes,) = figure.axes
        low = axes.get_xlim()[0]
        axes.set_ylim(bottom=PAPER - axes.get_xlim()[1] + 5)
        axes.axline((low, PAPER - low), slope=-1, color=drawing.ORANGE, linestyle="--", linewidth=1.3)
        axes.annotate(
            "−log p(x) of a VAE: ours 228.79,\nNorouzi et al. 2020 228.70", (0.02, 0.05), xycoords="axes fraction",
            fontsize=10, color=drawing.ORANGE,
        )  # fmt: skip
        return drawing.png(figure)


def of_codes(results: Results) -> bytes:
    """Discrete codes of gray images under a uniform prior as a PNG; bits per dimension."""
    shown = {n: r for n, r in results.items() if "codebook/bits_per_dimension" in r["metrics"]}
    with drawing.style():
        return drawing.png(charts.kl_distortion(_points(shown, PIXELS * math.log(2)), False, "bits per pixel"))


def _points(results: Results, nats: float) -> list[charts.Traded]:
    term = lambda r, name: [r["metrics"][f"terms/{name}"]["mean"] / nats]
    return [
        charts.Traded(name.removesuffix("-fashion_mnist"), term(r, "kl"), term(r, "distortion"))
        for name, r in results.items()
    ]
