"""Penalties: `(f, x, h, keys, axis) -> term`, in nats, added to the loss under the penalty's `__name__`.

Pass them to a model as `penalties=(contractive(0.1), l1(1e-3))`. `f` maps one example to its code (a `Code`, or any function),
x [b, ...] is the encoder's input, h [b, ...] its codes before the bottleneck, `keys` [b] holds one key per example, and `axis`
is as in `aejax.collectives`. A term has shape [b], or [] if it depends on the whole batch; a penalty that logs more values
returns (term, {name: value}).

These penalties see the encoder only. If the decoder's weights are free, the code can shrink while the decoder's weights grow by
the same factor, which evades the penalty. Tied weights (`tied=True`), which Rifai et al. use, or weight decay prevent this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.collectives import mean
from aejax.described import described
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
"""A number of at least 0. A traced number is one that differs between the members of one program."""


@described
def l1(strength: Strength) -> Penalty:
    """L1 penalty strength · Σ_j |h_j| on the code.

    With untied weights the code can shrink while the decoder grows, which evades the penalty: tie the weights.

    Args:
        strength: Weight in nats per unit of activation, at least 0.

    Returns:
        A penalty with one term per example, [b].

    Raises:
        UsageError: `strength` is negative.

    Example:
        >>> l1(0.5)(None, None, jnp.array([[1.0, -3.0]]), None, None).tolist()
        [2.0]
    """
    strength = non_negative("l1", "strength", strength)

    def l1(f: Any, x: Array | None, h: Array, keys: Key[Array, " b"] | None, axis: Axis) -> Array:
        return strength * jnp.sum(jnp.abs(h.reshape(h.shape[0], -1)), axis=1)

    return l1


@described
def kl_sparsity(rho: Strength, strength: Strength) -> Penalty:
    """Sparsity penalty strength · Σ_j KL(ρ ‖ ρ̂_j), with ρ̂_j the mean activation of unit j over the global batch (Ng 2011).

    Units must lie in (0, 1), so the encoder ends in a sigmoid. A mean outside is clipped to the interval and has zero gradient;
    watch the logged `rho_hat`. Small batches make ρ̂ noisy and the penalty too large.

    Args:
        rho: Target ρ in (0, 1).
        strength: Weight in nats, at least 0.

    Returns:
        A penalty with one term for the whole batch, [].

    Raises:
        UsageError: `rho` is outside (0, 1), or `strength` is negative.

    Example:
        >>> term, logged = kl_sparsity(0.1, 1.0)(None, None, jnp.full((4, 3), 0.1), None, None)
        >>> bool(jnp.isclose(term, 0.0, atol=1e-6))
        True
    """
    strength, rho = non_negative("kl_sparsity", "strength", strength), non_negative("kl_sparsity", "rho", rho)
    if isinstance(rho, float) and not 0.0 < rho < 1.0:
        raise UsageError(f"kl_sparsity(rho={rho}): rho is a unit's mean activation, strictly between 0 and 1")

    def kl_sparsity(
        f: Any, x: Array | None, h: Array, keys: Key[Array, " b"] | None, axis: Axis
    ) -> tuple[Array, Terms]:
        rho_hat = mean(jnp.mean(h, axis=0), axis)
        # Clipped to the smallest float above 0 and the largest below 1.
        limits = jnp.finfo(h.dtype)
        q = jnp.clip(rho_hat, limits.tiny, 1.0 - limits.epsneg)
        kl = rho * (jnp.log(rho) - jnp.log(q)) + (1.0 - rho) * (jnp.log1p(-rho) - jnp.log1p(-q))
        return strength * jnp.sum(kl), {"rho_hat": jnp.mean(rho_hat)}

    return kl_sparsity


@described
def contractive(strength: Strength) -> Penalty:
    """Contractive penalty strength · ‖J_f(x)‖²_F of the encoder's Jacobian, exact (Rifai et al. 2011).

    The norm is computed in the cheapest exact way (`squared_jacobian`); for a single sigmoid layer that is a closed form. The
    paper ties the weights.

    Args:
        strength: Weight in nats, at least 0.

    Returns:
        A penalty with one term per example, [b].

    Raises:
        UsageError: `strength` is negative.

    Example:
        >>> double = lambda x: 2.0 * x  # its Jacobian is 2 I
        >>> contractive(0.5)(double, jnp.ones((1, 3)), jnp.ones((1, 3)), None, None).tolist()
        [6.0]
    """
    strength = non_negative("contractive", "strength", strength)

    def contractive(f: Any, x: Array, h: Array, keys: Key[Array, " b"], axis: Axis) -> Array:
        return strength * squared_jacobian(f, x)

    return contractive


@described
def contractive_h(strength: Strength, sigma: Strength, samples: int = 1) -> Penalty:
    """Second-order penalty strength · E_ε ‖J_f(x) − J_f(x + ε)‖²_F with ε ~ N(0, σ²I) (Rifai et al. 2011b).

    This is the second term of CAE+H, whose first is `contractive`: `penalties=(contractive(λ), contractive_h(γ, σ))`. The norms
    are exact; only ε is sampled. If a single layer of the encoder is nonlinear, it costs about as much as `contractive`;
    otherwise each sample costs twice as many rows or columns of the Jacobian.

    Args:
        strength: Weight in nats, at least 0.
        sigma: Standard deviation of ε in units of the data, at least 0.
        samples: Number of draws of ε.

    Returns:
        A penalty with one term per example, [b].

    Raises:
        UsageError: A number is negative, or `samples` is below 1.

    Example:
        >>> linear = lambda x: 2.0 * x  # the same Jacobian everywhere
        >>> x, keys = jnp.ones((1, 3)), jax.random.split(jax.random.key(0), 1)
        >>> contractive_h(1.0, 0.1)(linear, x, x, keys, None).tolist()
        [0.0]
    """
    strength, sigma = non_negative("contractive_h", "strength", strength), non_negative("contractive_h", "sigma", sigma)
    at_least_one("contractive_h", "samples", samples)

    def contractive_h(f: Any, x: Array, h: Array, keys: Key[Array, " b"], axis: Axis) -> Array:
        epsilon = jax.vmap(lambda key: jax.random.normal(key, (samples, *x.shape[1:]), x.dtype))(keys)
        near = (x[:, None] + sigma * epsilon).reshape(-1, *x.shape[1:])
        differences = squared_difference(f, jnp.repeat(x, samples, axis=0), near)
        return strength * jnp.mean(differences.reshape(-1, samples), axis=1)

    return contractive_h


@described
def hutchinson(strength: Strength, probes: int = 1) -> Penalty:
    """Contractive penalty strength · ‖J_f(x)‖²_F, estimated without bias (Hutchinson 1989).

    The estimate is the mean of ‖vᵀJ‖² over random sign vectors v. A probe costs about as much as a backward pass of the
    encoder, whatever the width of the code. It logs `hutchinson_variance`, [], in nats²: an unbiased estimate of the variance
    of an example's term over draws of v, averaged over examples. With a single probe, every eighth example gets a second one
    for this estimate.

    Args:
        strength: Weight in nats, at least 0.
        probes: Number of sign vectors per example.

    Returns:
        A penalty with one term per example, [b].

    Raises:
        UsageError: `strength` is negative, or `probes` is below 1.

    Example:
        >>> x, keys = jnp.ones((1, 3)), jax.random.split(jax.random.key(0), 1)
        >>> term, logged = hutchinson(0.5)(lambda x: 2.0 * x, x, x, keys, None)
        >>> term.tolist()  # exact here, because the Jacobian is diagonal
        [6.0]
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

    There is a closed form for an MLP with elementwise activations (`aejax.nets.mlp.squared_jacobian`). For any other encoder
    the rows of the Jacobian are computed one at a time for the whole batch, or its columns if x is narrower than the code. That
    takes the memory of one backward pass and the time of as many as there are rows.
    """
    layers = _layers(f, x)
    if layers is not None:
        return of_mlp(*layers, x.shape[0])
    return _squared_norm(*pullback(batched(f), x), x)


def squared_difference(
    f: Encoder, x: Float[Array, " b *shape"], other: Float[Array, " b *shape"]
) -> Float[Array, " b"]:
    """‖J_f(x) − J_f(other)‖²_F of each pair of examples, exact.

    There is a closed form if the Jacobian is linear in the slopes of one layer.
    """
    ours, theirs = _layers(f, x), _layers(f, other)
    if ours is not None and theirs is not None and sum(d is not None for d in ours[1]) <= 1:
        differences = [d if d is None or e is None else d - e for d, e in zip(ours[1], theirs[1])]
        linear = all(d is None for d in differences)
        return jnp.zeros(x.shape[0]) if linear else of_mlp(ours[0], differences, x.shape[0])
    (h, pull), (_, pull_other) = (pullback(batched(f), at) for at in (x, other))
    return _squared_norm(h, lambda u: pull(u) - pull_other(u), x)


def _layers(f: Encoder, x: Array) -> tuple[list[Array], list[Array | None]] | None:
    """An MLP's kernels and slopes; None if there is no closed form."""
    if not isinstance(f, Code) or type(f.module) is not MLP:
        return None
    of_layers = slopes(f.module, f.params, x)
    return None if of_layers is None else ([f.params[f"dense_{i}"]["kernel"] for i in range(len(of_layers))], of_layers)


