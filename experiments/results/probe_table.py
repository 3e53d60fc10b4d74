"""Probes of the codes of classical autoencoders: one encoder, trained in every way that classical.py offers, over five seeds.

    python experiments/results/probe_table.py

Trains and evaluates what is missing under runs/probe_table/, then writes a report on all runs
(runs/probe_table/probe_table.html) and docs/pages/studies/probes.md with its figures. It can be killed and started again.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import tyro

from aejax.errors import UsageError
from aejax.figures.words import slug
from aejax.reports import report
from aejax.reports.probe_table import markdown, probe_tables
from aejax.reports.records import read
from aejax.reports.study import evaluated, finished_members, put_between
from aejax.runs.experiment import find
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- probe table: made by results/probe_table.py -->", "<!-- end of probe table -->"

DATA: dict[str, dict[str, Any]] = {
    "digits": {"latent": 32, "patch": (3, 2)},
    "fashion_mnist": {"latent": 64, "patch": (8, 4)},
}
"""Arguments of every row that depend on the data. The patches cover about as much as the other corruptions, 30 %."""


def rows(data: str) -> dict[str, dict[str, Any]]:
    """Name -> arguments of classical.py, in addition to those in DATA.

    Weights, rates and k are the strongest of two to five values for which logistic regression on the code lost at most one of
    digits' 144 validation examples compared with the best value (mean of two seeds, 2000 steps): l1_weight .03, .1, .3;
    kl_weight .3, 1, 3; k a quarter and a half of the units; winners .1, .3; contraction .003, .01, .03, .1. Fashion-MNIST uses
    the same values.
    """
    masked = {"corruption": "masking"}
    contracted = {"contraction": 0.01}
    sparse = {"code": "relu", "l1_weight": 0.1}
    selected = {"k": DATA[data]["latent"] // 4}
    return {
        "autoencoder": {},
        "denoising, masking": masked,
        "denoising, Bernoulli masking": {"corruption": "bernoulli_masking"},
        "denoising, Gaussian": {"corruption": "gaussian"},
        "denoising, salt and pepper": {"corruption": "salt_and_pepper"},
        "denoising, patches": {"corruption": "patches"},
        "sparse, L1": sparse,
        "sparse, KL": {"code": "sigmoid", "kl_weight": 1.0},
        "sparse, k largest": selected,
        "sparse, winner-take-all": {"code": "relu", "winners": 0.1},
        "contractive": contracted,
        "contractive denoising": {**masked, **contracted},
        "sparse denoising": {**masked, **sparse},
        # Sparse by selection of units: with a nonlinear code, the exact contraction of the wide encoder would cost 25 times
        # as much.
        "contractive denoising sparse": {**masked, **contracted, **selected},
    }


def study(
    data: tuple[str, ...] = tuple(DATA),
    steps: int = 3_000,
    seeds: int = 5,
    directory: Path = Path("runs/probe_table"),
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
    runs = [run for name in data for row in rows(name) for run in row_of(name, row, steps, seeds, directory)]
    for run in runs:
        evaluated(run)
    page = directory / "probe_table.html"
    report(runs, page)
    shown = []
    for table in probe_tables([read(run) for run in runs]):
        figure = f"probes-{slug(table.data)}.png"
        shutil.copy(page.with_name("probe_table-figures") / figure, root / "docs" / "pages" / "images" / figure)
        shown.append(f"{markdown(table)}\n![Accuracy of logistic regression on {table.data}](../images/{figure})\n")
    put_between(root / "docs" / "pages" / "studies" / "probes.md", BEGIN, END, "Probe table", "\n".join(shown))
    print(page)


def row_of(data: str, row: str, steps: int, seeds: int, directory: Path) -> list[Run]:
    """The finished runs of a row, one per seed."""
    folder = directory / data / row
    folder.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"data": data, "steps": steps, **DATA[data], **rows(data)[row]}
    settings = Settings(save_every=steps)
    return finished_members(find("classical"), folder, {"seed": range(seeds)}, settings, **arguments)


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"probe_table.py: error: {error}")
