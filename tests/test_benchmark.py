"""The benchmark: what it derives, on numbers whose answer is known, and its command, at its smallest."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def benchmarks(root, monkeypatch):
    """The modules beside the command; they are scripts, not a package."""
    monkeypatch.syspath_prepend(str(root / "experiments" / "benchmarks"))
    import derive
    import job
    import measure
    import show

    return SimpleNamespace(job=job, derive=derive, measure=measure, show=show)


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found_exactly(benchmarks, power):
    x = np.array([32, 64, 100, 2048])
    assert benchmarks.derive.exponent(x, 0.003 * x**power) == pytest.approx(power, abs=1e-12)


def test_one_point_has_no_exponent(benchmarks):
    assert benchmarks.derive.exponent([128], [1.0]) is None


def test_ratios_are_quotients_within_rounds(benchmarks):
    """A machine that slows down for whole rounds leaves them alone; the medians' quotient would not be."""
    theirs = np.array([1.0, 0.3, 0.8])
    rates = {"us": 2 * theirs, "them": theirs}
    ratios = benchmarks.derive.ratios(rates, {"us": ("them", "absent"), "absent": ("us",)})
    assert list(ratios) == ["us / them"]
    assert ratios["us / them"]["rounds"] == pytest.approx([2.0, 2.0, 2.0])
    uneven = benchmarks.derive.ratios({"us": [4.0, 1.0], "them": [2.0, 1.0]}, {"us": ("them",)})["us / them"]
    assert (uneven["median"], uneven["min"], uneven["max"]) == (1.5, 1.0, 2.0)


def test_overhead_is_of_the_step(benchmarks):
    """A step of 5 ms beside one of 4 ms is an overhead of a quarter."""
    assert benchmarks.derive.overhead([1 / 0.005], [1 / 0.004])["median"] == pytest.approx(0.25)


def test_utilization_counts_the_dense_layers(benchmarks):
    """784-512-64-512-784: 4 407 296 FLOP an example, 5 210 112 by the usual count."""
    widths = (784, 512, 64, 512, 784)
    found = benchmarks.derive.utilization([100.0], 128, widths, [100.0])
    assert found["gflops"]["median"] == pytest.approx(4_407_296 * 12_800 * 1e-9)
    assert found["utilization"]["median"] == pytest.approx(4_407_296 * 12_800 * 1e-11)
    assert found["usual"]["median"] / found["utilization"]["median"] == pytest.approx(5_210_112 / 4_407_296)


def test_a_missed_goal_is_no_number(benchmarks):
    missed, reached = {"seconds": None, "steps": None}, {"seconds": 2.0, "steps": 9}
    assert benchmarks.derive.time_to_goal([missed])["seconds"] is None
    some = benchmarks.derive.time_to_goal([missed, reached])
    assert (some["reached"], some["of"], some["seconds"]["median"]) == (1, 2, 2.0)


def test_the_crossing_of_a_straight_line_is_found_exactly(benchmarks):
    curve = [(1 + 10 * t, 0.5 + t, 1.0 - 0.3 * t) for t in range(4)]
    found = benchmarks.derive.crossing(curve, 0.25)
    assert (found["steps"], found["seconds"]) == pytest.approx((26.0, 3.0))
    assert benchmarks.derive.crossing(curve[:3], 0.25) == {"steps": None, "seconds": None}
    assert benchmarks.derive.crossing(curve[:1], 2.0) == {"steps": 1.0, "seconds": 0.5}


