"""Disentanglement: β-VAE with six weights, and the other objectives with their usual settings; one net, several seeds.

    python experiments/results/disentanglement.py

Trains and evaluates what is missing under runs/disentanglement/, then writes studies/disentanglement-DATA.json beside this file
and docs/pages/studies/disentanglement.md with its figure. It can be killed and started again.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from aejax.errors import UsageError
from aejax.evaluation.disentanglement import INFORMATIVE, udr
from aejax.figures import drawing
from aejax.figures.tables import mean_sd
from aejax.files import write_json
from aejax.reports.study import cell, evaluated, finished, markdown, put_between
from aejax.runs.directory import read_json
from aejax.runs.experiment import find
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.training.compiled import keep_compiled
from aejax.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN, END = "<!-- disentanglement: made by results/disentanglement.py -->", "<!-- end of disentanglement -->"

NET: dict[str, Any] = {"hidden": (256, 256), "latent": 10, "lr": 1e-3, "batch_size": 64}
"""Net and settings of every row. The large study (Locatello et al. 2019) has the same number of dimensions and examples,
convolutions, a learning rate of 1e-4 and 300 000 steps."""

BETAS = (1.0, 2.0, 4.0, 6.0, 8.0, 16.0)

SHORT = {"capacity": "C", "FactorVAE": "F", "β-TCVAE": "TC", "DIP-VAE-I": "I", "DIP-VAE-II": "II"}
"""Short names of the objectives other than β-VAE, on the figure's axis."""


def rows() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> experiment file and arguments.

    The weights are those that the papers recommend for dSprites: FactorVAE 35, β-TCVAE 6, DIP-VAE 10. Of the capacities of the
    large study, the one closest to the images' entropy, log 34 560 = 10.45 nats, is used; Burgess et al. 2018 use 25 for images
    with 13.5. Their weight of the distance is 1000, for which these runs are too short: after 1500 steps the distortion was
    74.7 nats with it and 55.0 with 100.
    """
    weights = {f"β-VAE, β = {beta:g}": ("beta_vae.py", {"beta": beta}) for beta in BETAS}
    return weights | {
        "capacity, 10 nats": ("beta_vae.py", {"objective": "capacity", "gamma": 100.0, "nats": 10.0}),
        "FactorVAE, γ = 35": ("factor_vae.py", {"gamma": 35.0}),
        "β-TCVAE, β = 6": ("tcvae.py", {"beta": 6.0}),
        "DIP-VAE-I, λ = 10": ("dip_vae.py", {"kind": "I", "strength": 10.0}),
        "DIP-VAE-II, λ = 10": ("dip_vae.py", {"kind": "II", "strength": 10.0}),
    }


COLUMNS: dict[str, tuple[str, int]] = {
    "distortion": ("-log p(x∣z)", 2),
    "kl": ("KL", 2),
    "active": ("active", 1),
    "beta_vae": ("BetaVAE", 3),
    "factor_vae": ("FactorVAE", 3),
    "mig": ("MIG", 3),
    "mig_sampled": ("MIG, sampled", 3),
    "dci": ("DCI", 3),
    "completeness": ("completeness", 3),
    "informativeness": ("informativeness", 3),
    "sap": ("SAP", 3),
    "modularity": ("modularity", 3),
    "explicitness": ("explicitness", 3),
    "irs": ("IRS", 3),
    "udr": ("UDR", 3),
}
"""Column -> heading and number of decimals."""


def study(
    data: str = "sprites_small",
    steps: int = 4_000,
    seeds: int = 5,
    directory: Path = Path("runs/disentanglement"),
    root: Path = ROOT,
) -> None:
    """Runs the study.

    Args:
        data: A data set with known factors.
        steps: Training steps of each run.
        seeds: Number of seeds per row, at least two.
        directory: Folder of the runs.
        root: Root of the repository, in which numbers, figures and the page of the study are written.
    """
    if seeds < 2:
        raise UsageError(f"--seeds {seeds}: UDR compares runs of different seeds; give at least two")
    keep_compiled()
    settings, runs = Settings(save_every=steps), {row: [] for row in rows()}
    for seed in range(seeds):
        for row, (file, arguments) in rows().items():
            folder = directory / data / row / str(seed)
            folder.parent.mkdir(parents=True, exist_ok=True)
            arguments = {"data": data, "steps": steps, "seed": seed, **NET, **arguments}
            runs[row].append(finished(find(file.removesuffix(".py")), folder, settings, **arguments))
    found = {row: {**shown(runs[row]), "file": file, "arguments": a} for row, (file, a) in rows().items()}
    result = {"data": data, "steps": steps, "seeds": seeds, "net": NET, "rows": found, **shares(found)}
    (root / "experiments" / "results" / "studies").mkdir(parents=True, exist_ok=True)
    write_json(root / "experiments" / "results" / "studies" / f"disentanglement-{data}.json", result)
    with drawing.style():
        picture = drawing.png(figure(found))
    (root / "docs" / "pages" / "images" / f"disentanglement-{data}.png").write_bytes(picture)
    signs = ", ".join(f"{sign} {name}" for name, sign in SHORT.items())
    text = f"{table(result)}\n![Every metric against β](../images/disentanglement-{data}.png)\n\nSeeds, and means: {signs}.\n"
    put_between(root / "docs" / "pages" / "studies" / "disentanglement.md", BEGIN, END, "Disentanglement", text)
    print(text)


def shown(runs: list[Run]) -> dict[str, Any]:
    """For a row's runs: mean, sd and values of each column in the order of the seeds, digests, and seconds of training."""
    evaluations = [evaluated(run, draws=0) for run in runs]
    values = {column: [one(found, column) for found in evaluations] for column in COLUMNS if column != "udr"}
    informative = [np.asarray(found["bound"]["divergences"]) > INFORMATIVE for found in evaluations]
    opened = [open_run(run.directory, with_data=True) for run in runs]
    values["udr"] = udr([run.encode(run.experiment.test) for run in opened], informative)["runs"].tolist()
    results = [read_json(run.directory / "result.json", "") for run in runs]
    return {
        "digests": [result["digest"] for result in results],
        "seconds": mean_sd([result["seconds"] for result in results])._asdict(),
        **{column: {**mean_sd(values[column])._asdict(), "values": values[column]} for column in COLUMNS},
    }


