"""Experiment trackers beside metrics.jsonl: TensorBoard, Trackio, Weights & Biases, MLflow.

A tracker is one function, `(step, {name: value}) -> None`, with names such as `train/nll`. Where it writes to, and whether it
uses a network, follows the tracker's own environment variables (`WANDB_MODE=offline`, `WANDB_PROJECT`, `MLFLOW_TRACKING_URI`,
`TRACKIO_DIR`). A run that is resumed continues its entry there.
"""

from __future__ import annotations

import importlib.util
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from aejax.errors import UsageError
from aejax.files import write_json
from aejax.runs.directory import read_config, read_json

Tracker = Literal["none", "tensorboard", "trackio", "wandb", "mlflow"]

Track = Callable[[int, Mapping[str, float]], None]

PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}
"""Tracker -> the package that it needs, which the extra of its name installs."""

RECORD = "tracking.json"
"""File in the run directory: tracker -> the id of this run there."""


def refuse_missing_tracker(tracker: Tracker) -> None:
    """UsageError if the tracker's package is not installed."""
    if tracker != "none" and importlib.util.find_spec(PACKAGES[tracker]) is None:
        raise UsageError(f"--track {tracker} needs {PACKAGES[tracker]}; pip install 'aejax[{tracker}]'")


@contextmanager
def tracked(directory: Path, tracker: Tracker) -> Iterator[Track]:
    """Yields a function that sends a line of a run's log to the tracker."""
    if tracker == "none":
        yield lambda step, values: None
        return
    try:
        track, finish = STARTED[tracker](directory)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"--track {tracker}: {reason}; leave it out, or use the tracker offline") from error
    try:
        yield track
    finally:
        finish()


Started = tuple[Track, Callable[[], Any]]
"""(track, finish)."""


def _tensorboard(directory: Path) -> Started:
    from tensorboardX import SummaryWriter

    board = SummaryWriter(str(directory / "tensorboard"))

    def track(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, step)

    return track, board.close


def _trackio(directory: Path) -> Started:
    import trackio

    run = trackio.init(
        os.environ.get("TRACKIO_PROJECT", "aejax"),
        name=f"{_name(directory)} {_id(directory, 'trackio')[:6]}",
        config=_settings(directory),
        resume="allow",
        embed=False,
    )
    return lambda step, values: run.log(dict(values), step), run.finish


def _wandb(directory: Path) -> Started:
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "aejax"),
        name=_name(directory),
        dir=str(directory),
        config=_settings(directory),
        id=_id(directory, "wandb"),
        resume="allow",
        reinit="create_new",  # several members of a group at the same time
    )
    run.define_metric("*", step_metric="step")  # a resumed run repeats steps, which its own counter would refuse
    return lambda step, values: run.log({"step": step, **values}), run.finish


def _mlflow(directory: Path) -> Started:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client, name = MlflowClient(), os.environ.get("MLFLOW_EXPERIMENT_NAME", "aejax")
    experiment = client.get_experiment_by_name(name)
    known = _known(directory).get("mlflow")
    if known is None:
        where = client.create_experiment(name) if experiment is None else experiment.experiment_id
        known = client.create_run(where, run_name=_name(directory)).info.run_id
        write_json(directory / RECORD, {**_known(directory), "mlflow": known})
        client.log_batch(known, params=[Param(k, str(v)) for k, v in _settings(directory).items()])
    else:
        client.update_run(known, status="RUNNING")

    def track(step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(known, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    return track, lambda: client.set_terminated(known)


STARTED: Mapping[str, Callable[[Path], Started]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _name(directory: Path) -> str:
    """The name of a run, and of its group if it has one."""
    absolute = directory.absolute()
    member = read_config(directory)["member"] is not None
    return f"{absolute.parent.name}/{absolute.name}" if member else absolute.name


def _settings(directory: Path) -> dict[str, Any]:
    """The experiment's arguments; for a run without an experiment file what config.json says of it."""
    config = read_config(directory)
    own = {name: config[name] for name in ("seed", "steps", "batch_size")} | {"data": config["data"]["name"]}
    return own if config["source"] is None else dict(config["source"]["arguments"])


def _known(directory: Path) -> dict[str, Any]:
    file = directory / RECORD
    return read_json(file, "") if file.exists() else {}


def _id(directory: Path, tracker: str) -> str:
    """The run's id with a tracker: a new one for a new run, and the same one when it is resumed."""
    known = _known(directory)
    if tracker not in known:
        known[tracker] = uuid.uuid4().hex
        write_json(directory / RECORD, known)
    return str(known[tracker])
