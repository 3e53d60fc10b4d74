"""The tables of experiments/README.md: at most ten numbers per kind of model, each compared with that of a paper or a baseline.

Made by collect.py from the JSON files in rows/ and studies/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aejax.figures.tables import fixed
from aejax.reports.study import cell, markdown

RESULTS = Path(__file__).parent


class Entry(NamedTuple):
    """One row. A key is a path in the JSON file, with `#` between its parts; it leads to a number or to {"mean", "sd"}."""

    experiment: str
    quantity: str
    file: str
    ours: str
    other: str | float
    """The number to compare with, or its key."""
    name: str
    """Description of the number to compare with."""
    decimals: int = 2
    times: int = 1


FASHION, DIGITS, SPRITES = "Fashion-MNIST: ", "digits: ", "sprites: "
MSE, PCA = "metrics#reconstruction/model/mse", "metrics#reconstruction/pca/mse"
RESTORED, LINEAR = "metrics#restoration/sweep/0.3/model/mse", "metrics#restoration/sweep/0.3/optimal_linear/mse"
PROBE, RAW = "metrics#probes/codes/logistic_regression", "metrics#probes/raw/logistic_regression"
NLL, BITS = "metrics#bound/importance/nll", "metrics#codebook/bits_per_dimension"
UNITS = "studies/disentanglement-sprites_small"
CURVES, RECTANGLES, CONVEX = "studies/hinton2006_curves", "studies/vincent2010-rectangles", "studies/vincent2010-convex"
PRIORS, MOVING, MAZE = "studies/priors-fashion_mnist", "studies/sequences-moving_digits", "studies/sequences-maze"


def _probe(experiment: str, data: str) -> Entry:
    file = f"rows/{experiment}-{'digits' if data == DIGITS else 'fashion_mnist'}"
    return Entry(experiment, f"{data}logistic regression on the codes, %", file, PROBE, RAW, "raw pixels", times=100)


def _nll(experiment: str, name: str, data: str, other: str | float, other_name: str) -> Entry:
    return Entry(experiment, f"{data}−log p(x) of bits, nats", f"rows/{name}", NLL, other, other_name)


ENTRIES: dict[str, list[Entry]] = {
    "Autoencoders": [
        Entry("ae", f"{FASHION}reconstruction, MSE × 1000", "rows/ae-fashion_mnist", MSE, PCA, "PCA", times=1000),
        Entry("dae", f"{FASHION}restoration from 30 % masking, MSE × 1000", "rows/dae-fashion_mnist", RESTORED, LINEAR,
              "optimal linear denoiser", times=1000),
        _probe("dae", FASHION),
        _probe("contractive", DIGITS),
        _probe("contractive", FASHION),
        _probe("gsn", FASHION),
        Entry("hinton2006_curves", "curves: squared error / that of PCA-18", CURVES, "metrics#autoencoder 6/ratio",
              "paper#autoencoder 6/ratio", "the paper", 3),
        Entry("vincent2010", "rectangles: test error of SAE-3, %", RECTANGLES, "methods#sae#mean",
              "methods#sae#paper", "the paper"),
        Entry("vincent2010", "rectangles: test error of SDAE-3 with 10 % masking, %", RECTANGLES, "rows#rate 0.1#mean",
              "methods#sdae#paper", "the paper"),
        Entry("vincent2010", "convex: test error of SDAE-3, %", CONVEX, "methods#sdae#mean", "methods#svm#mean",
              "support vector machine"),
    ],
    "Sparse autoencoders": [_probe(name, data) for data in (DIGITS, FASHION) for name in ("sparse", "ksparse", "wta")],
    "Variational autoencoders": [
        _nll("iwae", "iwae-50-digits", DIGITS, 22.25, "`vae`"),
        _nll("vamp", "vamp-digits", DIGITS, 22.25, "`vae`"),
        _nll("vae", "vae-fashion_mnist", FASHION, 228.70, "Norouzi et al. 2020, 24 times as many steps"),
        _nll("vamp", "vamp-fashion_mnist", FASHION, 227.35, "Norouzi et al. 2020, 70 times as many steps"),
        Entry("beta_vae", f"{SPRITES}MIG with β = 6", UNITS, "rows#β-VAE, β = 6#mig", "rows#β-VAE, β = 1#mig", "β = 1", 3),
        Entry("tcvae", f"{SPRITES}MIG with β = 6", UNITS, "rows#β-TCVAE, β = 6#mig", "rows#β-VAE, β = 4#mig",
              "`beta_vae` with about the same distortion", 3),
        Entry("wae", f"{FASHION}reconstruction, MSE × 1000", "rows/wae-fashion_mnist", MSE, PCA, "PCA", times=1000),
    ],
    "Discrete codes": [
        Entry("fsq", f"{FASHION}bound, bits per pixel", "rows/fsq-fashion_mnist", BITS, 3.923, "`vqvae`", 3),
        _probe("vqvae", FASHION),
        Entry("vq_prior", f"{FASHION}bound given the class, bits per pixel", PRIORS, "bits_per_dimension",
              "uniform#bits_per_dimension", "uniform prior", 3),
        Entry("vq_prior", f"{FASHION}samples of the requested class, %", PRIORS, "right", "real", "test images", 1),
    ],
    "Sequences": [
        Entry("tdvae_digits", "moving digits: bound, nats per step", MOVING, "rows#TD-VAE#nelbo",
              "rows#filtering#nelbo", "filtering"),
        Entry("tdvae_digits", "maze: bound, nats per step", MAZE, "rows#TD-VAE#nelbo", "rows#filtering#nelbo",
              "filtering"),
        Entry("tdvae_oscillator", "phase error after a jump of 100 steps, rad", "studies/sequences-oscillator",
              "rows#TD-VAE#phase_100", "rows#TD-VAE#naive_100", "mean frequency"),
        Entry("tdvae_linear", "linear-Gaussian: −log p, nats per step", "studies/sequences-linear", "rows#TD-VAE#nll",
              "rows#TD-VAE#exact", "exact", 3),
    ],
}  # fmt: skip


def tables() -> str:
    """One table per kind of model, in Markdown."""
    lines = []
    for kind, entries in ENTRIES.items():
        rows = {f"`{e.experiment}`, {e.quantity}": _cells(e) for e in entries}
        lines += [f"### {kind}", "", *markdown("", ["ours", "compared with", "difference"], rows), ""]
    return "\n".join(lines)


def _cells(entry: Entry) -> list[str]:
    found = json.loads((RESULTS / f"{entry.file}.json").read_text())
    ours = _at(found, entry.ours)
    other = entry.other if isinstance(entry.other, float) else entry.times * _at(found, entry.other)["mean"]
    difference = entry.times * ours["mean"] - other
    return [
        cell(ours, entry.decimals, entry.times),
        f"{fixed(other, entry.decimals)} ({entry.name})",
        ("+" if difference > 0 else "") + fixed(difference, entry.decimals),
    ]


def _at(tree: Any, key: str) -> dict[str, Any]:
    for part in key.split("#"):
        tree = tree[part]
    return dict(tree) if isinstance(tree, Mapping) else {"mean": tree, "sd": None}
