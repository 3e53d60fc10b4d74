"""Reports: one self-contained HTML page about a run, or a comparison of several, with its figures as PNG beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aejax.errors import UsageError
from aejax.runs.run import Run


def report(runs: Sequence[Run], out: Path | None = None) -> Path:
    """Writes the page and returns its path.

    For one run it is `report.html` in the run directory, with its figures in `figures/`; for several it is `comparison.html` in
    the current folder. A page `NAME.html` elsewhere has its figures in `NAME-figures/`.

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
            write(figure_folder / f"{name}.png", png)
        write(page_file, document.encode("utf-8", "replace"))
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
    page_file = Path("comparison.html") if out is None else Path(out)
    if page_file.suffix != ".html":
        raise UsageError(f"{page_file}: the page is a .html file; name it so")
    if not page_file.parent.is_dir():
        raise UsageError(f"{page_file}: there is no folder {page_file.parent}; make it first")
    if page_file.exists() and not is_ours(page_file):
        raise UsageError(f"{page_file} exists and is not a report of aejax; choose another --out, or move it")
    return page_file, page_file.with_name(f"{page_file.stem}-figures")


def is_ours(file: Path) -> bool:
    from aejax.figures.page import GENERATOR

    if not file.is_file():
        return False
    with open(file, "rb") as handle:
        return GENERATOR.encode() in handle.read(4096)


def write(file: Path, content: bytes) -> None:
    """Writes a file atomically: under a temporary name, then renamed."""
    beside = file.with_name(file.name + ".tmp")
    beside.write_bytes(content)
    os.replace(beside, file)
