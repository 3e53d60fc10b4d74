"""The central types. Everything else in aejax is a function between them.

Shapes are written with b examples in a batch. Arguments of the function types are positional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

Batch = Mapping[str, Any]
"""Arrays of equal length: `x` [b, ...] in data range, `index` [b], the position of each example in the *global* batch, and, if
the data set has them, `label` [b], `condition` [b, ...], `target` [b, ...] and `factors` [b, f]. Sequences have `x` [b, t, ...]
and may have `state` [b, t, s] and `length` [b]."""

Params = dict[str, Any]
"""Parameters trained by gradient: nested dicts of arrays."""

Extras = dict[str, Any]
"""State that is not trained by gradient (moving averages, a frozen parent): nested dicts of arrays."""

Terms = dict[str, Array]
"""Terms of the objective by name: scalars, or one number per example, [b]."""

Objective = tuple[Array, tuple[Extras, Terms]]
"""(scalar, (extras, metrics)), the result of a loss."""

Axis = str | None
"""Name of the mapped axis of devices in `aejax.collectives`; None on one device."""


@runtime_checkable
class Init(Protocol):
    """(key, global batch) -> (params, extras). It works under `jax.eval_shape` and is always called under jit."""

    def __call__(self, key: Key[Array, ""], batch: Batch, /) -> tuple[Params, Extras]: ...


@runtime_checkable
class Loss(Protocol):
    """The objective -> (scalar, (extras, metrics)): the mean over the examples of this device, in nats; extras that are
    already global; and the terms that training logs, means by name.
    """

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis, /
    ) -> Objective: ...


@runtime_checkable
class Evaluate(Protocol):
    """Unweighted terms of the objective outside training, {name: [b]}; nats unless the name says otherwise."""

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
    """Codes z [b, ...] (also integers, for discrete codes) -> examples [b, ...] in data range.

    The batch holds what else the decoder may need: labels, a condition, and the shape of x.
    """

    def __call__(self, params: Params, extras: Extras, z: Any, batch: Batch, /) -> Shaped[Array, " b *shape"]: ...


@runtime_checkable
class Sample(Protocol):
    """A batch with `index` [b] (and the condition of a conditional model) -> examples [b, ...] in data range.

    A sample depends on the key and its index only: `sample(10)` equals the first ten of `sample(100)`.
    """

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Shaped[Array, " b *shape"]: ...


@runtime_checkable
class LogWeights(Protocol):
    """log p(x, z) - log q(z|x) for k draws of z ~ q(z|x), [b, k].

    It is [b, k, m] if p(x) is a product of m factors with separate draws, such as the steps of a sequence.
    """

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], k: int, /
    ) -> Float[Array, "b k *m"]: ...


@runtime_checkable
class Divergences(Protocol):
    """KL(q(z|x) ‖ p(z)) in nats, [b, m]; one part per latent dimension if these are independent."""

    def __call__(self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /) -> Float[Array, "b m"]: ...


@runtime_checkable
class Moments(Protocol):
    """(means [b, d], variances [b, d]) of q(z|x) with independent Gaussian dimensions."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]: ...


@runtime_checkable
class Codes(Protocol):
    """Discrete codes, int [b, *positions, codebooks]; for a hierarchy a tuple of these, from level 0, next to x, to the top."""

    def __call__(
        self, params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], /
    ) -> Array | tuple[Array, ...]: ...


@runtime_checkable
class Rollout(Protocol):
    """Frames [b, g, ...] that continue the sequences x [b, t, ...].

    `gaps` [g] are the numbers of steps between frames; the first gap starts at the last frame of x.
    """

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
    """A corruption of ONE example: (key, x, training step) -> (x_tilde, touched), see `aejax.objective.corruptions`."""

    def __call__(self, key: Key[Array, ""], x: Array, step: Any = ...) -> tuple[Array, Array]: ...


@runtime_checkable
class Condition(Protocol):
    """batch -> c [b, ...], the condition of a conditional model: the label, or a part of x. None for no condition."""

    def __call__(self, batch: Batch, /) -> Array | None: ...


@runtime_checkable
class Check(Protocol):
    """(examples in NumPy, description of their origin) -> None; raises UsageError if the likelihood does not admit them."""

    def __call__(self, x: np.ndarray, where: str, /) -> None: ...


