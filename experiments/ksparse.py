"""k-sparse autoencoders (Makhzani & Frey 2013): a linear layer with tied weights, of which each example keeps the k largest
units, and α·k of them once it is trained.

aejax train experiments/ksparse.py
2 CPU cores, 13 s: with 10 of 256 units, test digits are reconstructed to an MSE of .0086 ± .0001 over 3 seeds; 168 ± 2 units are
never used. Logistic regression on the codes 98.1 ± .4 %, on raw pixels 96.9.

What k and α are worth to a classifier of the codes, α of 1, 1.5, 2 and 3 chosen on the validation split:

    python experiments/ksparse.py

| k | α | test error, % | MSE | unused of 256 |
|---|---|---|---|---|
| 2 | 2 | 4.55 ± 1.13 | .0514 | 194 |
| 5 | 1.5 | 1.58 ± .58 | .0134 | 171 |
| 10 | 1 | 1.86 ± .43 | .0086 | 168 |
| 25 | 1 | 3.34 ± .28 | .0024 | 171 |
| 50 | 1.5 | 4.09 ± .43 | .0053 | 93 |
| raw pixels | | 3.06 | | |

Mean ± sd over 3 seeds on 359 test digits; the MSE is that of αk units where k were trained. 144 validation digits hardly tell
one α from another: on the test digits no chosen α differs from α = 1 by more than the larger of the two sds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optax

from aejax.data import load, take, usual_splits
from aejax.evaluation import PROBE_EXAMPLES
from aejax.evaluation.probes import accuracy, fit_regression
from aejax.files import write_json
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.bottlenecks import top_k
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import squared_error
from aejax.objective.sparsity import active_terms, nonzero
from aejax.reports.study import finished_members
from aejax.runs.run import Run, means
from aejax.training.loop import keep_compiled
from aejax.training.settings import Settings
from aejax.types import Experiment

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def experiment(
    data: str = "digits",
    k: int = 10,
    k_first: int = 100,
    alpha: float = 1.0,
    rate: float | None = None,
    latent: int = 256,
    lr: float = 1e-2,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """The squared error of a linear map of few units.

    Args:
        data: Name of a data set (digits, fashion_mnist, any of TFDS) or path of a .npy, .npz or folder of images.
        k: Units that an example keeps, from the middle of training on.
        k_first: Those at the first step, whence k is reached linearly: all of them, as many as latent, leaves fewest dead.
        alpha: Outside training alpha·k units are kept; training does not know it.
        rate: Fraction of the components set to zero in what the encoder sees, as in dae.py; None for clean examples.
        latent: Number of units.
        lr: Peak learning rate of Adam; it falls to zero on a cosine. So high a one kills many units on larger images.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the examples and corruption.
    """
    train, validation, test = load(data, usual_splits(data))
    model = autoencoder(
        MLP((), latent),
        MLP((), train.shape),
        squared_error(),
        corrupt=None if rate is None else masking(rate),
        bottleneck=top_k(optax.linear_schedule(max(k_first, k), k, max(1, steps // 2)), alpha),
        tied=True,
        active=nonzero,
    )
    return Experiment(
        model=model,
        optimizer=optax.adam(optax.cosine_decay_schedule(lr, steps)),
        train=train,
        validation=validation,
        test=test,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        sweep={level: masking(level) for level in LEVELS},
        monitor="nll" if rate is None else "denoising_nll",
    )


# --- the study -------------------------------------------------------------------------------------------------------


def study(
    data: str = "digits",
    ks: tuple[int, ...] = (2, 5, 10, 25, 50),
    alphas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 5_000,
    latent: int = 256,
    folder: Path = Path("runs/ksparse"),
    out: Path | None = None,
) -> None:
    """Trains what the table needs and prints it; started again, it trains only what is missing.

    Args:
        data: A data set with labels.
        ks: Values of k, each a group of runs.
        alphas: Values of α to choose from, for each k, by the mean validation error over seeds.
        seeds: Of the runs.
        steps: Of each run.
        latent: Number of units.
        folder: Where the runs go, and are found again.
        out: A .json for the numbers.
    """
    keep_compiled()
    rows = []
    pixels = errors_of_probe(parts_of(data))
    print(f"{data}: logistic regression on pixels, test error {pixels['test']:.2f} %")
    print("  k  alpha  validation error %     test error %         mse   dead units")
    for k in ks:
        settings = Settings(log_every=max(1, steps // 20), save_every=steps, keep=1)
        where, fixed = folder / f"{data}-k{k}", {"data": data, "k": k, "steps": steps, "latent": latent}
        runs = finished_members(__file__, where, {"seed": seeds}, settings, **fixed)
        tried = [{"k": k, "alpha": alpha, **judged([with_alpha(r, alpha) for r in runs], data)} for alpha in alphas]
        best = min(tried, key=lambda row: row["validation"]["mean"])
        rows += [{**row, "chosen": row is best} for row in tried]
        v, t, mse, dead = (best[name] for name in ("validation", "test", "mse", "dead_units"))
        print(
            f"{k:3} {best['alpha']:6g} {v['mean']:11.2f} ± {v['sd']:.2f} {t['mean']:11.2f} ± {t['sd']:.2f} "
            f"{mse['mean']:11.5f} {dead['mean']:8.1f}"
        )
    if out is not None:
        write_json(out, {"data": data, "seeds": list(seeds), "steps": steps, "pixels": pixels, "rows": rows})


def judged(runs: list[Run], data: str) -> dict[str, dict[str, float]]:
    """Mean and sd over runs: errors of a logistic regression on the codes in %, mean squared error and dead units of the test
    split."""
    found = []
    for run in runs:
        codes = {part: (run.encode(x), labels) for part, (x, labels) in parts_of(data).items()}
        test = run.experiment.test
        active = active_terms(run.active(test))
        found.append({**errors_of_probe(codes), "mse": means(run.evaluate(test))["mse"], **active})
    numbers = {name: [row[name] for row in found] for name in found[0]}
    return {name: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))} for name, v in numbers.items()}


def with_alpha(run: Run, alpha: float) -> Run:
    """The run with another α, which needs no training."""
    changed = experiment(**{**run.config["source"]["arguments"], "alpha": alpha})
    return Run(run.directory, run.config, changed, run.state)


def parts_of(data: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """x and labels of each split; of a large training split what a probe sees at most, evenly spaced."""
    found = {}
    for part, split in zip(("train", "validation", "test"), load(data, usual_splits(data))):
        n = min(split.size, PROBE_EXAMPLES) if part == "train" else split.size
        examples = take(split, np.linspace(0, split.size - 1, n).astype(np.int64))
        found[part] = examples["x"], examples["label"]
    return found


def errors_of_probe(representation: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """In %, on the validation and the test split, of a logistic regression fitted to the training split."""
    classify = fit_regression(*representation["train"])
    return {part: 100 * (1 - accuracy(classify(z), y)) for part, (z, y) in representation.items() if part != "train"}


if __name__ == "__main__":
    import tyro

    tyro.cli(study)
