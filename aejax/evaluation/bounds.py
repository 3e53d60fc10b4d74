"""How probable a latent-variable model finds data: −log p(x) by importance sampling, and what its latent holds.

−log p(x) ≈ −log 1/K Σ_i w_i,   w_i = p(x, z_i) / q(z_i|x),   z_i ~ q(z|x)      (Burda et al. 2016, §2)

In the mean this is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.data import take
from aejax.keys import evaluation_key
from aejax.runs.run import Run, map_examples
from aejax.types import Dataset

DRAWS = 5000
"""K, as in the field's tables."""

AT_ONCE, AT_ONCE_BYTES = 50, 64 * 2**20
"""Draws of an example that are decoded together, fewer where their images would take more: memory does not grow with K."""

ACTIVE = 0.01
"""A latent dimension is active if the variance of its mean over examples is larger (Burda et al. 2016, §5.2)."""


def bound(run: Run, data: Dataset, terms: Mapping[str, float], codes: np.ndarray, draws: int) -> dict[str, Any] | None:
    """What `evaluate` writes of a model with a bound: the use of its latent, −log p(x) by `draws` (None for 0 of them; of a model
    of sequences by so many over all steps), and bits per dimension where the data are discrete. None for another model."""
    model = run.experiment.model
    if model.log_weights is None or model.divergences is None:
        return None
    # Of a sequence a draw is one of every step's state.
    of_each = draws if model.rollout is None else max(1, draws // data.shape[0])
    nll = importance_nll(run, data, of_each) if draws else None
    found = {**latent_use(run, data, codes), "importance": nll, "bits_per_dimension": None}
    some = take(data, np.arange(min(data.size, 256)))
    # Sequences that differ in length have no number of dimensions in common.
    symbols = None if model.symbols is None or "length" in some else model.symbols(some["x"])
    if symbols is not None:
        per_bit = symbols * math.log(2)
        found["bits_per_dimension"] = {
            "nelbo": terms["nelbo"] / per_bit,
            "importance": None if nll is None else nll["nll"] / per_bit,
        }
    return found


def importance_nll(run: Run, data: Dataset, draws: int = DRAWS) -> dict[str, Any]:
    """−log p(x) in nats, mean over the examples, with its two errors and the number of draws that count.

    `standard_error` is that of the mean over examples; `sampling_error` what K draws leave uncertain of it. `effective_draws` is
    the median over examples of (Σw)²/Σw², of the factor of p(x) with the fewest: where it is a few, the estimate is too high by
    more than the errors tell.
    """
    log_weights, key = run.experiment.model.log_weights, evaluation_key(run.experiment.seed, "importance")
    assert log_weights is not None
    found = map_examples(partial(_streamed(log_weights, draws), run.state.params, run.state.extras, key), data)
    nll = np.asarray(found["nll"], np.float64)
    return {
        "draws": draws,
        "nll": float(nll.mean()),
        "standard_error": float(nll.std(ddof=1) / math.sqrt(len(nll))) if len(nll) > 1 else None,
        "sampling_error": float(np.sqrt(np.sum(found["variance"], dtype=np.float64)) / len(nll)),
        "effective_draws": float(np.median(found["effective"])),
    }


def _streamed(log_weights: Callable, draws: int) -> Callable:
    """(params, extras, key, batch) -> {name: [b]}, from sums of the weights and their squares in units of the largest so far."""

    @jax.jit
    def judge(params, extras, key, batch):
        width = max(1, min(AT_ONCE, draws, AT_ONCE_BYTES // (4 * batch["x"].size)))
        b = len(batch["index"])
        _, _, *more = jax.eval_shape(lambda: log_weights(params, extras, batch, key, width)).shape
        factors = math.prod(more)

        def advance(i, carry):
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
        # Of the logarithm of a mean, by its first-order expansion.
        return {
            "nll": jnp.sum(math.log(draws) - top - jnp.log(total), axis=1),
            "variance": jnp.sum(1.0 / effective - 1.0 / draws, axis=1),
            "effective": jnp.min(effective, axis=1),
        }

    return judge


def latent_use(run: Run, data: Dataset, codes: np.ndarray) -> dict[str, Any]:
    """Of a vector code: its active units, and the divergence of each of its parts, nats, mean over examples."""
    divergences, key = run.experiment.model.divergences, evaluation_key(run.experiment.seed, "terms")
    assert divergences is not None
    judged = jax.jit(divergences)
    kl = map_examples(lambda batch: judged(run.state.params, run.state.extras, batch, key), data)
    # A code for each step of a sequence is as many codes.
    flat = codes.reshape(-1, codes.shape[-1]) if codes.ndim == 3 else codes.reshape(len(codes), -1)
    active = np.var(flat, axis=0, dtype=np.float64) > ACTIVE
    return {
        "units": active.size,
        "active_units": int(active.sum()),
        "divergences": np.mean(kl, axis=0, dtype=np.float64).tolist(),
    }
