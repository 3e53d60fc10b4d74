"""The central types. Everything else in aejax is a function between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

Batch = Mapping[str, Any]
"""Arrays of equal length: `x` [b, ...] in data range, `index` [b], the position of each example in the *global* batch,
and, where the data set has them, `label` [b], `condition` [b, ...], `factors` [b, f]; of sequences `x` [b, t, ...], `state`
[b, t, s] and `length` [b]."""


class Model(NamedTuple):
    """A family of autoencoders as pure functions, in the manner of `optax.GradientTransformation`.

    `params` and `extras` (state that is not trained by gradient) are nested dicts of arrays. Optional functions are None
    where the family has no such thing.
    """

    init: Callable
    """(key, global batch) -> (params, extras). Holds under `jax.eval_shape`; always called under jit."""
    loss: Callable
    """(params, extras, batch, key, step, axis) -> (scalar, (extras, metrics)): the mean over this device's examples, in nats;
    extras already global; metrics are means by name."""
    evaluate: Callable
    """(params, extras, batch, key) -> {name: [b]}: per example, unweighted, in evaluation mode."""
    encode: Callable | None = None
    """(params, extras, batch, key) -> codes [b, ...]."""
    decode: Callable | None = None
    """(params, extras, z [b, ...], batch) -> data range [b, ...]."""
    reconstruct: Callable | None = None
    """(params, extras, batch, key) -> data range [b, ...]; of `x` as it is given: a corrupted `x` is thereby restored."""
    sample: Callable | None = None
    """(params, extras, {"index": [b]}, key) -> data range [b, ...]; the first ten of a hundred are the ten. With a condition the
    batch also holds what it is made of."""
    condition: Callable | None = None
    """batch -> c [b, ...], what samples are given: labels, or a part of x; None where they are given nothing."""
    log_weights: Callable | None = None
    """(params, extras, batch, key, k) -> [b, k]: log p(x, z) - log q(z|x) for k draws of z ~ q(z|x); [b, k, m] where p(x) is a
    product of m factors with draws of their own, as of a sequence's steps."""
    divergences: Callable | None = None
    """(params, extras, batch, key) -> [b, m]: what the code costs in nats, one part a dimension where they are independent."""
    moments: Callable | None = None
    """(params, extras, batch, key) -> (means [b, d], variances [b, d]) of q(z|x), of independent Gaussian dimensions."""
    codes: Callable | None = None
    """(params, extras, batch, key) -> int [b, *positions, books]; of a hierarchy a tuple of these, from the level next to x up.
    `decode` takes them too."""
    books: tuple[int, ...] | tuple[tuple[int, ...], ...] | None = None
    """How many codes each of these books has; of a hierarchy a tuple of them for each level."""
    rollout: Callable | None = None
    """(params, extras, batch, key, gaps [g]) -> frames [b, g, ...] that go on from the sequences x [b, t, ...]: each so many
    steps after the one before it, the first after the last of x."""
    chain: Callable | None = None
    """(params, extras, batch, key, n) -> data range [b, n, ...]: the first n states of the Markov chain that starts at `x`."""
    active: Callable | None = None
    """(params, extras, batch, key) -> bool [b, units]: which units of a sparse code each example activates."""
    corrupt: Callable | None = None
    """The corruption that training applies to one example, `(key, x, step) -> (x_tilde, touched)`."""
    symbols: Callable | None = None
    """(x [n, *shape]) -> discrete variables in an example, for bits per dimension of a bound; None where x holds other values."""
    check: Callable | None = None
    """(array, where) -> None; raises UsageError where the likelihood does not admit the data. Called at the edge."""


class TrainState(NamedTuple):
    """All that a checkpoint holds: arrays, no key and no function."""

    step: jax.Array
    params: dict
    extras: dict
    opt_state: Any


class Dataset(NamedTuple):
    """One split of a data set. `arrays` and `read` are None where a run is opened from its recorded metadata, without the
    data."""

    name: str
    """As it was asked for, e.g. `digits:train[:90%]`."""
    shape: tuple[int, ...]
    """Of one example `x`."""
    size: int
    """Number of examples."""
    classes: tuple[str, ...] | None
    """Names of the labels, or None without labels."""
    fingerprint: str
    """sha256 over the arrays' names, dtypes, shapes and bytes; of a streamed data set `files:` and the sha256 over its files'
    names and sizes."""
    arrays: Mapping[str, np.ndarray] | None
    """Memory-mapped, as stored (`x` may be uint8 or bool): read them through `aejax.data.take`."""
    read: Callable | None = None
    """(positions [n]) -> {x, label} as stored; where examples are read from the disk at each use (a streamed data set) instead
    of `arrays`. Several threads may call it at once."""
    factors: tuple[str, ...] | None = None
    """Names of the factors of variation, where examples have their values as `factors` [f], int32."""
    states: tuple[str, ...] | None = None
    """Names of the numbers that make up a sequence's true state, where examples have it as `state` [t, s], float32."""


class Parent(NamedTuple):
    """A trained run that an experiment builds on: a lower layer, or where fine-tuning starts. `aejax.runs.run.open_parent`."""

    directory: str
    """As the user gave it."""
    digest: str
    """Of its parameters and extras."""
    model: Model
    params: dict
    extras: dict
    arguments: Mapping[str, Any]
    """Of its experiment, from its config.json."""


class Experiment(NamedTuple):
    """A model, its data and how it is trained: what an experiment file's function returns."""

    model: Model
    optimizer: optax.GradientTransformation
    train: Dataset
    test: Dataset
    batch_size: int
    """Of the global batch, over all devices."""
    steps: int
    seed: int
    validation: Dataset | None = None
    """Judged during training, for the curves and the best checkpoint; the test split where there is none."""
    sweep: Mapping[float, Callable] = {}
    """Level of corruption -> the corruption at which `aejax evaluate` measures restoration."""
    monitor: str = "nll"
    """Name in `model.evaluate` whose mean over the validation split, the lower the better, picks the best checkpoint."""
    parent: Parent | None = None
    """The run that this one builds on, if any; its digest is recorded, and a child of another one is refused."""
