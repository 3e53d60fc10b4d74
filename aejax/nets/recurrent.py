"""Recurrent nets over sequences, forwards only: what has been seen until each step, and the gated map of its paper."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Gated(nn.Module):
    """tanh(Wx) ⊙ sigmoid(Vx), then a dense layer: the map D of Gregor et al. (2019, appendix), [b, n] -> [b, out].

    With `depth` more such products follow one another before the dense layer.
    """

    hidden: int
    out: int
    depth: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b n"]) -> Float[Array, "b out"]:
        for i in range(self.depth):
            value, gate = jnp.split(nn.Dense(2 * self.hidden, name=f"gated_{i}")(x), 2, axis=1)
            x = jnp.tanh(value) * nn.sigmoid(gate)
        return nn.Dense(self.out, name="out")(x)


class Beliefs(nn.Module):
    """What is known after each frame: sequences [b, t, *frame] -> [b, t + 1, width], the first before any frame, zeros.

    `frame` encodes each frame [n, *frame] -> [n, m], `cell` is what runs over them (`nn.GRUCell(width)`,
    `nn.OptimizedLSTMCell(width)`). What follows a step does not enter it, so frames that pad a sequence at its end do nothing.
    """

    frame: nn.Module
    cell: nn.RNNCellBase
    remat: bool = False
    """Keeps the values between stretches of √t frames, and computes what is within a stretch once more for the gradient (Chen et
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
        return jnp.concatenate([jnp.zeros_like(out[:, :1]), out], axis=1)
