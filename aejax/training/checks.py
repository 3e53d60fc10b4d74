"""Checks of an experiment before its first step."""

from __future__ import annotations

import math
import os

import jax

from aejax.data import checked_by, eval_batches
from aejax.errors import UsageError
from aejax.runs.batched import inference_batch
from aejax.runs.directory import datasets
from aejax.runs.shapes import abstract_batch, abstract_state
from aejax.runs.tracking import refuse_missing_tracker
from aejax.training.contract import check_contract
from aejax.training.settings import Settings, layout_of
from aejax.training.step import refuse_coupling
from aejax.types import Dataset, Experiment

GPU_DETERMINISM = "--xla_gpu_deterministic_ops=true"


def checked(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment, with all examples of its data checked; streamed data are checked when they are read.

    It refuses what would fail inside jit, or silently train something else.
    """
    for name, value in [
        ("--steps", experiment.steps),
        ("--batch-size", experiment.batch_size),
        ("--log-every", settings.log_every),
        ("--save-every", settings.save_every),
        ("--keep", settings.keep),
    ]:
        if value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
    if settings.patience < 0:
        raise UsageError(f"--patience {settings.patience}: it must be a number of validations, or 0 for none")
    if settings.patience and experiment.validation is None:
        raise UsageError("--patience needs a validation split; otherwise the test split would end the training")
    if settings.profile < 0:
        raise UsageError(f"--profile {settings.profile}: it must be a number of steps, or 0 for none")
    if (
        settings.deterministic
        and jax.default_backend() == "gpu"
        and GPU_DETERMINISM not in os.environ.get("XLA_FLAGS", "")
    ):
        raise UsageError(f"deterministic kernels need XLA_FLAGS={GPU_DETERMINISM} before JAX starts; set it")
    if not 0 <= experiment.seed < 2**32:
        raise UsageError(f"--seed {experiment.seed}: it must be 0 or more, and below 2³²")
    refuse_missing_tracker(settings.track)
    _check_model(experiment, settings)
    return _with_checked_data(experiment)


def _refuse_too_large(experiment: Experiment) -> None:
    """UsageError, before anything is allocated, for a state that no device here can hold."""
    state = abstract_state(experiment)
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    batch = 4 * experiment.batch_size * math.prod(experiment.train.shape)
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    there = (stats or {}).get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UsageError(
            f"parameters and the optimizer's state take {needed / 2**30:.3g} GiB, and there are {there / 2**30:.3g}; make the "
            "nets smaller"
        )
    if needed + 2 * batch > there:  # one is gathered while the device computes with the other
        raise UsageError(
            f"--batch-size {experiment.batch_size}: a batch takes {batch / 2**30:.3g} GiB, and there are {there / 2**30:.3g}; "
            "make it smaller"
        )


def _check_model(experiment: Experiment, settings: Settings) -> None:
    check_contract(experiment)
    _refuse_too_large(experiment)
    state, batch = abstract_state(experiment), abstract_batch(experiment)
    refuse_coupling(experiment.model, layout_of(settings), state.params, state.extras, batch)


def _with_checked_data(experiment: Experiment) -> Experiment:
    train, check = experiment.train, experiment.model.data.check
    for data in datasets(experiment):
        if data.shape != train.shape:
            raise UsageError(
                f"{data.name} holds examples of shape {data.shape}, {train.name} of {train.shape}; give one shape to all"
            )
    if check is None:
        return experiment

    def of(data: Dataset) -> Dataset:
        data = checked_by(data, check, inference_batch(data))
        if data.read is not None:  # data in memory have been examined completely; of streamed data, the first examples
            next(eval_batches(data, inference_batch(data)))
        return data

    validation = None if experiment.validation is None else of(experiment.validation)
    return experiment._replace(train=of(train), validation=validation, test=of(experiment.test))
