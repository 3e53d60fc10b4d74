"""The image autoencoder of latent diffusion, without perceptual and adversarial terms (Rombach et al. 2022).

aejax train kl_autoencoder
2 CPU cores, 20 s. Test digits are reconstructed with an MSE of .0023 ± .0002 and a KL term of 430 ± 56 nats over 3 seeds: 4×4×4
numbers for 8×8, hardly compressed.

aejax train kl_autoencoder --data photos/ --image-size 256 --image-channels 3 --widths 128 256 512 512 --layers 2 --groups 32
"""

from typing import Literal

import jax.numpy as jnp

from aejax import Experiment, fit, load, usual_splits
from aejax.models import kl_autoencoder
from aejax.nets import KLDecoder, KLEncoder


def experiment(
    data: str = "digits",
    widths: tuple[int, ...] = (16, 32),
    latent: int = 4,
    layers: int = 1,
    groups: int = 8,
    attention: bool = True,
    kl_weight: float = 1e-6,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 64,
    steps: int = 1_000,
    seed: int = 0,
) -> Experiment:
    """An autoencoder with spatial latents, trained with the absolute error and a small KL term.

    Args:
        widths: Channels of each level; all levels but the last halve the image.
        latent: Channels of the latents.
        layers: Residual blocks of a level of the encoder; the decoder has one more.
        groups: Groups of channels for group normalization.
        attention: Whether the middle has attention over all positions.
        kl_weight: Weight of the KL term.
    """
    train, *_ = splits = load(data, usual_splits(data))
    net = {"layers": layers, "groups": groups, "attention": attention, "dtype": jnp.dtype(dtype), "remat": remat}
    channels = train.shape[-1]
    encoder, decoder = KLEncoder(widths, latent, **net), KLDecoder(widths, channels, **net)
    return fit(kl_autoencoder(encoder, decoder, train.shape, kl_weight), splits, lr, batch_size, steps, seed)
