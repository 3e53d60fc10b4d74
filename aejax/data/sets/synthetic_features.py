"""Sparse features that are known: `synthetic_features`, after SynthSAEBench (Chanin & Garriga-Alonso 2026).

An example is a sum of a few of many directions, x = Σ aᵢ dᵢ + b with aᵢ ≥ 0. Features are rarer the later they come (Zipf), a
part of them form trees, in which a child is active only where its parent is, scaled by it, and without its siblings, and what
is active is correlated. An example is a function of the seed and its position, in JAX, so that it is drawn where it is needed
and nothing is stored.

`synthetic_features` is the benchmark's size, 16384 features in 768 dimensions. `synthetic_features/1024x256` has other numbers,
and `synthetic_features/1024x256/1` other features of these numbers (0 to 9, of which the first is the one without a number).
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from aejax.data.cache import cache_folder
from aejax.data.splits import Reader, Readers, with_all
from aejax.errors import UsageError
from aejax.files import replacing
from aejax.types import GroundTruth

NAME = "synthetic_features"
VERSION = 1
"""Part of the data set's identity. Increase it when the examples change."""

TRAIN, TEST = 200_000_000, 100_000
"""Number of examples: the first ones are the training split, those after them the test split."""

FEATURES, DIMENSIONS = 16384, 768

BRANCHES, DEPTH = 4, 3
"""Number of children, and of levels below the roots; of 128 features one is a root."""

ZIPF, MOST, LEAST = 0.5, 0.4, 5e-4
"""Exponent, and probabilities that the first and the last feature are active, before trees make some of them rarer."""

RANK, CORRELATION = 25, 0.1
MAGNITUDES = 5.0, 4.0
BIAS = 0.5
ORTHOGONALIZATION = 100, 3e-4
"""Steps, and step size, of Adam that make the directions more nearly orthogonal."""

_PIECE = 256
"""Number of examples that are drawn at a time outside training, so that one program is compiled."""


class Features(NamedTuple):
    """The distribution from which examples are drawn, f features in d dimensions."""

    directions: Float[np.ndarray, "f d"]
    """Rows of norm 1."""
    bias: Float[np.ndarray, " d"]
    thresholds: Float[np.ndarray, " f"]
    """A feature is active if a standard normal number is above it."""
    factor: Float[np.ndarray, "f r"]
    """The correlation of these numbers is factor · factorᵀ, off the diagonal."""
    means: Float[np.ndarray, " f"]
    sds: Float[np.ndarray, " f"]
    levels: tuple[int, ...]
    """First feature of each level of the trees, and the first one that belongs to no tree; the children of a feature are
    neighbors, in the order of their parents."""
    seed: int


def named(name: str) -> tuple[int, int, int] | None:
    """Numbers of features and dimensions, and the seed, that a name stands for; None for names of other data sets."""
    match = re.fullmatch(rf"{NAME}(?:/(\d+)x(\d+))?(?:/(\d))?", name)
    if match is None:
        return None
    features, dimensions, seed = match.groups()
    return int(features or FEATURES), int(dimensions or DIMENSIONS), int(seed or 0)


def synthetic_features_readers(name: str) -> Readers:
    """`train`, `test`, and `all`, in this order, each drawn as it is read."""
    sizes = named(name)
    assert sizes is not None
    world = make_features(*sizes)
    splits = {"train": (0, TRAIN), "test": (TRAIN, TEST)}
    readers = {split: _reader(world, start, size) for split, (start, size) in splits.items()}
    return {**with_all(readers), "all": _reader(world, 0, TRAIN + TEST)}


def _reader(world: Features, start: int, size: int) -> Reader:
    compiled = jax.jit(lambda positions: activations_at(world, positions))
    observed = jax.jit(lambda positions: examples_at(world, positions))

    def in_pieces(f: object, positions: np.ndarray) -> np.ndarray:
        pieces = []
        for first in range(0, len(positions), _PIECE):
            piece = positions[first : first + _PIECE]
            padded = np.pad(piece, (0, _PIECE - len(piece)), mode="edge") + start
            pieces.append(np.asarray(f(padded.astype(np.int32)))[: len(piece)])  # type: ignore[operator]
        return np.concatenate(pieces)

    return Reader(
        size,
        None,
        lambda positions: {"x": in_pieces(observed, positions)},
        draw=lambda positions: {"x": examples_at(world, positions + start)},
        truth=GroundTruth(world.directions, parents_of(world), lambda positions: in_pieces(compiled, positions)),
    )


def examples_at(world: Features, positions: Int[Array, " b"]) -> Float[Array, "b d"]:
    """The examples at these positions."""
    return activations_at(world, positions) @ world.directions + world.bias[None]


def activations_at(world: Features, positions: Int[Array, " b"]) -> Float[Array, "b f"]:
    """The activations of the features in these examples, 0 for those that are not active."""
    a, keys = jax.vmap(lambda position: _apart_from_trees(world, position))(positions)
    # Positions are not negative. Without the condition, XLA would draw the numbers again for each level of the trees.
    return jax.lax.cond(
        jnp.any(positions >= 0),
        lambda: jax.vmap(lambda a, key: in_trees(world, a, key))(a, keys),
        lambda: jnp.zeros_like(a),
    )


def _apart_from_trees(world: Features, position: Int[Array, ""]) -> tuple[Float[Array, " f"], Key[Array, ""]]:
    """The activations of one example before its trees are seen to, and the key for these."""
    key = jax.random.fold_in(jax.random.key(world.seed), position)
    correlated, own, magnitudes, chosen = jax.random.split(key, 4)
    rest = np.sqrt(1 - np.sum(np.square(world.factor), axis=1))
    shared = world.factor @ jax.random.normal(correlated, (world.factor.shape[1],))
    normal = shared + rest * jax.random.normal(own, world.thresholds.shape)
    a = jax.nn.relu(world.means + world.sds * jax.random.normal(magnitudes, world.means.shape))
    return jnp.where(normal > world.thresholds, a, 0.0), chosen


