"""A learned prior over the codes of a trained vector-quantized autoencoder, from which images are sampled (van den Oord et al.
2017, §3.2; Razavi et al. 2019, §3.2).

    p(codes) = p(top) … p(level 0 | levels above),   each level autoregressive in reading order

It is a run of its own whose parent is the autoencoder's run. The parent is kept frozen in the extras, so one checkpoint is
enough to sample images. −log p(codes) replaces the uniform prior's Σ log K, and `nelbo` is the complete bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.collections import with_collections
from aejax.models.parent_codes import as_map, discrete_of, levels_of, shapes_of
from aejax.nets import PixelCNN
from aejax.nets.causal import sample_codes
from aejax.nets.code import apply, initialized
from aejax.types import Axis, Batch, Condition, DataContract, Extras, Model, Objective, Params, Parent


def code_prior(
    base: Parent, nets: Sequence[PixelCNN], shape: tuple[int, ...], condition: Condition | None = None
) -> Model:
    """Autoregressive prior over the codes of `base`, with one net per level, from level 0 to the top.

    It logs and evaluates `kl`, which is −log p(codes), and `bits_per_code`, its mean over positions and codebooks in bits.
    `distortion` and `mse` are the parent's, and `nelbo` = distortion + kl is an upper bound on −log p(x).

    Args:
        base: A finished run of a model with `codes`, see `aejax.runs.opening.open_parent`.
        nets: One net per level, see `nets_for`.
        shape: Shape of one example.
        condition: batch -> [b, n]; for labels `jax.nn.one_hot(batch["label"], n)`.

    Returns:
        A `Model`.

    Raises:
        UsageError: `base` has no codes, or the nets do not match its levels.

    Example:
        >>> from aejax.models import vqvae
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, nearest
        >>> below = vqvae(MLP((16,), 8), MLP((16,), (4, 4, 1)), bernoulli(), nearest(16, 8), (4, 4, 1))
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> base = Parent("runs/vqvae", "", below, *jax.jit(below.init)(jax.random.key(0), batch), {})
        >>> model = code_prior(base, nets_for(base, (4, 4, 1), channels=8, layers=1), (4, 4, 1))
        >>> params, extras = jax.jit(model.init)(jax.random.key(1), batch)
        >>> jax.eval_shape(model.sample, params, extras, batch, jax.random.key(2)).shape
        (2, 4, 4, 1)
    """
    lower, discrete = base.model, discrete_of(base)
    sizes = levels_of(base)
    if len(nets) != len(sizes) or any(net.sizes != of_level for net, of_level in zip(nets, sizes)):
        raise UsageError(
            f"code_prior() needs a net for each level of {base.directory}, of codes {sizes}; use nets_for()"
        )
    names = [f"level_{i}" for i in range(len(nets))]

    def frozen(extras: Extras) -> tuple[Params, Extras]:
        return extras["base"]["params"], extras["base"]["extras"]

    def codes_of(extras: Extras, batch: Batch, key: Key[Array, ""]) -> list[Array]:
        """The codes of each level as maps, [b, h, w, codebooks]."""
        codes = discrete.codes(*frozen(extras), batch, key)
        return [as_map(level) for level in (codes if isinstance(codes, tuple) else (codes,))]

    def given(batch: Batch) -> Array | None:
        if condition is None:
            return None
        try:
            return condition(batch)
        except KeyError as missing:
            raise UsageError(
                f"the prior's condition needs {missing}, which the examples do not have; to sample use --label or --given"
            ) from None

    def above(codes: Sequence[Array], i: int) -> Array | None:
        return codes[i + 1] if i + 1 < len(nets) else None

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        extras = {"base": {"params": base.params, "extras": base.extras}}
        codes, label = codes_of(extras, batch, key), given(batch)
        keys = jax.random.split(key, len(nets))
        params = {
            name: initialized(net, k, codes[i], label, above(codes, i))[1]
            for i, (name, net, k) in enumerate(zip(names, nets, keys))
        }
        return params, extras

    def neg_log_prob(params: Params, codes: Sequence[Array], label: Array | None) -> tuple[Array, int]:
        """−log p of the codes [b], and the number of codes."""
        nll = jnp.zeros(len(codes[0]))
        for i, (name, net) in enumerate(zip(names, nets)):
            logits = apply(net, params[name], codes[i], label, above(codes, i))
            for book, of_book in enumerate(logits):
                nll = nll + cross_entropy(of_book, codes[i][..., book])
        return nll, sum(math.prod(level.shape[1:]) for level in codes)

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        codes = jax.lax.stop_gradient(codes_of(extras, batch, key))
        kl, count = neg_log_prob(params, codes, given(batch))
        means = {"kl": jnp.mean(kl), "bits_per_code": jnp.mean(kl) / (count * math.log(2))}
        return means["kl"], (extras, means)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        of_base = lower.evaluate(*frozen(extras), batch, key)
        kl, count = neg_log_prob(params, codes_of(extras, batch, key), given(batch))
        return {
            "distortion": of_base["distortion"],
            "kl": kl,
            "nelbo": of_base["distortion"] + kl,
            "mse": of_base["mse"],
            "bits_per_code": kl / (count * math.log(2)),
        }

    def sample(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        """Draws the codes from the top level down, and decodes them."""
        label = given(batch)
        codes: list[Array] = []
        for i, k in reversed(list(enumerate(jax.random.split(key, len(nets))))):
            keys, upper = each(k, batch["index"]), codes[0] if codes else None
            codes.insert(0, sample_codes(nets[i], params[names[i]], keys, label, upper))
        drawn = [level.reshape(-1, *like) for level, like in zip(codes, shapes_of(base, shape))]
        assert lower.decode is not None  # models with codes have `decode`
        return lower.decode(*frozen(extras), tuple(drawn) if len(drawn) > 1 else drawn[0], batch)

    def of_base(name: str) -> Any:
        f = lower.function(name)
        return None if f is None else lambda params, extras, *rest: f(*frozen(extras), *rest)

    return with_collections(
        Model(
            init=init,
            loss=loss,
            evaluate=evaluate,
            encode=of_base("encode"),
            decode=of_base("decode"),
            reconstruct=of_base("reconstruct"),
            sample=sample,
            data=DataContract(
                check=lower.data.check,
                condition=None if condition is None else given,
                num_discrete_dims=lower.data.num_discrete_dims,
            ),
            discrete=discrete._replace(codes=of_base("codes")),
        )
    )


def cross_entropy(logits: Float[Array, "b h w k"], codes: Int[Array, "b h w"]) -> Float[Array, " b"]:
    """−log p of the codes, summed over positions."""
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], axis=-1)
    return jnp.sum(nll, axis=(1, 2, 3))
