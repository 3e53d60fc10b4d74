"""k-sparse autoencoders (Makhzani & Frey 2013): a linear layer with tied weights, of which each example keeps the k largest
units in training, and α·k of them afterwards.

aejax train ksparse
2 CPU cores, 13 s. With 10 of 256 units, test digits are reconstructed with an MSE of .0086 ± .0001 over 3 seeds; 168 ± 2 units
are never used. Logistic regression on the codes has 98.1 ± .4 % accuracy, on raw pixels 96.9 %.

The effect of k and α on a classifier of the codes, with α chosen from 1, 1.5, 2 and 3 on the validation split:

    python experiments/results/ksparse.py

| k | α | test error, % | MSE | unused of 256 |
|---|---|---|---|---|
| 2 | 2 | 4.55 ± 1.13 | .0514 | 194 |
| 5 | 1.5 | 1.58 ± .58 | .0134 | 171 |
| 10 | 1 | 1.86 ± .43 | .0086 | 168 |
| 25 | 1 | 3.34 ± .28 | .0024 | 171 |
| 50 | 1.5 | 4.09 ± .43 | .0053 | 93 |
| raw pixels | | 3.06 | | |

Mean ± sd over 3 seeds on 359 test digits; the MSE is that of αk units. With only 144 validation digits the choice of α is
uncertain: on the test digits, no chosen α differs from α = 1 by more than the larger of the two standard deviations.
"""

from __future__ import annotations

import optax

from aejax import Experiment, fit
from aejax.data import load, usual_splits
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import LikelihoodName, likelihood_for, masking, nonzero, top_k


def experiment(
    data: str = "digits",
    k: int = 10,
    k_first: int = 100,
    alpha: float = 1.0,
    rate: float = 0.0,
    latent: int = 256,
    likelihood: LikelihoodName = "squared_error",
    lr: float = 1e-2,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A linear map of a few units, trained with the squared error.

    Args:
        k: Number of units that an example keeps, from the middle of training on.
        k_first: Number of units at the first step, from which k is reached linearly. All units, as many as latent, leaves the
            fewest dead.
        alpha: Outside training alpha·k units are kept; training does not depend on it.
        latent: Number of units.
        lr: Peak learning rate of Adam; it decays to zero on a cosine. On larger images such a high rate kills many units.
    """
    train, *_ = splits = load(data, usual_splits(data))
    observation = likelihood_for(train, likelihood)
    model = autoencoder(
        MLP((), latent),
        MLP((), (*train.shape, observation.width)),
        observation,
        corrupt=masking(rate),
        bottleneck=top_k(optax.linear_schedule(max(k_first, k), k, max(1, steps // 2)), alpha),
        tied=True,
        active=nonzero,
    )
    return fit(model, splits, lr, batch_size, steps, seed, sweep=masking, monitor="denoising_nll")
