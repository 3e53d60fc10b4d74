"""Multi-layer perceptrons with inputs and outputs of any shape, tied weights, and the norm of the Jacobian in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aejax.errors import UsageError, at_least_one
from aejax.types import Params


def identity(x: Array) -> Array:
    return x


class MLP(nn.Module):
    """Dense layers of widths `hidden`, each followed by `activation`, then a dense layer to `out` with `out_activation`.

    The input [b, ...] is flattened; the output is [b, out], or [b, *out] if `out` is a shape. `MLP((), 64)` is linear.

    Example:
        >>> net = MLP((512, 256), (28, 28, 1))
        >>> jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, 32)))[0].shape
        (2, 28, 28, 1)
    """

    hidden: tuple[int, ...]
    out: int | tuple[int, ...]
    activation: Callable[[Array], Array] = nn.relu
    out_activation: Callable[[Array], Array] = identity
    use_bias: bool = True
    kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32
    """Type of the arithmetic in the layers. Parameters and outputs are float32."""
    remat: bool = False
    """Whether to store only the activations between blocks of √n of the n hidden layers, and recompute those inside for the
    gradient (Chen et al. 2016, §4.1). On CPU see `ConvEncoder.remat`."""

    def __post_init__(self) -> None:
        for name in ("hidden", "out"):
            at_least_one("MLP", name, getattr(self, name))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, " b *shape"]) -> Float[Array, " b *out"]:
        shape = (self.out,) if isinstance(self.out, int) else self.out

        def dense(width: int, i: int) -> Callable[..., Any]:
            return nn.Dense(
                width, use_bias=self.use_bias, kernel_init=self.kernel_init, dtype=self.dtype, name=f"dense_{i}"
            )

        def hidden(net: MLP, x: Array, first: int, stop: int) -> Array:
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


def untie(params: Params) -> Params:
    """The parameters of a tied decoder that are trained: all except its kernels."""
    return {
        layer: {name: leaf for name, leaf in leaves.items() if name != "kernel"} for layer, leaves in params.items()
    }


def tie(decoder: Params, encoder: Params) -> Params:
    """The decoder's parameters with W' = Wᵀ: the encoder's kernels transposed, its last layer first."""
    kernels = [encoder[f"dense_{i}"]["kernel"] for i in reversed(range(len(encoder)))]
    return {f"dense_{i}": {**decoder.get(f"dense_{i}", {}), "kernel": w.T} for i, w in enumerate(kernels)}


def check_mirror(encoder: Params, decoder: Params) -> None:
    """Refuses tied weights unless the decoder's kernels have the encoder's shapes, transposed and in reverse order."""
    ours = [decoder[f"dense_{i}"]["kernel"].shape for i in range(len(decoder))]
    mirror = [encoder[f"dense_{i}"]["kernel"].shape[::-1] for i in reversed(range(len(encoder)))]
    if ours != mirror:
        raise UsageError(f"tied weights need a decoder with kernels {mirror}, the encoder's transposed; it has {ours}")


def slopes(net: MLP, params: Params, x: Float[Array, " b *shape"]) -> list[Float[Array, "b _"] | None] | None:
    """The derivatives s'(a) of each layer's activation at x; None for a layer without an activation.

    The Jacobian of the net at an example is W₁D₁W₂D₂…, [in, out], with D the diagonal matrix of a layer's derivatives. For a
    net with an activation that is not elementwise (softmax), as far as its primitives show, the result is None.
    """
    is_dense = lambda module, method: isinstance(module, nn.Dense)
    # From the layers' recorded outputs, not from a second forward pass: XLA then computes them once.
    _, kept = net.apply({"params": params}, x, capture_intermediates=is_dense, mutable=["intermediates"])
    derivatives: list[Float[Array, "b _"] | None] = []
    for i in range(len(net.hidden) + 1):
        last = i == len(net.hidden)
        (a,) = kept["intermediates"][f"dense_{i}"]["__call__"]
        a, activation = (a.astype(jnp.float32), net.out_activation) if last else (a, net.activation)
        graph = jax.make_jaxpr(activation)(a).jaxpr
        if not _is_elementwise(graph):
            return None
        if graph.outvars == graph.invars:
            derivatives.append(None)
        else:
            (slope,) = jax.vjp(activation, a)[1](jnp.ones_like(a))
            derivatives.append(slope.astype(jnp.float32))
    return derivatives


def _is_elementwise(graph: Any) -> bool:
    """False for functions that mix components or use a primitive that is not listed here."""
    for equation in graph.eqns:
        if equation.primitive.name in _CALLS:
            if not all(_is_elementwise(inner) for inner in equation.params.values() if hasattr(inner, "eqns")):
                return False
        elif equation.primitive.name not in _ELEMENTWISE:
            return False
    return True


_CALLS = frozenset({"jit", "pjit", "custom_jvp_call", "custom_vjp_call"})

