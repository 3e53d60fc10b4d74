"""Recurrent nets over sequences, forward only: summaries of the frames seen so far, and the gated map of the TD-VAE paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.errors import at_least_one, at_most

EMBEDDING = 9
"""Size of the embedding of a gap (`aejax.objective.time_gaps.embedding`), whose first number is δ / longest gap."""


class Gated(nn.Module):
    """tanh(Wx) ⊙ sigmoid(Vx), followed by a dense layer: the map D of Gregor et al. (2019, appendix), [b, n] -> [b, out].

    With `depth` several such products follow one another before the dense layer, which is initialized by `last_init`.

    Example:
        >>> jax.eval_shape(Gated(16, 4).init_with_output, jax.random.key(0), jnp.zeros((2, 8)))[0].shape
        (2, 4)
    """

    hidden: int
    out: int
    depth: int = 1
    skip: bool = False
    """Whether the dense layer also receives x; the products are bounded and cannot pass x on unchanged."""
    last_init: Callable[..., Any] = nn.initializers.lecun_normal()

    def __post_init__(self) -> None:
        for name in ("hidden", "out", "depth"):
            at_least_one("Gated", name, getattr(self, name))
        at_most("Gated", "depth", self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b n"]) -> Float[Array, "b out"]:
        h = x
        for i in range(self.depth):
            value, gate = jnp.split(nn.Dense(2 * self.hidden, name=f"gated_{i}")(h), 2, axis=1)
            h = jnp.tanh(value) * nn.sigmoid(gate)
        if self.skip:
            h = jnp.concatenate([h, x], axis=1)
        return nn.Dense(self.out, kernel_init=self.last_init, name="out")(h)


class OscillatorTransition(nn.Module):
    """Transition of a state that rotates at a learned speed, forward or `back`, plus a correction by `net`: [b, n] -> [b, out].

    A row starts with a state z = (u, v, s, k) of `latent` numbers: `planes` numbers of u and of v, one of s, the rest k. If
    `most` is positive, the embedding of the gap δ follows (`time_gaps.embedding`, with `most` the longest gap); with most=0 the
    gap is one step and is not embedded. The state keeps s and k. The planes hold a Fourier series of a rotation with speed s:
    each (u_j, v_j) is rotated by

        `unit` h_j s δ radians,   h = 1, …, `harmonics`, 1, …, `harmonics`, …

    `net` receives the row and the rotated state; the first `latent` of its outputs, a mean, are added to that state. What
    persists is thus predicted at no cost, including the noise of a draw, and no net has to learn products of a gap and a speed.
    `net` does not receive the gap in any other way: a net that does fails at gaps that were rare in training.

    Example:
        >>> net = OscillatorTransition(Gated(16, 2 * 8), latent=8, planes=3)
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 8)))[0].shape
        (2, 16)
    """

    net: nn.Module
    latent: int
    planes: int
    harmonics: int = 1
    most: int = 0
    unit: float = 0.5
    """Speed in radians per step for s = 1. Initially s is about 1, and planes that rotate much faster are hard to train."""
    back: bool = False

    def __post_init__(self) -> None:
        for name in ("latent", "harmonics"):
            at_least_one("OscillatorTransition", name, getattr(self, name))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b n"]) -> Float[Array, "b out"]:
        m = self.planes
        u, v, s, k = jnp.split(x[:, : self.latent], [m, 2 * m, 2 * m + 1], axis=1)
        delta, rest = jnp.ones_like(s), x[:, self.latent :]
        if self.most:
            delta, rest = self.most * rest[:, :1], rest[:, EMBEDDING:]
        harmonic = jnp.asarray(1 + np.arange(m) % self.harmonics, x.dtype)[None]
        angle = (-self.unit if self.back else self.unit) * delta * s * harmonic
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        z = jnp.concatenate([u * cos - v * sin, u * sin + v * cos, s, k], axis=1)
        out = self.net(jnp.concatenate([x[:, : self.latent], rest, z], axis=1))
        return out + jnp.pad(z, ((0, 0), (0, out.shape[1] - self.latent)))


class GRU(nn.RNNCellBase):
    """The gated recurrent unit of `nn.GRUCell` (Cho et al. 2014), given the frame's contribution to its gates, [b, 3·width].

    This contribution does not depend on earlier frames, so the dense layer that computes it is the last layer of the frame
    encoder, applied to all frames at once. One matrix product per step remains instead of six.

    Example:
        >>> cell = GRU(8)
        >>> carry = cell.initialize_carry(jax.random.key(0), (2, 24))
        >>> (_, h), _ = jax.eval_shape(cell.init_with_output, jax.random.key(1), carry, jnp.zeros((2, 24)))
        >>> h.shape
        (2, 8)
    """

    width: int
    num_feature_axes = 1

    def __post_init__(self) -> None:
        at_least_one("GRU", "width", self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, h: Float[Array, "b h"], given: Float[Array, "b gates"]) -> tuple[Array, Array]:
        carried = nn.Dense(3 * self.width, kernel_init=_each_gate(3), name="carried")(h)
        (reset, update, new), (from_r, from_u, from_n) = (jnp.split(of, 3, axis=1) for of in (given, carried))
        r, u = nn.sigmoid(reset + from_r), nn.sigmoid(update + from_u)
        h = (1.0 - u) * jnp.tanh(new + r * from_n) + u * h
        return h, h

    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> Array:
        return jnp.zeros((*input_shape[:-1], self.width))


class LSTM(nn.RNNCellBase):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), given the frame's contribution to its gates, [b, 4·width].

    Example:
        >>> cell = LSTM(8)
        >>> carry = cell.initialize_carry(jax.random.key(0), (2, 32))
        >>> (_, h), _ = jax.eval_shape(cell.init_with_output, jax.random.key(1), carry, jnp.zeros((2, 32)))
        >>> h.shape
        (2, 8)
    """

    width: int
    num_feature_axes = 1

    def __post_init__(self) -> None:
        at_least_one("LSTM", "width", self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], given: Float[Array, "b gates"]) -> tuple[tuple[Array, Array], Array]:
        c, h = carry
        gates = given + nn.Dense(4 * self.width, kernel_init=_each_gate(4), name="carried")(h)
        keep, write, new, show = jnp.split(gates, 4, axis=1)
        c = nn.sigmoid(keep) * c + nn.sigmoid(write) * jnp.tanh(new)
        h = nn.sigmoid(show) * jnp.tanh(c)
        return (c, h), h

    def initialize_carry(self, rng: Key[Array, ""], input_shape: tuple[int, ...]) -> tuple[Array, Array]:
        zeros = jnp.zeros((*input_shape[:-1], self.width))
        return zeros, zeros


