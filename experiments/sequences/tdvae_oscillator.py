"""TD-VAE (Gregor et al. 2019, §5.2) of noisy oscillations of 200 steps: jumps of 20 and of 100 steps at once.

aejax train tdvae_oscillator
2 busy CPU cores, about half of one core used, 199 to 264 s. The error of the phase after a jump of 20 steps is .156 ± .012 rad
over 3 seeds, and after a jump of 100 steps .301 ± .032; an extrapolation by the mean frequency has 1.04 and 1.49. The error is
that of one sampled future, measured by results/sequences.py, which continues from 80 frames and fits a phase to 16 jumps of 20
to 35, or of 100 to 115 steps.

What is needed for that, by one seed each on 500 test sequences (chance has 1.57), after jumps of 20 steps:
a gated map of state and gap, 1000 steps: 1.73, although mean states and their squares give the frequency to .035 rad per step
a state that rotates with its own speed, whose correction sees the gap, 3000 steps: 1.64, with the frequency known to .001
the same, with a correction that does not see the gap, 500 steps: .49; after 2500 steps .18, and .60 after a jump of 100
as here, with long jumps only after .4 of 3000 steps: .14 and .28; with long jumps from the start, after 500 steps: 1.63
"""

import flax.linen as nn

from aejax import Experiment, fit, load, usual_splits
from aejax.models import tdvae
from aejax.nets import GRU, MLP, Beliefs, Gated, OscillatorTransition
from aejax.objective import gaussian
from aejax.objective.time_gaps import growing, mixed, uniform


def experiment(
    data: str = "oscillator",
    latent: int = 6,
    channels: int = 64,
    pairs: int = 64,
    window: int = 0,
    remat: bool = False,
    near: float = 0.4,
    lr: float = 8e-3,
    batch_size: int = 32,
    steps: int = 3_000,
    seed: int = 0,
) -> Experiment:
    """A TD-VAE with jumps of 1 to 10 steps, and in a fifth of the cases of up to 120.

    Args:
        data: Name of a data set of sequences of at least 120 frames of real numbers, or path of a .npz whose x is [n, t, ...].
        latent: Dimensions of the state, two thirds of which rotate at its speed.
        channels: Width of the recurrent net over frames, and of the maps between states.
        pairs: Jumps per sequence and step.
        window: Frames of each sequence per step, from a random start; 0 for all.
        remat: Recompute most activations of the recurrent net for the gradient, to save memory.
        near: Fraction of the steps with jumps of at most 10. Longer jumps are then phased in over as many steps.
    """
    train, *_ = splits = load(data, usual_splits(data))
    gap = growing(
        uniform(1, 10), mixed([(0.8, (1, 10)), (0.2, (1, 120))]), round(near * steps), round(2 * near * steps)
    )

    def onward(back):
        net = Gated(channels, 2 * latent, last_init=nn.initializers.zeros)
        return OscillatorTransition(net, latent, latent // 3, most=gap.most, unit=0.1, back=back)

    model = tdvae(
        Beliefs(MLP((), 3 * channels), GRU(channels), remat=remat),
        Gated(channels, 2 * latent),
        onward(back=True),
        onward(back=False),
        MLP((channels,), train.shape[1:]),
        gaussian(0.1),
        latent,
        train.shape,
        gap=gap,
        pairs=pairs,
        window=window or None,
    )
    return fit(model, splits, lr, batch_size, steps, seed, monitor="nelbo")
