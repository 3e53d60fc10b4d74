"""A run directory, opened: its configuration, its parameters, and what can be done with them.

Nothing in the directory is executable, and no code is loaded from it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.activity import active_terms, activity_histogram
from aejax.checkpoint import digest, open_checkpoints, restore
from aejax.data import as_recorded_source, describe, in_order, recorded
from aejax.errors import UsageError
from aejax.experiment import Source, build, load_file, sha256
from aejax.keys import evaluation_key
from aejax.types import Dataset, Experiment, Model, Parent, TrainState

INFERENCE_BATCH = 256
"""One padded batch size for everything outside training, so that each function compiles once."""

INFERENCE_BYTES = 8 * 2**20
"""Bound for such a batch of x: what a net keeps of large images on the way takes many times that."""

GROUP = "group.json"
"""What makes a directory one of several runs that were trained together (`aejax.members`)."""

PACKAGES = ("aejax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


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

    def reconstruct(self, x: np.ndarray | Dataset) -> np.ndarray:
        """Reconstructions [n, *shape] in data range; of a corrupted x, its restoration."""
        return self._over(x, "reconstruct")

    def active(self, data: Dataset) -> np.ndarray:
        """Of a sparse code, which units each example activates: bool [n, units]."""
        return map_examples(self._function("active", "encode"), data)

    def evaluate(self, data: Dataset) -> dict[str, np.ndarray]:
        """The model's unweighted terms, {name: [n]}, nats per example unless the name says otherwise."""
        return map_examples(self._function("evaluate", "terms"), data)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n samples [n, *shape] of the model; the first ten of a hundred are the ten."""
        f, key = self._require("sample"), evaluation_key(seed, "sample")
        batches = []
        for start in range(0, n, INFERENCE_BATCH):
            index = np.arange(start, start + INFERENCE_BATCH, dtype=np.int32)
            batches.append(np.asarray(f(self.state.params, self.state.extras, {"index": index}, key)))
        return np.concatenate(batches)[:n]

    def _over(self, x: np.ndarray | Dataset, name: str) -> Any:
        data = x if isinstance(x, Dataset) else as_dataset(x)
        if data.shape != self.experiment.train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, this run was trained on {self.experiment.train.shape}"
            )
        return map_examples(self._function(name, name), data)

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
        names = ("evaluate", "encode", "reconstruct", "sample", "active")
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


def datasets(experiment: Experiment) -> tuple[Dataset, ...]:
    return tuple(d for d in (experiment.train, experiment.validation, experiment.test) if d is not None)


def judged_split(experiment: Experiment) -> Dataset:
    """What is judged during training."""
    return experiment.test if experiment.validation is None else experiment.validation


def make_config(experiment: Experiment, source: Source | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json records of a run before its first step."""
    return {
        "source": None if source is None else source._asdict(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": experiment.seed,
        "steps": experiment.steps,
        "batch_size": experiment.batch_size,
        "monitor": experiment.monitor,
        "data": describe(datasets(experiment)),
        "parent": None
        if experiment.parent is None
        else {"run": experiment.parent.directory, "digest": experiment.parent.digest},
        "member": None,
        "resumed": [],
        "settings": dict(settings),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Versions and platform: where the same bits can be expected again."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "platform": {
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "processes": jax.process_count(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "prng": str(jax.config.jax_default_prng_impl),  # type: ignore[attr-defined]
        },
    }


def read_config(directory: Path) -> dict[str, Any]:
    if is_group(directory):
        names = ", ".join(read_json(directory / GROUP, "")["members"])
        raise UsageError(
            f"{directory} is a group of runs; give one of {names} in it, or resume, evaluate, report or verify it"
        )
    config = read_json(directory / "config.json", f"{directory} is not a run directory")
    if not is_run(directory):
        raise UsageError(
            f"{directory} is not a run directory: its config.json is another program's; give a run of aejax"
        )
    return config


def is_run(directory: Path) -> bool:
    """Whether config.json is one of ours; other programs use the name too."""
    try:
        config = json.loads((directory / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"source", "settings", "monitor", "versions"} <= config.keys()


def is_group(directory: Path) -> bool:
    """Whether the directory holds runs that were trained together."""
    return (directory / GROUP).is_file()


def members_in(group: Path) -> list[Path]:
    """The run directories of a group."""
    return [group / name for name in read_json(group / GROUP, f"{group} is not a group of runs")["members"]]


def finished_in(group: Path) -> list[Path]:
    """Those of them that are complete; one that diverged, or was interrupted, has no result."""
    finished = [run for run in members_in(group) if (run / "result.json").exists()]
    if not finished:
        raise UsageError(f"no member of {group} is complete; resume it with: aejax resume {group}")
    return finished


def refuse_member(directory: Path, config: Mapping[str, Any], what: str) -> None:
    """A member has its bits from the group's program: alone it would round otherwise."""
    group = directory.resolve().parent
    if config["member"] is not None and is_group(group):
        raise UsageError(f"{directory} was trained together with others; {what} all of them: aejax {what} {group}")


def read_json(file: Path, otherwise: str) -> dict[str, Any]:
    """A JSON object, or a UsageError that begins with `otherwise`."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{otherwise}: it has no {file.name}; give a directory that `aejax train` made") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{otherwise}: {file} is damaged ({error}); restore it from a copy") from None


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all: written beside, then renamed. Numbers that JSON lacks (NaN, Inf) become null."""
    beside = file.with_name(file.name + ".tmp")
    beside.write_text(json.dumps(_finite(value), indent=1) + "\n")
    os.replace(beside, file)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the run directory: two processes never write one run. The lock ends with the process, however it ends."""
    with open(directory / ".lock", "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{directory} is being written by another process; wait for it, or choose another --run"
            ) from None
        yield
