"""Denoising autoencoder (Vincent et al. 2008): an exact number of components is set to zero, and the clean input is restored.

aejax train dae
2 CPU cores, 6 s. Restores test digits masked by 30 % with an MSE of .0131 ± .0006 over 5 seeds. The optimal linear denoiser has
.0264, PCA with as many components .0573, the corrupted input .0706.

aejax train dae --data fashion_mnist --hidden 1024 --latent 256 --steps 12000
2 CPU cores, 159 s. MSE .00786 ± .00001 over 5 seeds, 1.58 times better than the optimal linear denoiser (.01245). Logistic
regression on the codes 85.9 ± .2 %, on 256 principal components 82.3 %, on raw pixels 83.4 % (10 000 training examples).

The codes carry more label information, but clean reconstructions get worse: the model expects 30 % of the ink to be missing and
brightens clean images (MSE .0226 on Fashion-MNIST, against .0024 of the plain autoencoder). Vincent et al. report test errors
of classifiers that are fine-tuned from stacks of these, so no number of theirs compares.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp

from aejax import Experiment, fit, load, usual_splits
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import LikelihoodName, likelihood_for, masking


def experiment(
    data: str = "digits",
    rate: float = 0.3,
    hidden: tuple[int, ...] = (512,),
    latent: int = 32,
    likelihood: LikelihoodName = "bernoulli",
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A denoising autoencoder with exact-count masking."""
    train, *_ = splits = load(data, usual_splits(data))
    observation = likelihood_for(train, likelihood)
    net = partial(MLP, dtype=jnp.dtype(dtype), remat=remat)
    model = autoencoder(
        net(hidden, latent), net(hidden[::-1], (*train.shape, observation.width)), observation, corrupt=masking(rate)
    )
    return fit(model, splits, lr, batch_size, steps, seed, sweep=masking, monitor="denoising_nll")
