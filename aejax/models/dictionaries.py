"""Sparse dictionaries: wide autoencoders with one linear layer each way, as they are trained on the activations of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.collectives import gather, mean
from aejax.described import described
from aejax.errors import UsageError, at_least_one
from aejax.kernels.largest import largest
from aejax.models.encoder_decoder import per_dimension, total
from aejax.objective.activations import Activation, pursued
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.sparsity import nonzero
from aejax.types import Axis, Batch, Corrupt, DataContract, Extras, Model, Objective, Params, Sparse


class AuxiliaryLoss(NamedTuple):
    """The loss that revives dead units (Gao et al. 2024, appendix A.2), of `dictionary`.

    Example:
        >>> AuxiliaryLoss(dead_after=100_000).weight
        0.03125
    """

    k: int | None = None
    """Number of dead units that reconstruct what the others leave; half of the dimensions by default."""
    weight: float = 1 / 32
    dead_after: int = 10_000_000
    """A unit is dead if it has been silent for so many examples."""


@described
def dictionary(
    units: int,
    shape: tuple[int, ...],
    activation: Activation,
    prefixes: Sequence[int] = (),
    auxiliary: AuxiliaryLoss | None = None,
    corrupt: Corrupt | None = None,
) -> Model:
    """A sparse dictionary: z = act((x − b) W_e), x̂ = z W_d + b, trained with the squared error.

    W_d starts with random rows of norm 1, W_e as its transpose, and b as the geometric median of the first batch. Train it with
    `aejax.optimizers.unit_rows(optimizer)`, which keeps the rows of W_d at norm 1.

    Args:
        units: Number of units n.
        shape: Shape of an example; its d numbers are taken as a row.
        activation: `relu_l1`, `relu_top_k`, `batch_top_k`, `jump_relu`, `gated` or `matching_pursuit`, see
            `aejax.objective.activations`.
        prefixes: Numbers of first units that reconstruct the example on their own; the squared error is their mean, with that of
            all units (Matryoshka, Bussmann et al. 2025). The code is one for all.
        auxiliary: Loss that revives dead units, or None.
        corrupt: As in `autoencoder`.

    Returns:
        A `Model`. It logs and evaluates `nll`, the squared error of an example, and `mse`, per dimension; training also logs
        `active_units` and the penalty, and with `auxiliary` its loss and the number of dead units.

    Raises:
        UsageError: A number is out of range.

    Example:
        >>> from aejax.objective.activations import batch_top_k
        >>> model = dictionary(16, (4,), batch_top_k(2), prefixes=(4,))
        >>> batch = {"x": jnp.ones((3, 4)), "index": jnp.arange(3)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.encode)(params, extras, batch, jax.random.key(1)).shape
        (3, 16)
    """
    at_least_one("dictionary", "units", units)
    if any(not 1 <= prefix <= units for prefix in prefixes) or list(prefixes) != sorted(set(prefixes)):
        raise UsageError(f"dictionary(prefixes={tuple(prefixes)}): give increasing numbers from 1 to the {units} units")
    if auxiliary is not None and activation.pursuit:
        raise UsageError("matching_pursuit() has no encoder whose dead units could be revived; leave out auxiliary=")
    d = math.prod(shape)
    ends = sorted({*prefixes, units})
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        rows = jax.random.normal(key, (units, d))
        rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
        own, extras = activation.init(units)
        encoder = {} if activation.pursuit else {"encoder": {"kernel": rows.T}}
        params = {
            **encoder,
            "activation": own,
            "decoder": {"kernel": rows, "bias": geometric_median(_rows(batch["x"]))},
        }
        silent = {} if auxiliary is None else {"silent": jnp.zeros(units)}
        return params, {"activation": extras, **silent}

    def products(params: Params, x: Array) -> Array:
        centered = _rows(x) - params["decoder"]["bias"][None]
        if activation.pursuit:
            return pursued(centered, params["decoder"]["kernel"], activation.pursuit)
        return centered @ params["encoder"]["kernel"]

    def decoded(decoder: Params, z: Array) -> Array:
        return z @ decoder["kernel"] + decoder["bias"][None]

    def nested(decoder: Params, z: Array, x: Array) -> Array:
        """The mean squared error over the nested dictionaries, for each example."""
        x_hat, errors = jnp.broadcast_to(decoder["bias"][None], x.shape), []
        for start, stop in zip([0, *ends[:-1]], ends):
            x_hat = x_hat + z[:, start:stop] @ decoder["kernel"][start:stop]
            errors.append(total(jnp.square(x - x_hat)))
        return jnp.mean(jnp.stack(errors), axis=0)

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        x, decoder = _rows(batch["x"]), params["decoder"]
        x_tilde, _ = corrupt_batch(noise, key, batch["x"], batch["index"], step)
        h = products(params, x_tilde)
        codes = activation.train(params["activation"], extras["activation"], h, axis, step)
        x_hat = decoded(decoder, codes.z)
        terms = {
            "nll": total(jnp.square(x - x_hat)),
            "mse": per_dimension(x_hat, x),
            "active_units": jnp.sum((codes.z != 0).astype(x.dtype), axis=1),
        }
        if not isinstance(codes.penalty, float):
            terms["penalty"] = jnp.broadcast_to(codes.penalty, terms["nll"].shape)
        objective = nested(decoder, codes.z, x) + codes.penalty
        if codes.also is not None:
            frozen = jax.lax.stop_gradient(decoder)
            objective = objective + total(jnp.square(x - decoded(frozen, codes.also)))
        means = {name: jnp.mean(term) for name, term in terms.items()}
        after = {**extras, "activation": codes.extras}
        revival: Any = 0.0
        if auxiliary is not None:
            dead = extras["silent"] >= auxiliary.dead_after
            left = jax.lax.stop_gradient(x - x_hat)
            revival = auxiliary.weight * revived(params, h, dead, left, axis)
            fired = jnp.any(gather(codes.z != 0, axis), axis=0)
            b = len(x) if axis is None else len(x) * jax.lax.axis_size(axis)
            after["silent"] = jnp.where(fired, 0.0, extras["silent"] + b)
            means |= {"auxiliary": revival, "dead_units": jnp.sum(dead.astype(x.dtype))}
        return jnp.mean(objective) + revival, (after, means)

    def revived(params: Params, h: Array, dead: Array, left: Array, axis: Axis) -> Array:
        """‖e − ê‖² relative to the variance of e, where ê is made of the k largest dead units; 0 if no unit is dead."""
        assert auxiliary is not None
        k = d // 2 if auxiliary.k is None else auxiliary.k
        a = nn.relu(activation.before(params["activation"], h))
        a = jnp.where(dead[None], a, 0.0)
        kept = largest(jax.lax.stop_gradient(a), jnp.int32(max(1, min(k, units))), 1)
        error = jnp.mean(total(jnp.square(left - jnp.where(kept, a, 0.0) @ params["decoder"]["kernel"])))
        center = mean(jnp.mean(left, axis=0), axis)
        variance = mean(jnp.mean(total(jnp.square(left - center[None]))), axis)
        return jnp.where(jnp.any(dead) & (variance > 0), error / jnp.maximum(variance, 1e-30), 0.0)

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return activation.encode(params["activation"], extras["activation"], products(params, batch["x"]))

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return decoded(params["decoder"], z).reshape(-1, *shape)

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        x = batch["x"]
        terms = _terms(reconstruct(params, extras, batch, key), x, "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, key, x, batch["index"])
            terms |= _terms(reconstruct(params, extras, {**batch, "x": x_tilde}, key), x, "denoising_")
        return terms

    def active(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return nonzero(encode(params, extras, batch, key))

    return Model(
        init=init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        data=DataContract(corrupt=corrupt),
        sparse=Sparse(active),
    )


def _terms(x_hat: Array, x: Array, name: str) -> dict[str, Array]:
    return {f"{name}nll": total(jnp.square(x - x_hat)), f"{name}mse": per_dimension(x_hat, x)}


def _rows(x: Float[Array, " b *shape"]) -> Float[Array, "b d"]:
    return x.reshape(x.shape[0], -1)


def geometric_median(x: Float[Array, "b d"], iterations: int = 50) -> Float[Array, " d"]:
    """The point with the smallest sum of distances to the rows (Weiszfeld 1937), from their mean."""

    def step(i: Any, center: Array) -> Array:
        weights = 1.0 / jnp.maximum(jnp.linalg.norm(x - center[None], axis=1), 1e-6)
        return weights @ x / jnp.sum(weights)

    return jax.lax.fori_loop(0, iterations, step, jnp.mean(x, axis=0))
