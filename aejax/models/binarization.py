"""Gray values as probabilities of black and white: any model, trained and evaluated on bits drawn from gray images.

    x ∈ [0, 1] ──B(x)──▶ bits ∈ {0, 1} ──▶ the model

For bits, a Bernoulli likelihood is a proper likelihood; for gray values it is only a cross-entropy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Int, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.types import Axis, Batch, DataContract, Extras, Latent, Model, Objective, Params, Temporal


@described
def binarized(model: Model, seed: int | Int[Array, ""] | None = None) -> Model:
    """`model` on binarized images: each pixel is 1 with its gray value as the probability.

    Without a seed, training draws new bits at every presentation of an example (dynamic binarization, Salakhutdinov & Murray
    2008), from the step's key. With a seed, an example always has the same bits (static binarization). They are a function of
    the seed and the example's gray values, and do not depend on step, batch, split or data set. Two examples with equal gray
    values have equal bits.

    Outside training the bits are always static (those of seed 0 if there is no seed), so all estimates of all runs refer to the
    same bits, however many keys they use. A data-dependent initialization sees the same bits. Derivatives with respect to `x`
    are those at the bits. The model's `check` admits data in [0, 1]; the wrapped model's own check is applied to the bits.

    Args:
        model: Model of data that are 0 or 1.
        seed: Seed of static binarization; None for dynamic binarization.

    Returns:
        A `Model`.

    Example:
        >>> from aejax.models import vae
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> model = binarized(vae(MLP((64,), 2 * 8), MLP((64,), (4, 4, 1)), bernoulli(), latent=8, shape=(4, 4, 1)))
        >>> batch = {"x": jnp.full((2, 4, 4, 1), 0.5), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.encode)(params, extras, batch, jax.random.key(1)).shape
        (2, 8)
    """
    fixed = 0 if seed is None else seed

    def observe(x: Any) -> Array:
        x = jnp.asarray(x)
        if x.dtype == jnp.bool_:  # these are bits
            return x.astype(jnp.float32)
        return _bits(keys_of_content(fixed, x), x)

    def once(batch: Batch) -> Batch:
        """A batch for sampling or decoding may lack x; a condition may be part of x."""
        return {**batch, "x": observe(batch["x"])} if "x" in batch else batch

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        return model.init(key, once(batch))

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        if seed is not None:
            return model.loss(params, extras, once(batch), key, step, axis)
        k_bits, k_model = jax.random.split(key)
        seen = {**batch, "x": _bits(each(k_bits, batch["index"]), batch["x"])}
        return model.loss(params, extras, seen, k_model, step, axis)

    def check(x: np.ndarray, where: str) -> None:
        low, high = float(np.min(x)), float(np.max(x))
        if not (low >= 0.0 and high <= 1.0):
            raise UsageError(
                f"binarized() takes gray values in [0, 1] for probabilities, but {where} spans [{low:g}, {high:g}]; "
                "scale the data"
            )
        if model.data.check is not None:
            model.data.check((x > 0.5).astype(x.dtype), f"{where}, binarized")

    def on_bits(f: Any) -> Any:
        """A function `(params, extras, batch, …)` of the model, applied to bits; None if the model lacks it."""
        return None if f is None else lambda params, extras, batch, *rest: f(params, extras, once(batch), *rest)

    decode, latent, discrete, sequence, sparse = (
        model.decode,
        model.latent,
        model.discrete,
        model.sequence,
        model.sparse,
    )
    condition, count = model.data.condition, model.data.num_discrete_dims
    return Model(
        init=init,
        loss=loss,
        evaluate=on_bits(model.evaluate),
        encode=on_bits(model.encode),
        decode=None if decode is None else lambda params, extras, z, batch: decode(params, extras, z, once(batch)),
        reconstruct=on_bits(model.reconstruct),
        sample=on_bits(model.sample),
        data=DataContract(
            check=check,
            corrupt=model.data.corrupt,
            condition=None if condition is None else lambda batch: condition(once(batch)),
            num_discrete_dims=None if count is None else lambda x: count((x > 0.5).astype(x.dtype)),
            observe=observe,
        ),
        latent=None if latent is None else Latent(*map(on_bits, latent)),
        discrete=None if discrete is None else discrete._replace(codes=on_bits(discrete.codes)),
        sequence=None if sequence is None else Temporal(*map(on_bits, sequence)),
        sparse=None if sparse is None else sparse._replace(active=on_bits(sparse.active)),
    )


def _bits(keys: Key[Array, " b"], x: Float[Array, " b *shape"]) -> Float[Array, " b *shape"]:
    """One draw of B(x) per key, with x rounded to 1/65536; its derivative with respect to x is one."""
    rows = x.reshape(x.shape[0], -1)
    d = rows.shape[1]
    # Sixteen random bits per value, two values per word: a fifth of the time of jax.random.bernoulli on CPU.
    counts = jnp.arange(2 * ((d + 3) // 4), dtype=jnp.uint32)
    words = jax.vmap(threefry_2x32, (0, None))(jax.random.key_data(keys), counts)
    halves = jnp.concatenate([words >> 16, words & 0xFFFF], axis=1)[:, :d]
    white = halves.astype(jnp.float32) + 0.5 < 65536 * rows  # always 1 for x = 1, never for x = 0
    bits = jax.lax.stop_gradient(white.astype(x.dtype).reshape(x.shape))
    return bits + (x - jax.lax.stop_gradient(x))


def keys_of_content(seed: int | Int[Array, ""], x: Float[Array, " b *shape"]) -> Key[Array, " b"]:
    """One key per example, a function of the seed and the values of x only."""
    values = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32).reshape(x.shape[0], -1)
    places = jnp.broadcast_to(jnp.arange(values.shape[1], dtype=jnp.uint32), values.shape)
    # A sum of random integers, one per value and position: integer sums do not depend on their order.
    seeded = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
    hashed = threefry_2x32(seeded, jnp.stack([values, places])).sum(axis=-1, dtype=jnp.uint32)  # [2, b]
    return jax.random.wrap_key_data(hashed.T, impl="threefry2x32")
