"""metrics.jsonl: one JSON object per log point, with TensorBoard beside it if asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any


@contextmanager
def metrics_log(directory: Path, tensorboard: bool) -> Iterator[Callable]:
    """Yields write(step, split, {term: value}, examples per second or None): a line of metrics.jsonl, and TensorBoard."""
    with open(directory / "metrics.jsonl", "a") as file, _board(directory, tensorboard) as board:

        def write(step: int, split: str, terms: Mapping[str, Any], rate: float | None = None) -> None:
            speed = {} if rate is None else {"examples_per_second": rate}
            file.write(json.dumps({"step": step, "split": split, **terms, **speed}) + "\n")
            file.flush()
            if board is not None:
                for name, value in terms.items():
                    if not isinstance(value, list):  # a histogram
                        board.add_scalar(f"{split}/{name}", value, step)

        yield write


def _board(directory: Path, tensorboard: bool) -> Any:
    """TensorBoard's writer, or a context of None."""
    if not tensorboard:
        return nullcontext()
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(directory / "tensorboard"))


def truncate_log(directory: Path, step: int) -> None:
    """Drops the lines beyond the checkpoint, and a line cut short by a kill: those steps run again."""
    file = directory / "metrics.jsonl"
    if not file.exists():
        return
    kept = []
    for line in file.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue
    beside = file.with_name(file.name + ".tmp")
    beside.write_text("".join(line + "\n" for line in kept))
    os.replace(beside, file)
