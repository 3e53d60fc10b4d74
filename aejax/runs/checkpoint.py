"""Checkpoints by Orbax, saved in the background and restored into exactly the expected structure; and digests."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers as policies

from aejax.errors import UsageError
from aejax.types import TrainState


def open_checkpoints(
    directory: Path, keep: int = 1, monitor: str = "nll", read_only: bool = False
) -> ocp.CheckpointManager:
    """The checkpoints in `directory`, of which the last `keep` and the one with the lowest `monitor` are kept.

    Only the process that holds the run's lock may open them for writing: opening deletes checkpoints that another process is
    saving.
    """
    # Orbax warns of what is intended: of read_only, and of a checkpoint without metrics, which was saved on a signal before
    # validation. Its errors are raised as well.
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    lowest = policies.BestN(
        get_metric_fn=lambda metrics: metrics[monitor], reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(n=keep), lowest]),
        best_fn=lambda metrics: metrics[monitor],
        best_mode="min",
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    manager = lambda: ocp.CheckpointManager(
        directory.absolute(), options=options, item_handlers=ocp.StandardCheckpointHandler()
    )
    try:
        return manager()
    except Exception as error:  # Orbax reads what each checkpoint says of itself
        broken = [step for step in directory.iterdir() if step.name.isdigit() and not _opens(step)]
        if not broken:
            raise
        for step in broken:
            damaged = Damaged(str(step), _reason(error))
            if read_only:
                raise damaged from error
            _set_aside(step, damaged)
        return manager()


def _opens(step: Path) -> bool:
    """Whether a checkpoint alone can be opened."""
    with tempfile.TemporaryDirectory() as alone:
        os.symlink(step.absolute(), os.path.join(alone, step.name))
        try:
            options = ocp.CheckpointManagerOptions(read_only=True, best_fn=lambda metrics: 0.0)
            ocp.CheckpointManager(alone, options=options, item_handlers=ocp.StandardCheckpointHandler()).close()
        except Exception:
            return False
    return True


def save(
    checkpoints: ocp.CheckpointManager,
    state: TrainState,
    metrics: Mapping[str, float] | None,
    unwritten: Mapping[str, np.ndarray] = {},
    config: str = "",
) -> None:
    """Saves in the background.

    Args:
        checkpoints: From `open_checkpoints`.
        state: State to save.
        metrics: Metrics of this state on the validation split; None if it was not validated.
        unwritten: Training terms [n] of the steps since the last line of the log, whose mean the next line needs.
        config: Digest of what the run's config.json says of the model (`aejax.runs.directory.determined`).

    Raises:
        OSError: ENOSPC, before anything is written, if the disk cannot hold the state. Orbax would only notice in a thread,
            halfway, and print tracebacks.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(checkpoints.directory).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoints.directory))
    if jax.process_count() > 1:  # every process has a copy; Orbax writes that of the first
        state = jax.tree.map(np.asarray, state)
    terms = {name: np.asarray(values, np.float64).tolist() for name, values in unwritten.items()}
    whole = {
        "digest": digest(state),
        "unwritten": terms,
        "config": config,
    }  # a digest, as Orbax itself does not notice a flipped bit
    checkpoints.save(int(state.step), args=ocp.args.StandardSave(state), metrics=metrics, custom_metadata=whole)


def restore(checkpoints: ocp.CheckpointManager, like: TrainState, step: int) -> TrainState:
    """The state saved at `step`, on the first device.

    Args:
        checkpoints: From `open_checkpoints`.
        like: Arrays or `jax.ShapeDtypeStruct`s of the structure that the code expects.
        step: Step of the checkpoint.

    Returns:
        The state, in the structure of `like`.

    Raises:
        UsageError: The checkpoint's structure, a shape or a dtype differs; the message names the leaf. Orbax alone would cast.
        Damaged: It cannot be read, is that of another step, or its numbers are not those that were saved.
    """
    where = f"{checkpoints.directory}/{step}"
    try:
        saved = _leaves(checkpoints.item_metadata(step))
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise Damaged(where, _reason(error)) from error
    _refuse_difference(_leaves(like), saved, where)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
    try:
        state = checkpoints.restore(step, args=ocp.args.StandardRestore(target))
        expected = (checkpoints.metadata(step).custom_metadata or {}).get("digest")  # version 0.1 saved none
    except Exception as error:
        raise Damaged(where, _reason(error)) from error
    if int(state.step) != step:
        raise Damaged(where, f"it holds step {int(state.step)}")
    if expected is not None and digest(state) != expected:
        raise Damaged(where, "its numbers are not those that were saved")
    return state


