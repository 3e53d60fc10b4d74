"""TD-VAE (Gregor et al. 2019) of linear-Gaussian sequences, of which the exact likelihood is known: the sequential objective
from random weights.

aejax train experiments/tdvae_linear.py
1 busy CPU core, 49 to 58 s: the bound of test sequences is 2.601 ± .003 nats a step over 3 seeds, -log p by 50 draws of each
step's states 2.588 ± .001; the Kalman filter's, which is exact, 2.579. At --lr 2e-3 2.643 ± .010.
"""

import optax

from aejax.data import load
from aejax.models import tdvae
from aejax.nets import GRU, MLP, Beliefs, Gated
from aejax.objective.likelihoods import gaussian_learned
from aejax.objective.posteriors import full_rank
from aejax.objective.time_gaps import uniform
from aejax.types import Experiment


def experiment(
    data: str = "linear_gaussian",
    latent: int = 4,
    channels: int = 64,
    gap: tuple[int, int] = (1, 1),
    pairs: int = 20,
    lr: float = 8e-3,
    batch_size: int = 64,
    steps: int = 5_000,
    seed: int = 0,
) -> Experiment:
    """A TD-VAE whose distributions of states are Gaussians of any covariance.

    Args:
        data: Name of a data set of sequences of real numbers (linear_gaussian, oscillator), or path of a .npz whose x is
            [n, t, ...].
        latent: Dimensions of the state; as many as numbers in a frame beyond the true state's, for noise that is correlated.
        channels: Of what runs over the frames, and width of the maps between states.
        gap: Shortest and longest jump in training; one step is the sequential objective.
        pairs: Jumps in each sequence of a step.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Sequences in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the sequences, jumps and draws of states.
    """
    train, validation, test = load(data, ("train[:90%]", "train[90%:]", "test"))
    posterior = full_rank()
    likelihood = gaussian_learned()
    width = posterior.width(latent)
    model = tdvae(
        Beliefs(MLP((), 3 * channels), GRU(channels)),
        Gated(channels, width),
        Gated(channels, width),
        Gated(channels, width),
        MLP((), (*train.shape[1:], likelihood.width)),
        likelihood,
        latent,
        train.shape,
        gap=uniform(*gap),
        pairs=pairs,
        posterior=posterior,
    )
    return Experiment(
        model=model,
        optimizer=optax.adam(optax.cosine_decay_schedule(lr, steps)),
        train=train,
        validation=validation,
        test=test,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        monitor="nelbo",
    )
