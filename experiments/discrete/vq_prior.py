"""A learned prior over discrete codes (van den Oord et al. 2017, §3.2; Razavi et al. 2019, §3.2), which makes a VQ-VAE generate.

aejax train vqvae --run runs/vq && aejax train vq_prior --parent runs/vq --run runs/prior
1 busy CPU core, 37 s. The 16 codes of a test digit cost 33.9 ± .2 nats over 3 seeds, 3.06 ± .02 bits each; a uniform prior over
64 codes takes 66.5 nats and 6 bits. The whole bound falls from 2.864 to 2.129 ± .004 bits per pixel.

aejax train vq_prior --parent runs/vq --by-class
Given the class, 30.6 ± .3 nats and 2.055 ± .007 bits per pixel. Of 1000 samples, a hundred of each class, a classifier with
91.9 % test accuracy (vincent2010.py --stage supervised --hidden 256 128) assigns 84.7 ± 2.4 % to the requested class.

The prior overfits such few images quickly: after 1500 steps in place of 400, the codes of test images cost 45 nats.

python experiments/results/priors.py
Fashion-MNIST, 1 busy CPU core, 494 ± 82 s per prior. Given the class, each of 49 codes of 512 costs 3.864 ± .014 bits over 3
seeds (9 under a uniform prior), and the bound is 3.358 ± .001 bits per pixel (3.679). Of 1000 samples, a classifier with 87.2 %
test accuracy assigns 80.1 ± 1.9 % to the requested class. 64 samples take 2.1 s. For the two levels of vqvae2.py on mosaics,
given the digit, with attention at the upper level, after 600 steps: 3.24 bits per code on validation images, against 7 (one
seed).
"""

import jax

from aejax import Experiment, fit, load, usual_splits
from aejax.errors import UsageError
from aejax.models import code_prior, nets_for
from aejax.runs.opening import open_parent


def experiment(
    parent: str = "",
    data: str = "digits",
    by_class: bool = False,
    channels: int = 64,
    layers: int = 4,
    heads: int = 0,
    lr: float = 1e-3,
    batch_size: int = 64,
    steps: int = 400,
    seed: int = 0,
) -> Experiment:
    """A PixelCNN for each level of the parent's codes.

    Args:
        parent: Run directory of vqvae.py, fsq.py or vqvae2.py.
        data: The data that the parent was trained on, from the command line by default.
        by_class: Whether the prior is given the label, so that samples of one class can be drawn.
        channels: Channels of each stack.
        layers: Number of gated layers.
        heads: Heads of causal attention at the top level; 0 for no attention.
    """
    if not parent:
        raise UsageError("a prior over codes needs --parent, the directory of a run with discrete codes (vqvae.py)")
    base = open_parent(parent)
    train, *_ = splits = load(data, usual_splits(data))
    if by_class and train.classes is None:
        raise UsageError(f"--by-class: {data} has no labels; leave it out")
    labels = len(train.classes or ())
    model = code_prior(
        base,
        nets_for(base, train.shape, channels=channels, layers=layers, heads=heads),
        train.shape,
        condition=(lambda batch: jax.nn.one_hot(batch["label"], labels)) if by_class else None,
    )
    return fit(model, splits, lr, batch_size, steps, seed, monitor="nelbo", parent=base)
