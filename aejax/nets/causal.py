"""A gated PixelCNN (van den Oord et al. 2016, §2) over integer codes, with causal attention as in PixelSNAIL (Chen et al.
2018).

Positions are read row by row. Causal convolutions are written as shifts and one matrix product, not as masked convolutions:
later positions never enter a product, not even multiplied by zero, and XLA compiles it to fast code in both directions.

    v ─ rows above ────────▶ gate ─▶ v'         starts as the codes, shifted down by one row
            └─────┐
    h ─ left of it ─▶ + ─▶ gate ─▶ + h ─▶ h'     starts as the codes, shifted right by one position
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from aejax.errors import at_least_one, at_most
from aejax.nets.code import apply
from aejax.types import Params


class PixelCNN(nn.Module):
    """Logits of codes [b, h, w, codebooks], each given the codes before it in reading order.

    At one position, later codebooks are given the earlier ones. A label, any vector [b, n], and the codes of the level above
    bias every gate (eq. 4 of the paper). One-dimensional codes [t, codebooks] are passed as one row, [1, t, codebooks].

    Example:
        >>> net = PixelCNN(sizes=(16,), positions=(4, 4), channels=8, layers=2)
        >>> codes = jnp.zeros((2, 4, 4, 1), jnp.int32)
        >>> [logits.shape for logits in jax.eval_shape(net.init_with_output, jax.random.key(0), codes)[0]]
        [(2, 4, 4, 16)]
    """

    sizes: tuple[int, ...]
    """Number of codes of each codebook."""
    positions: tuple[int, int]
    channels: int = 64
    layers: int = 8
    heads: int = 0
    """Heads of causal attention after the layers; 0 for no attention."""
    above: tuple[int, ...] = ()
    """Number of codes of each codebook of the level above; empty for the top level."""

    def __post_init__(self) -> None:
        for name in ("sizes", "positions", "channels", "layers"):
            at_least_one("PixelCNN", name, getattr(self, name))
        at_most("PixelCNN", "layers", self.layers)
        super().__post_init__()

    def setup(self) -> None:
        double, each = 2 * self.channels, range(self.layers)
        self.embed = [nn.Embed(size, self.channels) for size in self.sizes]
        self.where = self.param("where", nn.initializers.normal(0.1), (*self.positions, self.channels))
        self.up = [nn.Dense(double) for _ in each]
        self.across = [nn.Dense(double) for _ in each]
        self.down = [nn.Dense(double) for _ in each]
        # The attribute's name is part of the parameter names in checkpoints: told_0, told_1, …
        self.told = [nn.Dense(2 * double) for _ in each]
        self.out = [nn.Dense(self.channels) for _ in each]
        self.above_embed = [nn.Embed(size, self.channels) for size in self.above]
        self.above_mix = nn.Dense(self.channels)
        if self.heads:
            self.query, self.key_value = nn.Dense(self.channels), nn.Dense(2 * self.channels)
            self.attended = nn.Dense(self.channels)
        self.hidden = [nn.Dense(self.channels) for _ in self.sizes]
        self.logits = [nn.Dense(size) for size in self.sizes]
        self.same_place = [nn.Embed(size, self.channels) for size in self.sizes[:-1]]

    def __call__(
        self,
        codes: Int[Array, "b h w codebooks"],
        label: Float[Array, "b n"] | None = None,
        above: Int[Array, "b high wide above"] | None = None,
    ) -> list[Float[Array, "b h w _"]]:
        """The logits of each codebook, [b, h, w, size]."""
        context = self.context(label, above)
        h = self.horizontal(codes, self.vertical(codes, context))
        return [self.readout(h, codes, book) for book in range(len(self.sizes))]

    def context(self, label: Array | None, above: Array | None) -> list[Array]:
        """What the condition adds to the gates of each layer, [b or 1, h or 1, w or 1, 4·channels]; zeros without a
        condition."""
        parts = []
        if label is not None:
            parts.append(label[:, None, None, :])
        if above is not None:
            upper = _sum_of(embed(above[..., i]) for i, embed in enumerate(self.above_embed))
            larger = jax.image.resize(upper, (len(upper), *self.positions, self.channels), "nearest")
            around = [_shifted(larger, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            parts.append(nn.relu(self.above_mix(jnp.concatenate(around, axis=-1))))
        if not parts:
            return [jnp.zeros((1, 1, 1, 4 * self.channels))] * self.layers
        shape = jnp.broadcast_shapes(*(part.shape[:3] for part in parts))
        joined = jnp.concatenate([jnp.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], axis=-1)
        return [dense(joined) for dense in self.told]

    def vertical(self, codes: Int[Array, "b h w codebooks"], context: Sequence[Array]) -> list[Float[Array, "b h w _"]]:
        """The vertical stack's input to each layer's horizontal gate, [b, h, w, 2·channels]: row i is given the rows before
        i."""
        v = _shifted(self.embedded(codes) + self.where[None], 1, 0) + self.where[None]
        given = []
        for up, down, bias in zip(self.up, self.down, context):
            around = [_shifted(v, i, j) for i in (1, 0) for j in (-1, 0, 1)]
            of_v, of_h = jnp.split(bias, 2, axis=-1)
            raw = up(jnp.concatenate(around, axis=-1)) + jnp.broadcast_to(of_v, (*v.shape[:3], of_v.shape[-1]))
            given.append(down(raw) + jnp.broadcast_to(of_h, raw.shape))
            v = v + _gate(raw)
        return given

    def horizontal(self, codes: Int[Array, "b r w codebooks"], given: Sequence[Array]) -> Float[Array, "b r w _"]:
        """Features [b, r, w, channels] of any r rows, given the codes to the left and the output of `vertical` for these
        rows."""
        h = _shifted(self.embedded(codes), 0, 1)
        for across, out, from_above in zip(self.across, self.out, given):
            raw = across(jnp.concatenate([_shifted(h, 0, 1), h], axis=-1)) + from_above
            h = h + out(_gate(raw))
        return h

    def readout(
        self, h: Float[Array, "b h w _"], codes: Int[Array, "b h w codebooks"], book: int
    ) -> Float[Array, "b h w k"]:
        """Logits of one codebook, given the features of all positions and the codes of earlier codebooks."""
        if self.heads:
            h = h + self.attended(self._attention(h, codes))
        features = self.hidden[book](h)
        features = _sum_of([features, *(self.same_place[i](codes[..., i]) for i in range(book))])
        return self.logits[book](nn.relu(features))

    def _attention(self, h: Array, codes: Array) -> Array:
        """Attention of each position to the codes of the positions strictly before it; zero at the first position."""
        b, n, d = h.shape[0], math.prod(h.shape[1:3]), self.channels // self.heads
        apart = lambda a: a.reshape(b, n, self.heads, d)
        keys, values = jnp.split(self.key_value(jnp.concatenate([h, self.embedded(codes)], axis=-1)), 2, axis=-1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", apart(self.query(h)), apart(keys)) / math.sqrt(d)
        before = jnp.tril(jnp.ones((n, n), bool), -1)[None, None]
        scores = jnp.where(jnp.broadcast_to(before, scores.shape), scores, -jnp.inf)
        nothing = jnp.zeros((*scores.shape[:3], 1))
        weights = jax.nn.softmax(jnp.concatenate([nothing, scores], axis=-1), axis=-1)[..., 1:]
        return jnp.einsum("bhqk,bkhd->bqhd", weights, apart(values)).reshape(h.shape)

    def embedded(self, codes: Int[Array, "b h w codebooks"]) -> Float[Array, "b h w _"]:
        return _sum_of(embed(codes[..., i]) for i, embed in enumerate(self.embed))


def sample_codes(
    net: PixelCNN, params: Params, keys: Key[Array, " b"], label: Array | None, above: Array | None
) -> Int[Array, "b h w codebooks"]:
    """Draws codes from the net, position by position, each example with its own key.

    The vertical stack is computed once per row, and the horizontal stack for that row only.
    """
    h, w = net.positions
    b = len(keys)
    context = apply(net, params, label, above, method=net.context)

    def position(j: Array, carry: Any) -> tuple[Array, Array, list[Array], Array]:
        codes, features, given, row = carry
        line = jax.lax.dynamic_slice_in_dim(codes, row, 1, axis=1)
        of_row = apply(net, params, line, given, method=net.horizontal)
        features = jax.lax.dynamic_update_slice_in_dim(features, of_row, row, axis=1)
        for book in range(len(net.sizes)):
            logits = apply(net, params, features, codes, book, method=net.readout)[:, row, j]
            k = jax.vmap(jax.random.fold_in, (0, None))(keys, (row * w + j) * len(net.sizes) + book)
            codes = codes.at[:, row, j, book].set(jax.vmap(jax.random.categorical)(k, logits))
        return codes, features, given, row

    def one_row(row: Array, carry: Any) -> tuple[Array, Array]:
        codes, features = carry
        given = apply(net, params, codes, context, method=net.vertical)
        given = [jax.lax.dynamic_slice_in_dim(part, row, 1, axis=1) for part in given]
        codes, features, _, _ = jax.lax.fori_loop(0, w, position, (codes, features, given, row))
        return codes, features

    start = jnp.zeros((b, h, w, len(net.sizes)), jnp.int32), jnp.zeros((b, h, w, net.channels))
    return jax.lax.fori_loop(0, h, one_row, start)[0]


def _gate(raw: Float[Array, "b h w double"]) -> Float[Array, "b h w _"]:
    """tanh(a) ⊙ σ(b) (van den Oord et al. 2016, eq. 2)."""
    a, b = jnp.split(raw, 2, axis=-1)
    return jnp.tanh(a) * nn.sigmoid(b)


def _shifted(x: Float[Array, "b h w c"], down: int, right: int) -> Float[Array, "b h w c"]:
    """x shifted down or right by a number of positions, filled with zeros."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0)), (0, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, top : top + h, left : left + w]


def _sum_of(parts: Iterable[Array]) -> Array:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first
