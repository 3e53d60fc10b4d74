"""Shapes and dtypes of an experiment's state and batches, without data and without computation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from aejax.errors import UsageError
from aejax.types import Batch, Experiment, TrainState


def abstract_state(experiment: Experiment) -> TrainState:
    """Shapes and dtypes of the training state."""

    def init(key: Key[Array, ""], batch: Batch) -> TrainState:
        params, extras = experiment.model.init(key, batch)
        return TrainState(jnp.int32(0), params, extras, experiment.optimizer.init(params))

    return jax.eval_shape(init, jax.random.key(0), abstract_batch(experiment))


def abstract_batch(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch from `aejax.data.batch_at`."""
    size = experiment.batch_size
    batch = {
        "x": jax.ShapeDtypeStruct((size, *experiment.train.shape), np.float32),
        "index": jax.ShapeDtypeStruct((size,), np.int32),
    }
    if experiment.train.target is not None:
        batch["target"] = jax.ShapeDtypeStruct((size, *experiment.train.target), np.float32)
    if experiment.train.classes is not None:
        batch["label"] = jax.ShapeDtypeStruct((size,), np.int32)
    return batch


def refuse_other_codes(experiment: Experiment, z: Any) -> None:
    """UsageError for vector codes [n, ...] of another shape than the encoder's; what is known without data is compared."""
    model = experiment.model
    if model.encode is None or model.data.condition is not None or not hasattr(z, "shape") or z.dtype.kind != "f":
        return
    state, batch = abstract_state(experiment), abstract_batch(experiment)
    expected = jax.eval_shape(model.encode, state.params, state.extras, batch, jax.random.key(0)).shape[1:]
    if tuple(z.shape[1:]) != expected:
        raise UsageError(f"the codes are of shape {tuple(z.shape[1:])}, those of this run of shape {expected}")