def unwritten_at(checkpoints: ocp.CheckpointManager, step: int) -> dict[str, np.ndarray]:
    """The training terms [n] of the steps before a checkpoint that were not in the log yet."""
    if step not in checkpoints.all_steps():
        return {}
    known = (checkpoints.metadata(step).custom_metadata or {}).get("unwritten", {})
    return {name: np.asarray(values, np.float64) for name, values in known.items()}


def refuse_other_config(checkpoints: ocp.CheckpointManager, step: int, config: str) -> None:
    """UsageError if a run's config.json (its digest, as given to `save`) is not the one with which it was trained."""
    known = (checkpoints.metadata(step).custom_metadata or {}).get("config")
    if known and known != config:
        run = Path(checkpoints.directory).parent
        raise UsageError(
            f"{run}/config.json is not the one with which the run was trained; restore it from a copy, or pass --allow-changed"
        )


class Damaged(UsageError):
    """A checkpoint that is not what was saved."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"the checkpoint {where} is damaged: {reason}; `aejax resume` goes on from the one before it")


def restore_intact(checkpoints: ocp.CheckpointManager, like: TrainState, steps: Sequence[int]) -> TrainState | None:
    """The state of the last of these steps whose checkpoint is intact; later, damaged ones are set aside. None if none is."""
    for step in sorted(steps, reverse=True):
        try:
            return restore(checkpoints, like, step)
        except Damaged as damaged:
            _set_aside(Path(checkpoints.directory) / str(step), damaged)
            checkpoints.reload()
    return None


def _set_aside(checkpoint: Path, damaged: Damaged) -> None:
    """Moves a checkpoint into the run's folder `damaged`: what could not be read today may be read tomorrow."""
    folder = checkpoint.parent.parent / "damaged"
    folder.mkdir(exist_ok=True)
    taken = sum(1 for other in folder.iterdir() if other.name.split("-")[0] == checkpoint.name)
    place = folder / (f"{checkpoint.name}-{taken + 1}" if taken else checkpoint.name)
    with suppress(FileNotFoundError):  # another process of the run was faster
        os.rename(checkpoint, place)
    print(f"{str(damaged).partition('; `aejax')[0]}; it is set aside as {place}", file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said if len(said) <= 120 else said[:120].rpartition(' ')[0] + ' …'}"


def digest(*trees: PyTree) -> str:
    """sha256 of (path, dtype, shape, bytes) of every leaf, in tree order."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        value = np.asarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}".encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def _leaves(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Path -> (shape, dtype). Paths are plain names, because Orbax stores NamedTuples as dicts and tuples as lists."""

    def name(path: tuple[Any, ...]) -> str:
        return "/".join(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in path)

    return {
        name(path): (tuple(leaf.shape), str(np.dtype(leaf.dtype)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _refuse_difference(wanted: dict[str, Any], saved: dict[str, Any], where: str) -> None:
    mend = "the experiment's code or arguments have changed since it was written"
    for path in [*wanted, *(path for path in saved if path not in wanted)]:
        if path not in saved:
            raise UsageError(f"checkpoint {where} lacks {path}: {mend}")
        if path not in wanted:
            raise UsageError(f"checkpoint {where} holds {path}, which this model does not have: {mend}")
        if wanted[path] != saved[path]:
            (shape, dtype), (saved_shape, saved_dtype) = wanted[path], saved[path]
            raise UsageError(
                f"checkpoint {where} holds {path} as {saved_dtype}{list(saved_shape)}, "
                f"this model expects {dtype}{list(shape)}: {mend}"
            )
