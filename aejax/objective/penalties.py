"""Penalties: `(f, x, h, keys, axis) -> term`, in nats, added to the loss under the penalty's `__name__`.

Each is a small function's small result: `penalties=(contractive(0.1), l1(1e-3))`. `f` maps one example to its code (a
`Code`, or any function), x [b, ...] is what the encoder saw, h [b, ...] its codes before the bottleneck, `keys` [b] one key
per example, `axis` as in `aejax.collectives`. A term is [b], or [] where the batch is coupled; a penalty that has more to
log gives (term, {name: value}).

Penalties of the encoder alone hold the code back, not the decoder: where the decoder's weights are free, the code may shrink and
the weights of the decoder grow by as much, which the penalty does not see. Tied weights (`tied=True`), which Rifai et al. use, or
weight decay close that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.collectives import mean
from aejax.errors import UsageError, at_least_one, non_negative
from aejax.nets import MLP, Code
from aejax.nets.code import apply
from aejax.nets.mlp import slopes
from aejax.nets.mlp import squared_jacobian as of_mlp
from aejax.types import Axis, Terms

Penalty = Callable[[Any, Array, Array, Any, Axis], Array | tuple[Array, Terms]]
"""(f, x, h, keys, axis) -> term, or (term, {name: value})."""

Encoder = Callable[[Array], Array]
"""x -> h, of one example (as a `Code` is) or of a batch."""

Linear = Callable[[Array], Array]

Strength = float | jax.Array
"""A number ≥ 0. A traced number is one that varies between members of one program."""


def l1(strength: Strength) -> Penalty:
    """L1 penalty strength · Σ_j |h_j| on the code.

    The code shrinks and an untied decoder grows, which evades the penalty: tie the weights (see the note at the top of this
    module).

    Args:
        strength: Weight in nats per unit of activation, or a schedule.

    Returns:
        A penalty with one term per example, [b].
    """
    strength = non_negative("l1", "strength", strength)

    def l1(f: Any, x: Array | None, h: Array, keys: Key[Array, " b"] | None, axis: Axis) -> Array:
        return strength * jnp.sum(jnp.abs(h.reshape(len(h), -1)), axis=1)

    return l1


def kl_sparsity(rho: Strength, strength: Strength) -> Penalty:
    """Sparsity penalty strength · Σ_j KL(ρ ‖ ρ̂_j), with ρ̂_j the mean activation of unit j over the global batch (Ng 2011).

    Units must lie in (0, 1), so the encoder ends in a sigmoid. Where a mean lies outside, the term is that of the nearest
    number inside and its gradient is zero; look at the logged `rho_hat`. A small batch makes ρ̂ noisy and the penalty too
    large.

    Args:
        rho: Target ρ in (0, 1), or a schedule.
        strength: Weight in nats, or a schedule.

    Returns:
        A penalty with one term for the batch, [].
    """
    strength, rho = non_negative("kl_sparsity", "strength", strength), non_negative("kl_sparsity", "rho", rho)
    if isinstance(rho, float) and not 0.0 < rho < 1.0:
        raise UsageError(f"kl_sparsity(rho={rho}): rho is a unit's mean activation, strictly between 0 and 1")

    def kl_sparsity(
        f: Any, x: Array | None, h: Array, keys: Key[Array, " b"] | None, axis: Axis
    ) -> tuple[Array, Terms]:
        rho_hat = mean(jnp.mean(h, axis=0), axis)
        # The smallest float above 0 and the largest below 1: nothing between them is changed.
        limits = jnp.finfo(h.dtype)
        q = jnp.clip(rho_hat, limits.tiny, 1.0 - limits.epsneg)
        kl = rho * (jnp.log(rho) - jnp.log(q)) + (1.0 - rho) * (jnp.log1p(-rho) - jnp.log1p(-q))
        return strength * jnp.sum(kl), {"rho_hat": jnp.mean(rho_hat)}

    return kl_sparsity


def contractive(strength: Strength) -> Penalty:
    """Contractive penalty strength · ‖J_f(x)‖²_F of the encoder's Jacobian, exact (Rifai et al. 2011).

    The norm is computed by the cheapest known way (`squared_jacobian`); for one sigmoid layer that is a closed form. The
    paper ties the weights.

    Args:
        strength: Weight in nats, or a schedule.

    Returns:
        A penalty with one term per example, [b].
    """
    strength = non_negative("contractive", "strength", strength)

    def contractive(f: Any, x: Array, h: Array, keys: Key[Array, " b"], axis: Axis) -> Array:
        return strength * squared_jacobian(f, x)

    return contractive


def contractive_h(strength: Strength, sigma: Strength, samples: int = 1) -> Penalty:
    """strength·E_ε ‖J_f(x) − J_f(x + ε)‖²_F, [b], with ε ~ N(0, σ²I) drawn `samples` times (Rifai et al. 2011b).

    The second term of CAE+H, whose first is `contractive`: `penalties=(contractive(λ), contractive_h(γ, σ))`. Exact but for ε.
    Where a net has one layer that bends (one layer of any kind, or a hidden one and a linear code) its cost is about
    `contractive`'s; otherwise it is that of twice as many rows or columns of the Jacobian for each sample.

    Args:
        strength: Weight in nats, or a schedule.
        sigma: Standard deviation of ε, in units of the data, or a schedule.
        samples: Draws of ε.

    Returns:
        A penalty with one term per example, [b].
    """
    strength, sigma = non_negative("contractive_h", "strength", strength), non_negative("contractive_h", "sigma", sigma)
    at_least_one("contractive_h", "samples", samples)

    def contractive_h(f: Any, x: Array, h: Array, keys: Key[Array, " b"], axis: Axis) -> Array:
        epsilon = jax.vmap(lambda key: jax.random.normal(key, (samples, *x.shape[1:]), x.dtype))(keys)
        near = (x[:, None] + sigma * epsilon).reshape(-1, *x.shape[1:])
        differences = squared_difference(f, jnp.repeat(x, samples, axis=0), near)
        return strength * jnp.mean(differences.reshape(-1, samples), axis=1)

    return contractive_h


def hutchinson(strength: Strength, probes: int = 1) -> Penalty:
    """Contractive penalty strength · ‖J_f(x)‖²_F, estimated without bias (Hutchinson 1989).

    The estimate is the mean of ‖vᵀJ‖² over random sign vectors v. A probe costs about as much as a backward pass of the
    encoder, whatever the width of the code. Logs `hutchinson_variance`, [], in nats²: an unbiased estimate of the variance of
    an example's term over draws of v, averaged over examples. With a single probe, every eighth example gets a second one for
    that purpose.

    Args:
        strength: Weight in nats, or a schedule.
        probes: Number of sign vectors per example.

    Returns:
        A penalty with one term per example, [b].
    """
    strength = non_negative("hutchinson", "strength", strength)
    at_least_one("hutchinson", "probes", probes)

    def hutchinson(f: Any, x: Array, h: Array, keys: Key[Array, " b"], axis: Axis) -> tuple[Array, Terms]:
        signs = jax.vmap(lambda key: jax.random.rademacher(key, (max(probes, 2), *h.shape[1:]), h.dtype))(keys)
        squares = _squared_products(f, x, signs[:, :probes])
        sampled = squares
        if probes == 1:
            some = slice(None, None, 8)
            sampled = jnp.concatenate([squares[some], _squared_products(f, x[some], signs[some, 1:])], axis=1)
        variance = jnp.mean(jnp.var(jax.lax.stop_gradient(sampled), axis=1, ddof=1)) / probes
        return strength * jnp.mean(squares, axis=1), {"hutchinson_variance": strength**2 * variance}

    return hutchinson


def _squared_products(f: Encoder, x: Array, v: Float[Array, "b probes *code"]) -> Float[Array, "b probes"]:
    """‖vᵀJ‖² of each example for each of its v."""
    _, pull = pullback(batched(f), x)
    return jax.vmap(lambda u: _squared(pull(u)), 1, 1)(v)


def squared_jacobian(f: Encoder, x: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    """‖J_f(x)‖²_F of each example, exact.

    In closed form for an MLP with elementwise activations (`aejax.nets.mlp.squared_jacobian`). For any other encoder the
    Jacobian's rows, or its columns where x is narrower than the code, one at a time for the whole batch: memory for one backward
    pass, time for as many as there are rows.
    """
    layers = _layers(f, x)
    if layers is not None:
        return of_mlp(*layers, len(x))
    return _squared_norm(*pullback(batched(f), x), x)


def squared_difference(
    f: Encoder, x: Float[Array, " b *shape"], other: Float[Array, " b *shape"]
) -> Float[Array, " b"]:
    """‖J_f(x) − J_f(other)‖²_F of each pair of examples, exact; in closed form where J is linear in the slopes of one layer."""
    ours, theirs = _layers(f, x), _layers(f, other)
    if ours is not None and theirs is not None and sum(d is not None for d in ours[1]) <= 1:
        differences = [d if d is None or e is None else d - e for d, e in zip(ours[1], theirs[1])]
        linear = all(d is None for d in differences)
        return jnp.zeros(len(x)) if linear else of_mlp(ours[0], differences, len(x))
    (h, pull), (_, pull_other) = (pullback(batched(f), at) for at in (x, other))
    return _squared_norm(h, lambda u: pull(u) - pull_other(u), x)


def _layers(f: Encoder, x: Array) -> tuple[list[Array], list[Array | None]] | None:
    """An MLP's kernels and slopes; None where there is no closed form."""
    if not isinstance(f, Code) or type(f.module) is not MLP:
        return None
    of_layers = slopes(f.module, f.params, x)
    return None if of_layers is None else ([f.params[f"dense_{i}"]["kernel"] for i in range(len(of_layers))], of_layers)


