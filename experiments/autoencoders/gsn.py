"""Generative stochastic network (Bengio, Yao, Alain & Vincent 2013): sampling from a denoising autoencoder's Markov chain, with
walkback.

`aejax sample RUN OUT.npy --n N` draws from the chain of a run:

    aejax train gsn --rate 0.1 --walkback 5

One command makes the table of what walkback changes, and continues where it was stopped:

    python experiments/results/gsn.py

2 CPU cores (processor time), 333 s. Digits, mean ± sd over 3 seeds: nats of a test image given its corruption at this rate,
distance of a sample to the nearest training image, of a test image to the nearest sample, and total variation between the
labels' distributions:

    test images                            1.058            1.058
    a Gaussian with their moments          1.628 ± .005     1.553 ± .005     .084 ± .003
    rate .1, walkback 1  16.22 ± .01       1.350 ± .003     1.570 ± .015     .368 ± .008
    rate .1, walkback 5  17.31 ± .04       1.267 ± .008     1.287 ± .005     .244 ± .016
    rate .3, walkback 1  18.91 ± .10       1.161 ± .008     1.204 ± .003     .167 ± .003
    rate .3, walkback 5  20.09 ± .08       1.463 ± .002     1.465 ± .014     .617 ± .006

With little corruption the plain chain stays among strokes that are no digits. Walkback brings it back to digits, though blurred
ones, and denoising gets worse. More corruption does the same, and better. With both, the chain forgets the digit it started
from: most samples are the mean image, because p(x|x̃) is a product over pixels and can only give the mean of many candidates.
On a finite state space, where p(x|x̃) can be any distribution, the stationary distribution is within .003 of the data's in
total variation, with and without walkback (`tests/test_gsn.py`). Labels are closest to their distribution in the Gaussian's
draws, which look least like digits. A sample is the mean of p(x|x̃) and therefore smoother than an image, which shortens its
distance. No log-density is estimated, since Parzen's estimate is biased.
"""

from __future__ import annotations

from aejax import Experiment, fit, load, usual_splits
from aejax.models import gsn
from aejax.nets import MLP
from aejax.objective import bernoulli, salt_and_pepper


def experiment(
    data: str = "digits",
    rate: float = 0.3,
    walkback: int = 1,
    hidden: tuple[int, ...] = (512,),
    latent: int = 64,
    lr: float = 1e-3,
    batch_size: int = 128,
    steps: int = 3_000,
    seed: int = 0,
    burn_in: int = 100,
) -> Experiment:
    """A denoising autoencoder with salt-and-pepper noise, and its Markov chain.

    Args:
        rate: Fraction of the components set to 0 or 1 at each step of the chain.
        walkback: Steps of the chain in training, from each image; 1 is the denoising autoencoder.
        burn_in: Steps of the chain before a sample is taken.
    """
    train, *_ = splits = load(data, usual_splits(data))
    nets = MLP(hidden, latent), MLP(hidden[::-1], train.shape)
    model = gsn(*nets, bernoulli(), salt_and_pepper(rate), train.shape, walkback, burn_in)
    return fit(
        model,
        splits,
        lr,
        batch_size,
        steps,
        seed,
        sweep={level: salt_and_pepper(level) for level in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},
        monitor="denoising_nll",
    )
