"""Experiment trackers, offline: a run's log arrives, a resumed run continues its entry, and members have entries of their own."""

import json
import sqlite3
import warnings
from pathlib import Path

import pytest

from aejax.cli import main
from aejax.runs.directory import read_config

SMALL = ["--hidden", "4", "--latent", "2", "--log-every", "2", "--save-every", "4", "--no-evaluate"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def train(*flags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trackers' own
        assert main(["train", "ae", *SMALL, *flags]) == 0


def lines(run):
    """(step, name, value) of metrics.jsonl, as a tracker gets them."""
    return [
        (entry["step"], f"{entry['split']}/{name}", value)
        for entry in map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
        for name, value in entry.items()
        if name not in ("step", "split", "examples_per_second") and not isinstance(value, list)
    ]


def test_tensorboard_gets_every_term():
    pytest.importorskip("tensorboardX")
    train("--steps", "4", "--run", "run", "--tensorboard")
    assert read_config(Path("run"))["settings"]["track"] == "tensorboard"
    (events,) = Path("run/tensorboard").iterdir()
    content = events.read_bytes()
    for _, name, _ in lines("run"):
        assert name.encode() in content


@pytest.mark.slow
def test_mlflow_gets_every_number_of_every_member():
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    train("--steps", "4", "--seeds", "2", "--run", "group", "--track", "mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("aejax").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"group/seed0", "group/seed1"}
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["seed"] == name[-1]
        expected = lines(name)
        found = [
            (metric.step, term, metric.value)
            for term in {term for _, term, _ in expected}
            for metric in client.get_metric_history(run.info.run_id, term)
        ]
        assert sorted(found) == sorted(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["resume", "group", "--no-evaluate"]) == 0
    assert len(client.search_runs([experiment])) == 2


@pytest.mark.slow
def test_mlflow_continues_the_entry_of_a_run_that_goes_on():
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    train("--steps", "4", "--run", "run", "--track", "mlflow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["resume", "run", "--steps", "8", "--no-evaluate"]) == 0
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("aejax").experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [2, 4, 6, 8]


@pytest.mark.slow
def test_trackio_gets_every_number():
    pytest.importorskip("trackio")
    train("--steps", "4", "--run", "run", "--track", "trackio")
    with sqlite3.connect("trackio/aejax.db") as database:
        rows = database.execute("select step, metrics from metrics").fetchall()
    found = [(step, name, value) for step, metrics in rows for name, value in json.loads(metrics).items()]
    assert sorted(found) == sorted(lines("run"))


@pytest.mark.slow
def test_wandb_writes_into_the_run_directory():
    pytest.importorskip("wandb")
    train("--steps", "4", "--run", "run", "--track", "wandb")
    (file,) = Path("run/wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for _, name, _ in lines("run"):
        assert name.encode() in content
    assert json.loads(Path("run/tracking.json").read_text())["wandb"] in file.name


def test_a_missing_tracker_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["train", "ae", *SMALL, "--run", "run", "--track", "wandb"]) == 2
    assert "--track wandb needs wandb; pip install 'aejax[wandb]'" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_tracker_that_does_not_start_stops_nothing_silently(monkeypatch, capsys):
    from aejax.runs import tracking

    def broken(directory):
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(tracking.STARTED, "tensorboard", broken)
    assert main(["train", "ae", *SMALL, "--run", "run", "--tensorboard"]) == 2
    assert "--track tensorboard: no route to host; leave it out" in capsys.readouterr().err
