"""A run of a model of sequences as people use it: trained from a file, evaluated, reported and continued."""

import json
from pathlib import Path

import numpy as np
import pytest

from aejax.cli import main
from aejax.evaluation.evaluator import print_table
from aejax.runs.opening import open_run

N, T, SIDE = 48, 6, 4
EXPERIMENT = Path(__file__).parent.parent / "experiments" / "sequences" / "tdvae_digits.py"
TINY = ["--steps", "4", "--hidden", "8", "--channels", "6", "--maps", "6", "--latent", "2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A bar that moves by one pixel a step, to the right or to the left; half of the sequences are cut short."""
    rng = np.random.default_rng(0)
    start, way = rng.integers(SIDE, size=N), rng.choice([-1, 1], N)
    place = (start[:, None] + way[:, None] * np.arange(T)) % SIDE
    x = np.zeros((N, T, SIDE, SIDE, 1), np.bool_)
    x[np.arange(N)[:, None], np.arange(T)[None], :, place] = True
    state = np.stack([place, np.broadcast_to(way[:, None], place.shape)], axis=2).astype(np.float32)
    file = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(file, x=x, state=state, length=np.where(rng.random(N) < 0.5, T, T - 2).astype(np.int32))
    return file


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "tdvae"
    assert main(["train", str(EXPERIMENT), "--data", str(data), "--run", str(directory), "--no-evaluate", *TINY]) == 0
    return directory


def test_it_is_evaluated_by_how_it_goes_on(run, capsys):
    assert main(["evaluate", str(run), "--draws", "3"]) == 0
    assert "3 after 3 frames" in capsys.readouterr().out
    result = json.loads((run / "eval.json").read_text())
    found = result["sequences"]
    assert (found["prefix"], found["steps"]) == (3, [1, 2, 3])
    assert all(
        len(found[of]) == 3 and min(found[of]) > 0 for of in ("rollout_mse", "mean_rollout_mse", "last_frame_mse")
    )
    # A bar that is held is wrong in two of four columns at the next step, whichever way it goes, and at the one after.
    np.testing.assert_allclose(found["last_frame_mse"][:2], 0.5)
    assert list(found["probes"]) == ["0", "1"]
    # The mean of eight has less spread.
    assert sum(found["mean_rollout_mse"]) < sum(found["rollout_mse"])
    # Where no evaluated sequence is that long, the table ends earlier.
    for of in ("rollout_mse", "mean_rollout_mse", "last_frame_mse"):
        found[of][-1] = None
    print_table(result)
    assert "2 after 3 frames" in capsys.readouterr().out


def test_its_page_shows_what_it_foresees(run):
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "<h2" in page
    assert "Sequences" in page
    assert "image/gif" in page
    assert {"futures.png", "sequences.png"} <= {file.name for file in run.rglob("*.png")}


def test_it_goes_on_from_what_it_is_given(run, data, tmp_path):
    out = tmp_path / "out.npy"
    given = ["sample", str(run), str(out), "--given", f"{data}:test"]
    assert main([*given, "--n", "9", "--prefix", "2", "--gaps", "1", "3"]) == 0
    frames = np.load(out)
    assert frames.shape == (9, 2, SIDE, SIDE, 1)
    again = open_run(run, with_data=True)
    np.testing.assert_array_equal(again.rollout(again.experiment.test, [1, 3], 2, n=30)[:9], frames)
    assert main([*given, "--overwrite"]) == 0
    assert np.load(out).shape == (64, T - T // 2, SIDE, SIDE, 1)
    assert main(["sample", str(run), str(out), "--n", "2", "--overwrite"]) == 0
    assert np.load(out).shape == (2, T, SIDE, SIDE, 1)


def test_only_the_frames_that_are_seen_matter(run):
    opened = open_run(run, with_data=True)
    test = opened.experiment.test
    x = np.array(test.arrays["x"])
    other = x.copy()
    other[:, 2:] = ~other[:, 2:]
    one, same = (opened.rollout(test._replace(arrays={**test.arrays, "x": seen}), [1, 1], 2) for seen in (x, other))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, opened.rollout(test._replace(arrays={**test.arrays, "x": other}), [1, 1], 3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--given", "{data}:test", "--prefix", "7"], "a prefix of 7 of 6 frames"),
        (["--given", "{data}:test", "--gaps", "0"], "gaps of one step or more"),
        (["--prefix", "3"], "and --given"),
        (["--given", "{data}:test", "--label", "1"], "--label is for"),
    ],
)
def test_what_cannot_be_foreseen_is_said(run, data, tmp_path, arguments, said, capsys):
    told = [argument.format(data=data) for argument in arguments]
    assert main(["sample", str(run), str(tmp_path / "out.npy"), *told]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()
