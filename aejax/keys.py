"""Explicit randomness: where each key comes from, and one key per example.

A key is either split or folded, never both, since `split(key, n)[i]` and `fold_in(key, i)` are the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Array, Int, Key

from aejax.errors import UsageError


class RunKeys(NamedTuple):
    """The three keys of a run. Only `run` is folded with the step; only `evaluate` serves outside training
    (see `evaluation_key`)."""

    init: Key[Array, ""]
    run: Key[Array, ""]
    evaluate: Key[Array, ""]


def run_keys(seed: int) -> RunKeys:
    """The keys of the run with this seed. The order of the examples is the data's (`aejax.data.batch_at`)."""
    key = jax.random.key(seed)
    refuse_unsplittable(key)
    return RunKeys(*jax.random.split(key, 3))


EVALUATION = ("terms", "encode", "reconstruct", "corrupt", "sample", "chain", "importance", "rollout")
"""What draws random numbers outside training, each with a key of its own. A new name at the end leaves the others their keys."""


def evaluation_key(seed: int, name: str) -> Key[Array, ""]:
    """The key for one of `EVALUATION`."""
    return jax.random.split(run_keys(seed).evaluate, len(EVALUATION))[EVALUATION.index(name)]


def each(key: Key[Array, ""], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """One key per example: `key` folded with the example's position in the global batch.

    So an example's noise is the same bits however the batch is laid out over devices.
    """
    refuse_unsplittable(key)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def refuse_unsplittable(key: Key[Array, ""]) -> None:
    """rbg and unsafe_rbg do not honor each key under vmap (google/jax#19085): noise would depend on the batch's layout."""
    implementation = str(jax.random.key_impl(key))
    if "rbg" in implementation:
        raise UsageError(
            f"random keys of kind {implementation!r} give other noise in another batch layout; "
            "set jax_default_prng_impl (JAX_DEFAULT_PRNG_IMPL) to 'threefry2x32'"
        )