def batched(f: Encoder) -> Encoder:
    """f of a batch. A module is given the batch as it is, so that XLA finds the codes to be known."""
    if isinstance(f, Code):
        return lambda x: apply(f.module, f.params, x)
    return jax.vmap(f)


def pullback(encode: Encoder, x: Float[Array, " b *shape"]) -> tuple[Float[Array, " b *code"], Linear]:
    """The codes of a batch, and u [b, *code] -> uᵀJ [b, *shape], each example with its own u and its own Jacobian."""
    h, vjp = jax.vjp(encode, x)
    return h, lambda u: vjp(u)[0]


def narrow_side(pull: Linear, h: Array, x: Array) -> tuple[Linear, Array]:
    """(linear map, an array like its argument) that gives the Jacobians' rows or, where x is narrower than h, their columns."""
    if math.prod(h.shape[1:]) <= math.prod(x.shape[1:]):
        return pull, h
    # v -> Jv as the transpose of the rows, not by forward mode, which the convolutions' own gradients do not have.
    push = jax.vjp(pull, jnp.zeros_like(h))[1]
    return lambda v: push(v)[0], x


def unit(i: Any, like: Float[Array, " b *shape"]) -> Float[Array, " b *shape"]:
    """The i-th unit vector, for every example."""
    return jnp.zeros_like(like).reshape(len(like), -1).at[:, i].set(1.0).reshape(like.shape)


def _squared_norm(h: Array, pull: Linear, x: Array) -> Float[Array, " b"]:
    """Of each example's Jacobian, whose rows `pull` gives."""
    side, like = narrow_side(pull, h, x)
    # Each row is computed again for the gradient: kept, they would be as many batches of activations as there are rows.
    one = jax.checkpoint(lambda i: _squared(side(unit(i, like))), prevent_cse=False)
    return jnp.sum(jax.lax.map(one, jnp.arange(math.prod(like.shape[1:]))), axis=0)


def _squared(y: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    return jnp.sum(jnp.square(y).reshape(len(y), -1), axis=1)
