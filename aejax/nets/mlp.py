"""Multi-layer perceptrons: any shape in, any shape out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from aejax.errors import UsageError


def identity(x):
    return x


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, each with `activation`, then one to `out` with `out_activation`.

    The input [b, ...] is flattened; the output is [b, out], or [b, *out] where `out` is a shape. `MLP((), 64)` is linear.
    """

    hidden: tuple[int, ...]
    out: int | tuple[int, ...]
    activation: Callable = nn.relu
    out_activation: Callable = identity
    use_bias: bool = True
    dtype: Any = jnp.float32
    """Of the arithmetic in the layers. Parameters, and what is returned, are float32."""
    remat: bool = False
    """Keeps the values between blocks of √n of the n hidden layers, and computes what is within a block once more for the
    gradient (Chen et al. 2016, §4.1). On CPU as in `ConvEncoder`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b *shape"]) -> Float[Array, "b *out"]:
        shape = (self.out,) if isinstance(self.out, int) else self.out

        def dense(width, i):
            return nn.Dense(width, use_bias=self.use_bias, dtype=self.dtype, name=f"dense_{i}")

        def hidden(net, x, first, stop):
            for i in range(first, stop):
                x = net.activation(dense(net.hidden[i], i)(x))
            return x

        x = x.reshape(x.shape[0], -1)
        n = len(self.hidden)
        if self.remat:
            length = max(1, math.isqrt(n))
            for first in range(0, n, length):
                x = nn.remat(hidden, static_argnums=(2, 3))(self, x, first, min(first + length, n))
        else:
            x = hidden(self, x, 0, n)
        x = dense(math.prod(shape), n)(x)
        return self.out_activation(x.astype(jnp.float32)).reshape(-1, *shape)


def untie(params: dict) -> dict:
    """What is left to train of a tied decoder: everything but its kernels."""
    return {
        layer: {name: leaf for name, leaf in leaves.items() if name != "kernel"} for layer, leaves in params.items()
    }


def tie(decoder: dict, encoder: dict) -> dict:
    """The decoder's parameters with W' = Wᵀ: the encoder's kernels transposed, its last layer first."""
    kernels = [encoder[f"dense_{i}"]["kernel"] for i in reversed(range(len(encoder)))]
    return {f"dense_{i}": {**decoder.get(f"dense_{i}", {}), "kernel": w.T} for i, w in enumerate(kernels)}


def check_mirror(encoder: dict, decoder: dict) -> None:
    """Tied weights need a decoder whose kernels have the encoder's shapes, transposed, in reverse order."""
    ours = [decoder[f"dense_{i}"]["kernel"].shape for i in range(len(decoder))]
    mirror = [encoder[f"dense_{i}"]["kernel"].shape[::-1] for i in reversed(range(len(encoder)))]
    if ours != mirror:
        raise UsageError(f"tied weights need a decoder with kernels {mirror}, the encoder's transposed; it has {ours}")
