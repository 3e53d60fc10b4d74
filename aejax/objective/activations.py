"""Activations of sparse dictionaries: how the products of an example with the encoder's columns become a code of few units.

Each is a set of pure functions with its own parameters (biases, thresholds) and extras. `aejax.models.dictionary` puts one
between the encoder and the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aejax.collectives import gather, mean, own
from aejax.described import described
from aejax.errors import UsageError, non_negative, positive
from aejax.kernels.largest import largest, largest_of_row
from aejax.types import Axis, Extras, Params


class Codes(NamedTuple):
    """The code of a batch in training."""

    z: Float[Array, "b n"]
    extras: Extras
    penalty: Float[Array, " b"] | float
    """What sparsity costs, in the unit of the squared error."""
    also: Float[Array, "b n"] | None = None
    """A second code, which must reconstruct the example too, by a decoder that does not learn from it."""


class Activation(NamedTuple):
    """From the products h [b, n] of examples with the encoder's columns to a code z [b, n].

    Example:
        >>> activation = relu_top_k(1)
        >>> params, extras = activation.init(3)
        >>> activation.train(params, extras, jnp.array([[1.0, 3.0, 2.0]]), None, 0).z.tolist()
        [[0.0, 3.0, 0.0]]
    """

    name: str
    init: Callable[[int], tuple[Params, Extras]]
    """Number of units -> parameters, among them the biases, and extras."""
    before: Callable[[Params, Array], Array]
    """(params, h [b, n]) -> what is compared with zero or a threshold, [b, n]; the auxiliary loss revives dead units by it."""
    train: Callable[[Params, Extras, Array, Axis, Any], Codes]
    """(params, extras, h [b, n], axis, step) -> the code in training."""
    encode: Callable[[Params, Extras, Array], Array]
    """(params, extras, h [b, n]) -> the code outside training."""
    pursuit: int = 0
    """If positive, the code is found by so many steps of matching pursuit in the decoder, and there is no encoder."""


def _biased(params: Params, h: Array) -> Array:
    return h + params["bias"][None]


def _bias(n: int) -> tuple[Params, Extras]:
    return {"bias": jnp.zeros(n)}, {}


@described
def relu_l1(weight: Any) -> Activation:
    """ReLU with a penalty on the sum of the code, weight · Σ z (Bricken et al. 2023; the decoder's rows have norm 1).

    Args:
        weight: Weight of the penalty.

    Returns:
        An activation.

    Raises:
        UsageError: The weight is negative.

    Example:
        >>> relu_l1(1e-3).name
        'relu_l1'
    """
    non_negative("relu_l1", "weight", weight)

    def train(params: Params, extras: Extras, h: Array, axis: Axis, step: Any) -> Codes:
        z = nn.relu(_biased(params, h))
        return Codes(z, extras, weight * jnp.sum(z, axis=1))

    encode = lambda params, extras, h: nn.relu(_biased(params, h))
    return Activation("relu_l1", _bias, _biased, train, encode)


@described
def relu_top_k(k: Any) -> Activation:
    """ReLU, of which each example keeps the k largest units (Gao et al. 2024, eq. 1); with k of all units it is a ReLU.

    Args:
        k: Number of units that an example keeps. It may be traced, as in a sweep.

    Returns:
        An activation.

    Raises:
        UsageError: `k` is below 1.

    Example:
        >>> activation = relu_top_k(2)
        >>> params, extras = activation.init(4)
        >>> activation.encode(params, extras, jnp.array([[3.0, -5.0, 1.0, 2.0]])).tolist()
        [[3.0, 0.0, 0.0, 2.0]]
    """
    _refuse_below_one("relu_top_k", k)

    def encode(params: Params, extras: Extras, h: Array) -> Array:
        return keep_largest(nn.relu(_biased(params, h)), k)

    train = lambda params, extras, h, axis, step: Codes(encode(params, extras, h), extras, 0.0)
    return Activation("relu_top_k", _bias, _biased, train, encode)


def keep_largest(z: Float[Array, "b n"], k: Any) -> Float[Array, "b n"]:
    """Each row with its k largest units, and the others 0."""
    fixed = jax.lax.stop_gradient(z)
    if isinstance(k, jax.core.Tracer):
        return jnp.where(largest(fixed, jnp.minimum(k.astype(jnp.int32), z.shape[1]), 1), z, 0.0)
    return jnp.where(largest_of_row(fixed, min(int(k), z.shape[1])), z, 0.0)


MEMORY = 0.999
"""Decay of the moving average of a batch's least activation."""

COUNTED = 2**24
"""Numbers up to which the largest are counted exactly."""


@described
def batch_top_k(k: Any) -> Activation:
    """ReLU, of which the k·B largest activations of the global batch are kept (Bussmann et al. 2024).

    Outside training an activation is kept if it exceeds a threshold: the moving average of the least activation that a batch
    kept, corrected for its start like Adam's.

    Args:
        k: Mean number of units that an example keeps, not necessarily a whole one. It may be traced, as in a sweep.

    Returns:
        An activation.

    Raises:
        UsageError: `k` is not positive, or a batch has more than 2²⁴ activations.

    Example:
        >>> activation = batch_top_k(1)
        >>> params, extras = activation.init(2)
        >>> h = jnp.array([[3.0, 2.0], [1.0, -1.0]])
        >>> activation.train(params, extras, h, None, 0).z.tolist()
        [[3.0, 2.0], [0.0, 0.0]]
    """
    positive("batch_top_k", "k", k)

    def init(n: int) -> tuple[Params, Extras]:
        return {"bias": jnp.zeros(n)}, {"least": jnp.zeros(()), "weight": jnp.zeros(())}

    def train(params: Params, extras: Extras, h: Array, axis: Axis, step: Any) -> Codes:
        z = nn.relu(_biased(params, h))
        everyone = gather(jax.lax.stop_gradient(z), axis)
        if everyone.size > COUNTED:
            raise UsageError(
                f"batch_top_k() counts up to 2²⁴ activations, and a batch has {everyone.shape[0]} × {everyone.shape[1]}; make it "
                "smaller"
            )
        wanted = jnp.round(jnp.asarray(k, jnp.float32) * everyone.shape[0]).astype(jnp.int32)
        count = jnp.minimum(wanted, everyone.size)
        kept = largest(everyone.reshape(-1), count, 0).reshape(everyone.shape)
        positive = kept & (everyone > 0)
        least = jnp.min(jnp.where(positive, everyone, jnp.inf))
        least = jnp.where(jnp.isfinite(least), least, 0.0)
        after = {name: MEMORY * extras[name] + (1 - MEMORY) * new for name, new in (("least", least), ("weight", 1.0))}
        return Codes(jnp.where(own(kept, axis), z, 0.0), after, 0.0)

    def encode(params: Params, extras: Extras, h: Array) -> Array:
        z = nn.relu(_biased(params, h))
        return jnp.where(z > threshold(extras), z, 0.0)

    return Activation("batch_top_k", init, _biased, train, encode)


def threshold(extras: Extras) -> Array:
    """The threshold of `batch_top_k` outside training; 0 before the first step."""
    return extras["least"] / jnp.maximum(extras["weight"], 1 - MEMORY)


def rectangle(u: Array) -> Array:
    """The kernel of the pseudo-derivatives: 1 where |u| < ½."""
    return (jnp.abs(u) < 0.5).astype(u.dtype)


@jax.custom_vjp
def jump(a: Array, theta: Array, bandwidth: Any) -> Array:
    """JumpReLU, a · 1[a > θ] (Rajamanoharan et al. 2024, eq. 3), with the pseudo-derivative −(θ/ε) K((a − θ)/ε) for θ."""
    return jnp.where(a > theta, a, 0.0)


@jax.custom_vjp
def step_above(a: Array, theta: Array, bandwidth: Any) -> Array:
    """1[a > θ], with the pseudo-derivative −(1/ε) K((a − θ)/ε) for θ (eq. 12), and none for a."""
    return (a > theta).astype(a.dtype)


def _forward(function: Callable[..., Array]) -> Callable[..., Any]:
    return lambda a, theta, bandwidth: (function(a, theta, bandwidth), (a, theta, bandwidth))


def _jump_backward(kept: Any, g: Array) -> tuple[Array, Array, Array]:
    a, theta, bandwidth = kept
    slope = -(theta / bandwidth) * rectangle((a - theta) / bandwidth)
    return jnp.where(a > theta, g, 0.0), g * slope, jnp.zeros_like(bandwidth)


def _step_backward(kept: Any, g: Array) -> tuple[Array, Array, Array]:
    a, theta, bandwidth = kept
    return jnp.zeros_like(a), g * (-1 / bandwidth) * rectangle((a - theta) / bandwidth), jnp.zeros_like(bandwidth)


jump.defvjp(_forward(jump), _jump_backward)
step_above.defvjp(_forward(step_above), _step_backward)


@described
def jump_relu(weight: Any, target: Any = None, start: Any = 0.001, bandwidth: Any = 0.001) -> Activation:
    """a · 1[a > θ] with a trained threshold for each unit (Rajamanoharan et al. 2024), and a penalty on the number of units.

    The penalty is weight · L₀, or weight · (mean L₀ / target − 1)² if a target is given, over the global batch. Thresholds stay
    above zero; a bandwidth of .001 presumes inputs whose scale is one.

    Args:
        weight: Weight of the penalty.
        target: Number of active units per example that is aimed at; None penalizes each of them.
        start: Thresholds at the start.
        bandwidth: Width ε of the window in which the threshold learns.

    Returns:
        An activation.

    Raises:
        UsageError: A number is out of range.

    Example:
        >>> activation = jump_relu(1e-3, start=1.5)
        >>> params, extras = activation.init(2)
        >>> activation.encode(params, extras, jnp.array([[1.0, 2.0]])).tolist()
        [[0.0, 2.0]]
    """
    non_negative("jump_relu", "weight", weight)
    non_negative("jump_relu", "start", start)
    positive("jump_relu", "bandwidth", bandwidth)
    if target is not None:
        positive("jump_relu", "target", target)

    def init(n: int) -> tuple[Params, Extras]:
        return {"bias": jnp.zeros(n), "threshold": jnp.full(n, start)}, {}

    def train(params: Params, extras: Extras, h: Array, axis: Axis, step: Any) -> Codes:
        a = _biased(params, h)
        theta = jnp.broadcast_to(nn.relu(params["threshold"])[None], a.shape)
        l0 = jnp.sum(step_above(a, theta, bandwidth), axis=1)
        cost = l0 if target is None else jnp.square(mean(jnp.mean(l0), axis) / target - 1.0)
        return Codes(jump(a, theta, bandwidth), extras, weight * cost)

    def encode(params: Params, extras: Extras, h: Array) -> Array:
        a, theta = _biased(params, h), nn.relu(params["threshold"])[None]
        return jnp.where(a > theta, a, 0.0)

    return Activation("jump_relu", init, _biased, train, encode)


@described
def gated(weight: Any) -> Activation:
    """A gate that says which units are active, and a magnitude that says how much (Rajamanoharan et al. 2024, Gated SAE).

    With π the gate's activation, the loss has the penalty weight · Σ ReLU(π), and the squared error of the reconstruction from
    ReLU(π) by a frozen decoder. Both use the same columns of the encoder: magnitude = ReLU(exp(r) · h + b).

    Args:
        weight: Weight of the penalty.

    Returns:
        An activation.

    Raises:
        UsageError: The weight is negative.

    Example:
        >>> activation = gated(1e-3)
        >>> params, extras = activation.init(2)
        >>> activation.encode(params, extras, jnp.array([[-1.0, 2.0]])).tolist()
        [[0.0, 2.0]]
    """
    non_negative("gated", "weight", weight)

    def init(n: int) -> tuple[Params, Extras]:
        return {"gate": jnp.zeros(n), "bias": jnp.zeros(n), "log_scale": jnp.zeros(n)}, {}

    def encode(params: Params, extras: Extras, h: Array) -> Array:
        magnitude = nn.relu(jnp.exp(params["log_scale"])[None] * h + params["bias"][None])
        return jnp.where(h + params["gate"][None] > 0, magnitude, 0.0)

    def before(params: Params, h: Array) -> Array:
        return h + params["gate"][None]

    def train(params: Params, extras: Extras, h: Array, axis: Axis, step: Any) -> Codes:
        open_ = nn.relu(before(params, h))
        return Codes(encode(params, extras, h), extras, weight * jnp.sum(open_, axis=1), open_)

    return Activation("gated", init, before, train, encode)


@described
def matching_pursuit(k: Any) -> Activation:
    """Matching pursuit (Mallat & Zhang 1993; as an autoencoder Costa et al. 2025).

    k times, the decoder's row that has the largest product with what is left of the example is taken, and the product is added
    to its unit.

    Args:
        k: Number of steps; a unit may be chosen again.

    Returns:
        An activation without an encoder.

    Raises:
        UsageError: `k` is below 1.

    Example:
        >>> pursued(jnp.array([[3.0, 1.0]]), jnp.eye(2), 1).tolist()
        [[3.0, 0.0]]
    """
    if isinstance(k, jax.core.Tracer):
        raise UsageError(
            "matching_pursuit(k=…): k shapes the program, so it cannot vary within one; train one run for each"
        )
    _refuse_below_one("matching_pursuit", k)
    train = lambda params, extras, z, axis, step: Codes(z, extras, 0.0)
    return Activation("matching_pursuit", lambda n: ({}, {}), lambda params, z: z, train, lambda p, e, z: z, int(k))


def pursued(x: Float[Array, "b d"], rows: Float[Array, "n d"], k: int) -> Float[Array, "b n"]:
    """The code of k steps of matching pursuit in a dictionary whose rows have norm 1; products below zero are not taken."""

    every = jnp.arange(len(x))

    def step(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], None]:
        left, z = carry
        products = left @ rows.T
        best = jnp.argmax(products, axis=1)
        taken = nn.relu(products[every, best])
        return (left - taken[:, None] * rows[best], z.at[every, best].add(taken)), None

    (_, z), _ = jax.lax.scan(step, (x, jnp.zeros((len(x), len(rows)), x.dtype)), None, length=k)
    return z


def _refuse_below_one(name: str, k: Any) -> None:
    if not isinstance(k, jax.core.Tracer) and (not 1 <= k < math.inf or k != int(k)):
        raise UsageError(f"{name}(k={k}): k must be a whole number of at least 1")
