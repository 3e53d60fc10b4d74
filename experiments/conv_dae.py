"""Convolutional denoising autoencoder (Vincent et al. 2008, in the nets of van den Oord et al. 2017), on images of any size.

aejax train experiments/conv_dae.py --steps 300
2 CPU cores, 11 s: restores test digits masked by 30 % to an MSE of .0256 ± .0008 over 3 seeds.

The corruption and the size of the code are those of experiments/dae.py, whose nets are MLPs: the two can be compared.
Digits of 8×8 are halved once; for 28×28 pass --hidden 32 64, for 64×64 --hidden 32 64 128.
"""

from typing import Literal

import jax.numpy as jnp
import optax

from aejax.data import load
from aejax.models import autoencoder
from aejax.nets import ConvDecoder, ConvEncoder
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.types import Experiment

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def experiment(
    data: str = "digits",
    rate: float = 0.3,
    hidden: tuple[int, ...] = (32,),
    blocks: int = 2,
    latent: int = 32,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A convolutional denoising autoencoder with exact-count masking.

    Args:
        data: Name of a data set of images (digits, fashion_mnist, any of TFDS) or path of a folder of images, .npy or .npz.
        rate: Fraction of the components set to zero, afresh for each example at each presentation.
        hidden: Channels after each of the encoder's convolutions, which halve the image; the decoder mirrors them.
        blocks: Residual blocks at the smallest size, in encoder and decoder each.
        latent: Number of components of the code.
        dtype: Of the layers' arithmetic; parameters, code and likelihood stay float32. bfloat16 is for accelerators.
        remat: Recompute activations for the gradient instead of keeping them: for nets too deep for the memory.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the examples and corruption.
    """
    train, validation, test = load(data, ("train[:90%]", "train[90%:]", "test"))
    net = {"blocks": blocks, "dtype": jnp.dtype(dtype), "remat": remat}
    encoder, decoder = ConvEncoder(hidden, latent, **net), ConvDecoder(hidden[::-1], train.shape, **net)
    return Experiment(
        model=autoencoder(encoder, decoder, bernoulli(), corrupt=masking(rate)),
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