_ELEMENTWISE = frozenset(
    """abs add add_any and asinh atan broadcast_in_dim cbrt ceil clamp convert_element_type copy cos cosh div eq erf erfc exp
    exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow round rsqrt select_n
    sign sin sinh sqrt square stop_gradient sub tan tanh""".split()  # noqa: SIM905
)


def squared_jacobian(kernels: list[Array], slopes: list[Float[Array, "b _"] | None], b: int) -> Float[Array, " b"]:
    """‖W₁D₁W₂D₂…‖²_F for each of b examples, with D given by `slopes`, computed with the fewest multiplications.

    One layer: Σ_j s'_j² ‖w_j‖² (Rifai et al. 2011). Two layers with a linear code: d ((W₁ᵀW₁) ∘ (W₂W₂ᵀ)) dᵀ, with d the hidden
    derivatives and one matrix for the whole batch. Otherwise the rows of each example's Jacobian, or its columns, are computed
    layer by layer from the narrower end, with a Gram matrix for the last layer if that is smaller. This takes memory for
    b·(width of the narrower end)·(width of a hidden layer) numbers.
    """
    if len(kernels) == 1:
        squares = jnp.sum(jnp.square(kernels[0]), axis=0)
        return jnp.full(b, jnp.sum(squares)) if slopes[0] is None else jnp.square(slopes[0]) @ squares
    n = [*(len(kernel) for kernel in kernels), kernels[-1].shape[1]]
    backwards = [kernel.T for kernel in reversed(kernels)]
    diagonals = [None, *slopes]
    by_rows, by_columns = _multiplications(n, b, True), _multiplications(n[::-1], b, slopes[-1] is None)
    hidden = slopes[0]
    shared = n[1] ** 2 * (n[0] + n[2] + b)
    if len(kernels) == 2 and hidden is not None and slopes[1] is None and shared < min(by_rows, by_columns):
        return quadratic(gram(kernels[0]) * gram(backwards[0]), hidden[:, None])
    if by_rows <= by_columns:
        return jnp.broadcast_to(_from_the_right(kernels, diagonals, b), b)
    return jnp.broadcast_to(_from_the_right(backwards, diagonals[::-1], b), b)


def _multiplications(n: list[int], b: int, unscaled: bool) -> int:
    """Multiplications in `_from_the_right` for layers of widths n₀, n₁, …; D₀ is the identity if `unscaled`."""
    rows = b * n[-1]
    last = n[1] * n[0] * rows
    if unscaled:
        last = min(last, n[1] ** 2 * (n[0] + rows))
    return rows * sum(m * k for m, k in zip(n[1:-1], n[2:-1])) + last


def _from_the_right(kernels: list[Array], diagonals: list[Array | None], b: int) -> Float[Array, " _"]:
    """‖D₀W₁D₁…W_LD_L‖²_F per example from its columns, stored as rows [b, n_L, n_l], L ≥ 2; [1] if no D is given."""

    def scaled(rows: Array, diagonal: Array | None) -> Array:
        return rows if diagonal is None else rows * diagonal[:, None, :]

    rows = kernels[-1].T[None]
    rows = rows if diagonals[-1] is None else rows * diagonals[-1][:, :, None]
    for kernel, diagonal in zip(kernels[-2:0:-1], diagonals[-2:1:-1]):
        rows = jnp.einsum("bkm,nm->bkn", scaled(rows, diagonal), kernel)
    rows, (n0, n1) = scaled(rows, diagonals[1]), kernels[0].shape
    products = b * rows.shape[1]
    if diagonals[0] is None and n1 * (n0 + products) < products * n0:
        return quadratic(gram(kernels[0]), rows)
    return jnp.sum(jnp.square(scaled(jnp.einsum("bkm,nm->bkn", rows, kernels[0]), diagonals[0])), axis=(1, 2))


@jax.custom_vjp
def gram(w: Float[Array, "n m"]) -> Float[Array, "m m"]:
    """WᵀW, with a gradient of one matrix product; the one that JAX derives has two, which are equal."""
    return w.T @ w


def _gram_forward(w: Array) -> tuple[Array, Array]:
    return gram(w), w


def _gram_backward(w: Array, g: Array) -> tuple[Array]:
    return (w @ (g + g.T),)


gram.defvjp(_gram_forward, _gram_backward)


@jax.custom_vjp
def quadratic(symmetric: Float[Array, "m m"], rows: Float[Array, "b k m"]) -> Float[Array, " b"]:
    """Σ_k r_k S r_kᵀ with S symmetric; the gradient reuses the product S r."""
    return _quadratic_forward(symmetric, rows)[0]


def _quadratic_forward(symmetric: Array, rows: Array) -> tuple[Array, tuple[Array, Array]]:
    product = jnp.einsum("bkm,mn->bkn", rows, symmetric)
    return jnp.sum(rows * product, axis=(1, 2)), (rows, product)


def _quadratic_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    rows, product = kept
    weighed = g[:, None, None] * rows
    return jnp.einsum("bkm,bkn->mn", weighed, rows), 2.0 * g[:, None, None] * product


quadratic.defvjp(_quadratic_forward, _quadratic_backward)