@runtime_checkable
class NumDiscreteDims(Protocol):
    """x [n, *shape] -> the number of discrete variables in an example, for bits per dimension; None for other values."""

    def __call__(self, x: np.ndarray, /) -> int | None: ...


@runtime_checkable
class Observe(Protocol):
    """x [b, *shape] -> the model's input [b, *shape]; applying it twice changes nothing more."""

    def __call__(self, x: Any, /) -> Shaped[Array, " b *shape"]: ...


class DataContract(NamedTuple):
    """What a model requires of its data; a field is None if it requires nothing."""

    check: Check | None = None
    """Checks all data that the model is given."""
    corrupt: Corrupt | None = None
    """The corruption that training applies to each example."""
    condition: Condition | None = None
    """The condition, which samples need too."""
    num_discrete_dims: NumDiscreteDims | None = None
    observe: Observe | None = None
    """The model's input if it is not the data themselves, such as bits drawn from gray values. Baselines receive it too."""


class Latent(NamedTuple):
    """A latent variable with a posterior and a prior."""

    log_weights: LogWeights
    divergences: Divergences
    moments: Moments | None = None
    """None unless the dimensions of the posterior are independent Gaussians."""


class Discrete(NamedTuple):
    """A code of integers, which `Model.decode` accepts too."""

    codes: Codes
    codebook_sizes: tuple[int, ...] | tuple[tuple[int, ...], ...]
    """Number of codes of each codebook; for a hierarchy a tuple of these per level."""


class Temporal(NamedTuple):
    """Continuation in time, of a sequence or of a Markov chain over examples."""

    rollout: Rollout | None = None
    chain: Chain | None = None


class Sparse(NamedTuple):
    """A code in which an example activates few units."""

    active: Active
    directions: Callable[[Params], Float[Array, "units d"]] | None = None
    """What a unit adds to the reconstruction, for a linear decoder."""


class Model(NamedTuple):
    """A family of autoencoders as pure functions, in the manner of `optax.GradientTransformation`.

    The last four fields are groups of functions that only some families have; a group is None if a family lacks it.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> model = autoencoder(MLP((), 2), MLP((), 4), bernoulli())
        >>> batch = {"x": jnp.zeros((3, 4)), "index": jnp.arange(3)}
        >>> params, extras = model.init(jax.random.key(0), batch)
        >>> scalar, (extras, metrics) = model.loss(params, extras, batch, jax.random.key(1), 0, None)
        >>> sorted(metrics)
        ['mse', 'nll']
    """

    init: Init
    loss: Loss
    evaluate: Evaluate
    encode: Encode | None = None
    """-> codes [b, ...]; the mean of a stochastic encoder."""
    decode: Decode | None = None
    reconstruct: Encode | None = None
    """-> reconstructions of `x`; if `x` is corrupted, its restoration."""
    sample: Sample | None = None
    data: DataContract = DataContract()
    latent: Latent | None = None
    discrete: Discrete | None = None
    sequence: Temporal | None = None
    sparse: Sparse | None = None

    def function(self, name: str) -> Any:
        """The model's function of this name, also from one of its groups; None if the family has none."""
        for group in (self, self.latent, self.discrete, self.sequence, self.sparse):
            if group is not None and name in group._fields:
                return getattr(group, name)
        return None


class TrainState(NamedTuple):
    """Everything that a checkpoint holds: arrays only, without keys and functions.

    Example:
        >>> run = aejax.open_run("runs/mine")
        >>> int(run.state.step), sorted(run.state.params)
        (20, ['decoder', 'encoder'])
    """

    step: jax.Array
    params: Params
    extras: Extras
    opt_state: Any
    """State of the optimizer, any tree."""


@runtime_checkable
class Read(Protocol):
    """Positions [n] -> {x, label, ...} as stored. Several threads may call it at the same time."""

    def __call__(self, positions: np.ndarray, /) -> Mapping[str, np.ndarray]: ...


class Found(NamedTuple):
    """What was found when a split was opened: printed before training, recorded with the run, and compared with all data that
    the run is given later.
    """

    dtype: str
    """As stored: uint8, bool or float32."""
    low: float
    """Smallest number in data range (uint8 / 255), and largest; for a streamed data set, among the examples that were read."""
    high: float
    origin: str
    """Description of where the split comes from."""
    passed_over: Mapping[str, int] = {}
    """Kind of file or array in the source that was not read -> how many."""
    doubt: str = ""
    """What the examples may be if their shape is misleading, and what to do then."""
    missing: int = 0
    """Number of values that are NaN and read as missing."""
    columns: Sequence[str] = ()
    """Names of the columns of a table, one for each number of an example."""


