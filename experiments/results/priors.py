"""Class-conditional priors over codes: bits that they save, and whether samples belong to the requested class.

    python experiments/results/priors.py

Trains and evaluates what is missing under runs/priors/ (vqvae.py or vqvae2.py, vq_prior.py over seeds on its codes, and a
classifier of real images, vincent2010.py), then writes studies/priors-DATA.json beside this file and
docs/pages/studies/priors.md with pictures of samples. It can be killed and started again.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from aejax.data import take
from aejax.errors import UsageError
from aejax.evaluation.codebook import codebook
from aejax.figures.pixels import pixels_png, tiles
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, finished, markdown, put_between
from aejax.runs.batched import means
from aejax.runs.directory import read_json
from aejax.runs.experiment import find
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings
from aejax.types import Dataset

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- priors: made by results/priors.py -->", "<!-- end of priors -->"

DATA: dict[str, dict[str, Any]] = {
    "fashion_mnist": {
        "codes": ("vqvae.py", {"levels": 256, "codes": 512, "hidden": (32, 64), "blocks": 2, "steps": 5_000}),
        "prior": {"channels": 64, "layers": 4, "steps": 2_500},
        "classifier": {"hidden": (512, 256), "optimizer": "adam", "lr": 1e-3, "batch_size": 128, "steps": 4_000},
    },
    "mosaics": {
        "codes": ("vqvae2.py", {"steps": 1_000}),
        "prior": {"channels": 48, "layers": 4, "heads": 4, "batch_size": 32, "steps": 600},
        "classifier": {"hidden": (256, 128), "optimizer": "adam", "lr": 1e-3, "batch_size": 128, "steps": 1_500},
    },
}
OF_EACH = 100
"""Number of samples per class."""
SHOWN = 12
"""Number of them in the picture, and of real images."""
AT_ONCE = 64
"""Number of samples that are timed, after compilation."""


def study(
    data: tuple[str, ...] = tuple(DATA),
    seeds: int = 3,
    directory: Path = Path("runs/priors"),
    root: Path = ROOT,
) -> None:
    """Runs the study for some or all data sets.

    Args:
        data: fashion_mnist, mosaics, or both. The table shows all that have been run.
        seeds: Number of seeds of the prior; the codes are those of one run.
        directory: Folder of the runs.
        root: Root of the repository, in which numbers, figures and the page of the study are written.
    """
    if unknown := sorted(set(data) - set(DATA)):
        raise UsageError(f"no part of the study is called {', '.join(unknown)}; there are {', '.join(DATA)}")
    keep_compiled()
    studies = root / "experiments" / "results" / "studies"
    studies.mkdir(parents=True, exist_ok=True)
    for name in data:
        write_json(
            studies / f"priors-{name}.json", made(name, seeds, directory / name, root / "docs" / "pages" / "images")
        )
    found = {name: read_json(file, "") for name in DATA if (file := studies / f"priors-{name}.json").exists()}
    put_between(root / "docs" / "pages" / "studies" / "priors.md", BEGIN, END, "Priors over codes", table(found))
    print(table(found))


def made(name: str, seeds: int, directory: Path, results: Path) -> dict[str, Any]:
    """The numbers of one data set; the picture of its samples is written to `results`."""
    file, arguments = DATA[name]["codes"]
    base = trained(file, directory / "codes", data=name, **arguments)
    classifier = trained(
        "vincent2010.py", directory / "classifier", stage="supervised", data=name, **DATA[name]["classifier"]
    )
    classifier_run = open_run(classifier.directory, with_data=True)
    runs = [
        trained(
            "vq_prior.py",
            directory / f"prior-{seed}",
            parent=str(base.directory),
            data=name,
            by_class=True,
            seed=seed,
            **DATA[name]["prior"],
        )
        for seed in range(seeds)
    ]
    classes = base.experiment.train.classes
    assert classes is not None  # all of these have
    drawn = [[run.sample(OF_EACH, label=label) for label in range(len(classes))] for run in runs]
    page(drawn[0], classifier_run.experiment.test, results / f"priors-{name}.png")
    found = [numbers(run, of_run, classifier_run) for run, of_run in zip(runs, drawn)]
    uniform = codebook_of(base)
    return {
        "codes": {"file": file, "arguments": arguments, "digest": digest_of(base)},
        "prior": DATA[name]["prior"],
        "seeds": seeds,
        "digests": [digest_of(run) for run in runs],
        "positions": uniform["positions"],
        "uniform": {"bits_per_code": uniform_bits(uniform), "bits_per_dimension": uniform["bits_per_dimension"]},
        "real": 100.0 * (1.0 - float(np.mean(classifier_run.evaluate(classifier_run.experiment.test)["error"]))),
        **{key: mean_sd([of[key] for of in found])._asdict() for key in found[0]},
    }


def trained(file: str, where: Path, **arguments: Any) -> Run:
    where.parent.mkdir(parents=True, exist_ok=True)
    settings = Settings(save_every=arguments["steps"], log_every=max(1, arguments["steps"] // 20))
    return finished(find(file.removesuffix(".py")), where, settings, **arguments)


def codebook_of(run: Run) -> dict[str, Any]:
    opened = open_run(run.directory, with_data=True)
    found = codebook(opened, opened.experiment.test, means(opened.evaluate(opened.experiment.test)))
    assert found is not None  # all of these have codes
    return found


def uniform_bits(found: dict[str, Any]) -> float:
    """Bits per code under a uniform prior, averaged over codebooks, which all have the same size here."""
    return float(np.mean([math.log2(book["size"]) for book in found["books"]]))


def numbers(run: Run, drawn: list[np.ndarray], classifier_run: Run) -> dict[str, float]:
    """For one seed: bits on the test split, percentage of samples with the right class, seconds."""
    opened = open_run(run.directory, with_data=True)
    terms = means(opened.evaluate(opened.experiment.test))
    found = codebook(opened, opened.experiment.test, terms)
    assert found is not None
    labels = np.repeat(np.arange(len(drawn), dtype=np.int32), [len(of) for of in drawn])
    x = np.concatenate(drawn)
    shown = Dataset("the samples", x.shape[1:], len(x), None, "", {"x": x, "label": labels})
    start = time.perf_counter()
    run.sample(AT_ONCE, seed=1, label=0)  # one padded batch, already compiled
    return {
        "bits_per_code": terms["bits_per_code"],
        "bits_per_dimension": found["bits_per_dimension"],
        "right": 100.0 * (1.0 - float(np.mean(classifier_run.evaluate(shown)["error"]))),
        "sampling": time.perf_counter() - start,
        "training": read_json(run.directory / "result.json", "")["seconds"],
    }


def digest_of(run: Run) -> str:
    return read_json(run.directory / "result.json", "")["digest"]


def page(drawn: list[np.ndarray], test: Dataset, file: Path) -> None:
    """A row per class: samples on the left, test images on the right."""
    batch = take(test, np.arange(min(test.size, 2_000)))
    gap = np.full((1, *test.shape), np.nan, np.float32)
    rows = [np.concatenate([of[:SHOWN], gap, batch["x"][batch["label"] == i][:SHOWN]]) for i, of in enumerate(drawn)]
    sheet = tiles(np.concatenate(rows), 2 * SHOWN + 1, 0.0, 1.0)
    side = test.shape[1] + max(1, round(test.shape[1] / 14))
    sheet[:, SHOWN * side : (SHOWN + 1) * side] = 0  # a white gap
    file.write_bytes(pixels_png(sheet))


COLUMNS = {
    "bits_per_code": ("bits of a code", 3),
    "bits_per_dimension": ("whole bound, bits/dim", 3),
    "right": ("samples of the class asked for, %", 1),
    "sampling": (f"{AT_ONCE} samples, s", 2),
    "training": ("training, s", 0),
}


def table(found: dict[str, Any]) -> str:
    """All data sets in Markdown."""
    headings = [
        "bits of a code, uniform",
        "whole bound",
        *(heading for heading, _ in COLUMNS.values()),
        "real test images, %",
    ]
    rows = {
        name: [
            f"{it['uniform']['bits_per_code']:.0f}",
            f"{it['uniform']['bits_per_dimension']:.3f}",
            *(cell(it[key], digits) for key, (_, digits) in COLUMNS.items()),
            f"{it['real']:.1f}",
        ]
        for name, it in found.items()
    }
    lines = markdown("", headings, rows)
    lines += ["", "Samples of each class at the left, test images at the right:", ""]
    lines += [f"![Samples of {name} by class](../images/priors-{name}.png)" for name in found]
    seeds = ", ".join(f"{it['seeds']} of {name}" for name, it in found.items())
    about = (
        f"Mean ± sd over seeds of the prior ({seeds}), on the codes of one run; {OF_EACH} samples of each class; seconds of one "
        "busy core."
    )
    return "\n".join([*lines, "", about, ""])


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"priors.py: error: {error}")
