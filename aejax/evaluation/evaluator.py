"""Evaluates a run on its test split and compares each number with baselines on the same examples; prints eval.json as tables.

Seeds are the run's, so that evaluating twice writes the same file. Examples come in batches, and only codes and numbers per
example are kept, so a test split may be larger than memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from aejax.data import has_data
from aejax.errors import UsageError, printable
from aejax.evaluation.bounds import DRAWS
from aejax.evaluation.part import Context
from aejax.evaluation.parts import PARTS
from aejax.evaluation.restoration import not_better_than_the_mean
from aejax.figures.tables import Table, with_numbers, written
from aejax.files import write_json
from aejax.runs.batched import Watch, watched
from aejax.runs.checkpoint import digest
from aejax.runs.directory import FORMAT
from aejax.runs.run import Run

QUIET_SECONDS = 5.0
"""A part that takes longer says how long it will take."""


def evaluate(
    run: Run, checkpoint: str = "last", draws: int = DRAWS, verbose: bool = False, quick: bool = False
) -> dict[str, Any]:
    """Evaluates an opened run (with its data) on its test split, writes `eval.json`, and returns its content.

    A part is None if the model or the data lack what it measures (`aejax.evaluation.parts`), or if the data have missing values
    and the part needs complete examples; a baseline that cannot be computed is absent.

    Args:
        run: A run opened with its data.
        checkpoint: Name of the checkpoint at which it was opened, for the record.
        draws: Draws of z per example for the estimate of a latent-variable model's −log p(x); 0 omits the estimate.
        verbose: Whether to show on standard error which part is computed.
        quick: Whether to compute only the parts that are cheap: the terms, the reconstruction, and how codes are used.

    Returns:
        The content of eval.json.

    Raises:
        UsageError: The run was opened without its data.
    """
    if not has_data(run.experiment.test):
        raise UsageError(f"{run.directory} was opened without its data; open it with aejax.open_run(…, with_data=True)")
    context = Context(run, draws)
    missing = context.test.found is not None and context.test.found.missing > 0
    applying = [
        part for part in PARTS if (part.missing or not missing) and (part.quick or not quick) and part.applies(context)
    ]
    computed = dict.fromkeys(part.name for part in PARTS)
    with _progress(verbose) as show:
        for i, part in enumerate(applying, 1):
            what = f"evaluating {context.test.name}: {part.name} ({i} of {len(applying)})"
            show(what)
            with watched(_time_left(what, show)):
                computed[part.name] = part.compute(context)
    result: dict[str, Any] = {
        "format": FORMAT,
        "step": run.step,
        "checkpoint": checkpoint,
        "digest": digest(run.state.params, run.state.extras),
        "data": context.test.name,
        "examples": context.test.size,
        **computed,
    }
    write_json(run.directory / "eval.json", result)
    return result


def _time_left(what: str, show: Callable[[str], None]) -> Watch:
    """Shows how long a part has taken and will take, if that is more than some seconds."""
    begun = time.monotonic()
    due = begun + QUIET_SECONDS

    def watch(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now > due and done < total:
            due = now + 6 * QUIET_SECONDS
            passed = now - begun
            show(f"{what}: {done} of {total} examples after {passed:.0f} s, about {passed * total / done:.0f} s in all")

    return watch


@contextmanager
def _progress(verbose: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows a line on standard error: in place on a terminal, below each other elsewhere."""
    console = Console(stderr=True, markup=False)
    if not verbose:
        yield lambda line: None
    elif console.is_terminal:
        with console.status("") as status:
            yield lambda line: status.update(printable(line))
    else:
        yield lambda line: print(printable(line), file=sys.stderr, flush=True)


def print_table(result: Mapping[str, Any]) -> None:
    """Prints the numbers of eval.json to standard output."""
    console = Console(markup=False)  # in names, brackets are brackets
    console.print(printable(f"{result['data']}, {result['examples']} examples, step {result['step']}"), highlight=False)
    for part in PARTS:
        if result.get(part.name) is not None:
            for table in part.tables(result[part.name]):
                console.print(_printed(table))
    if warning := not_better_than_the_mean(result):
        console.print(warning, style="bold", highlight=False)


def _printed(table: Table) -> rich_table.Table:
    columns = with_numbers(table.columns)
    titles = [Text(printable(c.name)) + Text(f"\n{c.unit}" if c.unit else "", "dim") for c in columns]
    drawn = rich_table.Table(table.caption)
    for title in titles:
        drawn.add_column(title)
    text = [written(column)[0] for column in columns]
    for row, name in enumerate(table.names):
        drawn.add_row(printable(name), *(column[row] for column in text), style="bold" if name == table.ours else None)
    return drawn
