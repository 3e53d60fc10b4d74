"""An opened run: its configuration, its parameters, and the model's functions applied to data.

`Run.apply` is the only way in which a function of the model is called outside training: it uses the key for each purpose,
compiles once, pads to one batch size and bounds the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.data import checked_by, in_units, joined, open_split, take, unscaled
from aejax.errors import UsageError
from aejax.keys import evaluation_key
from aejax.runs.batched import INFERENCE_BATCH, inference_batch, map_examples
from aejax.runs.directory import datasets
from aejax.runs.metrics_log import Log, read_log
from aejax.runs.shapes import refuse_other_codes
from aejax.types import Batch, Dataset, Experiment, Params, TrainState

KEYS = {
    "evaluate": "terms",
    "divergences": "terms",
    "encode": "encode",
    "moments": "encode",
    "codes": "encode",
    "active": "encode",
    "reconstruct": "reconstruct",
    "sample": "sample",
    "chain": "chain",
    "log_weights": "importance",
    "rollout": "rollout",
}
"""Function of a model -> name of its key (`aejax.keys.EVALUATION`). Divergences use the draws of the terms."""

SCORING = ("evaluate", "divergences", "log_weights")
"""Functions that evaluate the likelihood at the examples."""

STATIC = ("chain", "log_weights")
"""Functions whose last argument is a count on which the compiled program depends."""


Examples = Any
"""A data set, or anything that `aejax.data.open_split` accepts: examples [n, *shape] (floats in data range, or uint8), or a name
with its split."""


class Run:
    """A trained or interrupted run, from `aejax.open_run(DIR)` or `aejax.train`.

    Attributes:
        directory: Path of the run directory.
        config: Content of its config.json.
        experiment: The experiment, rebuilt.
        state: Step, parameters, extras and the state of the optimizer.

    Example:
        >>> run = aejax.open_run("runs/mine")
        >>> x = np.zeros((5, 8, 8, 1), np.float32)
        >>> run.encode(x).shape, run.reconstruct(x).shape
        ((5, 16), (5, 8, 8, 1))
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        experiment: Experiment,
        state: TrainState,
        any_units: bool = False,
    ) -> None:
        """`any_units` is whether data in apparently other units than the training data are accepted."""
        self.directory, self.config, self.experiment, self.state = directory, config, experiment, state
        self.any_units = any_units
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._unscales = True

    def in_model_units(self) -> Run:
        """The same run with standardized data on both sides: it takes what `take` returns, and its output compares with that."""
        if self.experiment.train.scaling is None:
            return self
        same = Run(self.directory, self.config, self.experiment, self.state, any_units=True)
        same._compiled, same._unscales = self._compiled, False
        return same

    @property
    def params(self) -> Params:
        """The trained parameters, nested dicts of arrays."""
        return self.state.params

    @property
    def step(self) -> int:
        """The training step of the checkpoint."""
        return int(self.state.step)

    @property
    def history(self) -> Log:
        """The numbers of metrics.jsonl: split -> term -> (steps [n], values [n])."""
        return read_log(self.directory / "metrics.jsonl")

    def encode(self, x: Examples) -> np.ndarray:
        """Codes of examples.

        Args:
            x: Examples [n, *shape] (floats in data range, or uint8), a data set, or a name with its split.

        Returns:
            Codes [n, ...]; for a stochastic encoder the mean.

        Raises:
            UsageError: The model has no encoder, or x has another shape or other units than the training data.
        """
        return self.apply("encode", x)

    def codes(self, x: Examples) -> np.ndarray:
        """Discrete codes of examples.

        Args:
            x: Examples, as in `encode`.

        Returns:
            int32 [n, *positions, codebooks]; for a hierarchy one row [n, all], from level 0, next to x, to the top.

        Raises:
            UsageError: The model has no discrete codes, or x does not fit the training data.
        """
        codes = self.apply("codes", x)
        if isinstance(codes, tuple):
            return np.concatenate([level.reshape(len(level), -1) for level in codes], axis=1)
        return codes

    def reconstruct(self, x: Examples) -> np.ndarray:
        """Reconstructions of examples; for corrupted examples, their restorations.

        Args:
            x: Examples, as in `encode`.

        Returns:
            [n, *shape] in data range.
        """
        return self._in_data_units(self.apply("reconstruct", x))

    def evaluate(self, x: Examples) -> dict[str, np.ndarray]:
        """The model's unweighted terms for each example.

        Args:
            x: Examples, as in `encode`.

        Returns:
            {name: [n]}, in nats per example unless the name says otherwise.
        """
        return self.apply("evaluate", x)

    def score(self, x: Examples) -> np.ndarray:
        """Anomaly score of each example: the model's −log p(x), or its bound, in nats; higher is more unusual.

        Args:
            x: Examples, as in `encode`.

        Returns:
            [n]: `nelbo` if the model has a bound, else `nll`.

        Raises:
            UsageError: The model evaluates neither, or x does not fit the training data.
        """
        terms = self.evaluate(x)
        for name in ("nelbo", "nll"):
            if name in terms:
                return terms[name]
        raise UsageError(f"the model of {self.directory} evaluates {', '.join(terms)}; a score needs nll or nelbo")

    def impute(self, x: Examples, rounds: int = 1) -> np.ndarray:
        """Examples with their missing values replaced by the model's reconstructions.

        Args:
            x: Examples, as in `encode`, with NaN where a value is missing.
            rounds: Number of reconstructions, each of the examples that the one before completed. The first sees 0, the mean
                of standardized data, in place of missing values. More than one helps variational models a little; a denoising
                autoencoder takes completed values for observed ones and gets worse.

        Returns:
            [n, *shape]: the observed values unchanged, the others imputed.

        Raises:
            UsageError: The run was trained without `--missing mask`, or x does not fit the training data.
        """
        if self.experiment.train.reading.get("missing") != "mask":
            raise UsageError(f"{self.directory} was trained without missing values; train it with --missing mask")
        data = self._fitting(x, "reconstruct")
        complete = unscaled(np.asarray(take(data, np.arange(data.size))["x"]), data.scaling)
        observed = ~np.isnan(complete)
        for _ in range(rounds):
            complete = np.where(observed, complete, self.reconstruct(data))
            data = data._replace(arrays={**(data.arrays or {}), "x": complete}, read=None)
        return complete

    def decode(self, z: Any, data: Dataset | None = None) -> np.ndarray:
        """Decodes codes.

        Args:
            z: Codes [n, ...], also integers if the codes are discrete; for a hierarchy a tuple of them.
            data: n examples, whose labels or conditions the decoder of a conditional model needs.

        Returns:
            [n, *shape] in data range.

        Raises:
            UsageError: The model has no decoder, or it is conditional and there are no data.
        """
        if data is None:
            data = self._placeholders(len(jax.tree.leaves(z)[0]))
        refuse_other_codes(self.experiment, z)
        f, state = self._compiled.setdefault("decode", jax.jit(self._require("decode"))), self.state

        def of_batch(batch: Batch) -> Any:
            rows = jax.tree.map(lambda leaf: leaf[batch["index"]], z)
            return f(state.params, state.extras, rows, batch)

        return self._in_data_units(map_examples(of_batch, self._as_read(data)))

    def condition(self, data: Dataset) -> np.ndarray:
        """The condition of each example of a conditional model, [n, ...]."""
        condition = self.experiment.model.data.condition
        assert condition is not None
        return map_examples(jax.jit(condition), data)

    def sample(self, n: int, seed: int = 0, given: Examples | None = None, label: int | None = None) -> np.ndarray:
        """Samples of a generative model; `sample(10)` equals the first ten of `sample(100)`.

        Args:
            n: Number of samples.
            seed: Seed of the draws.
            given: For a conditional model, examples whose labels or observed parts are used in turn.
            label: For a conditional model, one label for all samples.

        Returns:
            [n, *shape] in data range.

        Raises:
            UsageError: The model cannot sample, or a condition is missing or superfluous.
        """
        f, conditions = self.function("sample", seed), self._conditions(given, label)
        batches = []
        for start in range(0, n, INFERENCE_BATCH):
            index = np.arange(start, start + INFERENCE_BATCH, dtype=np.int32)
            batches.append(np.asarray(f({**conditions(index), "index": index})))
        return self._in_data_units(np.concatenate(batches)[:n])

    def rollout(
        self,
        given: Examples,
        gaps: Sequence[int],
        prefix: int | None = None,
        seed: int = 0,
        n: int | None = None,
    ) -> np.ndarray:
        """Continuations of sequences.

        Args:
            given: Sequences [m, t, *frame], which are continued in turn.
            gaps: Steps from each frame to the next; the first gap starts at the last frame of the prefix.
            prefix: Number of frames of each sequence that the model receives; by default all.
            seed: Seed of the draws.
            n: Number of continuations; by default one per sequence. The first ten of a hundred equal those of ten.

        Returns:
            Frames [n, len(gaps), *frame].

        Raises:
            UsageError: The frames have another shape than the training data, or the prefix or a gap is out of range.
        """
        f = self.function("rollout", seed)
        data = self._as_read(given)
        if data.shape[1:] != self.experiment.train.shape[1:]:
            raise UsageError(
                f"{data.name} holds sequences of frames {data.shape[1:]}, this run was trained on frames "
                f"{self.experiment.train.shape[1:]}"
            )
        data = self._in_units(data, "rollout")
        t = data.shape[0] if prefix is None else prefix
        if not 1 <= t <= data.shape[0] or not len(gaps) or min(gaps) < 1:
            raise UsageError(
                f"a prefix of {t} of {data.shape[0]} frames and the gaps {list(gaps)}: give a prefix of at least one frame, no "
                "longer than the sequence, and gaps of one step or more"
            )
        n = data.size if n is None else n
        size, batches, steps = inference_batch(data), [], np.asarray(gaps, np.int32)
        for start in range(0, n, size):
            index = np.arange(start, start + size, dtype=np.int32)
            batch = {**take(data, index % data.size), "index": index}
            batch["x"] = batch["x"][:, :t]
            if "length" in batch:
                batch["length"] = np.minimum(batch["length"], t)
            batches.append(np.asarray(f(batch, steps)))
        return self._in_data_units(np.concatenate(batches)[:n])

    def apply(self, name: str, x: Examples, *rest: Any) -> Any:
        """A function of the model applied to all examples, in NumPy.

        Args:
            name: Name of a function `(params, extras, batch, key, …)` of the model or of one of its groups.
            x: Examples, as in `encode`.
            rest: Further arguments of the function, such as the number of states of a chain.

        Returns:
            A tree of arrays [n, ...].

        Raises:
            UsageError: The model lacks the function, or was trained on examples of another shape or in other units.
        """
        f = self.function(name)
        return map_examples(lambda batch: f(batch, *rest), self._fitting(x, name))

    def function(self, name: str, seed: int | None = None) -> Callable[..., Any]:
        """The model's function of this name as (batch, …) -> tree, with the run's parameters bound.

        Its key is that of its purpose, made from `seed`, by default the run's seed.
        """
        if name not in self._compiled:
            f = self._require(name)
            self._compiled[name] = jax.jit(f, static_argnums=4) if name in STATIC else jax.jit(f)
        compiled, state = self._compiled[name], self.state
        key = evaluation_key(self.experiment.seed if seed is None else seed, KEYS[name])
        return lambda batch, *rest: compiled(state.params, state.extras, batch, key, *rest)

    def _require(self, name: str) -> Callable[..., Any]:
        f: Callable[..., Any] | None = self.experiment.model.function(name)
        if f is None:
            hint = self._hint() if name == "sample" else ""
            raise UsageError(f"the model of {self.directory} has no `{name}`; its family does not offer it{hint}")
        return f

    def _hint(self) -> str:
        """How a model without `sample` generates."""
        model = self.experiment.model
        if model.discrete is not None:
            return f"; train a prior over its codes: aejax train vq_prior --parent {self.directory}"
        if model.encode is not None and model.decode is not None:
            return "; `aejax sample --fit-mixture 10` samples a density fitted to its codes"
        return ""

    def _conditions(self, given: Examples | None, label: int | None) -> Callable[[np.ndarray], Mapping[str, Any]]:
        """index [b] -> the other entries of a batch to sample from; UsageError if the model lacks or does not use them."""
        train = self.experiment.train
        if self.experiment.model.data.condition is None:
            if given is not None or label is not None:
                raise UsageError(
                    f"the model of {self.directory} samples without a condition; leave out given and label"
                )
            return lambda index: {}
        if given is not None and label is None:
            data = self._fitting(given, "sample")
            return lambda index: take(data, index % data.size)
        if label is not None and given is None:
            if train.classes is None or not 0 <= label < len(train.classes):
                raise UsageError(
                    f"label {label} does not occur in the data, which have "
                    + ("no labels" if train.classes is None else f"labels from 0 to {len(train.classes) - 1}")
                )
            return lambda index: {"label": np.full(len(index), label, np.int32)}
        raise UsageError(
            f"the model of {self.directory} samples given a condition; give it one of --given (examples) and --label"
        )

    def _fitting(self, x: Any, name: str) -> Dataset:
        """The examples as a data set for the function of this name; UsageError if the run was trained on other ones."""
        data = self._as_read(x)
        shape = self.experiment.train.shape
        if data.shape != shape:
            one = "; a single example needs an axis before it, x[None]" if (data.size, *data.shape) == shape else ""
            raise UsageError(f"{data.name} holds examples of shape {data.shape}, this run was trained on {shape}{one}")
        return self._in_units(data, name)

    def _placeholders(self, n: int) -> Dataset:
        """n examples of which only the shape counts."""
        train = self.experiment.train
        if self.experiment.model.data.condition is not None:
            raise UsageError(f"the model of {self.directory} is conditional; give decode() the examples too")
        nothing = np.broadcast_to(np.float32(0.0), (n, *train.shape))
        return Dataset("codes", train.shape, n, None, "", {"x": nothing})

    def _as_read(self, x: Examples) -> Dataset:
        """Examples as a data set that is read and standardized like the training data."""
        train = self.experiment.train
        data = open_split(x, train.reading)
        return data._replace(scaling=train.scaling) if self._unscales else data

    def _in_data_units(self, x: np.ndarray) -> np.ndarray:
        return unscaled(x, self.experiment.train.scaling) if self._unscales else x

    def _in_units(self, data: Dataset, name: str) -> Dataset:
        experiment = self.experiment
        if any(data is own for own in datasets(experiment)):
            return data
        trained = joined([own.found for own in datasets(experiment)])
        if trained is not None and not self.any_units:
            data = in_units(data, trained, inference_batch(data))
        contract = experiment.model.data
        # Noise may move the input of a denoising model out of the range that its likelihood admits.
        restores = contract.corrupt is not None and name not in SCORING
        return data if contract.check is None or restores else checked_by(data, contract.check, inference_batch(data))
