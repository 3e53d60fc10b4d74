"""`aejax reproduce` says whether a published row comes out again: its digest, or its numbers within the spread of its seeds."""

import json

import numpy as np
import pytest

from aejax.cli import main
from aejax.cli.reproducing import LEVEL, expected
from aejax.evaluation.bounds import MANY, enough
from aejax.evaluation.summary import evaluation_numbers
from aejax.figures.tables import mean_sd
from aejax.runs.directory import read_config, read_evaluation, read_json
from aejax.runs.experiment import published

WORDS = ["ae", "--steps", "4", "--hidden", "4", "--latent", "2", "--batch-size", "16"]


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """What `collect.py` makes of two seeds, as far as it is compared."""
    folder = tmp_path_factory.mktemp("row")
    runs = [folder / f"seed{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        assert main(["train", *WORDS, "--seed", str(seed), "--run", str(run)]) == 0
    numbers = [evaluation_numbers(read_evaluation(run)) for run in runs]
    results = [read_json(run / "result.json", "") for run in runs]
    return {
        "command": " ".join(["aejax train", *WORDS, "--seed S"]),
        "seeds": [0, 1],
        "metrics": {key: mean_sd([n[key] for n in numbers])._asdict() for key in numbers[0]},
        "digests": [result["digest"] for result in results],
        "seconds": {"mean": 1.0, "sd": 0.0},
        "versions": read_config(runs[0])["versions"],
        "processor": read_config(runs[0])["platform"]["processor"],
    }


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capsys):
    def run(row, *args):
        file = tmp_path / "tiny.json"
        file.write_text(json.dumps(row))
        monkeypatch.setattr("aejax.cli.reproducing.published", lambda: {"tiny": file})
        code = main(["reproduce", *(args or ["tiny"])])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_the_same_bits_are_told(row, reproduce):
    code, out, _ = reproduce(row, "tiny", "--all-seeds")
    assert (code, out.count("same digest")) == (0, 2)
    assert "differs:" not in out


def test_other_bits_are_compared_with_the_spread(row, reproduce):
    other = {**row, "digests": ["0", "1"], "processor": "another", "metrics": {**row["metrics"]}}
    key = "reconstruction/model/mse"
    other["metrics"][key] = {"mean": row["metrics"][key]["mean"] * 2, "sd": 1e-6}
    code, out, err = reproduce(other)
    assert code == 1
    assert key in err
    assert "differs: processor another then" in out
    other["metrics"][key] = {"mean": row["metrics"][key]["mean"], "sd": row["metrics"][key]["sd"] + 1.0}
    other["metrics"] = {
        name: {"mean": v["mean"], "sd": (v["sd"] or 0.0) + abs(v["mean"])} for name, v in other["metrics"].items()
    }
    code, out, _ = reproduce(other)
    assert code == 0
    assert "within the row's spread" in out


def test_an_unknown_row_is_refused_and_rows_are_listed(row, reproduce):
    code, _, err = reproduce(row, "tinny")
    assert code == 2
    assert "did you mean tiny?" in err
    assert "tiny" in reproduce(row, "list")[1]


def test_a_row_that_builds_on_a_run_says_which(row, reproduce, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = reproduce({**row, "command": f"{row['command']} --parent runs/below"})
    assert code == 2
    assert "builds on the run runs/below" in err


def test_the_interval_holds_one_more_seed_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 0.5, size=(20_000, 4))
    inside = 0
    for *known, new in draws:
        low, high = expected(mean_sd(known)._asdict(), 3)
        inside += low <= new <= high
    assert abs(inside / len(draws) - LEVEL) < 0.001


def test_every_published_row_names_a_command_that_is_understood():
    for name, file in published().items():
        row = json.loads(file.read_text())
        assert row["command"].startswith("aejax train "), name
        assert len(row["seeds"]) == len(row["digests"])
        # What a later version would withhold is not published.
        effective, draws = (row["metrics"].get(f"bound/importance/{key}") for key in ("effective_draws", "draws"))
        if effective and draws["mean"] >= MANY and effective["mean"] < enough(draws["mean"]):
            assert "bound/importance/nll" not in row["metrics"]
