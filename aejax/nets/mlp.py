"""Multi-layer perceptrons: any shape in, any shape out."""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
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

    @nn.compact
    def __call__(self, x: Float[Array, "b *shape"]) -> Float[Array, "b *out"]:
        shape = (self.out,) if isinstance(self.out, int) else self.out
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden):
            x = self.activation(nn.Dense(width, use_bias=self.use_bias, name=f"dense_{i}")(x))
        x = nn.Dense(math.prod(shape), use_bias=self.use_bias, name=f"dense_{len(self.hidden)}")(x)
        return self.out_activation(x).reshape(-1, *shape)


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
