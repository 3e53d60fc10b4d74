"""Shapes and dtypes of an experiment's state and batches, without data and without computation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

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
    if experiment.train.classes is not None:
        batch["label"] = jax.ShapeDtypeStruct((size,), np.int32)
    return batch