def in_trees(world: Features, a: Float[Array, " f"], key: Key[Array, ""]) -> Float[Array, " f"]:
    """Level by level, scales children by their parent, relative to its mean, and keeps one of those that are active."""
    levels, kept = world.levels, [a[: world.levels[1]]]
    for depth, (start, stop) in enumerate(zip(levels[1:-1], levels[2:])):
        parents = kept[-1] / world.means[levels[depth] : start]
        children = a[start:stop].reshape(-1, BRANCHES) * parents[:, None]
        active = (children > 0).astype(jnp.float32)
        before = jnp.stack([jnp.sum(active[:, :i], axis=1) for i in range(BRANCHES)], axis=1)
        count = jnp.sum(active, axis=1)
        number = jnp.floor(jax.random.uniform(jax.random.fold_in(key, depth), count.shape) * count)
        one = before == number[:, None]
        kept.append(jnp.where(one, children, 0.0).reshape(-1))
    return jnp.concatenate([*kept, a[levels[-1] :]])


def parents_of(world: Features) -> Int[np.ndarray, " f"]:
    """The parent of each feature, -1 for those without one."""
    parents = np.full(len(world.means), -1)
    for above, (start, stop) in zip(world.levels, zip(world.levels[1:-1], world.levels[2:])):
        parents[start:stop] = above + np.arange(stop - start) // BRANCHES
    return parents


@functools.lru_cache(4)
def make_features(features: int = FEATURES, dimensions: int = DIMENSIONS, seed: int = 0) -> Features:
    """The distribution of so many features in so many dimensions.

    Raises:
        UsageError: There are too few features for a tree, or too many to be drawn here.
    """
    in_tree = sum(BRANCHES**level for level in range(DEPTH + 1))
    roots = features // 128
    if roots < 1 or not 1 <= dimensions <= 2**16 or features > 2**20:
        raise UsageError(
            f"{NAME}/{features}x{dimensions}: give 128 to {2**20} features ({in_tree} of 128 form a tree) and 1 to {2**16} "
            "dimensions"
        )
    sizes = [roots * BRANCHES**level for level in range(DEPTH + 1)]
    levels = tuple(np.cumsum([0, *sizes]).tolist())
    draw = np.random.default_rng((VERSION, seed, features, dimensions))
    directions = _unit(draw.standard_normal((features, dimensions), np.float32))
    directions = _kept(f"{features}x{dimensions}-{seed}", lambda: orthogonalized(directions))
    bias = BIAS * _unit(draw.standard_normal((1, dimensions), np.float32))[0]
    factor = CORRELATION * draw.standard_normal((features, RANK), np.float32)
    # No feature is determined by the shared numbers alone.
    factor *= np.minimum(1.0, 0.995 / np.linalg.norm(factor, axis=1, keepdims=True))
    sds = np.abs(0.5 + 0.5 * draw.standard_normal(features, np.float32))
    made = Features(
        directions,
        bias,
        np.zeros(features, np.float32),
        factor.astype(np.float32),
        np.linspace(*MAGNITUDES, features, dtype=np.float32),
        sds,
        levels,
        seed,
    )
    return made._replace(thresholds=_thresholds(probabilities_of(made)))


def probabilities_of(world: Features) -> Float[np.ndarray, " f"]:
    """The probability that a feature is drawn as active: Zipf's law, and what makes up for parents and siblings.

    A child is lost where its parent is not active, and where one of its siblings is kept instead. Probabilities are raised by
    1 / p(parent) and by 1 + Σ p(siblings) / p(parent), up to 1.
    """
    ranks = np.arange(1, len(world.means) + 1) ** -ZIPF
    p = LEAST + (MOST - LEAST) * (ranks - ranks[-1]) / (ranks[0] - ranks[-1])
    parents = parents_of(world)
    child = parents >= 0
    above = np.where(child, p[parents], 1.0)
    families = np.bincount(parents[child], p[child], len(p))
    siblings = np.where(child, families[parents] - p, 0.0)
    return np.minimum(p / above * (1 + siblings / above), 1.0)


def _thresholds(p: Float[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
    from scipy.special import ndtri

    return -ndtri(p).astype(np.float32)


def orthogonalized(rows: Float[np.ndarray, "f d"]) -> Float[np.ndarray, "f d"]:
    """Rows of norm 1 after some steps of Adam on Σ_{i≠j} (dᵢ·dⱼ)² + f Σᵢ (dᵢ·dᵢ − 1)²."""
    steps, lr = ORTHOGONALIZATION
    first, second = np.zeros_like(rows), np.zeros_like(rows)
    for step in range(1, steps + 1):
        squares = np.sum(np.square(rows), axis=1, keepdims=True)
        gradient = 4 * (rows @ (rows.T @ rows) - squares * rows + len(rows) * (squares - 1) * rows)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * np.square(gradient)
        rows = rows - lr * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return _unit(rows)


def _kept(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """`make()`, or its earlier result on this machine: for the benchmark's size it takes a minute."""
    path = cache_folder() / NAME / f"{VERSION}-{name}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        array: np.ndarray = np.load(path, allow_pickle=False)
        if np.allclose(np.linalg.norm(array, axis=1), 1.0, atol=1e-5):
            return array
    array = make()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, array)
    return array


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
