"""Strided, residual convolutional encoders and decoders of images [h, w, c] (van den Oord et al. 2017, §4.1) and signals [t,
c].

Each of an encoder's `widths` halves the image, rounding up: 28, 14, 7, 4. The decoder derives the same sizes from its output
shape, so no size needs to be divisible by anything. A code is flat or spatial, and the decoder accepts either. A signal is
treated as an image of width 1, with kernels of width 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from aejax.errors import UsageError, at_least_one, at_most
from aejax.kernels.convolution import conv, conv_transpose


class ConvEncoder(nn.Module):
    """A 4×4 convolution of stride 2 for each of `widths`, residual blocks, and a dense layer to the code.

    Images [b, h, w, c] give codes [b, out]. With `spatial` they give [b, h', w', out], and the dense layer is shared by all
    positions. The paper's encoder with 8×8 codes for 32×32 images is `ConvEncoder((256, 256), out, spatial=True)`.

    Example:
        >>> net = ConvEncoder((8, 16), 4, spatial=True)
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))[0].shape
        (2, 7, 7, 4)
    """

    widths: tuple[int, ...]
    out: int
    spatial: bool = False
    blocks: int = 2
    """Number of residual blocks at the smallest size."""
    groups: int | None = None
    """Number of groups of channels for group normalization before each activation (Wu & He 2018); None for no normalization."""
    dtype: Any = jnp.float32
    """Type of the arithmetic in the layers. Parameters and outputs are float32."""
    remat: bool = False
    """Whether to store only the activations between layers and blocks, and recompute those inside for the gradient. (On CPU, XLA
    merges the two computations again and saves nothing unless its pass `cse_barrier_expander` is disabled.)"""
    signal: bool = False
    """Whether inputs are signals [b, t, c], with kernels of length 4 and 3; with `spatial` the codes are [b, t', out]."""

    def __post_init__(self) -> None:
        for name in ("widths", "out"):
            at_least_one("ConvEncoder", name, getattr(self, name))
        at_most("ConvEncoder", "blocks", self.blocks)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, " b *shape"]) -> Float[Array, " b *out"]:
        if x.ndim != (3 if self.signal else 4) or not self.widths:
            raise UsageError(
                f"a convolutional net needs {_kind(self)} and at least one width, but examples have shape {x.shape[1:]} "
                f"and widths {self.widths}; {_instead(self)}"
            )
        x = x[:, :, None] if self.signal else x
        x = nn.Conv(
            self.widths[0],
            _kernel(4, self.signal),
            2,
            kernel_init=LECUN,
            conv_general_dilated=_for_flax,
            dtype=self.dtype,
            name="down_0",
        )(x)
        for i, width in enumerate(self.widths[1:], 1):
            x = _block(self, Down, width, name=f"down_{i}")(x)
        for i in range(self.blocks):
            x = _block(self, Residual, self.widths[-1], name=f"residual_{i}")(x)
        x = rectified(x, self.groups)
        x = x.reshape(x.shape[0], -1) if not self.spatial else x[:, :, 0] if self.signal else x
        return nn.Dense(self.out, dtype=self.dtype, name="code")(x).astype(jnp.float32)


class ConvDecoder(nn.Module):
    """The mirror image of `ConvEncoder`: a dense layer, residual blocks, and a transposed convolution for each halving.

    Codes [b, z] or [b, h', w', z] give [b, *out], where `out` is (h, w, c) or, for likelihoods with several numbers per
    element, (h, w, c, width). `widths` are those of the encoder reversed; the other fields are as there.

    Example:
        >>> net = ConvDecoder((16, 8), (28, 28, 1))
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 7, 7, 4)))[0].shape
        (2, 28, 28, 1)
    """

    widths: tuple[int, ...]
    out: tuple[int, ...]
    blocks: int = 2
    groups: int | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    signal: bool = False

    def __post_init__(self) -> None:
        for name in ("widths", "out"):
            at_least_one("ConvDecoder", name, getattr(self, name))
        at_most("ConvDecoder", "blocks", self.blocks)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Float[Array, " b *code"]) -> Float[Array, " b *out"]:
        sides = 1 if self.signal else 2
        if len(self.out) <= sides or not self.widths:
            raise UsageError(
                f"a convolutional net gives {_kind(self)} and needs at least one width; asked for {self.out} with widths "
                f"{self.widths}; {_instead(self)}"
            )
        *larger, smallest = halvings((*self.out[:sides], 1)[:2], len(self.widths))
        if self.signal and z.ndim == 3:
            z = z[:, :, None]
        if z.ndim == 2:
            x = nn.Dense(math.prod(smallest) * self.widths[0], dtype=self.dtype, name="code")(z)
            x = x.reshape(-1, *smallest, self.widths[0])
        elif z.ndim == 4 and z.shape[1:3] == smallest:
            x = nn.Dense(self.widths[0], dtype=self.dtype, name="code")(z)
        else:
            raise UsageError(
                f"{self.out[:sides]} halved {len(self.widths)} times is {smallest[:sides]}, but the code has shape "
                f"{z.shape[1:]}; give encoder and decoder as many widths, or a flat code"
            )
        for i in range(self.blocks):
            x = _block(self, Residual, self.widths[0], name=f"residual_{i}")(x)
        channels = (*self.widths[1:], math.prod(self.out[sides:]))
        for i, (width, size) in enumerate(zip(channels, reversed(larger))):
            x = _block(self, Up, width, size=size, name=f"up_{i}")(x)
        return x.astype(jnp.float32).reshape(-1, *self.out)


