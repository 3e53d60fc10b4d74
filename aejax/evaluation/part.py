"""The interface of a part of the evaluation, and its input: a run, with what several parts need computed once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import numpy as np

from aejax.data import evaluated_part, has_data, take
from aejax.evaluation.baselines import linear_statistics
from aejax.evaluation.linear import Statistics
from aejax.figures.tables import Number, Table
from aejax.keys import evaluation_key
from aejax.objective.corruptions import corrupt_batch
from aejax.runs.batched import map_examples, means
from aejax.runs.run import Run
from aejax.types import Corrupt, Dataset, Found, Model, Observe

if TYPE_CHECKING:  # pages import matplotlib, which takes most of a second
    from aejax.figures.page import Section

T = TypeVar("T")

Result = Mapping[str, Any]
"""The entry of a part in eval.json: numbers and lists, JSON-able."""


class Context:
    """The run that is evaluated, with its data and results that several parts need."""

    def __init__(self, run: Run, draws: int) -> None:
        self.run, self.draws, self.experiment = run.in_model_units(), draws, run.experiment
        self.model: Model = run.experiment.model
        observe = run.experiment.model.data.observe
        self.train: Dataset = observed(run.experiment.train, observe)
        self.test = observed(evaluated_part(run.experiment.test), observe)
        """The test split, or the first examples of a streamed one, as the model and the baselines observe it."""

        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """`make()`, or its earlier result; for what several parts share."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    @cached_property
    def terms(self) -> dict[str, float]:
        """The model's terms, averaged over the test split."""
        return means(self.run.evaluate(self.test))

    @cached_property
    def codes(self) -> np.ndarray | None:
        """Codes of the test split; None if the model does not encode."""
        return None if self.model.encode is None else self.run.encode(self.test)

    @property
    def components(self) -> int | None:
        """The number of dimensions of a code."""
        return None if self.codes is None else math.prod(self.codes.shape[1:])

    @cached_property
    def statistics(self) -> Statistics | None:
        """Statistics of the training split for linear baselines; None if there are no such baselines."""
        return linear_statistics(self.experiment._replace(train=self.train), self.components)

    @cached_property
    def has_labels(self) -> bool:
        return "label" in take(self.test, np.arange(1))


def observed(data: Dataset, observe: Observe | None) -> Dataset:
    """A data set as the model observes it: bits, for a model of bits."""
    if observe is None or not has_data(data):
        return data
    see = jax.jit(lambda x: observe(x) > 0.5)
    seen = data._replace(
        name=f"{data.name}, binarized",
        fingerprint=f"{data.fingerprint} binarized",
        found=Found("bool", 0.0, 1.0, ""),
        scaling=None,
    )
    if data.read is None:
        bits = map_examples(lambda batch: see(batch["x"]), data)
        return seen._replace(arrays={**(data.arrays or {}), "x": bits})

    def read(positions: np.ndarray) -> Mapping[str, np.ndarray]:
        examples = take(data, positions)
        return {**examples, "x": np.asarray(see(examples["x"]))}

    return seen._replace(read=read)


class Part(NamedTuple):
    """One part of the evaluation.

    A new metric is one file with a Part, added to the list in `aejax.evaluation.parts`. eval.json, the printed table, the mean
    ± sd over seeds, the comparison of runs and the pages are all made from that list.
    """

    name: str
    """Its key in eval.json."""
    applies: Callable[[Context], bool]
    """Whether the part applies to the model and the data."""
    compute: Callable[[Context], Result | None]
    """None if it cannot be computed after all."""
    tables: Callable[[Result], Sequence[Table]]
    """Tables for the terminal and the page."""
    numbers: Callable[[Result], Sequence[Number]] = lambda result: ()
    """Numbers by which runs are compared."""
    section: Callable[[Run, Mapping[str, Any]], Section | None] | None = None
    """(run, eval.json) -> a section on the run's page, if the part has a result."""
    quick: bool = False
    """Whether the part is cheap, and therefore belongs to a quick evaluation."""
    missing: bool = False
    """Whether the part can be computed where the data have missing values."""


def corruption_of(run: Run, corrupt: Corrupt) -> Callable[[Any, Any], jax.Array]:
    """(x [b, *shape], index [b]) -> corrupted x, with the run's evaluation key: the same noise at every call."""
    key = evaluation_key(run.experiment.seed, "corrupt")
    return jax.jit(lambda x, index: corrupt_batch(corrupt, key, x, index)[0])


def corrupted(run: Run, corrupt: Corrupt, data: Dataset) -> np.ndarray:
    """Every example of the data set, corrupted."""
    f = corruption_of(run, corrupt)
    x: np.ndarray = map_examples(lambda batch: f(batch["x"], batch["index"]), data)
    return x


def name_of(corrupt: Corrupt) -> str:
    """Name of a corruption, or of the user's own function."""
    return str(getattr(corrupt, "name", None) or getattr(corrupt, "__name__", "corruption"))


def without_data(run: Run) -> str:
    """HTML that explains why a picture is missing."""
    from aejax.figures import page

    return page.paragraph(
        f"The run was opened without its data. {page.code(f'aejax report {shlex.quote(str(run.directory))}')} opens it with "
        "them."
    )
