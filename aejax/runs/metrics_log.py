"""metrics.jsonl, with one JSON object per log point, and optionally TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from aejax.files import write_bytes


class Write(Protocol):
    """Writes one line: the step, the name of the split, {term: value}, and the speed if it was measured."""

    def __call__(
        self, step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None = None, /
    ) -> None: ...


@contextmanager
def metrics_log(directory: Path, tensorboard: bool) -> Iterator[Write]:
    """Yields a function that writes a line to metrics.jsonl, and to TensorBoard."""
    with open(directory / "metrics.jsonl", "a") as file, _board(directory, tensorboard) as board:

        def write(step: int, split: str, terms: Mapping[str, Any], examples_per_second: float | None = None, /) -> None:
            speed = {} if examples_per_second is None else {"examples_per_second": examples_per_second}
            file.write(json.dumps({"step": step, "split": split, **terms, **speed}) + "\n")
            file.flush()
            if board is not None:
                for name, value in terms.items():
                    if not isinstance(value, list):  # a histogram
                        board.add_scalar(f"{split}/{name}", value, step)

        yield write


def _board(directory: Path, tensorboard: bool) -> Any:
    """TensorBoard's writer, or a context that yields None."""
    if not tensorboard:
        return nullcontext()
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(directory / "tensorboard"))


def truncate_log(directory: Path, step: int) -> None:
    """Drops lines after the checkpoint, and a line cut short by a kill; those steps are run again."""
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
    write_bytes(file, "".join(line + "\n" for line in kept).encode())
