"""What the codes of the classical family are worth: one encoder, trained in every way that classical.py has, over five seeds.

    python experiments/results/probe_table.py

Trains and evaluates what is missing under runs/probe_table/, then writes what `aejax report` makes of all the runs
(runs/probe_table/probe_table.html), the tables between the markers in experiments/README.md, and their figures beside this file.
Killed and started again, it goes on where it was.
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
from aejax.training.loop import keep_compiled
from aejax.training.settings import Settings

EXPERIMENTS = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- probe table: made by results/probe_table.py -->", "<!-- end of probe table -->"

DATA: dict[str, dict[str, Any]] = {
    "digits": {"latent": 32, "patch": (3, 2)},
    "fashion_mnist": {"latent": 64, "patch": (8, 4)},
}
"""What depends on the data in every row. The patches cover about as much as the other corruptions, 30 %."""


def rows(data: str) -> dict[str, dict[str, Any]]:
    """Name -> arguments of classical.py, beside those in DATA.

    Weights, rates and k are the strongest of two to five values with which logistic regression on the code lost at most one of
    digits' 144 validation examples against the best of them (mean of two seeds, 2000 steps): of l1_weight .03, .1, .3; of
    kl_weight .3, 1, 3; of k a quarter and a half of the units; of winners .1, .3; of contraction .003, .01, .03, .1.
    Fashion-MNIST takes them over.
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
        # Sparse by selection: with a code that bends, the exact contraction of the wide encoder costs 25 steps.
        "contractive denoising sparse": {**masked, **contracted, **selected},
    }


def study(
    data: tuple[str, ...] = tuple(DATA),
    steps: int = 3_000,
    seeds: int = 5,
    directory: Path = Path("runs/probe_table"),
    experiments: Path = EXPERIMENTS,
) -> None:
    """All of it.

    Args:
        data: Data sets, each with a table of its own.
        steps: Of each run.
        seeds: Of each row.
        directory: Of the runs.
        experiments: The folder whose README.md gets the tables, and whose results/ gets their figures.
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
        shutil.copy(page.with_name("probe_table-figures") / figure, experiments / "results" / figure)
        shown.append(f"{markdown(table)}\n![Accuracy of logistic regression on {table.data}](results/{figure})\n")
    put_between(experiments / "README.md", BEGIN, END, "Probe table", "\n".join(shown))
    print(page)


def row_of(data: str, row: str, steps: int, seeds: int, directory: Path) -> list[Run]:
    """The finished runs of a row, one a seed."""
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
