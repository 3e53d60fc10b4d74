"""Stacked denoising autoencoders (Vincent et al. 2010): layers are trained one by one to restore masked input, then a classifier.

One command makes the whole table, from data to test errors with their intervals, and continues where it was stopped:

    python experiments/results/vincent2010.py --data rectangles

Each stage is a run; `--parent` names the run of the layer below:

    aejax train vincent2010 --rate 0.1 --steps 3000 --run runs/layer1
    aejax train vincent2010 --rate 0.1 --lr 0.1 --steps 5000 --parent runs/layer1 --run runs/layer2
    aejax train vincent2010 --stage supervised --lr 0.1 --steps 3000 --parent runs/layer3

2 CPU cores, 75 s. SDAE-3 with 20 % masked, chosen by validation, has a test error of .86 ± .14 % on 50 000 images, over five
training sets of 1000 rectangles. Noise helps throughout:

    masked, %     0 (SAE-3)   10          20         30         40         50
    error, %      1.67 ± .27  1.14 ± .14  .86 ± .14  .80 ± .14  .73 ± .10  .69 ± .09

From random initialization, tuned, 6.5 ± .7 %. A support vector machine on the same 1000 images, with C and γ chosen on the 200
validation images, has 3.2 ± .5 %; with C = 10, γ = .05 it has 2.87 ± .18 %. Paired over training sets (95 %), SDAE-3 is .82 ±
.31 below SAE-3, 5.6 ± .9 below random initialization and 2.4 ± .7 below the support vector machine. The paper, with its own
rendering, has 2.41 for SAE-3, 1.99 for SDAE-3 with 10 % and 2.15 for the support vector machine.

Convex, three training sets (--data convex --data-seeds 0 1 2 --rates 0 0.1): SAE-3 19.44 ± .24 %, SDAE-3 with 10 % 19.64 ± .65,
random initialization 22.1 ± .7, the support vector machine on the same 6000 images 20.27 ± .28, and refitted with the 2000
validation images 19.21 ± .29. Noise does not help: SDAE-3 is .2 ± 1.3 above SAE-3 and .6 ± 1.8 below the support vector
machine. With 25 epochs of fine-tuning in place of 75, both had 20.4 to 20.5, and 22.1 with 30 % on one set. The paper's support
vector machine has 19.13.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from aejax import Experiment, fit, load, usual_splits
from aejax.errors import UsageError
from aejax.models import autoencoder, classifier, layers, on_top_of, started_from, unroll
from aejax.nets import MLP
from aejax.objective import bernoulli, masking
from aejax.runs.opening import open_parent
from aejax.types import Parent


def experiment(
    data: str = "rectangles",
    stage: Literal["layer", "autoencoder", "supervised"] = "layer",
    parent: str = "",
    rate: float = 0.1,
    hidden: tuple[int, ...] = (1000, 1000, 1000),
    scale: float = 1.0,
    optimizer: Literal["sgd", "adam"] = "sgd",
    lr: float = 0.02,
    batch_size: int = 20,
    steps: int = 3_000,
    seed: int = 0,
) -> Experiment:
    """One stage: a layer on top of the parent's layers, or fine-tuning of all of the parent's layers.

    Args:
        data: Name of a data set (rectangles, rectangles/1 … for other training sets, convex, any of TFDS) or path.
        stage: layer trains a denoising autoencoder with one sigmoid layer and tied weights, on the parent's uncorrupted code,
            or on the images if there is no parent. autoencoder fine-tunes the unrolled stack to reconstruct images. supervised
            fine-tunes a classifier on the stack, or trains it from random weights if there is no parent.
        parent: Run directory of the highest layer so far; empty for none.
        rate: Fraction of a layer's input that is set to zero in training; 0 trains plain autoencoders.
        hidden: Widths of the layers, the lowest first.
        scale: Scale of the random weights, which are uniform within ±scale/√(the larger of the numbers of inputs and outputs).
        optimizer: sgd as in the paper, or adam.
        lr: Learning rate, constant.
        steps: Training steps of this stage.
    """
    train, *_ = splits = load(data, usual_splits(data))
    below = open_parent(parent) if parent else None
    draw = uniform(scale)
    chosen = optax.sgd(lr) if optimizer == "sgd" else optax.adam(lr)
    monitor = "nll"
    if stage == "layer":
        model, monitor = layer(below, rate, hidden, train.shape, draw), "denoising_nll"
    elif stage == "autoencoder":
        decoder = MLP(hidden[-2::-1], train.shape, jax.nn.sigmoid, kernel_init=draw)
        model = autoencoder(stack_of(hidden, draw), decoder, bernoulli())
        model = model if below is None else started_from(model, unroll(layers(below)))
    else:
        if train.classes is None:
            raise UsageError(f"{data} has no labels; the supervised stage needs them")
        model = classifier(stack_of(hidden, draw), len(train.classes))
        model = model if below is None else started_from(model, {"encoder": unroll(layers(below))["encoder"]})
    return fit(model, splits, lr, batch_size, steps, seed, monitor=monitor, optimizer=chosen, parent=below)


def layer(below: Parent | None, rate: float, hidden: tuple[int, ...], shape: tuple[int, ...], draw):
    """The next layer: a tied denoising autoencoder of the codes of the layer below, which lie in [0, 1]."""
    i = 0 if below is None else len(layers(below))
    if i == len(hidden):
        raise UsageError(
            f"the parent has all {i} layers of --hidden; go on with --stage supervised, or name more widths"
        )
    seen = shape if i == 0 else (hidden[i - 1],)
    net = {"kernel_init": draw}
    encoder, decoder = MLP((), hidden[i], out_activation=jax.nn.sigmoid, **net), MLP((), seen, **net)
    upper = autoencoder(encoder, decoder, bernoulli(), corrupt=masking(rate), tied=True)
    return upper if below is None else on_top_of(below, upper)


def stack_of(hidden: tuple[int, ...], draw) -> MLP:
    """All layers as one encoder."""
    return MLP(hidden[:-1], hidden[-1], jax.nn.sigmoid, jax.nn.sigmoid, kernel_init=draw)


def uniform(scale: float):
    def draw(key, shape, dtype=jnp.float32):
        bound = scale / math.sqrt(max(shape))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw
