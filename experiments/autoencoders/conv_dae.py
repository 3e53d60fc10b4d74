"""Convolutional denoising autoencoder (Vincent et al. 2008, with the nets of van den Oord et al. 2017), for images of any size.

aejax train conv_dae --steps 300
2 CPU cores, 11 s. Restores test digits masked by 30 % with an MSE of .0256 ± .0008 over 3 seeds.

The corruption and the size of the code are those of dae.py, whose nets are MLPs, so that the two can be compared. Digits of 8×8
are halved once; for 28×28 pass --hidden 32 64, for 64×64 --hidden 32 64 128.
"""

from typing import Literal

import jax.numpy as jnp

from aejax import Experiment, fit, load, usual_splits
from aejax.models import autoencoder
from aejax.nets import ConvDecoder, ConvEncoder
from aejax.objective import LikelihoodName, likelihood_for, masking


def experiment(
    data: str = "digits",
    rate: float = 0.3,
    hidden: tuple[int, ...] = (32,),
    blocks: int = 2,
    latent: int = 32,
    likelihood: LikelihoodName = "bernoulli",
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A convolutional denoising autoencoder of images or signals, with exact-count masking."""
    train, *_ = splits = load(data, usual_splits(data))
    observation = likelihood_for(train, likelihood)
    net = {"blocks": blocks, "dtype": jnp.dtype(dtype), "remat": remat, "signal": len(train.shape) < 3}
    encoder, decoder = (
        ConvEncoder(hidden, latent, **net),
        ConvDecoder(hidden[::-1], (*train.shape, observation.width), **net),
    )
    return fit(
        autoencoder(encoder, decoder, observation, corrupt=masking(rate)),
        splits,
        lr,
        batch_size,
        steps,
        seed,
        sweep=masking,
        monitor="denoising_nll",
    )
