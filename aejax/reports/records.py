"""The content of a run directory, read for a report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from aejax.errors import UsageError
from aejax.evaluation.parts import PARTS
from aejax.runs.directory import read_evaluation, read_json
from aejax.runs.experiment import command_of
from aejax.runs.metrics_log import Log, read_log
from aejax.runs.run import Run
from aejax.training.settings import Settings


class Record(NamedTuple):
    """A run with its files. `result` is None until the run is complete, `evaluation` until it is evaluated."""

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

    def part(self, name: str) -> Any:
        """A part of eval.json; None if the run was not evaluated or the part does not apply."""
        return None if self.evaluation is None else self.evaluation.get(name)

    @property
    def sweep(self) -> list[Mapping[str, Any]]:
        """The corruption levels at which restoration was measured."""
        restoration = self.part("restoration")
        return [] if restoration is None else restoration["sweep"]

    @property
    def corruption(self) -> str | None:
        """The corruption that the run was trained with, if its restoration was measured."""
        restoration = self.part("restoration")
        return None if restoration is None else restoration["corruption"]

    @property
    def where(self) -> str:
        """The directory, quoted for a command."""
        return shlex.quote(str(self.run.directory))


def read(run: Run) -> Record:
    evaluation = read_evaluation(run.directory) if (run.directory / "eval.json").exists() else None
    if evaluation is not None:
        refuse_damaged(evaluation, run.directory / "eval.json")
    return Record(run, read_log(run.directory / "metrics.jsonl"), _optional(run.directory / "result.json"), evaluation)


def refuse_damaged(evaluation: Mapping[str, Any], file: Path) -> None:
    """UsageError for an evaluation from which a part cannot make its tables."""
    for part in PARTS:
        found = evaluation.get(part.name)
        if found is None:
            continue
        try:
            part.tables(found), part.numbers(found)
        except Exception as error:
            raise UsageError(
                f"{file} is damaged ({part.name}: {type(error).__name__}); `aejax evaluate {file.parent}` writes it again"
            ) from error


def _optional(file: Path) -> dict[str, Any] | None:
    return read_json(file, f"{file.parent} cannot be reported") if file.exists() else None


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment's arguments; for a run trained from Python, what is recorded instead."""
    if config["source"] is not None:
        return dict(config["source"]["arguments"])
    return {"data": config["data"]["name"], **{name: config[name] for name in ("batch_size", "steps", "seed")}}


def title(record: Record) -> str:
    config = record.run.config
    what = record.name if config["source"] is None else Path(config["source"]["file"]).stem
    return f"{what} on {config['data']['name']}"


def started(config: Mapping[str, Any]) -> str:
    """Start time to the minute, in local time; config.json has it in UTC."""
    return f"{datetime.fromisoformat(config['started']):%Y-%m-%d %H:%M} UTC"


def again(config: Mapping[str, Any]) -> str | None:
    """The command that repeats the run; None for a run trained from Python without a file."""
    if config["source"] is None:
        return None
    defaults = Settings(devices=1)._asdict()
    changed = {n: v for n, v in config["settings"].items() if n not in defaults or v != defaults[n]}
    how = config["data"].get("reading", {})
    return command_of(config["source"]["file"], {**config["source"]["arguments"], **how}, changed)


def short(digest: str) -> str:
    return digest[:12]
