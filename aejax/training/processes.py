"""Several processes that train as one: how they connect, which one writes, and what they must agree on.

Every process runs the same program on its share of each batch. The first one writes logs and results; all write checkpoints,
through Orbax. The run directory must be visible to all of them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aejax.errors import UsageError


def join(coordinator: str | None, processes: int | None, process: int | None, timeout: int = 30) -> None:
    """Connects to the other processes through the coordinator, HOST:PORT of the first one; called before the first use of JAX.

    With `auto` JAX reads all three values from the environment of SLURM, Kubernetes, Cloud TPU or Open MPI (or from
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID). Without a coordinator there is one process. If one of them
    does not come or gives no sign for `timeout` seconds, the others stop.
    """
    if coordinator is None:
        if processes not in (None, 1) or process not in (None, 0):
            raise UsageError("--processes and --process need --coordinator, HOST:PORT of the first process, or auto")
        return
    if timeout < 5:
        raise UsageError(f"--peer-timeout {timeout}: it must be at least 5 seconds")
    timeouts: dict[str, Any] = {
        "initialization_timeout": max(1, timeout - 7),  # JAX adds 5 seconds, and its import takes 2
        "heartbeat_timeout_seconds": 2 * timeout // 3,  # it is noticed only when the next sign is due
        "shutdown_timeout_seconds": timeout,
    }
    try:
        if coordinator == "auto":
            jax.distributed.initialize(num_processes=processes, process_id=process, **timeouts)
            return
        if processes is None or process is None:
            raise UsageError(f"--coordinator {coordinator} needs --processes N and --process I, from 0 to N - 1")
        if not 0 <= process < processes:
            raise UsageError(f"--process {process} of {processes}: give each process its own number from 0 to N - 1")
        if not coordinator.rpartition(":")[2].isdigit():
            raise UsageError(f"--coordinator {coordinator}: write HOST:PORT of the first process, or auto")
        if process == 0:
            _refuse_taken(coordinator)
        jax.distributed.initialize(coordinator, processes, process, **timeouts)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the processes cannot meet at --coordinator {coordinator}: {reason}; start all of them, each with its number"
        ) from error


def _refuse_taken(coordinator: str) -> None:
    """UsageError if another program listens at the port, with which JAX would crash."""
    try:
        with socket.create_server(("", int(coordinator.rpartition(":")[2]))):
            pass
    except OverflowError as error:
        raise UsageError(f"--coordinator {coordinator}: a port is a number up to 65535") from error
    except OSError as error:
        raise UsageError(
            f"--coordinator {coordinator}: the port cannot be used ({error.strerror}); choose another"
        ) from error


def agree(record: Mapping[str, Any]) -> None:
    """Compares what the processes are about to do; every process calls it before its first step.

    Args:
        record: What determines the run, as nested JSON: arguments, settings, digests of files and data.

    Raises:
        UsageError: In every process, with what differs first.
    """
    if jax.process_count() == 1:
        return
    devices = [sum(d.process_index == p for d in jax.devices()) for p in range(jax.process_count())]
    if len(set(devices)) > 1:
        raise UsageError(
            f"the processes differ: they have {', '.join(map(str, devices))} devices; give all the same --devices"
        )
    own = np.frombuffer(json.dumps(_flat(record), sort_keys=True).encode(), np.uint8)
    longest = int(most([float(len(own))])[0])
    padded = np.pad(own, (0, longest - len(own)), constant_values=ord(" "))
    first, *others = (json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded))
    for i, other in enumerate(others, 1):
        for name in sorted({**first, **other}):
            if first.get(name) != other.get(name):
                raise UsageError(
                    f"the processes differ: {name} is {first.get(name)} in process 0 and {other.get(name)} in process {i}; "
                    "start all of them with the same command, files and data"
                )


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def is_lost(error: BaseException) -> bool:
    """Whether an error of JAX says that another process, or the connection to it, was lost."""
    signs = ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "oordination service", "NCCL")
    return jax.process_count() > 1 and any(sign in str(error) for sign in signs)


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
