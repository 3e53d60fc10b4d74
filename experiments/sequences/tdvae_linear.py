"""TD-VAE (Gregor et al. 2019) of linear-Gaussian sequences, whose exact likelihood is known: the sequential objective from random
weights.

aejax train tdvae_linear
1 busy CPU core, 49 to 58 s. The bound of test sequences is 2.601 ± .003 nats per step over 3 seeds; -log p, estimated with 50
draws of each step's state, is 2.588 ± .001. The Kalman filter, which is exact, has 2.579. With --lr 2e-3 the bound is 2.643 ±
.010.
"""

from aejax import Experiment, fit, load, usual_splits
from aejax.models import tdvae
from aejax.nets import GRU, MLP, Beliefs, Gated
from aejax.objective import full_rank, gaussian_learned
from aejax.objective.time_gaps import uniform


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
    """A TD-VAE whose distributions of states are Gaussians with any covariance.

    Args:
        data: Name of a data set of sequences of real numbers (linear_gaussian, oscillator), or path of a .npz whose x is
            [n, t, ...].
        latent: Dimensions of the state. For correlated noise it needs as many dimensions more than the true state as a frame
            has numbers.
        channels: Width of the recurrent net over frames, and of the maps between states.
        gap: Shortest and longest jump in training; one step is the sequential objective.
        pairs: Jumps per sequence and step.
    """
    train, *_ = splits = load(data, usual_splits(data))
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
    return fit(model, splits, lr, batch_size, steps, seed, monitor="nelbo")
