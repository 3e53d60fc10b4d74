"""Studies: what is complete is not trained again, and the intervals are the textbook's."""

import importlib.util
import json

import numpy as np
import pytest

from aejax.data import open_split
from aejax.errors import UsageError
from aejax.figures.tables import mean_sd
from aejax.reports.study import (
    cell,
    evaluated,
    finished,
    finished_members,
    interval,
    markdown,
    proportion_interval,
    put_between,
)
from aejax.runs.run import Run
from aejax.training.settings import Settings
from aejax.types import Experiment, Model, TrainState

QUICK = Settings(log_every=2, save_every=2)
SMALL = {"hidden": (8,), "latent": 4, "batch_size": 16, "steps": 2}


def test_a_run_is_trained_once_and_taken_up_again(root, tmp_path):
    file = root / "experiments" / "autoencoders" / "ae.py"
    first = finished(file, tmp_path / "run", QUICK, **SMALL)
    started = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert finished(file, tmp_path / "run", QUICK, **SMALL).step == first.step
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == started
    (tmp_path / "run" / "result.json").unlink()
    finished(file, tmp_path / "run", QUICK, **SMALL)
    assert (tmp_path / "run" / "result.json").exists()
    with pytest.raises(UsageError, match="with other lr"):
        finished(file, tmp_path / "run", QUICK, **SMALL, lr=0.1)
    with pytest.raises(UsageError, match="no argument depth"):
        finished(file, tmp_path / "run", QUICK, depth=3)


def test_a_run_is_evaluated_once_for_its_parameters(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text(json.dumps({"digest": "of these", "step": 1, "metrics": {}, "seconds": 1.0}))
    data, asked = open_split(np.zeros((1, 2), np.float32)), []
    experiment = Experiment(Model(None, None, None), None, data, data, 1, 1, 0)
    run = Run(tmp_path, {}, experiment, TrainState(0, {}, {}, None))
    monkeypatch.setattr("aejax.reports.study.open_run", lambda directory, with_data: directory)
    monkeypatch.setattr(
        "aejax.reports.study.evaluate", lambda directory, draws: asked.append(draws) or {"digest": "of these"}
    )
    found = {"step": 1, "data": "array:all", "examples": 1, "terms": {}}
    assert evaluated(run, draws=7) == {"digest": "of these"}
    (tmp_path / "eval.json").write_text(json.dumps(found | {"digest": "of others"}))
    evaluated(run, draws=8)
    assert asked == [7, 8]
    (tmp_path / "eval.json").write_text(json.dumps(found | {"digest": "of these", "kept": True}))
    assert evaluated(run)["kept"]
    assert asked == [7, 8]


def test_a_table_takes_the_place_of_the_one_before(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("# Title\n")
    for text in ("first", "second"):
        put_between(file, "<b>", "<e>", "Study", text)
    assert file.read_text() == "# Title\n\n## Study\n\n<b>\n\nsecond\n<e>\n"


def test_a_group_likewise(root, tmp_path):
    file, seeds = root / "experiments" / "autoencoders" / "ae.py", {"seed": (0, 1)}
    runs = finished_members(file, tmp_path / "group", seeds, QUICK, **SMALL)
    again = finished_members(file, tmp_path / "group", seeds, QUICK, **SMALL)
    assert [run.directory for run in again] == [run.directory for run in runs]
    digests = [json.loads((run.directory / "result.json").read_text())["digest"] for run in runs]
    assert digests[0] != digests[1]
    with pytest.raises(UsageError, match="with other steps"):
        finished_members(file, tmp_path / "group", seeds, QUICK, **{**SMALL, "steps": 3})


def test_shares_of_variance_between_rows_and_order_by_beta(root):
    spec = importlib.util.spec_from_file_location("study", root / "experiments" / "results" / "disentanglement.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rng, names = np.random.default_rng(0), list(script.rows())

    def shares(values):
        return script.shares({n: {c: {"values": v} for c in script.COLUMNS} for n, v in zip(names, values)})

    places = np.arange(len(names))[:, None] * np.ones((1, 200))
    alike, apart = shares(rng.standard_normal(places.shape)), shares(places)
    assert alike["by_row"]["mig"] == pytest.approx(0, abs=0.01)
    assert alike["by_beta"]["mig"] == pytest.approx(0, abs=0.1)
    assert apart["by_row"]["mig"] == apart["by_beta"]["mig"] == pytest.approx(1)
    # Variances 10 of the rows, by places 0 to 10, and 10 of the seeds.
    half = shares(places + 10**0.5 * rng.standard_normal(places.shape))
    assert half["by_row"]["mig"] == pytest.approx(0.5, abs=0.03)


def test_intervals_are_those_of_the_tables():
    # Student's t for four degrees of freedom: 2.776; the sd of 1 to 5 is √2.5.
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 2.776 * 2.5**0.5 / 5**0.5), rel=1e-3)
    # Vincent et al. 2010 give ±.12 for 1.99 % on 50 000 images
    assert 100 * proportion_interval(0.0199, 50_000) == pytest.approx(0.12, abs=0.005)
    with pytest.raises(UsageError, match="at least two"):
        interval([1.0])


def test_a_cell_tells_a_spread_that_can_be_seen():
    assert cell(mean_sd([1.0, 2.0, 3.0])._asdict(), 2) == "2.00 ± 1.00"
    assert cell(mean_sd([0.011, 0.012, 0.013])._asdict(), 1, 1000) == "12.0 ± 1.0"
    assert cell(mean_sd([1.0, 1.001])._asdict(), 2) == cell(mean_sd([1.0])._asdict(), 2) == "1.00"


def test_a_table_has_as_many_cells_as_headings():
    lines = markdown("data", ["a", "b"], {"one": ["1", "2"], "two": ["", "–"]})
    assert lines == ["| data | a | b |", "|---|---|---|", "| one | 1 | 2 |", "| two |  | – |"]
