# A family of one's own, whose net has batch normalization and dropout, on two devices; and mistakes that are named.
cat > family.py <<'PY'
"""An autoencoder whose code is a point on the sphere."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax import Experiment, fit, load, usual_splits
from aejax.models import with_collections
from aejax.nets import MLP
from aejax.nets.code import apply, initialized
from aejax.types import Model


class Encoder(nn.Module):
    latent: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(32)(x.reshape(x.shape[0], -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(self.latent)(nn.Dropout(0.1, deterministic=not train)(x))


def spherical(encoder, decoder):
    def init(key, batch):
        k_encoder, k_decoder = jax.random.split(key)
        h, of_encoder = initialized(encoder, k_encoder, batch["x"])
        _, of_decoder = initialized(decoder, k_decoder, h)
        return {"encoder": of_encoder, "decoder": of_decoder}, {}

    def encode(params, extras, batch, key):
        h = apply(encoder, params["encoder"], batch["x"])
        return h / jnp.linalg.norm(h, axis=1, keepdims=True)

    def decode(params, extras, z, batch):
        return apply(decoder, params["decoder"], z)

    def evaluate(params, extras, batch, key):
        x_hat = decode(params, extras, encode(params, extras, batch, key), batch)
        return {"nll": jnp.sum((x_hat - batch["x"]) ** 2, axis=(1, 2, 3))}

    def loss(params, extras, batch, key, step, axis):
        nll = jnp.mean(evaluate(params, extras, batch, key)["nll"])
        return nll, (extras, {"nll": nll})

    reconstruct = lambda params, extras, batch, key: decode(params, extras, encode(params, extras, batch, key), batch)
    return with_collections(Model(init, loss, evaluate, encode, decode, reconstruct))


def experiment(data: str = "digits", latent: int = 4, batch_size: int = 32, steps: int = 60, seed: int = 0) -> Experiment:
    train, *_ = splits = load(data, usual_splits(data))
    return fit(spherical(Encoder(latent), MLP((32,), train.shape)), splits, 1e-3, batch_size, steps, seed)
PY
aejax train family.py --devices 2 --run runs/sphere
aejax verify runs/sphere | grep -q "same digest"
sed 's/return {"nll": jnp.sum((x_hat - batch\["x"\]) \*\* 2, axis=(1, 2, 3))}/return {"nll": jnp.mean((x_hat - batch["x"]) ** 2)}/' family.py > wrong.py
aejax train wrong.py --run runs/wrong 2> message || true
grep -q "evaluate" message
test ! -d runs/wrong
