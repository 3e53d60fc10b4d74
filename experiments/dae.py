"""Denoising autoencoder (Vincent et al. 2008): an exact count of components is set to zero, the clean x is restored.

aejax train experiments/dae.py
2 CPU cores, 6 s: restores test digits masked by 30 % to an MSE of .0131 ± .0006 over 5 seeds; the optimal linear denoiser
.0264, PCA with as many components .0573, the corrupted input .0706.

aejax train experiments/dae.py --data fashion_mnist --hidden 1024 --latent 256 --steps 12000
2 CPU cores, 159 s: .00786 ± .00001 over 5 seeds, 1.58 times better than the optimal linear denoiser's .01245. Logistic
regression on the codes 85.9 ± .2 %, on 256 principal components 82.3, on raw pixels 83.4 (10 000 training examples).

What the code keeps is bought with fidelity: trained on images with 30 % of their ink missing, the model brightens clean ones
(MSE .0226 on Fashion-MNIST, where the plain autoencoder has .0024). Vincent et al. report test errors of classifiers that
are fine-tuned from stacks of these; no number of theirs compares with one here.
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
    rate: float = 0.3,
    hidden: tuple[int, ...] = (512,),
    latent: int = 32,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A denoising autoencoder with exact-count masking.

    Args:
        data: Name of a data set (digits, fashion_mnist, any of TFDS) or path of a .npy, .npz or folder of images.
        rate: Fraction of the components set to zero, afresh for each example at each presentation.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent: Number of components of the code.
        dtype: Of the layers' arithmetic; parameters, code and likelihood stay float32. bfloat16 is for accelerators.
        remat: Recompute activations for the gradient instead of keeping them: for nets too deep for the memory.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the examples and corruption.
    """
    train, validation, test = load(data, ("train[:90%]", "train[90%:]", "test"))
    net = partial(MLP, dtype=jnp.dtype(dtype), remat=remat)
    model = autoencoder(net(hidden, latent), net(hidden[::-1], train.shape), bernoulli(), corrupt=masking(rate))
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
        monitor="denoising_nll",
    )