def one(found: Mapping[str, Any], column: str) -> float:
    """A column's number for one run, from eval.json."""
    metrics = found["disentanglement"]
    if column in ("distortion", "kl"):
        return found["terms"][column]
    if column == "active":
        return found["bound"]["active_units"]
    if column in ("completeness", "informativeness"):
        return metrics["dci"][f"{column}_score"]
    return metrics[column]["score"]


def shares(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For each column, `by_row` and `by_beta`.

    `by_row` is the fraction of the variance over all runs that is between rows (ω², about 0 if rows do not differ); `by_beta`
    is the rank correlation with β over the runs of β-VAE.
    """
    from scipy.stats import spearmanr

    by_row, by_beta = {}, {}
    for column in COLUMNS:
        groups = np.array([row[column]["values"] for row in found.values()])
        k, n = groups.shape
        between = n * np.sum(np.square(groups.mean(axis=1) - groups.mean()))
        within = np.sum(np.square(groups - groups.mean(axis=1, keepdims=True))) / (k * (n - 1))
        total = np.sum(np.square(groups - groups.mean()))
        by_row[column] = float((between - (k - 1) * within) / (total + within))
        of_beta = groups[: len(BETAS)]
        by_beta[column] = float(spearmanr(np.repeat(BETAS, n), of_beta.reshape(-1)).statistic)
    return {"by_row": by_row, "by_beta": by_beta}


def table(result: Mapping[str, Any]) -> str:
    """The table in Markdown."""
    rows = {
        name: [cell(row[column], digits) for column, (_, digits) in COLUMNS.items()]
        for name, row in result["rows"].items()
    }
    for name, key in (("variance between rows (ω²)", "by_row"), ("rank correlation with β", "by_beta")):
        rows[name] = [f"{result[key][column]:.2f}" for column in COLUMNS]
    lines = markdown(result["data"], [heading for heading, _ in COLUMNS.values()], rows)
    about = (
        f"{result['steps']} steps of {result['net']['batch_size']} examples, {result['seeds']} seeds, mean ± sd, test split; "
        f"-log p(x∣z) and KL in nats, active dimensions of {result['net']['latent']}. DCI is the disentanglement. A run's UDR is "
        "its median over the other seeds."
    )
    return "\n".join([*lines, "", about, ""])


def figure(found: Mapping[str, Any], across: int = 5) -> Figure:
    """A panel per column: seeds as points, means of β-VAE as a line over log β, the other objectives on the right."""
    others = [row for row in found if not row.startswith("β-VAE")]
    places = dict(zip(found, [*np.log2(BETAS), *(np.log2(BETAS[-1]) + 1.0 + 0.8 * np.arange(len(others)))]))
    names = [f"{beta:g}" for beta in BETAS] + [SHORT[row.split(",")[0]] for row in others]
    down, size, left, top = -(-len(COLUMNS) // across), (208.0, 168.0), 40.0, 24.0
    width, height = across * size[0] + 8, down * size[1] + 8
    picture = drawing.canvas((width, height))
    for i, (column, (heading, _)) in enumerate(COLUMNS.items()):
        x, y = (i % across) * size[0], height - (1 + i // across) * size[1]
        box = (x + left) / width, (y + 32) / height, (size[0] - left - 4) / width, (size[1] - top - 32) / height
        axes = picture.add_axes(box)
        axes.set_title(heading, fontsize=11, fontweight="bold", color=drawing.INK, loc="left", pad=5)
        for row, place in places.items():
            color = drawing.ORANGE if row in others else drawing.BLUE
            values = found[row][column]["values"]
            axes.plot([place] * len(values), values, "o", color=color, markersize=2.6, alpha=0.55, markeredgewidth=0)
            axes.plot([place - 0.25, place + 0.25], [found[row][column]["mean"]] * 2, color=color, linewidth=1.8)
        weights = [row for row in found if row not in others]
        axes.plot(
            [places[r] for r in weights], [found[r][column]["mean"] for r in weights], color=drawing.BLUE, linewidth=0.9
        )
        axes.set_xticks(list(places.values()), names, fontsize=8, color=drawing.MUTED)
        axes.tick_params(axis="both", length=0, labelsize=8, labelcolor=drawing.MUTED, pad=3)
        axes.spines[:].set_visible(False)
        axes.grid(axis="y", color=drawing.LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        if i // across == down - 1:
            axes.set_xlabel("β; other objectives", fontsize=8, color=drawing.MUTED, labelpad=2)
    return picture


if __name__ == "__main__":
    try:
        tyro.cli(study, description=__doc__)
    except UsageError as error:
        sys.exit(f"disentanglement.py: error: {error}")
