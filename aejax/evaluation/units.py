"""The units of a sparse dictionary one by one, and what a reconstruction is worth to the network that it is put into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from aejax.data import eval_batches, open_split
from aejax.errors import UsageError
from aejax.runs.batched import inference_batch
from aejax.runs.run import Run
from aejax.types import Batch


class Top(NamedTuple):
    """The examples that activate each of some units most, in falling order."""

    positions: Int[np.ndarray, "u n"]
    values: Float[np.ndarray, "u n"]
    """Activations; 0 where fewer examples activate the unit."""


def top_examples(run: Run, data: Any, units: Sequence[int] | np.ndarray, n: int = 10) -> Top:
    """The examples that activate units most.

    Args:
        run: A run of a model with a vector code.
        data: As in `Run.encode`; only the codes of `units` and n examples for each are in memory.
        units: Numbers of the units.
        n: Number of examples for each.

    Returns:
        Positions in the data, and activations.

    Raises:
        UsageError: The code is no vector.
    """
    run, data = run.in_model_units(), open_split(data)
    encode, chosen = run.function("encode"), np.asarray(units, np.int64)
    values, positions = np.zeros((len(chosen), 0), np.float32), np.zeros((len(chosen), 0), np.int64)
    for batch, valid in eval_batches(data, inference_batch(data)):
        z = np.asarray(encode(batch))
        if z.ndim != 2:
            raise UsageError(f"top_examples() takes a model whose code is a vector; this one's has shape {z.shape[1:]}")
        values = np.concatenate([values, z[:valid, chosen].T], axis=1)
        positions = np.concatenate([positions, np.broadcast_to(batch["index"][:valid], (len(chosen), valid))], axis=1)
        best = np.argsort(-values, axis=1, kind="stable")[:, :n]
        values = np.take_along_axis(values, best, axis=1)
        positions = np.take_along_axis(positions, best, axis=1)
    return Top(positions, values)


def loss_recovered(run: Run, data: Any, loss: Callable[[np.ndarray, Batch], Any]) -> dict[str, float]:
    """How much of a network's loss survives if its activations are replaced by their reconstructions.

    Args:
        run: A run trained on the activations.
        data: Activations, as in `Run.reconstruct`.
        loss: (activations [b, ...], batch) -> the network's loss for each example, [b]. The batch has what else the data hold,
            such as labels.

    Returns:
        Means of the loss with the `original` activations, with the `reconstructed` ones, and with `zero` in their place; and
        `recovered`, (zero − reconstructed) / (zero − original), 1 if nothing is lost.

    Example:
        >>> loss = lambda activations, batch: -log_probability(head(activations), batch["label"])
        >>> loss_recovered(run, "activations.npz:test", loss)["recovered"]
        0.97
    """
    data = open_split(data)
    sums = {"original": 0.0, "reconstructed": 0.0, "zero": 0.0}
    reconstructed = run.reconstruct(data)
    for batch, valid in eval_batches(data, inference_batch(data)):
        x, start = np.asarray(batch["x"]), int(batch["index"][0])
        x_hat = np.concatenate([reconstructed[start : start + valid], x[valid:]])
        for name, given in (("original", x), ("reconstructed", x_hat), ("zero", np.zeros_like(x))):
            sums[name] += float(np.sum(np.asarray(loss(given, batch))[:valid]))
    means = {name: value / data.size for name, value in sums.items()}
    lost = means["zero"] - means["original"]
    return {**means, "recovered": (means["zero"] - means["reconstructed"]) / lost if lost else float("nan")}
