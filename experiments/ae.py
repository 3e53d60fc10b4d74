"""Autoencoder (Hinton & Salakhutdinov 2006): the input through a narrow code and back; what the denoising one is measured by.

aejax train experiments/ae.py
2 CPU cores, 6 s: reconstructs test digits to an MSE of .0031 ± .0001 over 5 seeds, where PCA with as many components has
.0023: 32 numbers for 64 pixels are not narrow.

aejax train experiments/ae.py --data fashion_mnist --hidden 1024 --latent 256 --steps 12000
2 CPU cores, 161 s: .00237 ± .00001 over 5 seeds, PCA .00274. Logistic regression on the codes 84.3 ± .1 %, on 256 principal
components 82.3 (10 000 training examples).

Hinton & Salakhutdinov's own numbers are of MNIST, faces and curves with deeper nets; none compares with one here.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
import optax

from aejax.data import load
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.types import Experiment

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def experiment(
    data: str = "digits",
    hidden: tuple[int, ...] = (512,),
    latent: int = 32,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """An autoencoder without noise; its restoration of masked examples is judged all the same.

    Args:
        data: Name of a data set (digits, fashion_mnist, any of TFDS) or path of a .npy, .npz or folder of images.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent: Number of components of the code.
        dtype: Of the layers' arithmetic; parameters, code and likelihood stay float32. bfloat16 is for accelerators.
        remat: Recompute activations for the gradient instead of keeping them: for nets too deep for the memory.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization and order of the examples.
    """
    train, validation, test = load(data, ("train[:90%]", "train[90%:]", "test"))
    net = partial(MLP, dtype=jnp.dtype(dtype), remat=remat)
    model = autoencoder(net(hidden, latent), net(hidden[::-1], train.shape), bernoulli())
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
    )