class GroundTruth(NamedTuple):
    """The sparse features of which examples are made, where they are known: x = Σ aᵢ dᵢ + b."""

    directions: np.ndarray
    """dᵢ, float32 [f, d], of norm 1; d is the number of numbers in an example."""
    parents: np.ndarray
    """int [f]: the feature that is active wherever this one is, or -1."""
    activations: Callable[[np.ndarray], np.ndarray]
    """Positions [n] -> aᵢ, float32 [n, f], 0 for a feature that is not active."""


class Scaling(NamedTuple):
    """Standardization of examples: the model sees (x - shift) / scale. One number for each component of the last axis."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


class Dataset(NamedTuple):
    """One split of a data set, as `aejax.load` returns it.

    `arrays` and `read` are None if a run is opened without its data, from the recorded metadata.

    Example:
        >>> train, test = aejax.load("digits")
        >>> train.name, train.size, train.shape
        ('digits:train', 1438, (8, 8, 1))
    """

    name: str
    """As requested, e.g. `digits:train[:90%]`."""
    shape: tuple[int, ...]
    """Shape of one example `x`."""
    size: int
    classes: tuple[str, ...] | None
    """Names of the labels, or None without labels."""
    fingerprint: str
    """sha256 of the arrays' names, dtypes, shapes and bytes; for a streamed data set `files:` and the sha256 of the names and
    sizes of its files."""
    arrays: Mapping[str, np.ndarray] | None
    """Memory-mapped arrays, as stored (`x` may be uint8 or bool); read them through `aejax.data.take`."""
    read: Read | None = None
    """Reads examples from disk at each use, for a streamed data set, instead of `arrays`."""
    factors: tuple[str, ...] | None = None
    """Names of the factors of variation, if examples have their values as `factors` [f], int32."""
    states: tuple[str, ...] | None = None
    """Names of the components of the true state of a sequence, if examples have it as `state` [t, s], float32."""
    found: Found | None = None
    """None if unknown, as for runs of early versions."""
    reading: Mapping[str, Any] = {}
    """Options of `aejax.data.ReadAs` that are not the defaults."""
    scaling: Scaling | None = None
    """Applied by `aejax.data.take`; None if the model sees the data as they are."""
    target: tuple[int, ...] | None = None
    """Shape of one `target`, if examples have one that is to be predicted from `x`."""
    draw: Callable[[Array], Batch] | None = None
    """Positions int32 [b] -> examples, in JAX, where examples are drawn inside the training step."""
    truth: GroundTruth | None = None


class Parent(NamedTuple):
    """A trained run that an experiment builds on, as `aejax.runs.opening.open_parent` returns it."""

    directory: str
    """As given by the user."""
    digest: str
    """Digest of its parameters and extras."""
    model: Model
    params: Params
    extras: Extras
    arguments: Mapping[str, Any]
    """Arguments of its experiment, from its config.json."""


class Experiment(NamedTuple):
    """A model, its data and how it is trained, as the function of an experiment file returns it. Usually made by `aejax.fit`.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> model = autoencoder(MLP((), 8), MLP((), (8, 8, 1)), bernoulli())
        >>> experiment = aejax.fit(model, aejax.load("digits"), steps=20)
        >>> experiment.steps, experiment.batch_size
        (20, 128)
    """

    model: Model
    optimizer: optax.GradientTransformation
    train: Dataset
    test: Dataset
    batch_size: int
    """Size of the global batch, over all devices."""
    steps: int
    seed: int
    validation: Dataset | None = None
    """Evaluated during training for curves and the best checkpoint. Without it the test split is evaluated, for curves only."""
    sweep: Mapping[float, Corrupt] = {}
    """Corruptions, by level, for which `aejax evaluate` measures restoration."""
    monitor: str = "nll"
    """Term of `model.evaluate` whose mean over the validation split selects the best checkpoint; lower is better."""
    parent: Parent | None = None
    """The run that this one builds on, if any; its digest is recorded and compared whenever the run is opened."""
