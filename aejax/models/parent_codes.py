"""The codes of a trained vector-quantized autoencoder, as a prior over them sees them: their numbers, shapes and nets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from aejax.errors import UsageError
from aejax.nets import PixelCNN
from aejax.types import Discrete, Parent


def nets_for(base: Parent, shape: tuple[int, ...], **options: Any) -> list[PixelCNN]:
    """One `PixelCNN` for each level of the parent's codes.

    Attention is used at the top level only, which has the fewest positions, as in Razavi et al. (2019, §3.2).

    Args:
        base: A finished run of a model with `codes`.
        shape: Shape of one example.
        options: Fields of `PixelCNN`, such as `channels`, `layers` and `heads`.

    Returns:
        The nets, from level 0 to the top.

    Raises:
        UsageError: `base` has no codes, or they have more than two axes of positions.

    Example:
        >>> from aejax.models import vqvae
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, nearest
        >>> below = vqvae(MLP((16,), 8), MLP((16,), (4, 4, 1)), bernoulli(), nearest(16, 8), (4, 4, 1))
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> base = Parent("runs/vqvae", "", below, *jax.jit(below.init)(jax.random.key(0), batch), {})
        >>> [net.sizes for net in nets_for(base, (4, 4, 1), channels=8)]
        [(16,)]
    """
    sizes, maps = levels_of(base), [shape_of_map(codes) for codes in shapes_of(base, shape)]
    heads = options.pop("heads", 0)
    return [
        PixelCNN(
            of,
            at[:2],
            above=sizes[i + 1] if i + 1 < len(sizes) else (),
            heads=heads if at is maps[-1] else 0,
            **options,
        )
        for i, (of, at) in enumerate(zip(sizes, maps))
    ]


def discrete_of(base: Parent) -> Discrete:
    """The parent's discrete code; UsageError if it has none."""
    if base.model.discrete is None:
        raise UsageError(
            f"{base.directory} has no discrete codes; a prior over codes needs a vector-quantized run as parent"
        )
    return base.model.discrete


def levels_of(base: Parent) -> tuple[tuple[int, ...], ...]:
    """The number of codes of each codebook of each level."""
    sizes = discrete_of(base).codebook_sizes
    return sizes if isinstance(sizes[0], tuple) else (sizes,)


def shapes_of(base: Parent, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape (*positions, codebooks) of each level's codes, for examples of this shape."""
    seen = {"x": jax.ShapeDtypeStruct((1, *shape), jnp.float32), "index": jax.ShapeDtypeStruct((1,), jnp.int32)}
    codes = discrete_of(base).codes
    shapes = jax.eval_shape(lambda batch: codes(base.params, base.extras, batch, jax.random.key(0)), seen)
    return [level.shape[1:] for level in (shapes if isinstance(shapes, tuple) else (shapes,))]


def shape_of_map(codes: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape [h, w, codebooks] of a code map; codes of signals [t, codebooks] and vectors [codebooks] are one row."""
    if len(codes) > 3:
        raise UsageError(f"a prior needs codes with at most two axes of positions, not {codes}")
    h, w, codebooks = (1,) * (3 - len(codes)) + codes
    return h, w, codebooks


def as_map(codes: Int[Array, "b *positions codebooks"]) -> Int[Array, "b h w codebooks"]:
    return codes.reshape(len(codes), *shape_of_map(codes.shape[1:]))