class Down(nn.Module):
    """Halves the image."""

    width: int
    groups: int | None
    dtype: Any
    signal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b half_h half_w width"]:
        return _convolution(self.width, _kernel(4, self.signal), 2, dtype=self.dtype)(rectified(x, self.groups))


class Residual(nn.Module):
    """x + (ReLU, 3×3, ReLU, 1×1)."""

    width: int
    groups: int | None
    dtype: Any
    signal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w width"]) -> Float[Array, "b h w width"]:
        y = _convolution(self.width, _kernel(3, self.signal), dtype=self.dtype)(rectified(x, self.groups))
        # A 1×1 convolution is a matrix product, and faster as one.
        return x + nn.Dense(self.width, dtype=self.dtype)(rectified(y, self.groups))


class Up(nn.Module):
    """Doubles the image, to `size`: twice the input's size, or one less."""

    width: int
    groups: int | None
    dtype: Any
    signal: bool
    size: tuple[int, int]

    @nn.compact
    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b double_h double_w width"]:
        # At stride 2 an output sums over four of the kernel's sixteen positions (two of a signal's four): LeCun's variance is
        # 1 / (4 · channels of z), 1 / (2 · channels of z).
        met = 0.5 if self.signal else 0.25
        initial = as_matrix(nn.initializers.variance_scaling(met, "fan_in", "truncated_normal", -1, -2))
        kernel = self.param("kernel", initial, (*_kernel(4, self.signal), self.width, z.shape[-1]), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        z, kernel, bias = promote_dtype(rectified(z, self.groups), kernel, bias, dtype=self.dtype)
        return conv_transpose(z, kernel, self.size) + bias[None, None, None]


def as_matrix(initial: Callable[..., Any]) -> Callable[..., Any]:
    """Draws kernels [kh, kw, c, d] as matrices [kh·kw·c, d]: the same numbers, but XLA compiles it in a third of the time."""
    return lambda key, shape, dtype: initial(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


LECUN = as_matrix(nn.initializers.lecun_normal())


def rectified(x: Float[Array, "b h w c"], groups: int | None) -> Float[Array, "b h w c"]:
    """The activation before a layer, after group normalization (in float32) if `groups` is given; called in `__call__`."""
    if groups is None:
        return nn.relu(x)
    return nn.relu(nn.GroupNorm(groups)(x.astype(jnp.float32))).astype(x.dtype)


def halvings(size: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """The size of an image, followed by its size after each of a number of convolutions of stride 2."""
    sizes = [tuple(size)]
    for _ in range(times):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def _for_flax(x: Array, kernel: Array, strides: tuple[int, int], padding: str, **_: Any) -> Array:
    """`conv` with the signature that `flax.linen.Conv` expects."""
    return conv(x, kernel, strides[0])


_convolution = partial(nn.Conv, kernel_init=LECUN, conv_general_dilated=_for_flax)


def _block(net: Any, kind: type[nn.Module], width: int, **fields: Any) -> nn.Module:
    """A block of the net with the net's settings."""
    kind = nn.remat(kind) if net.remat else kind
    return kind(width, groups=net.groups, dtype=net.dtype, signal=net.signal, **fields)


def _kernel(size: int, signal: bool) -> tuple[int, int]:
    return (size, 1) if signal else (size, size)


def _kind(net: Any) -> str:
    return "signals [t, c]" if net.signal else "images [h, w, c]"


def _instead(net: Any) -> str:
    remedy = (
        "save signals of one channel as [n, t, 1], and with the channels last; tables are for tabular, dae and other nets of MLPs"
        if net.signal
        else "signals [t, c] are for conv_dae, conv_vae and vqvae, or signal=True; MLP takes any shape"
    )
    return f"{remedy} (`aejax data inspect` lists the experiments that take the data)"
