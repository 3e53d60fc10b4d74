"""The autoencoder and the denoising autoencoder (Vincent et al. 2008; emphasis: Vincent et al. 2010, §3.3).

    x ──corrupt──▶ x̃ ──encoder──▶ h ──bottleneck──▶ z ──decoder──▶ θ ──likelihood──▶ −log p(x|θ) + penalties

The reconstruction is always of the *clean* x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.keys import each
from aejax.models.collections import with_collections
from aejax.models.encoder_decoder import filled, identity, net, per_dimension, total
from aejax.nets import Code
from aejax.nets.stateful import reading
from aejax.objective.bottlenecks import Bottleneck
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.likelihoods import Likelihood
from aejax.objective.penalties import Penalty
from aejax.types import Axis, Batch, Corrupt, DataContract, Extras, Model, Objective, Params, Sparse


@described
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
    """An autoencoder; with `corrupt`, a denoising autoencoder.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, ...].
        decoder: Linen module, z -> theta [b, *shape of x, likelihood.width]; for width 1 any shape of that size.
        likelihood: Likelihood of the clean x given theta.
        corrupt: `(key, x of one example, step) -> (x_tilde, touched)`, see `aejax.objective.corruptions`.
        emphasis: (α, β) of the loss α Σ_touched ℓ + β Σ_untouched ℓ (Vincent et al. 2010, eq. 10-11); (1, 0) is full
            emphasis. The logged `nll` stays unweighted.
        bottleneck: `(h, axis, step) -> z`, see `aejax.objective.bottlenecks`; the step is None outside training.
        penalties: Functions `(f, x, h, keys, axis) -> [b] or []` in nats, see `aejax.objective.penalties`. `f` is the `Code`
            that maps one example to its h, and `x` the encoder's input. They are logged under their `__name__`. A penalty that
            logs more values returns (term, {name: [b] or []}).
        tied: Whether the decoder's kernels are the encoder's, transposed; both are then `MLP`s with mirrored widths.
        active: `z -> bool [b, units]` for a sparse code: which units an example activates, see `aejax.objective.sparsity`.

    Returns:
        A `Model`. It logs and evaluates `nll`, in nats per example, and `mse`, per dimension; with `corrupt` it also evaluates
        both for corrupted inputs, as `denoising_nll` and `denoising_mse`.

    Raises:
        UsageError: Two terms share a name, `emphasis` is given without `corrupt`, or, at initialization, the shapes of encoder,
            decoder and likelihood do not match.

    Example:
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, masking
        >>> model = autoencoder(MLP((64,), 8), MLP((64,), (28, 28, 1)), bernoulli(), corrupt=masking(0.3))
        >>> batch = {"x": jnp.zeros((2, 28, 28, 1)), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.encode)(params, extras, batch, jax.random.key(1)).shape
        (2, 8)
    """
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt
    names = [p.__name__ for p in penalties]
    if len({"loss", "nll", "mse", *names}) < 3 + len(names):
        raise UsageError(f"two terms share a name: loss, nll, mse, {', '.join(names)}; rename one")
    if emphasis is not None and corrupt is None:
        raise UsageError(f"emphasis={emphasis} weights the components that a corruption touched; give corrupt= too")
    init, features, theta_of = net(encoder, decoder, likelihood, bottleneck, tied)

    def terms_given(params: Params, x_seen: Array, x: Array, name: str) -> dict[str, Array]:
        """Per example: -log p(x|theta) in nats and the mean's squared error per dimension, given the encoder's input."""
        theta = theta_of(params, bottleneck(features(params, filled(likelihood, x_seen)), None, None), x)
        return {
            f"{name}nll": total(likelihood.neg_log_prob(theta, x)),
            f"{name}mse": per_dimension(likelihood.mean(theta), x, likelihood.missing),
        }

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        k_corrupt, k_penalty = jax.random.split(key)
        x = batch["x"]
        x_tilde, touched = corrupt_batch(noise, k_corrupt, x, batch["index"], step)
        x_tilde = filled(likelihood, x_tilde)  # after the corruption, which has nothing to reveal then
        h = features(params, x_tilde)
        theta = theta_of(params, bottleneck(h, axis, step), x)

        nll = likelihood.neg_log_prob(theta, x)
        alpha, beta = (1.0, 1.0) if emphasis is None else emphasis
        objective = total(nll if emphasis is None else jnp.where(touched, alpha, beta) * nll)  # [b]
        terms = {"nll": total(nll), "mse": per_dimension(likelihood.mean(theta), x, likelihood.missing)}
        f = Code(encoder, reading(params["encoder"]))
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
        return bottleneck(features(params, filled(likelihood, batch["x"])), None, None)

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return likelihood.mean(theta_of(params, z, batch["x"]))

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def activity(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        assert active is not None  # `Model.sparse` is None otherwise
        return active(encode(params, extras, batch, key))

    return with_collections(
        Model(
            init=init,
            loss=loss,
            evaluate=evaluate,
            encode=encode,
            decode=decode,
            reconstruct=reconstruct,
            data=DataContract(check=likelihood.check, corrupt=corrupt),
            sparse=None if active is None else Sparse(activity),
        )
    )