def _each_gate(gates: int) -> Callable[..., Any]:
    """An orthogonal matrix for each gate, side by side."""
    orthogonal = nn.initializers.orthogonal()

    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        one = lambda key: orthogonal(key, (shape[0], shape[1] // gates), dtype)
        return jnp.concatenate([one(k) for k in jax.random.split(key, gates)], axis=1)

    return init


class Beliefs(nn.Module):
    """Summary of the frames seen so far: sequences [b, t, *frame] -> [b, t + 1, width], starting with zeros before any frame.

    `frame` encodes each frame, [n, *frame] -> [n, m], and `cell` runs over the results: `GRU(width)` with m = 3·width,
    `LSTM(width)` with m = 4·width, or a cell from Flax, which contains the dense layer before its gates. A belief does not
    depend on later frames, so padding at the end of a sequence has no effect on it.

    Example:
        >>> net = Beliefs(MLP((), 3 * 8), GRU(8))
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 5, 4, 4)))[0].shape
        (2, 6, 8)
    """

    frame: nn.Module
    cell: nn.RNNCellBase
    shown: bool = False
    """Whether to append the last frame itself to the output of the cell; the width grows by its size."""
    remat: bool = False
    """Whether to store only the activations between segments of √t frames, and recompute those inside for the gradient (Chen et
    al. 2016, §4.1). Memory then grows with √t instead of t, apart from the frames' codes: the gradient of an LSTM of width 128
    over 16 sequences of 1024 frames takes 25 MiB instead of 121, by XLA's estimate."""

    @nn.compact
    def __call__(self, x: Float[Array, "b t *frame"]) -> Float[Array, "b after width"]:
        b, t = x.shape[:2]
        codes = self.frame(x.reshape(b * t, *x.shape[2:])).reshape(b, t, -1)
        carry = self.cell.initialize_carry(jax.random.key(0), codes.shape[:1] + codes.shape[2:])
        run = nn.scan(
            lambda cell, carry, code: cell(carry, code),
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        if self.remat:
            length = math.isqrt(t - 1) + 1
            stretches = -(-t // length)
            padded = jnp.pad(codes, ((0, 0), (0, stretches * length - t), (0, 0)))
            run_stretches = nn.scan(
                nn.remat(run),
                variable_broadcast="params",
                split_rngs={"params": False},
                in_axes=1,
                out_axes=1,
            )
            _, out = run_stretches(self.cell, carry, padded.reshape(b, stretches, length, -1))
            out = out.reshape(b, stretches * length, -1)[:, :t]
        else:
            _, out = run(self.cell, carry, codes)
        if self.shown:
            out = jnp.concatenate([out, x.reshape(b, t, -1)], axis=2)
        return jnp.concatenate([jnp.zeros_like(out[:, :1]), out], axis=1)
