"""Convolutions of images [h, w, c] that are also fast on CPUs, with their gradients; used by the nets in conv.py.

On other platforms they are XLA's own. On CPUs, XLA's convolutions, and above all their gradients inside a loop such as
training, are much slower than its matrix products. There they are computed as matrix products: of the patches at each position
or, if that saves multiplications, of Winograd's transformed tiles. Squares of stride × stride pixels are first moved into the
channels, so that all are correlations of stride 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"], stride: int = 2
) -> Float[Array, "b small_h small_w d"]:
    """The convolution, padded so that the output size is the input size divided by the stride, rounded up.

    It has reverse-mode derivatives of any order, but no forward-mode derivatives.
    """
    return jax.lax.platform_dependent(
        x, kernel, cpu=partial(_by_products, stride=stride), default=partial(_by_library, stride=stride)
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(
    z: Float[Array, "b h w d"], kernel: Float[Array, "kh kw c d"], size: tuple[int, ...]
) -> Float[Array, "b double_h double_w c"]:
    """The transpose of `conv` from images of `size`, whose size halved is that of z.

    It has reverse-mode derivatives of any order, but no forward-mode derivatives. The kernel's gradient is that of the
    convolution whose transpose this is, because <conv_transpose(z, kernel), g> = <z, conv(g, kernel)>.
    """
    return _gradient_of_image(z, kernel, size, 2)


def _conv_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel, stride), (x, kernel)


def _conv_backward(stride: int, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    return _gradient_of_image(g, kernel, x.shape[1:3], stride), _gradient_of_kernel(x, g, kernel.shape[:2], stride)


conv.defvjp(_conv_forward, _conv_backward)


def _conv_transpose_forward(z: Array, kernel: Array, size: tuple[int, ...]) -> tuple[Array, tuple[Array, Array]]:
    return conv_transpose(z, kernel, size), (z, kernel)


def _conv_transpose_backward(size: tuple[int, ...], kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    z, kernel = kept
    return conv(g, kernel), _gradient_of_kernel(g, z, kernel.shape[:2], 2)


conv_transpose.defvjp(_conv_transpose_forward, _conv_transpose_backward)


def _by_library(x: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT)


def _by_products(x: Array, kernel: Array, stride: int) -> Array:
    x, kernel = _in_squares(x, kernel.shape[:2], stride), _kernel_in_squares(kernel, stride)
    return _winograd(x, kernel) if _in_fewer(x, kernel.shape) else _patches(x, kernel.shape[:2]) @ _as_matrix(kernel)


def _gradient_of_image(g: Array, kernel: Array, size: tuple[int, ...], stride: int) -> Array:
    image = jax.ShapeDtypeStruct((g.shape[0], *size, kernel.shape[2]), g.dtype)

    def transposed(f: Callable[[Array, Array, int], Array]) -> Callable[[Array, Array], Array]:
        return lambda g, kernel: jax.linear_transpose(lambda x: f(x, kernel, stride), image)(g)[0]

    def by_products(g: Array, kernel: Array) -> Array:
        squares = jax.eval_shape(lambda x: _in_squares(x, kernel.shape[:2], stride), image)
        if not _in_fewer(squares, _kernel_in_squares(kernel, stride).shape):
            return transposed(_by_products)(g, kernel)
        # A correlation again, with the kernel rotated by half a turn, computed only for squares that contain pixels of x.
        turned = _kernel_in_squares(kernel, stride)[::-1, ::-1].transpose(0, 1, 3, 2)
        before = [low for low, _ in jax.lax.padtype_to_pads(size, kernel.shape[:2], (stride, stride), "SAME")]
        first = [low // stride for low in before]
        last = [-(-(low + side) // stride) for low, side in zip(before, size)]
        fill = [(n - 1 - i, j - m, 0) for n, i, j, m in zip(turned.shape, first, last, g.shape[1:3])]
        result = _winograd(jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *fill, (0, 0, 0))), turned)
        (b, h, w, _), c = result.shape, kernel.shape[2]
        pixels = result.reshape(b, h, w, stride, stride, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * stride, -1, c)
        top, left = (low % stride for low in before)
        return pixels[:, top : top + size[0], left : left + size[1]]

    return jax.lax.platform_dependent(g, kernel, cpu=by_products, default=transposed(_by_library))


def _gradient_of_kernel(x: Array, g: Array, size: tuple[int, ...], stride: int) -> Array:
    """Σ over examples and positions of (x around a position) ⊗ (g there)."""
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3], g.shape[3]), g.dtype)

    def by_library(x: Array, g: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _by_library(x, kernel, stride), kernel)(g)[0]

    def by_products(x: Array, g: Array) -> Array:
        x = _in_squares(x, size, stride)
        squares = jax.eval_shape(lambda kernel: _kernel_in_squares(kernel, stride), kernel)
        if _in_fewer(x, squares.shape):
            result = _winograd_gradient(x, g, squares.shape[0])
        else:
            rows = _patches(x, squares.shape[:2])
            # With g first, the product is a quarter faster than with the patches, which are longer.
            result = (g.reshape(-1, g.shape[3]).T @ rows.reshape(-1, rows.shape[3])).T.reshape(squares.shape)
        return jax.linear_transpose(lambda kernel: _kernel_in_squares(kernel, stride), kernel)(result)[0]

    return jax.lax.platform_dependent(x, g, cpu=by_products, default=by_library)


def _in_squares(x: Float[Array, "b h w c"], size: tuple[int, ...], stride: int) -> Float[Array, "b high wide k"]:
    """x padded for a kernel of this size, with its squares of stride × stride pixels as channels."""
    b, h, w, c = x.shape
    pads = jax.lax.padtype_to_pads((h, w), size, (stride, stride), "SAME")
    high, wide = (-(-side // stride) + -(-taps // stride) - 1 for side, taps in zip((h, w), size))
    fill = [(low, stride * n - low - had, 0) for (low, _), n, had in zip(pads, (high, wide), (h, w))]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *fill, (0, 0, 0)))
    if stride == 1:
        return x
    return x.reshape(b, high, stride, wide, stride, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, high, wide, -1)


def _kernel_in_squares(kernel: Float[Array, "kh kw c d"], stride: int) -> Float[Array, "high wide k d"]:
    """The kernel in the same layout, padded with zeros to a whole number of strides."""
    kh, kw, c, d = kernel.shape
    high, wide = (-(-side // stride) for side in (kh, kw))
    fill = [(0, stride * n - side, 0) for n, side in zip((high, wide), (kh, kw))]
    kernel = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), (*fill, (0, 0, 0), (0, 0, 0)))
    return kernel.reshape(high, stride, wide, stride, c, d).transpose(0, 2, 1, 3, 4, 5).reshape(high, wide, -1, d)


def _patches(x: Float[Array, "b h w c"], size: tuple[int, ...]) -> Float[Array, "b small_h small_w k"]:
    """The patch of x for each position of the output, in the order of `_as_matrix`."""
    high, wide = (side - taps + 1 for side, taps in zip(x.shape[1:3], size))
    return jnp.concatenate([x[:, i : i + high, j : j + wide] for i in range(size[0]) for j in range(size[1])], axis=-1)


def _as_matrix(kernel: Float[Array, "kh kw c d"]) -> Float[Array, "k d"]:
    return kernel.reshape(-1, kernel.shape[3])


class _Transforms(NamedTuple):
    """Winograd's F(4×4, r×r) (Lavin & Gray 2016, §4): Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A.

    It computes sixteen output pixels from a tile d of x with sides r + 3, with (r + 3)² multiplications instead of 16 r²; over
    channels each of them is a matrix product.
    """

    of_tile: np.ndarray
    """Bᵀ [r + 3, r + 3]."""
    of_kernel: np.ndarray
    """G [r + 3, r]."""
    of_result: np.ndarray
    """Aᵀ [4, r + 3]."""


def _cook_toom(taps: int, points: tuple[int, ...]) -> _Transforms:
    """A product of polynomials from its values at these points and at infinity."""
    others = [np.delete(points, i) for i in range(len(points))]
    scale = np.array([np.prod(a - rest) for a, rest in zip(points, others)])
    padded = lambda roots: np.pad(np.poly(roots)[::-1], (0, len(points) - len(roots)))
    at = lambda powers: np.array(points)[:, None] ** np.arange(powers)
    last = lambda n: np.eye(n)[-1:]
    return _Transforms(
        np.stack([*(padded(rest) for rest in others), padded(points)]),
        np.concatenate([at(taps) / scale[:, None], last(taps)]),
        np.concatenate([at(4), last(4)]).T,
    )


_TRANSFORMS = {2: _cook_toom(2, (0, 1, -1, 2)), 3: _cook_toom(3, (0, 1, -1, 2, -2))}


def _in_fewer(x: Any, kernel: tuple[int, ...]) -> bool:
    """Whether Winograd's algorithm takes at most two thirds of the multiplications, with enough channels to make its transforms
    cheap in comparison. Only in float32, where it loses about a digit (4e-6 of the largest entry of a gradient).
    """
    taps, wide, c, d = kernel
    if taps != wide or taps not in _TRANSFORMS or min(c, d) < 64 or x.dtype != jnp.float32:
        return False
    h, w = (side - taps + 1 for side in x.shape[1:3])
    return 3 * math.prod(_tiles((h, w))) * (taps + 3) ** 2 <= 2 * h * w * taps**2


def _winograd(x: Float[Array, "b high wide c"], kernel: Float[Array, "r r c d"]) -> Float[Array, "b h w d"]:
    taps, _, c, d = kernel.shape
    h, w = (side - taps + 1 for side in x.shape[1:3])
    high, wide = _tiles((h, w))
    with_kernel, with_result = _by_rows(_TRANSFORMS[taps], x.dtype)
    result = jnp.zeros((16, len(x) * high * wide * d), x.dtype)
    for seen, of_kernel, of_result in zip(_seen(x, taps), with_kernel, with_result):
        weights = (of_kernel @ kernel.reshape(taps**2, -1)).reshape(-1, c, d)
        result = result + of_result @ (seen @ weights).reshape(len(seen), -1)
    result = result.reshape(4, 4, len(x), high, wide, d).transpose(2, 3, 0, 4, 1, 5)
    return result.reshape(len(x), 4 * high, 4 * wide, d)[:, :h, :w]


def _winograd_gradient(
    x: Float[Array, "b high wide c"], g: Float[Array, "b h w d"], taps: int
) -> Float[Array, "r r c d"]:
    """Gradient of the kernel: the transpose of `_winograd`."""
    c, d, transforms = x.shape[3], g.shape[3], _TRANSFORMS[taps]
    asked = _transformed(transforms.of_result.T, g, _tiles(g.shape[1:3]))
    result = jnp.zeros((taps**2, c * d), x.dtype)
    for seen, asked_of, of_kernel in zip(_seen(x, taps), asked, _by_rows(transforms, x.dtype)[0]):
        result = result + of_kernel.T @ jnp.einsum("tnc,tnd->tcd", seen, asked_of).reshape(len(seen), -1)
    return result.reshape(taps, taps, c, d)


def _by_rows(transforms: _Transforms, dtype: np.dtype) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """G and Aᵀ by rows of a transformed tile: both directions combined, acting on flattened tiles."""
    _, of_kernel, of_result = transforms
    both = lambda row, matrix: np.kron(row, matrix).astype(dtype)
    return [both(row, of_kernel) for row in of_kernel], [both(column[:, None], of_result) for column in of_result.T]


def _seen(x: Float[Array, "b high wide c"], taps: int) -> list[Float[Array, "side n c"]]:
    """Bᵀ d B by rows, for all tiles."""
    return _transformed(_TRANSFORMS[taps].of_tile, x, _tiles([side - taps + 1 for side in x.shape[1:3]]))


def _transformed(
    matrix: Float[np.ndarray, "m side"], x: Float[Array, "b h w c"], tiles: tuple[int, int]
) -> list[Float[Array, "m n c"]]:
    """matrix · d · matrixᵀ by rows, with d the side × side pixels of x that start at every fourth pixel, zero-padded."""
    (m, side), c = matrix.shape, x.shape[3]
    high, wide = (4 * (n - 1) for n in tiles)
    fill = [(0, end + side - had, 0) for end, had in zip((high, wide), x.shape[1:3])]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *fill, (0, 0, 0)))
    columns = [x[:, i : i + high + 1 : 4] for i in range(side)]
    rows = [_combined(row, columns) for row in matrix]
    apart = [[row[:, :, j : j + wide + 1 : 4] for j in range(side)] for row in rows]
    return [jnp.stack([_combined(of, parts) for of in matrix]).reshape(m, -1, c) for parts in apart]


def _combined(weights: np.ndarray, parts: list[Array]) -> Array:
    """Σ weights · parts, written out: XLA fuses both directions into one pass. As products with the matrices, which are sparse,
    it took several times as long.
    """
    first, *rest = [float(weight) * part for weight, part in zip(weights, parts) if weight]
    return sum(rest, first)


def _tiles(size: Sequence[int]) -> tuple[int, int]:
    h, w = size
    return -(-h // 4), -(-w // 4)
