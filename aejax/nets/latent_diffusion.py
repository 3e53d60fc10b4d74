"""Encoder and decoder of latent diffusion's image autoencoder (Rombach et al. 2022), as Stable Diffusion has it.

Modules are named as in diffusers' `AutoencoderKL`, so that its weights are found by their paths. Images have any size; each of
the encoder's levels but the last halves it, rounding down.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from aejax.errors import UsageError, at_least_one
from aejax.kernels.attention import attention
from aejax.kernels.convolution import conv
from aejax.nets.conv import LECUN


def _for_flax(x: Array, kernel: Array, strides: tuple[int, int], padding: str, **_: Any) -> Array:
    return conv(x, kernel, strides[0])


_conv = partial(nn.Conv, kernel_size=(3, 3), kernel_init=LECUN, conv_general_dilated=_for_flax)


class ResnetBlock(nn.Module):
    """x + (norm, SiLU, 3×3, norm, SiLU, 3×3); x goes through a 1×1 convolution where the number of channels changes."""

    width: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w width"]:
        y = _conv(self.width, dtype=self.dtype, name="conv1")(_silu(_norm(self, "norm1")(x)))
        y = _conv(self.width, dtype=self.dtype, name="conv2")(_silu(_norm(self, "norm2")(y)))
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width, dtype=self.dtype, name="conv_shortcut")(x)
        return x + y


class Attention(nn.Module):
    """x + attention of every position to all, with one head."""

    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        rows = _norm(self, "group_norm")(x).reshape(b, h * w, c)
        q, v = (nn.Dense(c, dtype=self.dtype, name=name)(rows) for name in ("to_q", "to_v"))
        k = Keys(self.dtype, name="to_k")(rows)
        return x + nn.Dense(c, dtype=self.dtype, name="to_out_0")(attention(q, k, v).reshape(b, h, w, c))


class Keys(nn.Module):
    """A dense layer whose bias does not learn: it adds one number to all weights of a row, which the softmax takes away again.
    Its gradient would be rounding errors, and Adam would follow them.
    """

    dtype: Any

    @nn.compact
    def __call__(self, rows: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        c = rows.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (c, c))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        rows, kernel, bias = promote_dtype(rows, kernel, jax.lax.stop_gradient(bias), dtype=self.dtype)
        return rows @ kernel + bias[None, None]


class Middle(nn.Module):
    """Block, attention, block."""

    groups: int
    dtype: Any
    attention: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        x = ResnetBlock(x.shape[-1], self.groups, self.dtype, name="resnets_0")(x)
        if self.attention:
            x = Attention(self.groups, self.dtype, name="attentions_0")(x)
        return ResnetBlock(x.shape[-1], self.groups, self.dtype, name="resnets_1")(x)


class Down(nn.Module):
    """Blocks, then half the size: zeros to the right and below only, and a 3×3 convolution of stride 2."""

    width: int
    groups: int
    dtype: Any
    blocks: int
    halve: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b half_h half_w width"]:
        for i in range(self.blocks):
            x = ResnetBlock(self.width, self.groups, self.dtype, name=f"resnets_{i}")(x)
        if not self.halve:
            return x
        # At even sizes, padding of stride 2 is to the right and below. An odd size is made even first, and the last row and
        # column, which would need more than one zero, are left out.
        h, w = x.shape[1:3]
        even = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
        return Halving(self.width, self.dtype, name="downsamplers_0")(even)[:, : h // 2, : w // 2]


class Halving(nn.Module):
    """A 3×3 convolution of stride 2."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b half_h half_w width"]:
        return _conv(self.width, strides=(2, 2), dtype=self.dtype, name="conv")(x)


class Up(nn.Module):
    """Blocks, then twice the size by repetition, and a 3×3 convolution."""

    width: int
    groups: int
    dtype: Any
    blocks: int
    double: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b double_h double_w width"]:
        for i in range(self.blocks):
            x = ResnetBlock(self.width, self.groups, self.dtype, name=f"resnets_{i}")(x)
        return Doubling(self.width, self.dtype, name="upsamplers_0")(x) if self.double else x


