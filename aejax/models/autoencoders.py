"""The autoencoder and the denoising autoencoder (Vincent et al. 2008; emphasis: Vincent et al. 2010, §3.3).

    x ──corrupt──▶ x̃ ──encoder──▶ h ──bottleneck──▶ z ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + penalties

The reconstruction is always of the *clean* x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.nets import Code
from aejax.nets.code import apply
from aejax.nets.mlp import check_mirror, tie, untie
from aejax.objective.bottlenecks import Bottleneck
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.penalties import Penalty
from aejax.types import Axis, Batch, Corrupt, DataContract, Extras, Init, Model, Objective, Params, Sparse


def identity(h: Array, axis: Axis, step: Any) -> Array:
    """The bottleneck that passes the code as it is."""
    return h


def autoencoder(
    encoder: nn.Module,
    decoder: nn.Module,
    likelihood: Likelihood,
    corrupt: Corrupt | None = None,
    emphasis: tuple[float, float] | None = None,
    bottleneck: Bottleneck = identity,
    penalties: Sequence[Penalty] = (),
    tied: bool = False,
    active: Callable[[Array], Array] | None = None,
) -> Model:
    """An autoencoder; with `corrupt`, a denoising one.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, ...].
        decoder: Linen module, z -> theta [b, *shape of x, likelihood.width]; for width 1 any shape of that size.
        likelihood: of the clean x under theta.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.
        emphasis: (α, β), the loss α Σ_touched ℓ + β Σ_untouched ℓ (Vincent et al. 2010, eq. 10-11); (1, 0) is full
            emphasis. The logged `nll` stays unweighted.
        bottleneck: `(h, axis, step) -> z`, see `aejax.objective.bottlenecks`; the step is None outside training.
        penalties: functions `(f, x, h, keys, axis) -> [b] or []` in nats, see `aejax.objective.penalties`, where `f` is the
            `Code` that maps one example to its h and `x` is what the encoder saw; logged under their `__name__`. One that
            has more to log gives a pair: the term, and {name: [b] or []}.
        tied: the decoder's kernels are the encoder's, transposed; both are then `MLP`s with mirrored widths.
        active: `z -> bool [b, units]`, for a sparse code: which units an example activates, see `aejax.objective.sparsity`.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, masking
        >>> model = autoencoder(MLP((64,), 8), MLP((64,), (28, 28, 1)), bernoulli(), corrupt=masking(0.3))
        >>> batch = {"x": jnp.zeros((2, 28, 28, 1)), "index": jnp.arange(2)}
        >>> params, extras = model.init(jax.random.key(0), batch)
        >>> model.encode(params, extras, batch, jax.random.key(1)).shape
        (2, 8)
    """
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    names = [p.__name__ for p in penalties]
    if len({"loss", "nll", "mse", *names}) < 3 + len(names):
        raise UsageError(f"terms are logged by name, and two share one: loss, nll, mse, {', '.join(names)}; rename one")
    if emphasis is not None and corrupt is None:
        raise UsageError(f"emphasis={emphasis} weighs what a corruption touched; give corrupt= too")
    init, features, theta_of = net(encoder, decoder, likelihood, bottleneck, tied)

    def terms_given(params: Params, x_seen: Array, x: Array, name: str) -> dict[str, Array]:
        """Per example: the nats of x, and the squared error per dimension of the mean, given what the encoder saw."""
        theta = theta_of(params, bottleneck(features(params, x_seen), None, None), x)
        return {
            f"{name}nll": total(likelihood.neg_log_prob(theta, x)),
            f"{name}mse": per_dimension(likelihood.mean(theta), x),
        }

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_penalty = jax.random.split(key)
        x = batch["x"]
        x_tilde, touched = corrupt_batch(noise, k_corrupt, x, batch["index"], step)
        h = features(params, x_tilde)
        theta = theta_of(params, bottleneck(h, axis, step), x)

        nll = likelihood.neg_log_prob(theta, x)
        alpha, beta = (1.0, 1.0) if emphasis is None else emphasis
        objective = total(nll if emphasis is None else jnp.where(touched, alpha, beta) * nll)  # [b]
        terms = {"nll": total(nll), "mse": per_dimension(likelihood.mean(theta), x)}
        f = Code(encoder, params["encoder"])
        for penalty, k in zip(penalties, jax.random.split(k_penalty, len(penalties))):
            penalized = penalty(f, x_tilde, h, each(k, batch["index"]), axis)
            term, logged = penalized if isinstance(penalized, tuple) else (penalized, {})
            terms |= {penalty.__name__: term, **logged}
        means = {name: jnp.mean(term) for name, term in terms.items()}
        return jnp.mean(objective) + sum(means[name] for name in names), (extras, means)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        x = batch["x"]
        terms = terms_given(params, x, x, "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, key, x, batch["index"])
            terms |= terms_given(params, x_tilde, x, "denoising_")
        return terms

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return bottleneck(features(params, batch["x"]), None, None)

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return likelihood.mean(theta_of(params, z, batch["x"]))

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def activity(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        assert active is not None  # a model has `activity` only then
        return active(encode(params, extras, batch, key))

    return Model(
        init=init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        data=DataContract(check=likelihood.check, corrupt=corrupt),
        sparse=None if active is None else Sparse(activity),
    )


class Net(NamedTuple):
    """Encoder and decoder as functions of the trained parameters `{"encoder", "decoder"}`."""

    init: Init
    """As `Model.init`."""
    features: Callable[[Params, Array], Array]
    """(params, x [b, ...]) -> h [b, ...], before the bottleneck."""
    theta: Callable[[Params, Array, Array], Array]
    """(params, z [b, ...], x [b, *shape]) -> theta [b, *shape, likelihood.width]; of x only the shape is used."""


def net(encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, bottleneck: Bottleneck, tied: bool) -> Net:
    """The arguments as in `autoencoder`."""

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        k_encoder, k_decoder = jax.random.split(key)
        x = batch["x"]
        h, encoder_variables = encoder.init_with_output(k_encoder, x)
        out, decoder_variables = decoder.init_with_output(k_decoder, bottleneck(h, None, None))
        as_theta(out, x.shape[1:], likelihood)
        params = {"encoder": encoder_variables["params"], "decoder": decoder_variables["params"]}
        if tied:
            check_mirror(params["encoder"], params["decoder"])
            params["decoder"] = untie(params["decoder"])
        return params, {}

    def features(params: Params, x: Array) -> Array:
        return apply(encoder, params["encoder"], x)

    def theta(params: Params, z: Array, x: Array) -> Array:
        weights = tie(params["decoder"], params["encoder"]) if tied else params["decoder"]
        return as_theta(apply(decoder, weights, z), x.shape[1:], likelihood)

    return Net(init, features, theta)


def as_theta(out: Float[Array, " b *out"], shape: tuple[int, ...], likelihood: Likelihood) -> Float[Array, " b *theta"]:
    """What a decoder gives for examples of this shape, as theta [b, *shape, likelihood.width]."""
    needed = math.prod(shape) * likelihood.width
    flat = likelihood.width == 1 and math.prod(out.shape[1:]) == needed
    if not flat and out.shape[1:] != (*shape, likelihood.width):
        raise UsageError(
            f"{likelihood.name} needs {needed} numbers from the decoder for an example of shape {shape} "
            f"({likelihood.width} per element), but it gives {out.shape[1:]}; "
            f"end the decoder in the shape {(*shape, likelihood.width)}"
        )
    return out.reshape(-1, *shape, likelihood.width)


def total(values: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    """The one reduction within an example: the sum over its dimensions."""
    rows = values.reshape(values.shape[0], -1)
    # A product with ones: XLA fuses a plain sum into the likelihood's loop on CPU, which costs a fifth of an MLP's step.
    return jnp.dot(rows, jnp.ones(rows.shape[1], rows.dtype), precision=jax.lax.Precision.HIGHEST)


def per_dimension(x_hat: Float[Array, " b *shape"], x: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    """Squared error, mean over the dimensions of an example."""
    return total(jnp.square(x_hat - x)) / math.prod(x.shape[1:])
