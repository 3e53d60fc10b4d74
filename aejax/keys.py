"""Explicit randomness: the keys of a run, and one key per example.

A key is either split or folded, never both, because `split(key, n)[i]` and `fold_in(key, i)` are the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
from jaxtyping import Array, Int, Key

from aejax.errors import UsageError


class RunKeys(NamedTuple):
    """The three keys of a run. Only `run` is folded with the step; `evaluate` is for everything outside training."""

    init: Key[Array, ""]
    run: Key[Array, ""]
    evaluate: Key[Array, ""]


def run_keys(seed: int) -> RunKeys:
    """The keys of the run with this seed. The order of examples has its own seed (`aejax.data.batch_at`)."""
    key = jax.random.key(seed)
    refuse_unsplittable(key)
    return RunKeys(*jax.random.split(key, 3))


EVALUATION = ("terms", "encode", "reconstruct", "corrupt", "sample", "chain", "importance", "rollout")
"""Purposes of random numbers outside training, each with its own key. Names added at the end do not change other keys."""


def evaluation_key(seed: int, name: str) -> Key[Array, ""]:
    """The key of one of the purposes in `EVALUATION`."""
    return jax.random.split(run_keys(seed).evaluate, len(EVALUATION))[EVALUATION.index(name)]


def each(key: Key[Array, ""], index: Int[Array, " b"]) -> Key[Array, " b"]:
    """One key per example: `key` folded with the example's position in the global batch.

    The noise of an example therefore does not depend on how the batch is sharded over devices.
    """
    refuse_unsplittable(key)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def refuse_unsplittable(key: Key[Array, ""]) -> None:
    """Refuses rbg and unsafe_rbg keys, which ignore separate keys under vmap (google/jax#19085).

    Noise would then depend on how the batch is sharded.
    """
    implementation = str(jax.random.key_impl(key))
    if "rbg" in implementation:
        raise UsageError(
            f"random keys of kind {implementation!r} give different noise if the batch is laid out differently; "
            "set jax_default_prng_impl (JAX_DEFAULT_PRNG_IMPL) to 'threefry2x32'"
        )
