"""What a run has left in its directory, read for a report, and how its names and units are said."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.reports.drawing import BLUE, GRAY, GREEN, ORANGE
from aejax.runs.directory import read_json
from aejax.runs.run import Run
from aejax.training.settings import Settings

Log = Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
"""split -> term -> (steps [n], values [n])."""

Methods = Mapping[str, Mapping[str, float | None]]
"""What restored or reconstructed -> its scores."""


class Record(NamedTuple):
    """A run with its files. `result` is None until the run is complete, `evaluation` until it was evaluated."""

    run: Run
    log: Log
    result: Mapping[str, Any] | None
    evaluation: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        return self.run.directory.resolve().name

    @property
    def validation(self) -> Mapping[str, float | None]:
        """Term -> its mean over the validation split after the last step; empty until the run is complete."""
        return {} if self.result is None else self.result["metrics"]

    @property
    def reconstruction(self) -> Methods | None:
        """Scores on clean examples, if that was measured."""
        return None if self.evaluation is None else self.evaluation["reconstruction"]

    @property
    def restoration(self) -> Mapping[str, Any] | None:
        """Of corrupted examples, as eval.json has it, if that was measured."""
        return None if self.evaluation is None else self.evaluation["restoration"]

    @property
    def sweep(self) -> list[Mapping[str, Any]]:
        """The levels at which restoration was measured."""
        return [] if self.restoration is None else self.restoration["sweep"]

    @property
    def trained(self) -> Methods | None:
        """Scores of restoration at the trained corruption, if that was measured."""
        return None if self.restoration is None else self.restoration["trained"]

    @property
    def corruption(self) -> str | None:
        """What `trained` was restored from."""
        return None if self.restoration is None else self.restoration["corruption"]

    @property
    def activity(self) -> Mapping[str, Any] | None:
        """How often the units of a sparse code are active, if that was measured."""
        return self._part("activity")

    @property
    def jacobian(self) -> Mapping[str, Any] | None:
        """The spectrum of the encoder's Jacobian, if that was measured."""
        return self._part("jacobian")

    @property
    def robustness(self) -> Mapping[str, Any] | None:
        """What masking does to the codes and to the probes of them, if that was measured."""
        return self._part("robustness")

    @property
    def bound(self) -> Mapping[str, Any] | None:
        """What a variational model's latent costs and how probable it finds the data, if that was measured."""
        return self._part("bound")

    @property
    def codebook(self) -> Mapping[str, Any] | None:
        """How the codes of a discrete model are used and what they cost, if that was measured."""
        return self._part("codebook")

    @property
    def disentanglement(self) -> Mapping[str, Any] | None:
        """The metrics of disentanglement by name, if factors are known and that was measured."""
        return self._part("disentanglement")

    @property
    def sequences(self) -> Mapping[str, Any] | None:
        """How a model of sequences goes on, and what its states tell, if that was measured."""
        return self._part("sequences")

    def _part(self, name: str) -> Mapping[str, Any] | None:
        """Of eval.json; one that an earlier version wrote may lack it."""
        return None if self.evaluation is None or name not in self.evaluation else self.evaluation[name]

    @property
    def where(self) -> str:
        """The directory as a word of a command."""
        return shlex.quote(str(self.run.directory))


METHODS = {"model": BLUE, "optimal_linear": ORANGE, "pca": GREEN, "input": GRAY}
"""What restores, in the order in which it is shown, with its color."""

METRICS = {"mse": ("MSE", "per dimension", "low"), "psnr": ("PSNR", "dB", "high"), "ssim": ("SSIM", "", "high")}
"""Name -> how it is said, its unit, and which end is good."""


DECIMALS = {"mse": None, "psnr": 2, "ssim": 3}
"""Places after the point; None for as many as the values need."""


def read(run: Run) -> Record:
    return Record(
        run,
        read_log(run.directory / "metrics.jsonl"),
        _optional(run.directory / "result.json"),
        _optional(run.directory / "eval.json"),
    )


def _optional(file: Path) -> dict[str, Any] | None:
    return read_json(file, f"{file.parent} cannot be reported") if file.exists() else None


def read_log(file: Path) -> Log:
    """Lines that are damaged (a run may be killed while it writes one) are passed over."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            entry = json.loads(line)
            step, split = entry.pop("step"), entry.pop("split")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in entry.items():
            if name != "examples_per_second" and isinstance(value, (int, float)):
                points.setdefault(split, {}).setdefault(name, []).append((step, value))
    return {
        split: {name: tuple(np.array(pairs, float).T) for name, pairs in terms.items()}
        for split, terms in points.items()
    }


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's arguments; of a run trained from Python, what is recorded in their place."""
    if config["source"] is not None:
        return dict(config["source"]["arguments"])
    return {"data": config["data"]["name"], **{name: config[name] for name in ("batch_size", "steps", "seed")}}


def title(record: Record) -> str:
    config = record.run.config
    what = record.name if config["source"] is None else Path(config["source"]["file"]).stem
    return f"{what} on {config['data']['name']}"


def started(config: Mapping[str, Any]) -> str:
    """To the minute; config.json has it in UTC."""
    return f"{datetime.fromisoformat(config['started']):%Y-%m-%d %H:%M} UTC"


def again(config: Mapping[str, Any]) -> str | None:
    """The command that makes the run again; None for a run trained from Python without a file."""
    if config["source"] is None:
        return None
    words = ["aejax", "train", config["source"]["file"]]
    for name, value in config["source"]["arguments"].items():
        words += _flag(name, value)
    defaults = Settings()._asdict()
    for name, value in config["settings"].items():
        if name not in defaults or value != defaults[name]:
            words += _flag(name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *(str(v) for v in _flat(value))]


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _flat(v)
    else:
        yield value


def said(name: str) -> str:
    """`denoising_nll` -> `denoising NLL`, `optimal_linear` -> `optimal linear`."""
    capitals = {"nll", "mse", "kl", "elbo", "nelbo", "iwae", "pca", "psnr", "ssim", "l1"}
    return " ".join(word.upper() if word in capitals else SAID.get(word, word) for word in name.split("_"))


SAID = {"hutchinson": "Hutchinson", "rho": "ρ"}
"""Words of terms that are not said as they are written."""

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
}
"""Of terms, or of the last word of their names, that are not in nats per example."""


def unit(term: str) -> str:
    """The unit of one of the model's terms: nats, unless the name says otherwise."""
    words = re.sub(r"_\d+$", "", term).split("_")  # of a numbered level
    return UNITS.get(term, UNITS.get(words[-1], "nats per example"))


def term_decimals(term: str) -> int | None:
    """Digits after the point in which a term is told: two for nats, which are tens or hundreds; else what it needs."""
    return 2 if unit(term) == "nats per example" else None


def value_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def slug(term: str) -> str:
    """A term's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", term)


def short(digest: str) -> str:
    return digest[:12]
