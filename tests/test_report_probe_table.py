"""The table of many runs: mean ± sd over seeds, what a row is called, baselines once, and a page that stays readable."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from aejax.figures import drawing
from aejax.files import write_json
from aejax.reports.comparison import comparison_page
from aejax.reports.grouping import configurations, unlike_most
from aejax.reports.probe_table import markdown, probe_tables, written
from aejax.reports.records import Record


def record(directory: Path, seed=0, data="d", evaluated=True, shift=0.0, sha="a", **arguments):
    """A run as a report reads it, with numbers that depend on its seed."""
    config = {
        "source": {"file": "classical.py", "sha256": sha, "arguments": {"data": data, "seed": seed, **arguments}},
        "data": {"name": data, "splits": {"test": {"fingerprint": f"sha of {data}"}}},
    }
    scores = {"model": 0.010 + 0.001 * seed + shift, "pca": 0.02, "input": 0.07, "optimal_linear": 0.03}
    probed = {"codes": 0.8 + 0.01 * seed + shift, "raw": 0.7, "pca": 0.6}
    both = {name: {"logistic_regression": a, "nearest_neighbors": a / 2} for name, a in probed.items()}
    robust = {name: {"logistic_regression": a - 0.1, "displacement": a / 4} for name, a in probed.items()}
    evaluation = {
        "terms": {"nll": 5.0 + seed},
        "reconstruction": {name: {"mse": scores[name] / 10, "psnr": 9.0, "ssim": None} for name in ("model", "pca")},
        "restoration": {
            "corruption": None,
            "trained": None,
            "sweep": [
                {"level": level, **{n: {"mse": level * s, "psnr": 9.0, "ssim": None} for n, s in scores.items()}}
                for level in (0.3, 0.6)
            ],
        },
        "probes": {"train_examples": 9, "components": 4, **both},
        "robustness": {"corruption": "masking(0.3)", **robust},
        "sparsity": None if arguments.get("l1") is None else {"active_units": 2.5, "dead_units": 0.0},
    }
    run = SimpleNamespace(
        directory=directory,
        config=config,
        step=7,
        experiment=SimpleNamespace(test=SimpleNamespace(name=f"{data}:test", fingerprint=""), sweep={}),
    )
    log = {"validation": {"nll": (np.array([1.0, 2.0]), np.array([3.0, 2.0 + seed]))}}
    return Record(run, log, {"digest": "cd" * 32, "metrics": {}}, evaluation if evaluated else None)


PLAIN, DENOISING, BOTH = {"rate": None, "l1": None}, {"rate": 0.3, "l1": None}, {"rate": 0.3, "l1": 0.1}


def study(folder, data="d"):
    """Two seeds of each of three configurations, as groups in folders of their own."""
    found = []
    for name, arguments in (("plain", PLAIN), ("denoising", DENOISING), ("both", BOTH)):
        (folder / name).mkdir(parents=True)
        write_json(folder / name / "group.json", {})
        found += [record(folder / name / f"seed{s}", s, data, **arguments) for s in (0, 1)]
    return found


def test_rows_are_means_and_deviations_over_seeds(tmp_path):
    (table,) = probe_tables(study(tmp_path))
    assert [row.name for row in table.rows] == ["plain", "denoising", "both"]
    assert [row.seeds for row in table.rows] == [2, 2, 2]
    plain, both = written(table.rows[0]), written(table.rows[2])
    # Of .0010 and .0011, .3 of .010 and .011, and so on: the sample's deviation of two numbers is their distance over √2.
    assert plain[:3] == ["1.05 ± 0.07", "3.15 ± 0.21", "80.50 ± 0.71"]
    assert plain[3:] == ["40.25 ± 0.35", "70.50 ± 0.71", "0.201 ± 0.002", "–"]
    assert both[6] == "2.5 ± 0.0"


def test_a_single_seed_has_no_deviation(tmp_path):
    (table,) = probe_tables([record(tmp_path / "a"), record(tmp_path / "b", rate=0.3)])
    assert written(table.rows[0])[2] == "80.00"


def test_baselines_stand_once_for_each_width_of_the_code(tmp_path):
    records = study(tmp_path)
    (table,) = probe_tables(records)
    found = {row.name: written(row) for row in table.baselines}
    assert list(found) == ["PCA, 4 components", "raw input", "optimal linear"]
    assert found["PCA, 4 components"] == [
        *("2.00 ± 0.00", "6.00 ± 0.00", "60.00 ± 0.00", "30.00 ± 0.00", "50.00 ± 0.00", "0.150 ± 0.000", "–")
    ]
    assert found["raw input"][:3] == ["–", "21.00 ± 0.00", "70.00 ± 0.00"]
    assert found["optimal linear"][1:3] == ["9.00 ± 0.00", "–"]
    records[-1].evaluation["probes"]["components"] = records[-2].evaluation["probes"]["components"] = 8
    names = [row.name for row in probe_tables(records)[0].baselines]
    assert names == ["PCA, 4 components", "raw input", "optimal linear", "PCA, 8 components"]


def test_rows_without_folders_of_their_own_are_called_by_what_is_unlike_most(tmp_path):
    records = [record(tmp_path / str(i), i % 2, **a) for i, a in enumerate([PLAIN, PLAIN, DENOISING, DENOISING, BOTH])]
    assert [c.name for c in configurations(records)] == ["no rate", "classical", "L1 0.1"]
    assert unlike_most([records[0], records[2], records[4]]) == ["no rate", "", "L1 0.1"]
    assert unlike_most(records[:1]) == [""]
    # One folder of two configurations names neither.
    write_json(tmp_path / "group.json", {})
    assert [c.name for c in configurations(records)] == ["no rate", "classical", "L1 0.1"]


def test_each_data_set_has_its_table_and_runs_that_were_not_evaluated_have_none(tmp_path):
    both = [*study(tmp_path / "1"), *study(tmp_path / "2", "e"), record(tmp_path / "new", evaluated=False)]
    tables = probe_tables(both)
    assert [table.data for table in tables] == ["d", "e"]
    assert [[row.name for row in table.rows] for table in tables] == [["plain", "denoising", "both"]] * 2
    assert probe_tables(both[-1:]) == []


def test_markdown_is_a_table(tmp_path):
    (table,) = probe_tables(study(tmp_path))
    lines = markdown(table).splitlines()
    assert len(lines) == 2 + 3 + 3
    assert {line.count("|") for line in lines} == {9}
    assert lines[2].startswith("| plain (no rate) | 1.05 ± 0.07 |")
    (without,) = probe_tables(study(tmp_path / "more")[:4])
    assert "active units" in lines[0]
    assert "active units" not in markdown(without)


def page_of(records, folder):
    with drawing.style():
        return comparison_page(records, folder / "page.html")


def test_a_page_of_many_runs_shows_configurations(tmp_path):
    records = [*study(tmp_path / "1"), *[record(tmp_path / "7" / str(i), i, rate=0.7) for i in range(6)]]
    html, pngs = page_of(records, tmp_path)
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles[:3] == ["Codes of d", "Over seeds", "Runs"]
    assert "Each of the 12 runs" in html[html.index("<details>") :]
    assert {"probes-d", "curve-nll", "restoration-mse"} <= set(pngs)
    few, _ = page_of(records[:6], tmp_path)
    assert re.findall("<h2>(.*?)</h2>", few)[:3] == ["Runs", "Over seeds", "Codes of d"]
    assert "<details>" not in few


def test_curves_that_could_not_be_told_apart_are_not_drawn(tmp_path):
    html, pngs = page_of([record(tmp_path / str(i), rate=i / 100) for i in range(20)], tmp_path)
    assert "could not be distinguished" in html
    assert set(pngs) == {"probes-d"}
