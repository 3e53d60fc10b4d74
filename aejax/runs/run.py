"""A run directory, opened: its configuration, its parameters, and what can be done with them.

Nothing in the directory is executable, and no code is loaded from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.objective.sparsity import active_terms, activity_histogram
from aejax.runs.checkpoint import digest, open_checkpoints, restore
from aejax.data import as_recorded_source, describe, in_order, recorded, take
from aejax.runs.directory import datasets, read_config
from aejax.errors import UsageError
from aejax.runs.experiment import build, load_file, sha256
from aejax.keys import evaluation_key
from aejax.types import Dataset, Experiment, Model, Parent, TrainState

INFERENCE_BATCH = 256
"""One padded batch size for everything outside training, so that each function compiles once."""

INFERENCE_BYTES = 8 * 2**20
"""Bound for such a batch of x: what a net keeps of large images on the way takes many times that."""


class Run:
    """A trained (or interrupted) run. `aejax.open_run(DIR)` makes one, and `aejax.train` returns one.

    `encode`, `reconstruct` and `sample` compile once per opened run.
    """

    def __init__(self, directory: Path, config: dict[str, Any], experiment: Experiment, state: TrainState):
        self.directory, self.config, self.experiment, self.state = directory, config, experiment, state

    @property
    def params(self) -> dict:
        """The trained parameters, nested dicts of arrays."""
        return self.state.params

    @property
    def step(self) -> int:
        return int(self.state.step)

    def encode(self, x: np.ndarray | Dataset) -> np.ndarray:
        """Codes [n, ...] of x [n, *shape] (floats in data range, or uint8), or of a data set's examples."""
        return self._over(x, "encode")

    def codes(self, x: np.ndarray | Dataset) -> np.ndarray:
        """Discrete codes, int32 [n, *positions, books]; of a hierarchy one row [n, all], all levels from the one next to x up."""
        found = map_examples(self._function("codes", "encode"), self._fitting(x))
        if isinstance(found, tuple):
            return np.concatenate([level.reshape(len(level), -1) for level in found], axis=1)
        return found

    def reconstruct(self, x: np.ndarray | Dataset) -> np.ndarray:
        """Reconstructions [n, *shape] in data range; of a corrupted x, its restoration."""
        return self._over(x, "reconstruct")

    def active(self, data: Dataset) -> np.ndarray:
        """Of a sparse code, which units each example activates: bool [n, units]."""
        return map_examples(self._function("active", "encode"), data)

    def evaluate(self, data: Dataset) -> dict[str, np.ndarray]:
        """The model's unweighted terms, {name: [n]}, nats per example unless the name says otherwise."""
        return map_examples(self._function("evaluate", "terms"), data)

    def sample(
        self, n: int, seed: int = 0, given: np.ndarray | Dataset | None = None, label: int | None = None
    ) -> np.ndarray:
        """n samples [n, *shape] of the model; the first ten of a hundred are the ten.

        A conditional model's are given the examples `given` in turn (their labels, or a part of each), or `label` all of them.
        """
        f, key = self._require("sample"), evaluation_key(seed, "sample")
        conditions = self._conditions(given, label)
        batches = []
        for start in range(0, n, INFERENCE_BATCH):
            index = np.arange(start, start + INFERENCE_BATCH, dtype=np.int32)
            batch = {**conditions(index), "index": index}
            batches.append(np.asarray(f(self.state.params, self.state.extras, batch, key)))
        return np.concatenate(batches)[:n]

    def rollout(
        self,
        given: np.ndarray | Dataset,
        gaps: Sequence[int],
        seen: int | None = None,
        seed: int = 0,
        n: int | None = None,
    ) -> np.ndarray:
        """Frames [n, len(gaps), *frame] that go on from the sequences `given` in turn, of which the model sees the first `seen`
        frames (None: all): each so many steps after the one before it, the first after the last that was seen. n is by default
        one for each sequence. The first ten of a hundred are the ten."""
        f, key = self._require("rollout"), evaluation_key(seed, "rollout")
        data = given if isinstance(given, Dataset) else as_dataset(given)
        if data.shape[1:] != self.experiment.train.shape[1:]:
            raise UsageError(
                f"{data.name} holds sequences of frames {data.shape[1:]}, this run was trained on frames "
                f"{self.experiment.train.shape[1:]}"
            )
        t = data.shape[0] if seen is None else seen
        if not 1 <= t <= data.shape[0] or not len(gaps) or min(gaps) < 1:
            raise UsageError(
                f"{t} of {data.shape[0]} frames are seen and the gaps are {list(gaps)}: see one frame at least, and no more than "
                "there are, and go on by steps of one or more"
            )
        n = data.size if n is None else n
        size, batches, steps = inference_batch(data), [], np.asarray(gaps, np.int32)
        for start in range(0, n, size):
            index = np.arange(start, start + size, dtype=np.int32)
            batch = {**take(data, index % data.size), "index": index}
            batch["x"] = batch["x"][:, :t]
            if "length" in batch:
                batch["length"] = np.minimum(batch["length"], t)
            batches.append(np.asarray(f(self.state.params, self.state.extras, batch, key, steps)))
        return np.concatenate(batches)[:n]

    def _conditions(self, given: np.ndarray | Dataset | None, label: int | None) -> Callable:
        """index [b] -> what else a batch to sample from holds; UsageError where the model has no use for it, or lacks it."""
        condition, train = self.experiment.model.condition, self.experiment.train
        if condition is None:
            if given is not None or label is not None:
                raise UsageError(
                    f"the model of {self.directory} samples without a condition; leave out given and label"
                )
            return lambda index: {}
        if given is not None and label is None:
            data = self._fitting(given)
            return lambda index: take(data, index % data.size)
        if label is not None and given is None:
            if train.classes is None or not 0 <= label < len(train.classes):
                raise UsageError(
                    f"label {label} is none of the data's; they have "
                    + ("no labels" if train.classes is None else f"labels from 0 to {len(train.classes) - 1}")
                )
            return lambda index: {"label": np.full(len(index), label, np.int32)}
        raise UsageError(
            f"the model of {self.directory} samples given a condition; give it one of --given (examples) and --label"
        )

    def _over(self, x: np.ndarray | Dataset, name: str) -> Any:
        return map_examples(self._function(name, name), self._fitting(x))

    def _fitting(self, x: np.ndarray | Dataset) -> Dataset:
        data = x if isinstance(x, Dataset) else as_dataset(x)
        if data.shape != self.experiment.train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, this run was trained on {self.experiment.train.shape}"
            )
        return data

    def _function(self, name: str, key_name: str) -> Callable:
        """The named function of the model as batch -> tree, with the key for its purpose."""
        f, key = self._require(name), evaluation_key(self.experiment.seed, key_name)
        return lambda batch: f(self.state.params, self.state.extras, batch, key)

    def _require(self, name: str) -> Callable:
        if name not in self._jitted:
            raise UsageError(f"the model of {self.directory} has no `{name}`; its family does not offer it")
        return self._jitted[name]

    @cached_property
    def _jitted(self) -> dict[str, Callable]:
        names = ("evaluate", "encode", "codes", "reconstruct", "sample", "active", "rollout")
        model = self.experiment.model
        return {name: jax.jit(getattr(model, name)) for name in names if getattr(model, name) is not None}


