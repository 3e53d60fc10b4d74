"""Studies: what is complete is not trained again, and the intervals are the textbook's."""

import json

import pytest

from aejax.errors import UsageError
from aejax.loop import Settings
from aejax.study import finished, finished_members, interval, proportion_interval

QUICK = Settings(log_every=2, save_every=2)
SMALL = {"hidden": (8,), "latent": 4, "batch_size": 16, "steps": 2}


def test_a_run_is_trained_once_and_taken_up_again(root, tmp_path):
    file = root / "experiments" / "ae.py"
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


def test_a_group_likewise(root, tmp_path):
    file, seeds = root / "experiments" / "ae.py", {"seed": (0, 1)}
    runs = finished_members(file, tmp_path / "group", seeds, QUICK, **SMALL)
    again = finished_members(file, tmp_path / "group", seeds, QUICK, **SMALL)
    assert [run.directory for run in again] == [run.directory for run in runs]
    digests = [json.loads((run.directory / "result.json").read_text())["digest"] for run in runs]
    assert digests[0] != digests[1]
    with pytest.raises(UsageError, match="with other steps"):
        finished_members(file, tmp_path / "group", seeds, QUICK, **{**SMALL, "steps": 3})


def test_intervals_are_those_of_the_tables():
    # Student's t for four degrees of freedom: 2.776; the sd of 1 to 5 is √2.5.
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 2.776 * 2.5**0.5 / 5**0.5), rel=1e-3)
    # Vincent et al. 2010 give ±.12 for 1.99 % on 50 000 images
    assert 100 * proportion_interval(0.0199, 50_000) == pytest.approx(0.12, abs=0.005)
    with pytest.raises(UsageError, match="at least two"):
        interval([1.0])
