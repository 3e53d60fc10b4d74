"""How a run is carried out: declared once, for Python and for the command line, which makes its flags of this."""

from __future__ import annotations

from typing import NamedTuple

from aejax.training.step import Layout


class Settings(NamedTuple):
    """How a run is carried out. Its bits depend on `devices` by rounding only, and with `exact_reduce` not at all.

    Attributes:
        devices: Devices of each process that share every batch, by default one; of a group the devices that share its members,
            by default as many as divide their number (on a CPU they are made, by default one to a core).
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints, each evaluated on the validation split.
        keep: How many of the last checkpoints to keep, besides the best.
        tensorboard: Also write TensorBoard logs into the run directory.
        accumulate: Parts into which a device cuts its share of a batch to save memory, one after the other.
        exact_reduce: Add gradients in a fixed tree: the same bits on any number of devices and processes.
        virtual_shards: Shards of a batch under --exact-reduce, at least two to a device; the bits depend on it.
        deterministic: Use XLA's deterministic kernels, which a GPU needs to give the same bits twice.
        profile: Trace so many steps into the run directory's profile/, for TensorBoard and Perfetto.
    """

    devices: int | None = None
    log_every: int = 100
    save_every: int = 1000
    keep: int = 3
    tensorboard: bool = False
    accumulate: int = 1
    exact_reduce: bool = False
    virtual_shards: int = 16
    deterministic: bool = False
    profile: int = 0


def layout_of(settings: Settings) -> Layout:
    shards = settings.virtual_shards if settings.exact_reduce else None
    return Layout(1 if settings.devices is None else settings.devices, settings.accumulate, shards)
