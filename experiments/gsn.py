"""Denoising autoencoders as generative models, with walkback (Bengio, Yao, Alain & Vincent 2013).

A run's samples come from its Markov chain; `aejax sample RUN OUT.npy --n N` gives as many as one likes:

    aejax train experiments/gsn.py --rate 0.1 --walkback 5

The table of what walkback changes is one command, which goes on where it was stopped:

    python experiments/gsn.py

2 CPU cores (processor time), 333 s: digits, mean ± sd over 3 seeds. Nats of a test image given its corruption at this rate;
distance of a sample to the nearest training image, of a test image to the nearest sample; total variation of the labels' law:

    test images                            1.058            1.058
    a Gaussian with their moments          1.628 ± .005     1.553 ± .005     .084 ± .003
    rate .1, walkback 1  16.22 ± .01       1.350 ± .003     1.570 ± .015     .368 ± .008
    rate .1, walkback 5  17.31 ± .04       1.267 ± .008     1.287 ± .005     .244 ± .016
    rate .3, walkback 1  18.91 ± .10       1.161 ± .008     1.204 ± .003     .167 ± .003
    rate .3, walkback 5  20.09 ± .08       1.463 ± .002     1.465 ± .014     .617 ± .006

Little corruption leaves the plain chain among strokes that are no digits; walkback brings it back to digits, if blurred ones,
at the price of the denoising it is also judged by. More corruption does so too, and better. With both, the walk forgets the
digit it started from: most samples are the mean image, since p(x|x̃), a product over pixels, can say no more of many
candidates than their mean. On a finite state space, where p(x|x̃) can be any law, the stationary law is within .003 of the
data law in total variation with and without walkback (`tests/test_gsn.py`). Labels are nearer to their law
in draws of the Gaussian, which resemble digits least. A sample is the mean of p(x|x̃), smoother than an image, which flatters
its distance. No log-density is estimated: Parzen's is biased.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optax

from aejax.data import load, usual_splits
from aejax.files import write_json
from aejax.models import gsn
from aejax.nets import MLP
from aejax.objective.corruptions import salt_and_pepper
from aejax.objective.likelihoods import bernoulli
from aejax.reports.study import finished_members
from aejax.runs.run import Run, map_examples, means
from aejax.training.loop import keep_compiled
from aejax.training.settings import Settings
from aejax.types import Dataset, Experiment


def experiment(
    data: str = "digits",
    rate: float = 0.3,
    walkback: int = 1,
    hidden: tuple[int, ...] = (512,),
    latent: int = 64,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 3_000,
    seed: int = 0,
    burn_in: int = 100,
) -> Experiment:
    """A denoising autoencoder with salt-and-pepper noise, and its Markov chain.

    Args:
        data: Name of a data set (digits, fashion_mnist, any of TFDS) or path of a .npy, .npz or folder of images; in [0, 1].
        rate: Fraction of the components set to 0 or 1 at each step of the chain.
        walkback: Steps of the chain that training follows from each image; 1 is the denoising autoencoder.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent: Number of components of the code.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the examples, corruption and draws.
        burn_in: Steps of the chain before a sample is taken.
    """
    train, validation, test = load(data, usual_splits(data))
    nets = MLP(hidden, latent), MLP(hidden[::-1], train.shape)
    model = gsn(*nets, bernoulli(), salt_and_pepper(rate), train.shape, walkback, burn_in)
    return Experiment(
        model=model,
        optimizer=optax.adam(optax.cosine_decay_schedule(lr, steps)),
        train=train,
        validation=validation,
        test=test,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        sweep={level: salt_and_pepper(level) for level in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
        monitor="denoising_nll",
    )


# --- the study -------------------------------------------------------------------------------------------------------


JUDGED = 5_000
"""Images of a split that samples are compared with, at most, evenly spaced: distances are between all pairs."""


def study(
    data: str = "digits",
    walkbacks: tuple[int, ...] = (1, 5),
    rates: tuple[float, ...] = (0.1, 0.3),
    seeds: tuple[int, ...] = (0, 1, 2),
    steps: int = 3_000,
    folder: Path = Path("runs/gsn"),
    out: Path | None = None,
) -> None:
    """Trains what the table needs and prints it: mean ± sd over seeds.

    Distances are Euclidean, between an image and its nearest neighbor in another set; there are as many samples as training
    images. Test images are at the same distance from training images in both columns, and so would perfect samples be; a
    model that repeats training images would have 0 in the first.

    Args:
        data: The data set.
        walkbacks: Lengths of the walk.
        rates: Of the corruption.
        seeds: Of the runs.
        steps: Training steps of each.
        folder: Where the runs go, and are found again.
        out: A .json for the numbers.
    """
    keep_compiled()
    train, _, test = load(data, usual_splits(data))
    seen, unseen = images(train), images(test)
    judge = judge_of(seen, unseen)
    rows = {"test images": [judge(unseen[0], seen[0])]}
    rows["a Gaussian"] = [judge(gaussian_fit(seen[0], seed)) for seed in seeds]
    for rate in rates:
        for walkback in walkbacks:
            where, name = folder / f"{data}-rate{rate:g}-walkback{walkback}", f"rate {rate:g}, walkback {walkback}"
            arguments = {"data": data, "rate": rate, "walkback": walkback, "steps": steps}
            settings = Settings(save_every=max(1, steps // 5), keep=1)
            runs = finished_members(__file__, where, {"seed": seeds}, settings, **arguments)
            rows[name] = [judged(run, judge, len(seen[0]), test) for run in runs]
    for name, found in rows.items():
        told = (f"{term} {np.mean(v):.3f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}" for term, v in columns(found))
        print(f"{name:24}", "   ".join(told))
    if out is not None:
        write_json(out, {"data": data, "seeds": list(seeds), "steps": steps, "rows": rows})


def columns(found: list[dict[str, float]]):
    return [(term, [row[term] for row in found]) for term in found[0]]


def judged(run: Run, judge, n: int, test: Dataset) -> dict[str, float]:
    """Of a run: how it denoises test images, and how good its samples are. Kept in the run's folder."""
    file = run.directory / "samples.json"
    if not file.exists():
        samples = run.sample(n, run.config["seed"]).reshape(n, -1)
        write_json(file, {"denoising_nll": means(run.evaluate(test))["denoising_nll"], **judge(samples)})
    return json.loads(file.read_text())