def batched(f: Encoder) -> Encoder:
    """f for a batch. A module gets the whole batch at once, which lets XLA reuse the codes that it computes anyway."""
    if isinstance(f, Code):
        return lambda x: apply(f.module, f.params, x)
    return jax.vmap(f)


def pullback(encode: Encoder, x: Float[Array, " b *shape"]) -> tuple[Float[Array, " b *code"], Linear]:
    """The codes of a batch, and u [b, *code] -> uᵀJ [b, *shape], with the Jacobian of each example."""
    h, vjp = jax.vjp(encode, x)
    return h, lambda u: vjp(u)[0]


def narrow_side(pull: Linear, h: Array, x: Array) -> tuple[Linear, Array]:
    """(linear map, an array like its argument) that gives the rows of the Jacobians, or the columns if x is narrower than h."""
    if math.prod(h.shape[1:]) <= math.prod(x.shape[1:]):
        return pull, h
    # v -> Jv is the transpose of the rows: our convolutions have no forward-mode derivative.
    push = jax.vjp(pull, jnp.zeros_like(h))[1]
    return lambda v: push(v)[0], x


def unit(i: Any, like: Float[Array, " b *shape"]) -> Float[Array, " b *shape"]:
    """The i-th unit vector, for every example."""
    return jnp.zeros_like(like).reshape(len(like), -1).at[:, i].set(1.0).reshape(like.shape)


def _squared_norm(h: Array, pull: Linear, x: Array) -> Float[Array, " b"]:
    """‖J‖²_F of each example, whose rows `pull` gives."""
    side, like = narrow_side(pull, h, x)
    # Rows are recomputed for the gradient. Stored, they would take one batch of activations each.
    one = jax.checkpoint(lambda i: _squared(side(unit(i, like))), prevent_cse=False)
    return jnp.sum(jax.lax.map(one, jnp.arange(math.prod(like.shape[1:]))), axis=0)


def _squared(y: Float[Array, " b *shape"]) -> Float[Array, " b"]:
    return jnp.sum(jnp.square(y).reshape(len(y), -1), axis=1)