class Doubling(nn.Module):
    """Each pixel four times, and a 3×3 convolution."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b double_h double_w width"]:
        return _conv(self.width, dtype=self.dtype, name="conv")(x.repeat(2, axis=1).repeat(2, axis=2))


class KLEncoder(nn.Module):
    """Images [b, h, w, c] -> the moments of their latents, [b, h', w', 2 · latent]: means, then log σ² as the net gives it.

    Example:
        >>> net = KLEncoder((8, 16), 4, groups=4)
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))[0].shape
        (2, 14, 14, 8)
    """

    widths: tuple[int, ...]
    """Channels of each level; all levels but the last halve the image."""
    latent: int
    layers: int = 2
    """Blocks of a level."""
    groups: int = 32
    attention: bool = True
    quant_conv: bool = True
    """Whether a 1×1 convolution follows."""
    dtype: Any = jnp.float32
    """Type of the arithmetic in the layers. Parameters and outputs are float32."""
    remat: bool = False
    """Whether to store only the activations between levels, and recompute those inside for the gradient."""

    def __post_init__(self) -> None:
        _refuse(self, "KLEncoder")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b small_h small_w moments"]:
        _refuse_other_images(x)
        x = _conv(self.widths[0], dtype=self.dtype, name="conv_in")(x)
        down = nn.remat(Down) if self.remat else Down
        for i, width in enumerate(self.widths):
            halve = i + 1 < len(self.widths)
            x = down(width, self.groups, self.dtype, self.layers, halve, name=f"down_blocks_{i}")(x)
        x = Middle(self.groups, self.dtype, self.attention, name="mid_block")(x)
        x = _silu(_norm(self, "conv_norm_out")(x))
        x = _conv(2 * self.latent, dtype=self.dtype, name="conv_out")(x)
        if self.quant_conv:
            x = nn.Dense(2 * self.latent, dtype=self.dtype, name="quant_conv")(x)
        return x.astype(jnp.float32)


class KLDecoder(nn.Module):
    """Latents [b, h', w', latent] -> images [b, h, w, channels]; `widths` are those of the encoder, in the same order.

    Example:
        >>> net = KLDecoder((8, 16), 3, groups=4)
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 7, 7, 4)))[0].shape
        (2, 14, 14, 3)
    """

    widths: tuple[int, ...]
    channels: int
    layers: int = 2
    """One less than the blocks of a level."""
    groups: int = 32
    attention: bool = True
    quant_conv: bool = True
    """Whether a 1×1 convolution comes first."""
    dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        _refuse(self, "KLDecoder")
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Float[Array, "b small_h small_w latent"]) -> Float[Array, "b h w c"]:
        if self.quant_conv:
            z = nn.Dense(z.shape[-1], dtype=self.dtype, name="post_quant_conv")(z)
        x = _conv(self.widths[-1], dtype=self.dtype, name="conv_in")(z)
        x = Middle(self.groups, self.dtype, self.attention, name="mid_block")(x)
        up = nn.remat(Up) if self.remat else Up
        for i, width in enumerate(reversed(self.widths)):
            double = i + 1 < len(self.widths)
            x = up(width, self.groups, self.dtype, self.layers + 1, double, name=f"up_blocks_{i}")(x)
        x = _silu(_norm(self, "conv_norm_out")(x))
        return _conv(self.channels, dtype=self.dtype, name="conv_out")(x).astype(jnp.float32)


def _norm(net: Any, name: str) -> nn.Module:
    """Group normalization in float32."""
    return nn.GroupNorm(net.groups, epsilon=1e-6, dtype=jnp.float32, name=name)


def _silu(x: Array) -> Array:
    return nn.silu(x)


def _refuse(net: Any, name: str) -> None:
    for field in ("widths", "layers", "groups"):
        at_least_one(name, field, getattr(net, field))
    if not net.widths:
        raise UsageError(f"{name}(widths=()): give at least one level")
    if wrong := [width for width in net.widths if width % net.groups]:
        raise UsageError(
            f"{name}(widths={net.widths}, groups={net.groups}): {wrong[0]} channels are no multiple of the groups"
        )


def _refuse_other_images(x: Array) -> None:
    if x.ndim != 4:
        raise UsageError(
            f"the encoder of latent diffusion takes images [h, w, c], but examples have shape {x.shape[1:]}"
        )
