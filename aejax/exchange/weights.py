"""Weights in safetensors, and runs that are made of weights from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from aejax.errors import UsageError
from aejax.files import replacing, write_json
from aejax.runs.checkpoint import digest, open_checkpoints, save
from aejax.runs.directory import determined, make_config
from aejax.runs.experiment import recipe_of
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.signals import deferred_signals
from aejax.training.settings import Settings
from aejax.training.validation import make_validate
from aejax.types import Experiment, Extras, Params, TrainState


def safetensors_library() -> ModuleType:
    """`safetensors.numpy`; UsageError if it is not installed."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise UsageError("export and import need safetensors; pip install 'aejax[export]'") from error
    return safetensors.numpy


def write_weights(path: Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a .safetensors file."""
    library = safetensors_library()
    leaves = {name: np.asarray(leaf, order="C") for name, leaf in weights.items()}
    with replacing(path) as file:
        file.write(library.save(leaves, None if metadata is None else dict(metadata)))


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file, which is never unpickled; UsageError if it is damaged."""
    library = safetensors_library()
    try:
        weights: dict[str, np.ndarray] = library.load(path.read_bytes())
    except Exception as error:  # the library's own error, or one of the disk
        raise UsageError(f"{path} cannot be read ({error}); copy it again") from error
    return weights


def refuse_occupied_folder(folder: Path) -> None:
    """UsageError unless the folder is absent or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder; choose another")


def run_of_weights(experiment: Experiment, params: Params, extras: Extras, directory: Path, where: Path) -> Run:
    """A run directory of parameters from elsewhere, as if trained for no step.

    Args:
        experiment: Made by `aejax.fit` of a described model.
        params: Parameters of its model.
        extras: Extras of its model.
        directory: The run directory to make.
        where: Where the weights come from, for messages.

    Raises:
        UsageError: The parameters are not those of the model.
    """
    like = abstract_state(experiment)
    params, extras = jax.tree.map(jnp.asarray, (params, extras))
    if jax.tree.map(jnp.shape, (params, extras)) != jax.tree.map(jnp.shape, (like.params, like.extras)):
        raise UsageError(f"{where} holds arrays of other shapes than its configuration says")
    state = TrainState(jnp.int32(0), params, extras, jax.jit(experiment.optimizer.init)(params))
    (validation,) = make_validate(experiment)(state)
    config = make_config(experiment, None, Settings()._asdict(), None, recipe_of(experiment))
    directory.mkdir(parents=True)
    write_json(directory / "config.json", config)
    with deferred_signals(), open_checkpoints(directory / "checkpoints", 1, experiment.monitor) as checkpoints:
        save(checkpoints, state, validation.metrics, config=determined(config))
    result = {
        "step": 0,
        "stopped_early": True,
        "digest": digest(state.params, state.extras),
        "metrics": validation.metrics,
        "seconds": 0.0,
        "examples_per_second": None,
        "cost": None,
    }
    write_json(directory / "result.json", result)
    return open_run(directory, experiment=experiment, allow_changed=True)
