"""Autoencoder of the rows of a table: real numbers with their own standard deviations, and values that are missing.

aejax train tabular --data table.csv --standardize zscore
aejax train tabular --data table.csv --standardize zscore --missing mask
aejax impute RUN table.csv complete.csv

The denoising autoencoder learns to restore masked values from the others, which is what imputation asks for; the variational one
has a density, by which unusual rows are found (`run.score`). Missing values are 0 in the encoder's input, the mean of
standardized data, and are not scored (Nazábal et al. 2020; Mattei & Frellsen 2019).

python experiments/results/tabular.py
Over 5 seeds, the root mean squared error of values that the variational autoencoder imputes is .720 ± .035 on wine, .470 ± .040
on breast cancer and .729 ± .007 on diabetes, in standard deviations of their columns. That of scikit-learn's iterative imputer
is .757 ± .033, .417 ± .016 and .710 ± .033. docs/pages/studies/tabular.md has the other methods and the anomaly scores.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aejax import Experiment, fit, load, usual_splits
from aejax.models import autoencoder, vae
from aejax.nets import MLP
from aejax.objective import LikelihoodName, likelihood_for, masking


class RowEncoder(nn.Module):
    """An MLP of the numbers of a row and, for each, whether it is exactly 0: missing, or masked by the corruption."""

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, x: Float[Array, " b *shape"]) -> Float[Array, "b out"]:
        rows = x.reshape(x.shape[0], -1)
        return MLP(self.hidden, self.out, jax.nn.relu)(jnp.concatenate([rows, (rows == 0).astype(rows.dtype)], axis=1))


def experiment(
    data: str = "digits",
    model: Literal["dae", "vae"] = "dae",
    rate: float = 0.4,
    hidden: tuple[int, ...] = (256,),
    latent: int = 16,
    likelihood: LikelihoodName = "gaussian_learned",
    lr: float = 1e-3,
    batch_size: int = 64,
    steps: int = 3_000,
    seed: int = 0,
) -> Experiment:
    """A denoising or a variational autoencoder of rows of numbers.

    Args:
        model: dae, the denoising autoencoder, or vae, whose encoder also sees masked rows.
        rate: Fraction of the numbers of a row that are masked in training.
    """
    train, *_ = splits = load(data, usual_splits(data))
    observation = likelihood_for(train, likelihood)
    decoder = MLP(hidden[::-1], (*train.shape, observation.width), jax.nn.relu)
    if model == "vae":
        encoder = RowEncoder(hidden, 2 * latent)
        made = vae(encoder, decoder, observation, latent, train.shape, corrupt=masking(rate))
        return fit(made, splits, lr, batch_size, steps, seed, monitor="nelbo")
    encoder = RowEncoder(hidden, latent)
    made = autoencoder(encoder, decoder, observation, corrupt=masking(rate))
    return fit(made, splits, lr, batch_size, steps, seed, sweep=masking, monitor="denoising_nll")
