"""Vector-quantized autoencoder (van den Oord et al. 2017), and other quantizers in its place, on gray images
and on signals.

aejax train experiments/vqvae.py
1 CPU core, busy otherwise too, 47 to 84 s: mean squared error of test digits .0050 ± .0004 over 3 seeds from 16 codes of 64,
all of which are used, with a perplexity of 55.1 ± 1.3; the whole bound, with a uniform prior of the codes, is 2.83 ± .03 bits a
pixel. Logistic regression on the codes' vectors 96.0 ± .5 %, on pixels 96.9.

aejax train experiments/vqvae.py --expire 0
Started by k-means, so few codes use all of them without help: 64 of 64 in every one of 3 seeds, 2.84 ± .01 bits a pixel.

aejax train experiments/vqvae.py --data fashion_mnist --levels 256 --codes 512 --hidden 16 32 --steps 1000
1 busy CPU core, 38 ± 2 s: mean squared error of test images .0106 ± .0003 over 3 seeds from 49 codes of 512, all of which are
used, with a perplexity of 359 ± 16; the bound is 4.106 ± .009 bits a pixel. Without expiry 61.5 ± 5.6 % are used, with 111 ± 15,
and 4.144 ± .020 bits. The other quantizers stand beside in README.md (results/quantizers.py).

aejax train experiments/vqvae.py --data waveforms --levels 256 --hidden 32 32 32 --steps 400
1 CPU core, busy otherwise too, 130 s: mean squared error of test signals .0026 from 64 codes of 64 in time, 63 of which are used,
with a perplexity of 45; the bound is 5.94 bits a sample. One seed, so its ± is not known. Logistic regression on the codes'
vectors tells the instruments apart in 96.5 %, on samples in 41.5.
"""

from typing import Literal

import optax

from aejax.data import load
from aejax.models import vqvae
from aejax.nets import ConvDecoder, ConvEncoder
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import discretized_logistic
from aejax.objective.quantizers import grouped, lookup_free, nearest, residual
from aejax.types import Experiment

QUANTIZERS = {
    "ema": lambda codes, width, expire: nearest(codes, width, expire=expire),
    "gradient": lambda codes, width, expire: nearest(codes, width, decay=None),
    "rotation": lambda codes, width, expire: nearest(codes, width, expire=expire, rotation=True),
    "cosine": lambda codes, width, expire: nearest(codes, width, expire=expire, cosine=True),
    "residual": lambda codes, width, expire: residual([nearest(codes, width, expire=expire)] * 2),
    "grouped": lambda codes, width, expire: grouped([nearest(codes, width // 2, expire=expire)] * 2),
    "lookup_free": lambda codes, width, expire: lookup_free((codes - 1).bit_length()),
}


def experiment(
    data: str = "digits",
    levels: int = 17,
    quantizer: Literal["ema", "gradient", "rotation", "cosine", "residual", "grouped", "lookup_free"] = "ema",
    codes: int = 64,
    width: int = 32,
    expire: float = 0.1,
    rate: float = 0.0,
    hidden: tuple[int, ...] = (32,),
    blocks: int = 1,
    lr: float = 1e-3,
    batch_size: int = 64,
    steps: int = 2_000,
    seed: int = 0,
) -> Experiment:
    """A convolutional autoencoder whose code is integers, one vector's for each position.

    Args:
        data: Name of a data set of images (digits, fashion_mnist, any of TFDS) or signals (waveforms), or path of a folder of
            images, .npy or .npz.
        levels: Gray values in the data: 17 of digits, 256 of most.
        quantizer: How vectors become integers; lookup_free has a bit for each number, as few as give so many
            codes. fsq.py has finite scalars.
        codes: K, of each book.
        width: Numbers in a vector.
        expire: Codes with less than this fraction of their fair share are replaced; 0 leaves them dead.
        rate: Fraction of the pixels that the encoder sees masked (a denoising VQ-VAE); 0 for none.
        hidden: Channels after each of the encoder's convolutions, which halve the image or signal; the decoder mirrors them.
        blocks: Residual blocks at the smallest size, in encoder and decoder each.
        lr: Peak learning rate of Adam; it falls to zero on a cosine.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Of initialization, order of the examples and replaced codes.
    """
    train, validation, test = load(data, ("train[:90%]", "train[90%:]", "test"))
    q = QUANTIZERS[quantizer](codes, width, expire)
    likelihood = discretized_logistic(levels)
    signal = len(train.shape) == 2
    encoder = ConvEncoder(hidden, q.width, spatial=True, blocks=blocks, signal=signal)
    decoder = ConvDecoder(hidden[::-1], (*train.shape, likelihood.width), blocks=blocks, signal=signal)
    noise = None if isinstance(rate, float) and rate == 0.0 else masking(rate)
    return Experiment(
        model=vqvae(encoder, decoder, likelihood, q, train.shape, corrupt=noise),
        optimizer=optax.adam(optax.cosine_decay_schedule(lr, steps)),
        train=train,
        validation=validation,
        test=test,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        monitor="nelbo",
    )
