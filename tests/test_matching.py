"""Learned directions against true ones: the laws of their measures, and the parts of an evaluation by definition."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

import aejax
from aejax.cli import main
from aejax.data import take
from aejax.data.sets import synthetic_features
from aejax.evaluation import loss_recovered, mean_correlation, top_examples
from aejax.evaluation.dictionary import explained
from aejax.evaluation.matching import Detection, absorbed, cosines, detection, families, matched, uniqueness


def rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_a_permutation_with_other_signs_and_norms_is_a_perfect_match():
    features = rows(7, 12)
    order, scale = np.random.default_rng(1).permutation(7), np.array([-2.0, 1, 0.5, -1, 3, 1, -0.1])
    units = features[order] * scale[:, None]
    assert mean_correlation(units, features) == pytest.approx(1.0)
    assert mean_correlation(units[:4], features) == pytest.approx(1.0)
    alike = cosines(units, features)
    assert uniqueness(alike) == 1.0
    np.testing.assert_array_equal(matched(alike)[1], order)


def test_units_that_share_a_feature_are_not_unique_and_match_once():
    features = np.eye(4)
    units = features[[0, 0, 1]]
    assert uniqueness(cosines(units, features)) == pytest.approx(2 / 3)
    assert mean_correlation(units, features) == pytest.approx(2 / 3)
    assert mean_correlation(np.zeros((2, 4)), features) == 0.0


def test_the_match_is_the_best_one_to_one():
    from itertools import permutations

    alike = cosines(rows(4, 3, 1), rows(5, 3, 2))
    best = max(sum(alike[i, p[i]] for i in range(4)) for p in permutations(range(5), 4))
    assert alike[matched(alike)].sum() == pytest.approx(best)


def test_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    active, present = rng.random((300, 6)) < 0.3, rng.random((300, 6)) < 0.4
    active[:, 4], present[:, 5] = False, False
    halves = [detection(active[part], present[part]) for part in (slice(100), slice(100, None))]
    precision, recall, f1 = Detection(*map(np.add, *halves)).scores()
    for j in range(6):
        assert f1[j] == pytest.approx(f1_score(present[:, j], active[:, j], zero_division=0))
    assert f1[4] == precision[4] == recall[5] == 0


def test_absorption_counts_the_parents_that_their_childs_unit_stands_for():
    """Features 0 (parent), 1 (its child), 2; unit j stands for feature j."""
    alike, parents = np.eye(3), np.array([-1, 0, -1])
    kin = families(alike, parents)
    assert [(int(c), int(p)) for c, p in zip(kin.child, kin.parent)] == [(1, 0)]
    present = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]], bool)
    active = np.array([[0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]], bool)
    assert absorbed(kin, active, present) == (1, 3)
    assert len(families(np.eye(3)[:1].repeat(3, axis=0), parents).child) == 0  # one unit for both, or none


def test_variance_explained_is_r_squared():
    x = rows(50, 4) + 3
    x_hat = x + 0.3 * rows(50, 4, 1)
    in_parts = explained((x[i : i + 20], x_hat[i : i + 20]) for i in range(0, 50, 20))
    expected = 1 - np.sum((x - x_hat) ** 2) / np.sum((x - x.mean(axis=0)) ** 2)
    assert in_parts.variance() == pytest.approx(expected)
    assert in_parts.norms / 50 == pytest.approx(np.mean(np.linalg.norm(x_hat, axis=1) / np.linalg.norm(x, axis=1)))
    assert explained(iter([(x, np.broadcast_to(x.mean(axis=0), x.shape))])).variance() == pytest.approx(0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A dictionary of known features, trained until it has found some."""
    directory = tmp_path_factory.mktemp("runs") / "known"
    command = ["train", "dictionary", "--data", "synthetic_features/128x64/1", "--latent", "32", "--k", "3"]
    command += ["--run", str(directory), "--evaluate", "quick"]
    with pytest.MonkeyPatch.context() as patch:  # fewer examples, to save time
        patch.setattr(synthetic_features, "TEST", 8_000)
        yield trained(command, directory)


def trained(command, directory):
    assert (
        main([*command, "--steps", "400", "--lr", "1e-2", "--batch-size", "256", "--revive", "100000", "--no-verbose"])
        == 0
    )
    return aejax.open_run(directory, with_data=True)


def test_the_evaluation_has_what_is_known(run):
    found = json.loads((run.directory / "eval.json").read_text())["dictionary"]
    truth, test = found["truth"], run.experiment.test
    directions = np.asarray(run.params["decoder"]["kernel"])
    assert truth["mcc"] == pytest.approx(mean_correlation(directions, test.truth.directions), abs=1e-6)
    assert truth["examples"] == test.size == 8_000
    some = np.arange(5000)
    z, present = run.encode(take(test, some)["x"]) > 0, test.truth.activations(some) > 0
    best = cosines(directions, test.truth.directions).argmax(axis=1)
    assert truth["f1"] == pytest.approx(detection(z, present[:, best]).scores()[2].mean(), abs=0.02)
    assert found["active_units"] == pytest.approx(z.sum(axis=1).mean(), rel=0.05)
    assert truth["mcc"] > found["baselines"]["random"]["mcc"] + 0.1
    assert found["variance_explained"] > max(b["variance_explained"] for b in found["baselines"].values())
    assert truth["rates"] == sorted(truth["rates"], reverse=True)
    assert len(truth["rates"]) == len(truth["cosines"]) == 32


def test_top_examples_are_the_largest(run):
    x = take(run.experiment.test, np.arange(700))["x"]
    top = top_examples(run, x, [3, 0], 5)
    z = run.encode(x)
    for row, unit in enumerate((3, 0)):
        np.testing.assert_allclose(top.values[row], np.sort(z[:, unit])[::-1][:5], rtol=1e-5)
        np.testing.assert_allclose(z[top.positions[row], unit], top.values[row], rtol=1e-5)


def test_loss_recovered_is_one_for_a_perfect_reconstruction_and_zero_for_none(run):
    x = take(run.experiment.test, np.arange(300))["x"]
    x_hat = run.reconstruct(x)
    near = lambda given, batch: np.sum((given - batch["x"]) ** 2, axis=1)
    found = loss_recovered(run, x, near)
    error, zero = np.mean(np.sum((x - x_hat) ** 2, axis=1)), np.mean(np.sum(x**2, axis=1))
    assert found["reconstructed"] == pytest.approx(error, rel=1e-4)
    assert found["recovered"] == pytest.approx((zero - error) / zero, rel=1e-4)


def test_a_page_shows_units_and_matched_features(run):
    assert main(["report", str(run.directory)]) == 0
    html = (run.directory / "report.html").read_text()
    for said in ("matched one to one", "examples that activate it most", "feature (cosine)"):
        assert said in html
    assert (run.directory / "figures" / "matched-features.png").exists()
