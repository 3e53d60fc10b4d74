"""Recurrent nets over sequences, forwards only: what has been seen until each step, and the gated map of its paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.errors import at_least_one

TOLD = 9
"""Numbers that tell a gap, the first of them its share of the longest, see `aejax.objective.time_gaps.embedding`."""


class Gated(nn.Module):
    """tanh(Wx) ⊙ sigmoid(Vx), then a dense layer: the map D of Gregor et al. (2019, appendix), [b, n] -> [b, out].

    With `depth` more such products follow one another before the dense layer, which starts as `last_init` says.
    """

    hidden: int
    out: int
    depth: int = 1
    skip: bool = False
    """Gives the dense layer x too: the products are bounded, and what is only to be passed on does not fit through them."""
    last_init: Callable[..., Any] = nn.initializers.lecun_normal()

    def __post_init__(self) -> None:
        for name in ("hidden", "out", "depth"):
            at_least_one("Gated", name, getattr(self, name))
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
    """How a state evolves by itself, forward or `back`, and what `net` adds to that: [b, n] -> [b, out].

    A row begins with a state z = (u, v, s, k) of `latent` numbers: `planes` of u and of v, one of s, the rest of k. The gap δ is
    next, as `time_gaps.embedding` tells it, the longest being `most`; with most=0 it is one step, without an embedding. By itself
    the state keeps s and k, and what goes round with the speed s is a Fourier series in the planes, each (u_j, v_j) turned by

        `unit` h_j s δ radians,   h = 1, …, `harmonics`, 1, …, `harmonics`, …

    `net` sees the row and the turned state, and the first of its numbers, a mean, are added to that state. So what persists is
    foreseen at no cost, the noise of a draw and all, and no net has to learn products of a gap and of a sequence's own speed.
    The gap reaches `net` in no other way: a net that sees it fails at jumps that training hardly made.
    """

    net: nn.Module
    latent: int
    planes: int
    harmonics: int = 1
    most: int = 0
    unit: float = 0.5
    """Of speed, radians a step. Before training s is about 1; of a plane that then turns by rounds little can be learnt."""
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
            delta, rest = self.most * rest[:, :1], rest[:, TOLD:]
        harmonic = jnp.asarray(1 + np.arange(m) % self.harmonics, x.dtype)[None]
        angle = (-self.unit if self.back else self.unit) * delta * s * harmonic
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        z = jnp.concatenate([u * cos - v * sin, u * sin + v * cos, s, k], axis=1)
        out = self.net(jnp.concatenate([x[:, : self.latent], rest, z], axis=1))
        return out + jnp.pad(z, ((0, 0), (0, out.shape[1] - self.latent)))


class GRU(nn.RNNCellBase):
    """The gated recurrent unit of `nn.GRUCell` (Cho et al. 2014), given what a frame says to its gates, [b, 3·width].

    That has nothing to do with the frames before, so the dense layer that makes it is the frame encoder's last, of all frames at
    once, and one product is left to run over them in place of six.
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
    """Long short-term memory (Hochreiter & Schmidhuber 1997), given what a frame says to its gates, [b, 4·width], as `GRU`."""

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
    """What is known after each frame: sequences [b, t, *frame] -> [b, t + 1, width], the first before any frame, zeros.

    `frame` encodes each frame [n, *frame] -> [n, m], `cell` is what runs over them: `GRU(width)` for m = 3·width, `LSTM(width)`
    for m = 4·width, or a cell of Flax, which has the dense layer before its gates within itself. What follows a step does not
    enter it, so frames that pad a sequence at its end do nothing.
    """

    frame: nn.Module
    cell: nn.RNNCellBase
    shown: bool = False
    """Gives the last frame itself beside what the cell has of it: width + its size."""
    remat: bool = False
    """Keeps the values between segments of √t frames, and computes what is within a segment once more for the gradient (Chen et
    al. 2016, §4.1): the memory grows with √t in place of t but for the frames' codes: of an LSTM of 128 over 16 sequences of
    1024 frames the gradient takes 25 MiB in place of 121, by XLA's count."""

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
