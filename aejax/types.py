"""The central types. Everything else in aejax is a function between them.

Shapes are written with b examples in a batch. Arguments of the function types are positional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

Batch = Mapping[str, Any]
"""Arrays of equal length: `x` [b, ...] in data range, `index` [b], the position of each example in the *global* batch,
and, where the data set has them, `label` [b], `condition` [b, ...], `factors` [b, f]; of sequences `x` [b, t, ...], `state`
[b, t, s] and `length` [b]."""

Params = dict[str, Any]
"""What is trained by gradient: nested dicts of arrays."""

Extras = dict[str, Any]
"""State that is not trained by gradient (moving averages, a frozen parent): nested dicts of arrays."""

Terms = dict[str, Array]
"""Terms of the objective by name: scalars, or one for each example, [b]."""

Objective = tuple[Array, tuple[Extras, Terms]]
"""(scalar, (extras, metrics)), what a loss returns."""

Axis = str | None
"""Name of the mapped axis of devices in `aejax.collectives`; None on one device."""


@runtime_checkable
class Init(Protocol):
    """(key, global batch) -> (params, extras). Holds under `jax.eval_shape`; always called under jit."""

    def __call__(self, key: Key[Array, ""], batch: Batch, /) -> tuple[Params, Extras]: ...


@runtime_checkable
class Loss(Protocol):
    """The objective and what training logs.

    Returns (scalar, (extras, metrics)): the mean over this device's examples, in nats; extras already global; metrics are
    means by name.
    """

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis, /
    ) -> Objective: ...


@runtime_checkable
class Evaluate(Protocol):
    """Terms of the objective by name: per example, unweighted, in evaluation mode; nats unless the name says otherwise."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> dict[str, Float[Array, " b"]]: ...


@runtime_checkable
class Encode(Protocol):
    """A function of a batch: codes [b, ...], or reconstructions [b, ...] in data range."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Shaped[Array, " b *out"]: ...


@runtime_checkable
class Decode(Protocol):
    """Codes z [b, ...] (integers too, where the model has discrete codes) -> data range [b, ...]. The batch holds what else the
    decoder may need: labels, a condition, and the shape of x."""

    def __call__(self, params: Params, extras: Extras, z: Any, batch: Batch, /) -> Shaped[Array, " b *shape"]: ...


@runtime_checkable
class Sample(Protocol):
    """A batch with `index` [b] (and what a conditional model is given) -> data range [b, ...].

    A sample depends on the key and its index alone: `sample(10)` equals the first ten of `sample(100)`.
    """

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Shaped[Array, " b *shape"]: ...


@runtime_checkable
class LogWeights(Protocol):
    """log p(x, z) - log q(z|x) for k draws of z ~ q(z|x), [b, k]; [b, k, m] where p(x) is a product of m factors with draws of
    their own, as of a sequence's steps."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], k: int, /
    ) -> Float[Array, "b k *m"]: ...


@runtime_checkable
class Divergences(Protocol):
    """KL(q(z|x) ‖ p(z)) in nats, [b, m]: one part for each latent dimension where they are independent."""

    def __call__(self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /) -> Float[Array, "b m"]: ...


@runtime_checkable
class Moments(Protocol):
    """(means [b, d], variances [b, d]) of q(z|x) with independent Gaussian dimensions."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]: ...


@runtime_checkable
class Codes(Protocol):
    """Discrete codes, int [b, *positions, codebooks]; of a hierarchy a tuple of these, from the level next to x up."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Array | tuple[Array, ...]: ...


@runtime_checkable
class Rollout(Protocol):
    """Frames [b, g, ...] that continue the sequences x [b, t, ...]: each so many steps after the one before it (`gaps` [g]), the
    first after the last of x."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], gaps: Int[Array, " g"], /
    ) -> Float[Array, "b g *frame"]: ...


@runtime_checkable
class Chain(Protocol):
    """The first n states [b, n, ...] of the Markov chain that starts at `x`, in data range."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], n: int, /
    ) -> Float[Array, "b n *shape"]: ...