def test_the_clock_stops_at_the_goal(benchmarks):
    """An error that falls by 1/8 a second, from 1; steps take a quarter of a second, the first a whole one."""
    state = {}

    def make(job):
        state["seconds"] = 1.0
        return 1.0

    def train(n):
        state["seconds"] += n / 4
        return n, n / 4

    worker = SimpleNamespace(make=make, train=train, mse=lambda: 1 - state["seconds"] / 8)
    plan = SimpleNamespace(seeds=2, between=2.0, limit=6.0)
    job = benchmarks.job.Job("", 128, 512, 1000, 0)

    def runs(goal):
        return benchmarks.measure.times_to_goals({"us": worker}, {"us": "AE"}, {"AE": goal}, job, plan)["us"]

    first, second = runs(0.5)
    assert (first["seconds"], first["steps"]) == pytest.approx((4.0, 13.0))
    assert [steps for steps, _, _ in first["curve"]] == [1, 2, 6, 14]
    assert second == first | {"seed": 1}
    never = runs(0.0)[0]
    assert never["seconds"] is None
    assert never["curve"][-1][1] == 6.25  # the first judging past the limit


def test_peers_see_the_examples_in_the_order_of_aejax(benchmarks):
    from aejax.data import batches_at
    from aejax.types import Dataset

    x = np.arange(50, dtype=np.float32)[:, None]
    data = Dataset("", (1,), 50, None, "", {"x": x})
    job = benchmarks.job.Job("", 16, 512, 50, seed=3)
    ours = batches_at(data, 3, 2, 16, 9)["x"].reshape(-1)
    np.testing.assert_array_equal(benchmarks.job.positions(job, 50, 2, 9), ours)


@pytest.mark.slow
def test_the_command_works_without_peers(root, tmp_path, benchmarks):
    names = ["aejax AE", "PyTorch AE"]
    command = [sys.executable, root / "experiments" / "benchmarks" / "peers.py", "--quick", "--out", tmp_path]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run([*command, "--contenders", *names], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr

    result = json.loads((tmp_path / "results.json").read_text())
    assert result["absent"] == {"PyTorch AE": "no --make-venvs given"}
    assert list(result["contenders"]) == names[:1]
    plain = result["contenders"]["aejax AE"]["examples_per_second"]
    assert len(plain["rounds"]) == result["plan"]["rounds"]
    assert plain["median"] == pytest.approx(np.median(plain["rounds"]))
    flop = 6 * (2 * 64 * 512 + 2 * 512 * 64) - 2 * 64 * 512  # of an 8×8 image
    share = np.divide(plain["rounds"], result["matmul_gflops"]["rounds"]) * flop * 1e-9
    assert result["dense_layers"]["utilization"]["median"] == pytest.approx(np.median(share))
    for row in result["contenders"].values():
        assert 50 < row["peak_MiB"] < 5_000
        assert row["start"]["cold"]["compiling"]["median"] < row["start"]["cold"]["seconds"]["median"]
        assert np.isfinite([mse for run in row["goal"]["runs"] for *_, mse in run["curve"]]).all()
    for what, cost in result["cost"].items():
        assert cost["values"] == result["plan"][what]
        medians = [point["median"] for point in cost["contenders"]["aejax AE"]["seconds"]]
        assert cost["contenders"]["aejax AE"]["exponent"] == pytest.approx(
            benchmarks.derive.exponent(cost["values"], medians)
        )

    table = (tmp_path / "table.md").read_text()
    assert table in done.stdout
    assert f"| aejax AE | {plain['median']:,.0f} (" in table
    assert "Left out: PyTorch AE (no --make-venvs given)." in table
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > 1000
        assert np.asarray(image.convert("L")).std() > 10

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{benchmarks.show.BEGIN}\nlast year's\n{benchmarks.show.END}\nafter\n")
    benchmarks.show.into_readme(table, readme)
    told = readme.read_text()
    assert told.startswith("before\n")
    assert told.endswith("\nafter\n")
    assert table in told
    assert "last year" not in told


@pytest.mark.slow
def test_the_accelerator_check_passes_in_small_on_a_cpu(root, tmp_path):
    file = root / "experiments" / "benchmarks" / "accelerator.py"
    done = subprocess.run([sys.executable, file, "--quick", "--out", tmp_path / "out.json"], cwd=root)
    assert done.returncode == 0
    rows = json.loads((tmp_path / "out.json").read_text())["families"]
    assert all(row["same"] and row["examples_per_second"][0] > 0 for row in rows.values())
