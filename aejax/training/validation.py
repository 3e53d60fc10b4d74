"""The validation of a run while it trains: the model's terms over the validation split, and the activity of sparse units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from aejax.data import evaluated_part
from aejax.keys import evaluation_key
from aejax.objective.sparsity import active_terms, activity_histogram
from aejax.runs.batched import map_examples, means
from aejax.training.step import on_one_device
from aejax.types import Batch, Dataset, Experiment, Extras, Model, Params, TrainState


class Validation(NamedTuple):
    """The result of a validation."""

    metrics: dict[str, float]
    """Means over the validation split, by name."""
    histograms: dict[str, list[int]]


def validation_split(experiment: Experiment) -> Dataset:
    """The validation split, or the test split if the experiment has none; of streamed data a part."""
    return evaluated_part(experiment.test if experiment.validation is None else experiment.validation)


def split_name(experiment: Experiment) -> str:
    return "test" if experiment.validation is None else "validation"


def terms_of(model: Model) -> Callable[[Params, Extras, Batch, Key[Array, ""]], dict[str, Array]]:
    """(params, extras, batch, key) -> the model's terms [b] by name and, for a sparse code, `active` [b, units]."""

    def terms(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        per_example = model.evaluate(params, extras, batch, key)
        return (
            per_example
            if model.sparse is None
            else {**per_example, "active": model.sparse.active(params, extras, batch, key)}
        )

    return terms


def summary_of(terms: Mapping[str, np.ndarray]) -> Validation:
    """Means of the output of `terms_of` over a split and, for a sparse code, its `activity_histogram`."""
    metrics = means({name: values for name, values in terms.items() if name != "active"})
    if "active" not in terms:
        return Validation(metrics, {})
    return Validation(
        {**metrics, **active_terms(terms["active"])}, {"activity_histogram": activity_histogram(terms["active"])}
    )


def make_validate(experiment: Experiment) -> Callable[[TrainState], list[Validation]]:
    """state -> [its validation]."""
    data, key = validation_split(experiment), evaluation_key(experiment.seed, "terms")
    compiled = jax.jit(terms_of(experiment.model))

    def validate(state: TrainState) -> list[Validation]:
        local: Any = on_one_device(state)
        return [summary_of(map_examples(lambda batch: compiled(local.params, local.extras, batch, key), data))]

    return validate
