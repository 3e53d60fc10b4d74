"""The likelihood of data under a latent-variable model, −log p(x) by importance sampling, and the use of its latent.

−log p(x) ≈ −log 1/K Σ_i w_i,   w_i = p(x, z_i) / q(z_i|x),   z_i ~ q(z|x)      (Burda et al. 2016, §2)

The expectation of this estimate is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from aejax.data import take
from aejax.evaluation.part import Context, Part, Result
from aejax.figures.examples import Block
from aejax.figures.tables import Column, Number, Table
from aejax.keys import evaluation_key
from aejax.runs.batched import map_examples
from aejax.runs.run import Run
from aejax.types import Batch, Dataset, Extras, LogWeights, Params

DRAWS = 5000
"""K, as usual in published tables."""

AT_ONCE, AT_ONCE_BYTES = 50, 64 * 2**20
"""Number of draws of an example that are decoded together, fewer if their images would take more bytes, so that memory does not
grow with K."""

ENOUGH, FRACTION = 5.0, 0.005
"""Median effective number of draws, absolute and as a fraction of all draws, below which an estimate is withheld: nearly all of
the weight is then on a few draws, and the estimate is too high by an unknown amount."""

MANY = 100
"""From this number of draws on, the result is an estimate of -log p(x); with fewer it is reported as a bound (Burda et al.
2016)."""

ACTIVE = 0.01
"""A latent dimension is active if the variance of its mean over examples exceeds this (Burda et al. 2016, §5.2)."""


def bound(context: Context) -> Result:
    """The use of the latent, −log p(x), and bits per dimension for discrete data.

    −log p(x) is estimated with the context's draws (None for 0); for sequences, the draws are divided among the steps.
    """
    run, data, model, draws = context.run, context.test, context.model, context.draws
    assert context.codes is not None  # `_applies`
    # For a sequence, a draw is a draw of the state at every step.
    sequential = model.sequence is not None and model.sequence.rollout is not None
    of_each = max(1, draws // data.shape[0]) if sequential else draws
    nll = unless_collapsed(importance_nll(run, data, of_each)) if draws else None
    result = {**latent_use(run, data, context.codes), "importance": nll, "bits_per_dimension": None}
    some = take(data, np.arange(min(data.size, 256)))
    # Sequences of different lengths have different numbers of dimensions.
    count = None if "length" in some else model.data.num_discrete_dims
    dimensions = None if count is None else count(some["x"])
    result["density"] = count is not None and dimensions is None
    if dimensions is not None:
        per_bit = dimensions * math.log(2)
        result["bits_per_dimension"] = {
            "nelbo": context.terms["nelbo"] / per_bit,
            "importance": None if nll is None or nll["nll"] is None else nll["nll"] / per_bit,
        }
    return result


def importance_nll(run: Run, data: Dataset, draws: int = DRAWS) -> dict[str, Any]:
    """−log p(x) in nats, averaged over examples, with its two errors and its effective number of draws.

    `standard_error` is that of the mean over examples; `sampling_error` is the uncertainty from having only K draws.
    `effective_draws` is the median over examples of (Σw)²/Σw², for the factor of p(x) with the fewest. If it is only a few, the
    estimate is too high by more than the errors indicate.
    """
    latent, key = run.experiment.model.latent, evaluation_key(run.experiment.seed, "importance")
    assert latent is not None
    estimate = partial(_streamed(latent.log_weights, draws), run.state.params, run.state.extras, key)
    sums = map_examples(estimate, data)
    nll = np.asarray(sums["nll"], np.float64)
    return {
        "draws": draws,
        "nll": float(nll.mean()),
        "standard_error": float(nll.std(ddof=1) / math.sqrt(len(nll))) if len(nll) > 1 else None,
        "sampling_error": float(np.sqrt(np.sum(sums["variance"], dtype=np.float64)) / len(nll)),
        "effective_draws": float(np.median(sums["effective"])),
    }


def enough(draws: float | int) -> float:
    """The smallest effective number of draws for which an estimate from these draws is reported."""
    return max(ENOUGH, FRACTION * draws)


def unless_collapsed(estimate: dict[str, Any]) -> dict[str, Any]:
    """The estimate, with its number withheld (None) if its effective number of draws is too small."""
    if estimate["draws"] >= MANY and estimate["effective_draws"] < enough(estimate["draws"]):
        return {**estimate, "nll": None, "standard_error": None, "sampling_error": None}
    return estimate


def _streamed(log_weights: LogWeights, draws: int) -> Callable[..., dict[str, jax.Array]]:
    """(params, extras, key, batch) -> {name: [b]}, from sums of weights and squared weights relative to the largest so far."""

    @jax.jit
    def estimate(params: Params, extras: Extras, key: Key[Array, ""], batch: Batch) -> dict[str, jax.Array]:
        width = max(1, min(AT_ONCE, draws, AT_ONCE_BYTES // (4 * batch["x"].size)))
        b = len(batch["index"])
        _, _, *more = jax.eval_shape(lambda: log_weights(params, extras, batch, key, width)).shape
        factors = math.prod(more)

        def advance(i: Any, carry: Any) -> Any:
            top, total, squares = carry
            log_w = log_weights(params, extras, batch, jax.random.fold_in(key, i), width).reshape(b, width, factors)
            counted = i * width + jnp.arange(width) < draws
            log_w = jnp.where(counted[None, :, None], log_w, -jnp.inf)
            highest = jnp.maximum(top, jnp.max(log_w, axis=1))
            scale, w = jnp.exp(top - highest), jnp.exp(log_w - highest[:, None, :])
            return (
                highest,
                total * scale + jnp.sum(w, axis=1),
                squares * jnp.square(scale) + jnp.sum(jnp.square(w), axis=1),
            )

        start = (jnp.full((b, factors), -jnp.inf), jnp.zeros((b, factors)), jnp.zeros((b, factors)))
        top, total, squares = jax.lax.fori_loop(0, -(-draws // width), advance, start)
        effective = jnp.square(total) / squares
        # The error of the logarithm of a mean, to first order.
        return {
            "nll": jnp.sum(math.log(draws) - top - jnp.log(total), axis=1),
            "variance": jnp.sum(1.0 / effective - 1.0 / draws, axis=1),
            "effective": jnp.min(effective, axis=1),
        }

    return estimate


def latent_use(run: Run, data: Dataset, codes: np.ndarray) -> dict[str, Any]:
    """Use of a vector code: its active units, and the KL of each of its parts in nats, averaged over examples."""
    kl = run.apply("divergences", data)
    # Each step of a sequence has a code.
    flat = codes.reshape(-1, codes.shape[-1]) if codes.ndim == 3 else codes.reshape(len(codes), -1)
    active = np.var(flat, axis=0, dtype=np.float64) > ACTIVE
    return {
        "units": active.size,
        "active_units": int(active.sum()),
        "divergences": np.mean(kl, axis=0, dtype=np.float64).tolist(),
    }


def tables(result: Result) -> Sequence[Table]:
    columns = [
        Column("active units", f"of {result['units']}", [result["active_units"]], None, 0),
        Column("divergence", "nats", [sum(result["divergences"])], None, 2),
    ]
    if (importance := result["importance"]) is not None:
        columns += [
            Column("−log p(x)", f"nats, {importance['draws']} draws", [importance["nll"]], None, 2),
            Column("sampling error", "nats", [importance["sampling_error"]]),
            Column("effective draws", "median", [importance["effective_draws"]], None, 1),
        ]
    if (bits := result["bits_per_dimension"]) is not None:
        columns += [
            Column("bound", "bits per dimension", [bits["nelbo"]], None, 4),
            Column("−log p(x)", "bits per dimension", [bits["importance"]], None, 4),
        ]
    return [Table("Latent", ["test"], columns)]


def numbers(result: Result) -> Sequence[Number]:
    importance, bits = result["importance"] or {"nll": None}, result["bits_per_dimension"] or {"importance": None}
    return [
        # A log-density depends on the unit of the data, so it is never compared with a log-probability.
        Number(
            "−log p(x)" if not result.get("density") else "−log density",
            "nats per example",
            importance["nll"],
            "low",
            2,
        ),
        Number("−log p(x)", "bits per dimension", bits["importance"], "low", 4),
        Number("active latent units", f"of {result['units']}", result["active_units"], None, 0),
    ]


TRAVERSED = 8
"""Number of dimensions that are traversed, those with the largest KL."""


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    """The KL per dimension, −log p(x), and images decoded from codes."""
    from aejax.figures import charts, drawing, page

    result = evaluation["bound"]
    text = f"{result['active_units']} of {result['units']} dimensions are active: their means vary over the test split."
    if (nll := result["importance"]) is not None:
        if nll["nll"] is None:
            text += (
                f" -log p(x) is not given: its median effective sample size is {nll['effective_draws']:.3g} of {nll['draws']} "
                f"draws, less than {enough(nll['draws']):g}, so that the importance-sampling estimate rests on a few of them."
            )
        else:
            text += (
                f" -log p(x), estimated with {nll['draws']} draws, is {nll['nll']:.2f} nats, with a sampling error of "
                f"{nll['sampling_error']:.2g}; median effective sample size: {nll['effective_draws']:.3g}."
            )
        if nll["nll"] is not None and (bits := result["bits_per_dimension"]) is not None:
            text += f" That is {bits['importance']:.4f} bits per dimension."
    images, pngs = [], {}
    if len(result["divergences"]) > 1:
        kl = np.sort(np.asarray(result["divergences"], float))[::-1]
        line = charts.Series("", np.arange(1.0, len(kl) + 1), kl, drawing.BLUE)
        drawn = charts.panel("KL of each dimension", "nats, mean over examples", [line], "rank")
        images.append(page.figure(page.svg_uri(drawing.svg(drawn)), "", "KL by dimension"))
        pngs["divergences"] = drawing.png(drawn)
    for html, more in _pictures(run, np.asarray(result["divergences"], float), result["units"]):
        images.append(html)
        pngs |= more
    return page.Section("Latent", page.paragraph(escape(text)) + page.panels(images), pngs)


def _pictures(run: Run, kl: np.ndarray, units: int) -> Iterator[Block]:
    """Images decoded from codes, in the ways that a latent of this size allows."""
    from aejax.evaluation.traversals import has_traversals, interpolations_block, plane_block, traversals_block

    if not has_traversals(run):
        return
    if len(kl) == units > 1:
        yield traversals_block(run, np.argsort(kl)[::-1][:TRAVERSED])
    if run.experiment.test.size > 1:
        yield interpolations_block(run)
    if units == 2:
        yield plane_block(run)


PART = Part(
    "bound",
    lambda context: context.model.latent is not None and context.codes is not None,
    bound,
    tables,
    numbers,
    section,
)