def judge_of(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]):
    """Of samples [n, d]: their mean distance to the nearest training image; that of test images to the nearest sample (or to
    the nearest of other images); and how far the law of their labels, as logistic regression sees them, is in total variation
    from that of the test images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import pairwise_distances_argmin_min

    classes = np.unique(train[1])
    classifier = LogisticRegression(max_iter=1000).fit(*train)

    def law(x):
        return np.mean(classifier.predict(x)[:, None] == classes, axis=0)

    def nearest(x, others):
        return float(np.mean(pairwise_distances_argmin_min(x, others)[1]))

    def judge(samples: np.ndarray, others: np.ndarray | None = None) -> dict[str, float]:
        return {
            "to training images": nearest(samples, train[0]),
            "from test images": nearest(test[0], samples if others is None else others),
            "labels": float(0.5 * np.sum(np.abs(law(samples) - law(test[0])))),
        }

    return judge


def images(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """x [n, d] and labels [n]."""
    found = map_examples(lambda batch: {name: batch[name] for name in ("x", "label")}, data)
    every = -(-data.size // JUDGED)
    return found["x"].reshape(data.size, -1)[::every], found["label"][::every]


def gaussian_fit(x: np.ndarray, seed: int) -> np.ndarray:
    """As many draws of the Gaussian with the images' mean and covariance, cut off to [0, 1]: the baseline."""
    rng = np.random.default_rng(seed)
    draws = rng.multivariate_normal(x.mean(axis=0), np.cov(x.T), len(x), method="eigh")
    return np.clip(draws, 0.0, 1.0).astype(x.dtype)


if __name__ == "__main__":
    import tyro

    tyro.cli(study)