@runtime_checkable
class Active(Protocol):
    """Which units of a sparse code each example activates, bool [b, units]."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Bool[Array, "b units"]: ...


@runtime_checkable
class Corrupt(Protocol):
    """A corruption of ONE example: (key, x, step of training) -> (x_tilde, touched), see `aejax.objective.corruptions`."""

    def __call__(self, key: Key[Array, ""], x: Array, step: Any = ...) -> tuple[Array, Array]: ...


@runtime_checkable
class Condition(Protocol):
    """batch -> c [b, ...], what a conditional model is given of each example: its label, or a part of x. None is no condition."""

    def __call__(self, batch: Batch, /) -> Array | None: ...


@runtime_checkable
class Check(Protocol):
    """(examples in NumPy, where they are from) -> None; raises UsageError where the likelihood does not admit them."""

    def __call__(self, x: np.ndarray, where: str, /) -> None: ...


@runtime_checkable
class NumDiscreteDims(Protocol):
    """x [n, *shape] -> how many discrete variables an example is, for bits per dimension; None where x holds other values."""

    def __call__(self, x: np.ndarray, /) -> int | None: ...


@runtime_checkable
class Observe(Protocol):
    """x [b, *shape] -> what the model sees of it, [b, *shape]; applied twice it is the same."""

    def __call__(self, x: Any, /) -> Shaped[Array, " b *shape"]: ...


class DataContract(NamedTuple):
    """What a model asks of its data. None where it asks nothing."""

    check: Check | None = None
    """Called wherever data enter."""
    corrupt: Corrupt | None = None
    """The corruption that training applies to each example."""
    condition: Condition | None = None
    """What the model is conditioned on; samples are given it too."""
    num_discrete_dims: NumDiscreteDims | None = None
    observe: Observe | None = None
    """What the model sees of the data, where that is not the data themselves: bits drawn from gray values. Baselines see it
    too."""


class Latent(NamedTuple):
    """A latent variable with a posterior and a prior."""

    log_weights: LogWeights
    divergences: Divergences
    moments: Moments | None = None
    """None where the posterior's dimensions are not independent Gaussians."""


class Discrete(NamedTuple):
    """A code of integers. `Model.decode` takes it too."""

    codes: Codes
    codebook_sizes: tuple[int, ...] | tuple[tuple[int, ...], ...]
    """How many codes each codebook has; of a hierarchy a tuple of these for each level."""


class Temporal(NamedTuple):
    """What continues in time: a sequence, or a Markov chain over examples."""

    rollout: Rollout | None = None
    chain: Chain | None = None


class Sparse(NamedTuple):
    """A code of which an example activates few units."""

    active: Active


class Model(NamedTuple):
    """A family of autoencoders as pure functions, in the manner of `optax.GradientTransformation`.

    The last four are groups of functions that only some families have; a group is None where a family lacks it.
    """

    init: Init
    loss: Loss
    evaluate: Evaluate
    encode: Encode | None = None
    """-> codes [b, ...]; of a stochastic encoder the mean."""
    decode: Decode | None = None
    reconstruct: Encode | None = None
    """Of `x` as it is given: a corrupted `x` is thereby restored."""
    sample: Sample | None = None
    data: DataContract = DataContract()
    latent: Latent | None = None
    discrete: Discrete | None = None
    sequence: Temporal | None = None
    sparse: Sparse | None = None

    def function(self, name: str) -> Any:
        """The model's function of this name, be it in a group; None where the family has none."""
        for group in (self, self.latent, self.discrete, self.sequence, self.sparse):
            if group is not None and name in group._fields:
                return getattr(group, name)
        return None


class TrainState(NamedTuple):
    """All that a checkpoint holds: arrays, no key and no function."""

    step: jax.Array
    params: Params
    extras: Extras
    opt_state: Any
    """Of the optimizer, any tree."""


@runtime_checkable
class Read(Protocol):
    """Positions [n] -> {x, label, ...} as stored. Several threads may call it at once."""

    def __call__(self, positions: np.ndarray, /) -> Mapping[str, np.ndarray]: ...


class Found(NamedTuple):
    """What was found when a split was opened: said before training, recorded with the run, and compared with whatever the run is
    given later."""

    dtype: str
    """As stored: uint8, bool or float32."""
    low: float
    """Smallest number in data range (uint8 / 255); of a streamed data set, among the examples that were looked at."""
    high: float
    """Largest, likewise."""
    origin: str
    """Where the split comes from, in words."""
    passed_over: Mapping[str, int] = {}
    """What lies in the source and was not read: what it is -> how many."""
    doubt: str = ""
    """What the examples may be instead of what their shape says, and what to do then."""


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
    read: Read | None = None
    """Where examples are read from the disk at each use (a streamed data set), instead of `arrays`."""
    factors: tuple[str, ...] | None = None
    """Names of the factors of variation, where examples have their values as `factors` [f], int32."""
    states: tuple[str, ...] | None = None
    """Names of the numbers that make up a sequence's true state, where examples have it as `state` [t, s], float32."""
    found: Found | None = None
    """None where it is not known: of arrays made here, and of runs of earlier versions."""


class Parent(NamedTuple):
    """A trained run that an experiment builds on: a lower layer, or where fine-tuning starts. `aejax.runs.run.open_parent`."""

    directory: str
    """As the user gave it."""
    digest: str
    """Of its parameters and extras."""
    model: Model
    params: Params
    extras: Extras
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
    """Evaluated during training, for the curves and the best checkpoint; the test split where there is none."""
    sweep: Mapping[float, Corrupt] = {}
    """Level of corruption -> the corruption at which `aejax evaluate` measures restoration."""
    monitor: str = "nll"
    """Name in `model.evaluate` whose mean over the validation split, the lower the better, picks the best checkpoint."""
    parent: Parent | None = None
    """The run that this one builds on, if any; its digest is recorded, and a child of another one is refused."""
