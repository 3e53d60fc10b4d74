"""Names and units of terms and arguments as they are shown to people."""

from __future__ import annotations

import re
from typing import Any

CAPITALS = {"nll", "mse", "kl", "elbo", "nelbo", "iwae", "pca", "psnr", "ssim", "l1"}

WRITTEN = {"hutchinson": "Hutchinson", "rho": "ρ"}
"""Words that are shown differently from the code."""

WHOLE = {"mean": "training mean"}
"""Names that are shown differently as a whole."""

UNITS = {
    "mse": "per dimension",
    "bpd": "bits per dimension",
    "perplexity": "",
    "accuracy": "",
    "error": "fraction of examples",
    "active_units": "per example",
    "dead_units": "active for no example",
    "rho_hat": "mean activation",
    "hutchinson_variance": "nats²",
    "bits_per_code": "bits",
}
"""Units of terms, or of the last word of their names, if not nats per example."""


def label(name: str) -> str:
    """`denoising_nll` -> `denoising NLL`, `optimal_linear` -> `optimal linear`."""
    if name in WHOLE:
        return WHOLE[name]
    return " ".join(word.upper() if word in CAPITALS else WRITTEN.get(word, word) for word in name.split("_"))


def unit(term: str) -> str:
    """The unit of one of the model's terms: nats, unless the name says otherwise."""
    words = re.sub(r"_\d+$", "", term).split("_")  # with the number of a level
    return UNITS.get(term, UNITS.get(words[-1], "nats per example"))


def term_decimals(term: str) -> int | None:
    """Number of decimals: two for nats, which are tens or hundreds; otherwise as many as the value needs."""
    return 2 if unit(term) == "nats per example" else None


def value_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def slug(term: str) -> str:
    """The name of a term as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", term)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
