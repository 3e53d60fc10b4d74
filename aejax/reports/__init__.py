"""Reports: one self-contained HTML page about a run, or a comparison of several, with its figures as PNG beside it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

from aejax.errors import UsageError
from aejax.files import write_bytes, write_text
from aejax.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report(runs: Sequence[Run], out: Path | None = None) -> Path:
    """Writes the page and returns its path.

    For one run it is `report.html` in the run directory, with its figures in `figures/`; for several it is `comparison.html` in
    the current folder, or `comparison-2.html` and so on where that compares other runs. A page `NAME.html` elsewhere has its
    figures in `NAME-figures/`.

    Raises UsageError for no run, a run given twice, and a path where something else exists.
    """
    # imported here, because matplotlib takes most of a second, which `import aejax` and --help need not cost
    from aejax.figures import drawing
    from aejax.reports.comparison import comparison_page
    from aejax.reports.records import read
    from aejax.reports.single import single_page

    page_file, figure_folder = places(runs, out)
    records = [read(run.in_model_units()) for run in runs]
    with drawing.style():
        document, pngs = single_page(records[0]) if len(records) == 1 else comparison_page(records, page_file)
    try:
        figure_folder.mkdir(exist_ok=True)
        for name, png in pngs.items():
            write_bytes(figure_folder / f"{name}.png", png)
        write_text(page_file, document)
    except PermissionError as error:
        raise UsageError(
            f"{error.filename} cannot be written ({error.strerror}); choose another place with --out"
        ) from error
    return page_file


def places(runs: Sequence[Run], out: Path | None) -> tuple[Path, Path]:
    """Paths of the page and its figures, checked before the work."""
    if not runs:
        raise UsageError("a report needs a run; give at least one run directory")
    directories = [run.directory.resolve() for run in runs]
    for run, directory in zip(runs, directories):
        if directories.count(directory) > 1:
            raise UsageError(f"{run.directory} is given twice; a comparison counts each run once")
    if out is None and len(runs) == 1:
        folder = runs[0].directory
        return folder / "report.html", folder / "figures"
    page_file = unused_page(directories) if out is None else Path(out)
    if page_file.suffix != ".html":
        raise UsageError(f"{page_file}: the page is a .html file; name it so")
    if not page_file.parent.is_dir():
        raise UsageError(f"{page_file}: there is no folder {page_file.parent}; make it first")
    if page_file.exists() and not is_ours(page_file):
        raise UsageError(f"{page_file} exists and is not a report of aejax; choose another --out, or move it")
    return page_file, page_file.with_name(f"{page_file.stem}-figures")


def plot(run: Run, term: str | None = None) -> Figure:
    """The curves of a term; by default of the monitored one."""
    from aejax.figures import drawing
    from aejax.reports.single import curves

    base = (run.experiment.monitor if term is None else term).removeprefix("denoising_")
    history = run.history
    if not any(base in terms or f"denoising_{base}" in terms for terms in history.values()):
        known = ", ".join(dict.fromkeys(name for terms in history.values() for name in terms))
        raise UsageError(f"{run.directory} has no term {term or base}; it logged {known or 'nothing yet'}")
    with drawing.style():
        return curves(history, base)


def unused_page(directories: Sequence[Path]) -> Path:
    """comparison.html, comparison-2.html, …: the first that does not exist, or compares the same runs already."""
    about = [str(directory) for directory in directories]
    for i in itertools.count(1):
        file = Path("comparison.html" if i == 1 else f"comparison-{i}.html")
        if not file.exists() or (is_ours(file) and compared_in(file) == about):
            return file
    raise AssertionError


def compared_in(file: Path) -> list[str] | None:
    """The directories of the runs that a page of ours is about; None if it does not say."""
    with open(file, encoding="utf-8", errors="replace") as handle:
        found = re.search(r'<meta name="runs" content="([^"]*)">', handle.read(100_000))
    return None if found is None else json.loads(unescape(found[1]))


def is_ours(file: Path) -> bool:
    from aejax.figures.page import GENERATOR

    if not file.is_file():
        return False
    with open(file, "rb") as handle:
        return GENERATOR.encode() in handle.read(4096)
