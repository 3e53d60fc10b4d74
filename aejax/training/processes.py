"""Several processes that train as one: how they connect, which one writes, and what they must agree on.

Every process runs the same program on its share of each batch. The first one writes logs and results; all write checkpoints,
through Orbax. The run directory must be visible to all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aejax.errors import UsageError


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Connects to the other processes through the coordinator, HOST:PORT of the first one; called before the first use of JAX.

    With `auto` JAX reads all three values from the environment of SLURM, Kubernetes, Cloud TPU or Open MPI (or from
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID). Without a coordinator there is one process.
    """
    if coordinator is None:
        if processes not in (None, 1) or process not in (None, 0):
            raise UsageError("--processes and --process need --coordinator, HOST:PORT of the first process, or auto")
        return
    try:
        if coordinator == "auto":
            jax.distributed.initialize(num_processes=processes, process_id=process)
            return
        if processes is None or process is None:
            raise UsageError(f"--coordinator {coordinator} needs --processes N and --process I, from 0 to N - 1")
        if not 0 <= process < processes:
            raise UsageError(f"--process {process} of {processes}: give each process its own number from 0 to N - 1")
        if not coordinator.rpartition(":")[2].isdigit():
            raise UsageError(f"--coordinator {coordinator}: write HOST:PORT of the first process, or auto")
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the processes cannot meet at --coordinator {coordinator}: {reason}; start all of them, each with its number"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def share() -> tuple[int, int]:
    """(i, of): this process loads the i-th of `of` parts of every batch."""
    return jax.process_index(), jax.process_count()


def most(values: list[float]) -> list[float]:
    """The elementwise maximum over all processes, so that all decide alike; every process calls it at the same point."""
    if jax.process_count() == 1:
        return values
    return [float(v) for v in np.max(multihost_utils.process_allgather(np.asarray(values, np.float32)), axis=0)]


def first_alone(f: Callable[[], Any]) -> None:
    """Calls f in the first process while the others wait. If it fails, all end, the first one with its error."""
    failure = None
    if is_first():
        try:
            f()
        except Exception as error:
            failure = error
    (failed,) = most([float(failure is not None)])
    if failure is not None:
        raise failure
    if failed:
        raise UsageError("the first process stopped; its message says why and what to do")
