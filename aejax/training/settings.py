"""How a run is carried out, declared once for Python and for the command line, whose flags are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from aejax.errors import UsageError
from aejax.runs.tracking import Tracker
from aejax.training.step import Layout


class Settings(NamedTuple):
    """How a run is carried out. Its bits depend on `devices` only by rounding, and with `exact_reduce` not at all.

    Attributes:
        devices: Devices in each process that share every batch; one by default. In a group, the devices that share the members:
            by default as many as divide their number. On a CPU, JAX makes them; by default one per core.
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints. Each is evaluated on the validation split.
        keep: How many of the last checkpoints to keep, in addition to the best.
        track: Also send the log to an experiment tracker. tensorboard writes into the run directory; the others follow their own
            environment variables.
        accumulate: Number of parts into which a device cuts its share of a batch to save memory.
        exact_reduce: Sum gradients in a fixed tree, which gives the same bits on any number of devices and processes.
        virtual_shards: Number of shards of a batch with --exact-reduce, at least two per device. The bits depend on it.
        deterministic: Use XLA's deterministic kernels, which a GPU needs to give the same bits twice.
        profile: Number of steps to trace into the run directory's profile/, for TensorBoard and Perfetto.
        patience: Stop after this many validations in a row without a new minimum of the monitored term; 0 never stops early.
        verbose: Show the line about the data, and progress, on standard error.

    Example:
        >>> Settings(save_every=500).save_every
        500
    """

    devices: int | None = None
    log_every: int = 100
    save_every: int = 1000
    keep: int = 3
    track: Tracker = "none"
    accumulate: int = 1
    exact_reduce: bool = False
    virtual_shards: int = 16
    deterministic: bool = False
    profile: int = 0
    patience: int = 0
    verbose: bool = True


def settings_of(recorded: Mapping[str, Any], where: str | Path) -> Settings:
    """The settings that a run recorded; UsageError if they are damaged."""
    defaults = Settings()
    for name, value in recorded.items():
        kind = (int, type(None)) if name == "devices" else type(getattr(defaults, name, None))
        known = name in Settings._fields and isinstance(value, kind)
        if not known or (name == "track" and value not in get_args(Tracker)):
            raise UsageError(f"the settings in {where} are damaged ({name} is {value!r}); restore them from a copy")
    return Settings(**recorded)


def layout_of(settings: Settings) -> Layout:
    shards = settings.virtual_shards if settings.exact_reduce else None
    return Layout(1 if settings.devices is None else settings.devices, settings.accumulate, shards)
