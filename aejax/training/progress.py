"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 5.0
"""Where there is no terminal: at most one plain line in so many seconds, besides those of the validation."""


class Progress(NamedTuple):
    """Two functions to call while training."""

    advance: Callable
    """(step, loss, examples per second or None) -> None."""
    judged: Callable
    """(step, {term: mean over the validation split}) -> None."""


@contextmanager
def show_progress(name: str, steps: int, start: int) -> Iterator[Progress]:
    """On standard error, so that what a command prints can be piped."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as bar:
            yield _on_terminal(bar, name, steps, start)
    else:
        yield _in_lines(steps)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _on_terminal(bar: Bar, name: str, steps: int, start: int) -> Progress:
    task = bar.add_task(name, total=steps, completed=start, loss="compiling", rate="")

    def advance(step, loss, rate):
        bar.update(task, completed=step, loss=f"loss {loss:.4g}", rate=_per_second(rate))

    def judged(step, terms):
        bar.console.print(_judged(step, terms), highlight=False)

    return Progress(advance, judged)


def _in_lines(steps: int) -> Progress:
    last = time.monotonic()

    def tell(line):
        nonlocal last
        last = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def advance(step, loss, rate):
        if time.monotonic() - last >= LINE_SECONDS:
            tell(f"step {step} of {steps}  loss {loss:.4g}  {_per_second(rate)}")

    return Progress(advance, lambda step, terms: tell(_judged(step, terms)))


def _judged(step: int, terms: Mapping[str, float]) -> str:
    return f"step {step}  judged  " + "  ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _per_second(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f} examples/s"