def inference_batch(data: Dataset) -> int:
    """Examples at a time outside training."""
    return max(1, min(INFERENCE_BATCH, INFERENCE_BYTES // (4 * math.prod(data.shape)), data.size))


def map_examples(f: Callable, data: Dataset) -> Any:
    """f over all examples in order: batch -> tree of [b, ...] becomes tree of [n, ...] in NumPy, padding dropped."""
    parts = []
    for batch, valid in in_order(data, inference_batch(data)):
        parts.append(jax.tree.map(lambda leaf, n=valid: np.asarray(leaf)[:n], f(batch)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def judged_examples(model: Model) -> Callable:
    """(params, extras, batch, key) -> what training is judged by: the model's terms [b], and with a sparse code `active`
    [b, units]."""

    def judge(params, extras, batch, key):
        terms = model.evaluate(params, extras, batch, key)
        return terms if model.active is None else {**terms, "active": model.active(params, extras, batch, key)}

    return judge


def judgement(found: Mapping[str, np.ndarray]) -> tuple[dict[str, float], dict[str, list[int]]]:
    """What `judged_examples` gave over a split as numbers by name, and with a sparse code its `activity_histogram`."""
    terms = means({name: values for name, values in found.items() if name != "active"})
    if "active" not in found:
        return terms, {}
    return {**terms, **active_terms(found["active"])}, {"activity_histogram": activity_histogram(found["active"])}


def means(terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    """One mean over all examples, in double precision."""
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in terms.items()}


def as_dataset(x: np.ndarray) -> Dataset:
    """Examples [n, *shape] in memory as a data set without a name."""
    x = np.asarray(x)
    if x.ndim < 2 or len(x) == 0:
        raise UsageError(f"examples come as an array [n, ...] with n ≥ 1; this one has shape {x.shape}")
    if x.dtype.kind != "f" and x.dtype not in (np.uint8, np.bool_):
        raise UsageError(f"examples come as floats in data range, uint8 or bool; this array is {x.dtype}")
    return Dataset("the array", x.shape[1:], len(x), None, "", {"x": x})


def open_run(
    directory: str | Path,
    *,
    file: str | Path | None = None,
    experiment: Experiment | None = None,
    checkpoint: str = "last",
    with_data: bool = False,
    allow_changed: bool = False,
) -> Run:
    """Opens a run directory.

    Args:
        directory: as `aejax train` left it.
        file: the experiment file, if it is no longer where `config.json` says.
        experiment: the experiment itself, for a run that was trained from Python without a file.
        checkpoint: `last`, or `best` by the monitored validation metric.
        with_data: also load the data sets (and refuse if they have changed); otherwise only their recorded shapes.
        allow_changed: accept an experiment file whose sha256 is not the recorded one.
    """
    directory = Path(directory)
    config = read_config(directory)
    if experiment is None:
        experiment = rebuild(directory, config, file=file, with_data=with_data, allow_changed=allow_changed)
    if checkpoint not in ("last", "best"):
        raise UsageError(f"checkpoint {checkpoint!r}: choose last or best")
    if not (directory / "checkpoints").is_dir():
        raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
    with open_checkpoints(directory / "checkpoints", monitor=experiment.monitor, read_only=True) as checkpoints:
        step = checkpoints.latest_step() if checkpoint == "last" else checkpoints.best_step()
        if step is None:
            raise UsageError(f"{directory} holds no checkpoint yet; train it, or start again with --overwrite")
        state = restore(checkpoints, abstract_state(experiment), step)
    return Run(directory, config, experiment, state)


def open_parent(directory: str | Path) -> Parent:
    """The run that an experiment builds on. To open the experiment's own run it must still be where it was."""
    run = open_run(directory)
    if not (run.directory / "result.json").exists():
        raise UsageError(f"{directory} is not complete, and no parent yet; finish it with: aejax resume {directory}")
    if run.config["source"] is None:
        raise UsageError(f"{directory} was trained from Python, without an experiment file; a parent needs one")
    state = run.state
    return Parent(
        directory=str(directory),
        digest=digest(state.params, state.extras),
        model=run.experiment.model,
        params=state.params,
        extras=state.extras,
        arguments=run.config["source"]["arguments"],
    )


def abstract_state(experiment: Experiment) -> TrainState:
    """Shapes and dtypes of the state, without data and without computing anything."""

    def init(key, batch):
        params, extras = experiment.model.init(key, batch)
        return TrainState(np.int32(0), params, extras, experiment.optimizer.init(params))

    return jax.eval_shape(init, jax.random.key(0), abstract_batch(experiment))


def abstract_batch(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch, as `aejax.data.batch_at` makes it."""
    size = experiment.batch_size
    batch = {
        "x": jax.ShapeDtypeStruct((size, *experiment.train.shape), np.float32),
        "index": jax.ShapeDtypeStruct((size,), np.int32),
    }
    if experiment.train.classes is not None:
        batch["label"] = jax.ShapeDtypeStruct((size,), np.int32)
    return batch


def rebuild(
    directory: Path,
    config: Mapping[str, Any],
    *,
    file: str | Path | None = None,
    with_data: bool = True,
    allow_changed: bool = False,
) -> Experiment:
    """The experiment of a run, from the file and the arguments in its configuration."""
    function = rebuild_function(directory, config["source"], file=file, allow_changed=allow_changed)
    arguments = config["source"]["arguments"]
    data = as_recorded_source(config["data"], arguments["data"]) if with_data else recorded(config["data"])
    experiment = build(function, arguments, data=data)
    if experiment.parent is not None and experiment.parent.digest != config["parent"]["digest"]:
        raise UsageError(
            f"{directory} was trained on top of another state of {experiment.parent.directory} (other digest); "
            "restore that run"
        )
    if with_data and not allow_changed:
        for name, found in describe(datasets(experiment))["splits"].items():
            if found["fingerprint"] != config["data"]["splits"].get(name, {}).get("fingerprint"):
                raise UsageError(
                    f"the data {name} is not what {directory} was trained on (other fingerprint); restore it"
                )
    return experiment


def rebuild_function(
    directory: Path,
    source: Mapping[str, Any] | None,
    *,
    file: str | Path | None = None,
    allow_changed: bool = False,
) -> Callable[..., Experiment]:
    """The function of the experiment file that a configuration names."""
    if source is None:
        raise UsageError(
            f"{directory} was trained from Python, without an experiment file; pass open_run(..., experiment=…)"
        )
    path = Path(file or source["file"])
    if path.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"{path} lies in the run directory, from which no code is loaded; keep experiment files elsewhere"
        )
    if not path.is_file():
        raise UsageError(f"{directory} was trained from {path}, which is not there; say where it is with --file")
    _, function = load_file(path)
    if sha256(path) != source["sha256"] and not allow_changed:
        raise UsageError(
            f"{path} has changed since {directory} was started; restore it, or pass --allow-changed if that is harmless"
        )
    return function


def judged_split(experiment: Experiment) -> Dataset:
    """What is judged during training."""
    return experiment.test if experiment.validation is None else experiment.validation
