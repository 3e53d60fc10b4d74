"""Progress for a person while a run trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from aejax.errors import printable

LINE_SECONDS = 5.0
"""Without a terminal, minimum seconds between plain lines; lines of the validation come in addition."""


class Progress(NamedTuple):
    """Two functions to call while training."""

    advance: Callable[[int, float, float | None], None]
    """(step, loss, examples per second or None) -> None."""
    validated: Callable[[int, Mapping[str, float]], None]
    """(step, {term: mean over the validation split}) -> None."""


SILENT = Progress(lambda step, loss, examples_per_second: None, lambda step, terms: None)
"""Progress in processes other than the first: none."""


@contextmanager
def show_progress(name: str, steps: int, start: int) -> Iterator[Progress]:
    """Shows progress on standard error, so that the output of a command can be piped."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as bar:
            yield _on_terminal(bar, name, steps, start)
    else:
        yield _in_lines(steps)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _on_terminal(bar: Bar, name: str, steps: int, start: int) -> Progress:
    task = bar.add_task(printable(name), total=steps, completed=start, loss="compiling", speed="")

    def advance(step: int, loss: float, examples_per_second: float | None) -> None:
        bar.update(task, completed=step, loss=f"loss {loss:.4g}", speed=_per_second(examples_per_second))

    def validated(step: int, terms: Mapping[str, float]) -> None:
        bar.console.print(_line(step, terms), highlight=False)

    return Progress(advance, validated)


def _in_lines(steps: int) -> Progress:
    last = time.monotonic()

    def write(line: str) -> None:
        nonlocal last
        last = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def advance(step: int, loss: float, examples_per_second: float | None) -> None:
        if time.monotonic() - last >= LINE_SECONDS:
            write(f"step {step} of {steps}  loss {loss:.4g}  {_per_second(examples_per_second)}")

    return Progress(advance, lambda step, terms: write(_line(step, terms)))


def _line(step: int, terms: Mapping[str, float]) -> str:
    return f"step {step}  validation  " + "  ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _per_second(examples_per_second: float | None) -> str:
    return "" if examples_per_second is None else f"{examples_per_second:,.0f} examples/s"
