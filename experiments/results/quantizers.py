"""Comparison of quantizers: one net, about as many bits of code, several seeds.

    python experiments/results/quantizers.py

Trains and evaluates what is missing under runs/quantizers/ (vqvae.py and fsq.py), then writes studies/quantizers-DATA.json
beside this file and docs/pages/studies/quantizers.md. It can be killed and started again.
"""

import math
import sys
from pathlib import Path
from typing import Any

import tyro

from aejax.errors import UsageError
from aejax.evaluation.codebook import codebook
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, finished, markdown, put_between
from aejax.runs.batched import means
from aejax.runs.directory import read_json
from aejax.runs.experiment import find
from aejax.runs.opening import open_run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- quantizers: made by results/quantizers.py -->", "<!-- end of quantizers -->"

DATA: dict[str, dict[str, Any]] = {
    "fashion_mnist": {"codes": 512, "net": {"levels": 256, "hidden": (16, 32), "blocks": 1}},
    "digits": {"codes": 64, "net": {"levels": 17, "hidden": (32,), "blocks": 1}},
}
"""Number of codes of a position, and the net. Vectors have 32 numbers unless a row says otherwise."""


def rows(codes: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> experiment file and arguments.

    With two codebooks, each has the square root of the number of codes, so that all rows cost about the same number of bits.
    """
    half = round(codes**0.5)
    return {
        "nearest, moving averages, expiry": ("vqvae.py", {"codes": codes}),
        "the same without expiry": ("vqvae.py", {"codes": codes, "expire": 0.0}),
        "nearest, by gradient": ("vqvae.py", {"codes": codes, "quantizer": "gradient"}),
        "cosine, 8 numbers": ("vqvae.py", {"codes": codes, "quantizer": "cosine", "width": 8}),
        "rotation trick": ("vqvae.py", {"codes": codes, "quantizer": "rotation"}),
        "residual, two books": ("vqvae.py", {"codes": half, "quantizer": "residual"}),
        "grouped, two books": ("vqvae.py", {"codes": half, "quantizer": "grouped"}),
        "finite scalar": ("fsq.py", {"scalars": (round(codes ** (1 / 3)),) * 3}),
        "lookup-free": ("vqvae.py", {"codes": codes, "quantizer": "lookup_free"}),
    }


def study(
    data: tuple[str, ...] = tuple(DATA),
    steps: int = 1_000,
    seeds: int = 3,
    directory: Path = Path("runs/quantizers"),
    root: Path = ROOT,
) -> None:
    """Runs the study.

    Args:
        data: Data sets, each with its own table.
        steps: Training steps of each run.
        seeds: Number of seeds per row.
        directory: Folder of the runs.
        root: Root of the repository, in which numbers, figures and the page of the study are written.
    """
    keep_compiled()
    shown = []
    for name in data:
        setting = DATA[name]
        found = {}
        for row, (file, arguments) in rows(setting["codes"]).items():
            runs = [
                numbers(
                    file, directory / name / row / str(seed), steps, data=name, seed=seed, **setting["net"], **arguments
                )
                for seed in range(seeds)
            ]
            found[row] = {"file": file, "arguments": arguments, "digests": [run["digest"] for run in runs]}
            found[row] |= {key: mean_sd([run[key] for run in runs])._asdict() for key in COLUMNS}
        result = {"data": name, "steps": steps, "seeds": seeds, "net": setting["net"], "rows": found}
        (root / "experiments" / "results" / "studies").mkdir(parents=True, exist_ok=True)
        write_json(root / "experiments" / "results" / "studies" / f"quantizers-{name}.json", result)
        shown.append(table(result))
    put_between(root / "docs" / "pages" / "studies" / "quantizers.md", BEGIN, END, "Quantizers", "\n".join(shown))
    print("\n".join(shown))


COLUMNS = {
    "codes": ("codes", 0, 1),
    "used": ("used, %", 1, 100),
    "perplexity": ("perplexity, % of the codes", 1, 100),
    "mse": ("MSE × 1000", 2, 1000),
    "bits_of_code": ("bits of code", 1, 1),
    "bits_per_dimension": ("bound, bits/dim", 3, 1),
    "seconds": ("training, s", 0, 1),
}
"""Column -> heading, number of decimals, and factor. For two codebooks, used and perplexity are means."""


def numbers(file: str, directory: Path, steps: int, **arguments: Any) -> dict[str, Any]:
    """The numbers of one run, for COLUMNS, and its digest."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    settings = Settings(save_every=steps)
    run = finished(find(file.removesuffix(".py")), directory, settings, steps=steps, **arguments)
    result = read_json(run.directory / "result.json", "")
    # Not `evaluate`, whose probes of such long codes take longer than the training.
    opened = open_run(run.directory, with_data=True)
    terms = means(opened.evaluate(opened.experiment.test))
    found = codebook(opened, opened.experiment.test, terms)
    assert found is not None  # all of these have codes
    books = found["books"]
    return {
        "codes": math.prod(book["size"] for book in books),
        "used": sum(book["used"] / book["size"] for book in books) / len(books),
        "perplexity": sum(book["perplexity"] / book["size"] for book in books) / len(books),
        "mse": terms["mse"],
        "bits_of_code": terms["kl"] / math.log(2),
        "bits_per_dimension": found["bits_per_dimension"],
        "seconds": result["seconds"],
        "digest": result["digest"],
    }


def table(result: dict[str, Any]) -> str:
    """The rows of one data set in Markdown."""
    rows = {
        name: [cell(row[key], digits, times) for key, (_, digits, times) in COLUMNS.items()]
        for name, row in result["rows"].items()
    }
    lines = markdown(result["data"], [heading for heading, _, _ in COLUMNS.values()], rows)
    about = f"{result['steps']} steps of 64 examples, {result['seeds']} seeds, mean ± sd, test split."
    return "\n".join([*lines, "", about, ""])


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"quantizers.py: error: {error}")
