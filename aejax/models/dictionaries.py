"""Sparse dictionaries: wide autoencoders with one linear layer each way, as they are trained on the activations of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.described import described
from aejax.errors import UsageError, at_least_one
from aejax.models.encoder_decoder import per_dimension, total
from aejax.objective.activations import Activation, pursued
from aejax.objective.corruptions import corrupt_batch, nothing, unless_nothing
from aejax.objective.revival import AuxiliaryLoss, revival, silent_for
from aejax.objective.sparsity import nonzero
from aejax.types import Axis, Batch, Corrupt, DataContract, Extras, Model, Objective, Params, Sparse


@described
def dictionary(
    units: int,
    shape: tuple[int, ...],
    activation: Activation,
    prefixes: Sequence[int] = (),
    auxiliary: AuxiliaryLoss | None = None,
    corrupt: Corrupt | None = None,
    target: tuple[int, ...] | None = None,
) -> Model:
    """A sparse dictionary: z = act((x − b) W_e), x̂ = z W_d + b, trained with the squared error.

    W_d starts with random rows of norm 1, W_e as its transpose, and b as the geometric median of the first batch. Train it with
    `aejax.optimizers.unit_rows(optimizer)`, which keeps the rows of W_d at norm 1.

    With `target` it is a transcoder (Dunefsky et al. 2024): x̂ stands for the `target` of x, z = act((x − c) W_e) with the
    geometric median c of the first batch of x, and W_e starts with random columns of norm 1. With examples [layers, d] it is a
    crosscoder (Lindsey et al. 2024): one code for all layers.

    Args:
        units: Number of units n.
        shape: Shape of an example; its d numbers are taken as a row.
        activation: `relu_l1`, `relu_top_k`, `batch_top_k`, `jump_relu`, `gated` or `matching_pursuit`, see
            `aejax.objective.activations`.
        prefixes: Numbers of first units that reconstruct the example on their own; the squared error is their mean, with that of
            all units (Matryoshka, Bussmann et al. 2025). The code is one for all.
        auxiliary: Loss that revives dead units, or None.
        corrupt: As in `autoencoder`.
        target: Shape of a target, for data whose examples have one.

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
    if target is not None and activation.pursuit:
        raise UsageError("matching_pursuit() takes x apart, not what belongs to it; choose another activation")
    d, d_out, seen = (
        math.prod(shape),
        math.prod(shape if target is None else target),
        "x" if target is None else "target",
    )
    ends = sorted({*prefixes, units})
    corrupt = unless_nothing(corrupt)
    noise = nothing() if corrupt is None else corrupt

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        rows = _random_rows(key, units, d_out)
        columns = rows if target is None else _random_rows(jax.random.fold_in(key, 1), units, d)
        own, extras = activation.init(units)
        encoder = {} if activation.pursuit else {"encoder": {"kernel": columns.T}}
        decoder = {"kernel": rows, "bias": geometric_median(_rows(batch[seen]))}
        more = {} if auxiliary is None else {"silent": jnp.zeros(units)}
        more |= {} if target is None else {"center": geometric_median(_rows(batch["x"]))}
        return {**encoder, "activation": own, "decoder": decoder}, {"activation": extras, **more}

    def products(params: Params, extras: Extras, x: Array) -> Array:
        center = params["decoder"]["bias"] if target is None else extras["center"]
        centered = _rows(x) - center[None]
        if activation.pursuit:
            return pursued(centered, params["decoder"]["kernel"], activation.pursuit)
        return centered @ params["encoder"]["kernel"]

    def decoded(decoder: Params, z: Array) -> Array:
        return z @ decoder["kernel"] + decoder["bias"][None]

    def nested(decoder: Params, z: Array) -> list[Array]:
        """The reconstructions by the nested dictionaries; the last one is by all units."""
        x_hats = [jnp.broadcast_to(decoder["bias"][None], (len(z), d_out))]
        for start, stop in zip([0, *ends[:-1]], ends):
            x_hats.append(x_hats[-1] + z[:, start:stop] @ decoder["kernel"][start:stop])
        return x_hats[1:]

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        y, decoder = _rows(batch[seen]), params["decoder"]
        x_tilde, _ = corrupt_batch(noise, key, batch["x"], batch["index"], step)
        h = products(params, extras, x_tilde)
        codes = activation.train(params["activation"], extras["activation"], h, axis, step)
        nested_y_hats = nested(decoder, codes.z)
        errors, y_hat = [total(jnp.square(y - y_hat)) for y_hat in nested_y_hats], nested_y_hats[-1]
        terms = {
            "nll": errors[-1],
            "mse": per_dimension(y_hat, y),
            "active_units": jnp.sum((codes.z != 0).astype(y.dtype), axis=1),
        }
        if not isinstance(codes.penalty, float):
            terms["penalty"] = jnp.broadcast_to(codes.penalty, terms["nll"].shape)
        objective = jnp.mean(jnp.stack(errors), axis=0) + codes.penalty
        if codes.also is not None:
            frozen = jax.lax.stop_gradient(decoder)
            objective = objective + total(jnp.square(y - decoded(frozen, codes.also)))
        means = {name: jnp.mean(term) for name, term in terms.items()}
        after = {**extras, "activation": codes.extras}
        if auxiliary is None:
            return jnp.mean(objective), (after, means)
        dead = extras["silent"] >= auxiliary.dead_after
        a = activation.before(params["activation"], h)
        k = y_hat.shape[1] // 2 if auxiliary.k is None else auxiliary.k
        revived = auxiliary.weight * revival(a, dead, y - y_hat, decoder["kernel"], k, axis)
        after["silent"] = silent_for(extras["silent"], codes.z, axis)
        means |= {"auxiliary": revived, "dead_units": jnp.sum(dead.astype(y.dtype))}
        return jnp.mean(objective) + revived, (after, means)

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return activation.encode(params["activation"], extras["activation"], products(params, extras, batch["x"]))

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        return decoded(params["decoder"], z).reshape(-1, *(shape if target is None else target))

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        terms = _terms(reconstruct(params, extras, batch, key), batch[seen], "")
        if corrupt is not None:
            x_tilde, _ = corrupt_batch(corrupt, key, batch["x"], batch["index"])
            terms |= _terms(reconstruct(params, extras, {**batch, "x": x_tilde}, key), batch[seen], "denoising_")
        return terms

    def active(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return nonzero(encode(params, extras, batch, key))

    return Model(
        init=init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct if target is None else None,
        data=DataContract(corrupt=corrupt),
        sparse=Sparse(active, lambda params: params["decoder"]["kernel"]),
    )


def _random_rows(key: Key[Array, ""], n: int, d: int) -> Float[Array, "n d"]:
    rows = jax.random.normal(key, (n, d))
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


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
