"""Distributions of a state with several layers, each of which depends on the layers above it; used by models of sequences.

p(z|c) = p(z^L|c) p(z^{L−1}|z^L, c) … p(z^1|z^2, …, z^L, c)

A state is one row, its highest layer first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from aejax.errors import UsageError, at_most
from aejax.nets.code import apply, initialized
from aejax.objective.posteriors import Posterior
from aejax.types import Params


class Layered(NamedTuple):
    """p(z|c) as pure functions of rows: c [n, m], z [n, layers · latent]; log-densities in nats."""

    init: Callable[[Key[Array, ""], Array], Params]
    """(key, c) -> params, `{"layer_1", …}`, where layer 1 is the lowest."""
    draw: Callable[[Params, Key[Array, " b"], Array], tuple[Array, Array]]
    """(params, keys [n], c) -> (z, log p(z|c) [n])."""
    mean: Callable[[Params, Array], Array]
    """(params, c) -> the mean of each layer, given the means of those above it."""
    log_prob: Callable[[Params, Array, Array], Array]
    """(params, c, z) -> log p(z|c) [n]."""


def layered(net: nn.Module, posterior: Posterior, latent: int, layers: int, what: str) -> Layered:
    """A chain of `layers` distributions, each with its own copy of `net`: rows -> [n, posterior.width(latent)].

    Args:
        net: Linen module for one layer.
        posterior: Distribution parametrized by the net's output; it needs `log_prob`.
        latent: Dimensions of a layer.
        layers: Number of layers.
        what: Name of the distribution in error messages.

    Returns:
        The distribution p(z|c).
    """
    if latent < 1 or layers < 1:
        raise UsageError(f"latent={latent}, layers={layers}: at least one of each")
    at_most(what, "layers", layers)
    density = posterior.log_prob
    if density is None:
        raise UsageError(f"the density of a state is needed, which {posterior.name}() does not have; use diagonal()")
    names = [f"layer_{layer}" for layer in range(layers, 0, -1)]

    def init(key: Key[Array, ""], c: Array) -> Params:
        params: Params = {}
        seen = c
        for name, k in zip(names, jax.random.split(key, layers)):
            h, params[name] = initialized(net, k, seen)
            if h.shape[1:] != (posterior.width(latent),):
                raise UsageError(
                    f"{what}= must give {posterior.width(latent)} numbers for {posterior.name}() of {latent} dimensions, but "
                    f"gives {h.shape[1:]}; end it in posterior.width(latent)"
                )
            seen = joined(seen, jnp.zeros((c.shape[0], latent)))
        return params

    def numbers(params: Params, name: str, seen: Array) -> Array:
        return apply(net, params[name], seen)

    def draw(params: Params, keys: Key[Array, " n"], c: Array) -> tuple[Array, Array]:
        split = jax.vmap(lambda key: jax.random.split(key, layers))(keys)
        seen, drawn, log_p = c, [], jnp.zeros(c.shape[0], c.dtype)
        for i, name in enumerate(names):
            z, more = jax.vmap(lambda key, h: posterior.draw({}, key, h))(split[:, i], numbers(params, name, seen))
            seen, log_p = joined(seen, z), log_p + more
            drawn.append(z)
        return joined(*drawn), log_p

    def mean(params: Params, c: Array) -> Array:
        seen, means = c, []
        for name in names:
            means.append(jax.vmap(lambda h: posterior.mean({}, h))(numbers(params, name, seen)))
            seen = joined(seen, means[-1])
        return joined(*means)

    def log_prob(params: Params, c: Array, z: Array) -> Array:
        log_p = jnp.zeros(c.shape[0], c.dtype)
        for i, name in enumerate(names):
            above, own = z[:, : i * latent], z[:, i * latent : (i + 1) * latent]
            h = numbers(params, name, joined(c, above))
            log_p = log_p + jax.vmap(lambda h, z: density({}, h, z))(h, own)
        return log_p

    return Layered(init, draw, mean, log_prob)


def joined(*rows: Float[Array, "n _"]) -> Float[Array, "n _"]:
    """One beside the other."""
    return jnp.concatenate(rows, axis=1)
