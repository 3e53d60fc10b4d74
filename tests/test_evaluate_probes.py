"""Probes on data whose answer is known, and their invariances."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs

from aejax.errors import UsageError
from aejax.evaluation import probes
from aejax.evaluation.probes import logistic_regression, nearest_neighbors, probe, standardize

PROBES = pytest.mark.parametrize("classify", [logistic_regression, nearest_neighbors])


def halves(codes, labels):
    return codes[::2], labels[::2], codes[1::2], labels[1::2]


def digits(dtype=np.float32):
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8, 1).astype(dtype), labels


@PROBES
def test_separable_blobs_are_classified_without_error(classify):
    codes, labels = make_blobs(400, 8, centers=5, cluster_std=0.1, random_state=0)
    assert classify(*halves(codes, labels)) == 1.0


@PROBES
@pytest.mark.parametrize("arrange", [np.argsort, lambda labels: np.argsort(-labels)], ids=["rising", "falling"])
def test_training_examples_may_be_sorted_by_class(classify, arrange):
    codes, labels = make_blobs(400, 8, centers=5, cluster_std=0.1, random_state=0)
    train, train_labels, test, test_labels = halves(codes, labels)
    order = arrange(train_labels)
    assert classify(train[order], train_labels[order], test, test_labels) == 1.0


@PROBES
def test_shuffled_labels_give_chance(classify):
    images, labels = digits()
    shuffled = np.random.default_rng(0).permutation(labels)
    # 898 test examples at a chance of .1: four standard deviations are .04.
    assert abs(classify(*halves(images, shuffled)) - 0.1) < 0.04


@PROBES
def test_raw_digits_are_at_their_known_level(classify):
    assert 0.93 < classify(*halves(*digits())) < 0.98


@PROBES
def test_scale_and_offset_of_features_are_worth_nothing(classify):
    images, labels = digits(np.float64)
    rng = np.random.default_rng(0)
    moved = images * rng.uniform(0.01, 100.0, images.shape[1:]) + rng.normal(size=images.shape[1:])
    assert abs(classify(*halves(moved, labels)) - classify(*halves(images, labels))) <= 2 / 898


@PROBES
def test_flattening_changes_nothing_and_the_answer_is_deterministic(classify):
    images, labels = digits()
    accuracy = classify(*halves(images, labels))
    assert accuracy == classify(*halves(images.reshape(-1, 64), labels)) == classify(*halves(images, labels))


@PROBES
def test_a_collapsed_code_gives_a_constant_answer(classify):
    labels = np.tile(np.arange(4), 50)
    assert classify(*halves(np.full((200, 3), 0.1, np.float32), labels // 2)) == 0.5


@PROBES
def test_labels_may_be_any_integers(classify):
    codes, labels = make_blobs(200, 4, centers=2, cluster_std=0.1, random_state=0)
    assert classify(*halves(codes, np.where(labels == 0, -7, 400))) == 1.0


def noisy(rng, labels):
    """A faint class in one of many directions: a weak penalty fits the others."""
    codes = rng.normal(size=(len(labels), 500))
    codes[:, 0] += 3 * labels
    return codes


def fine(rng, labels):
    """The class in the small difference of two features: a strong penalty hides it."""
    codes = rng.normal(size=(len(labels), 2))
    codes[:, 0] = codes[:, 1] + 0.1 * labels + 0.01 * codes[:, 0]
    return codes


@pytest.mark.parametrize("make", [noisy, fine])
def test_regression_chooses_a_penalty_as_good_as_the_best(make, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    data = halves(make(rng, labels), labels)
    chosen = logistic_regression(*data)
    single = []
    for strength in probes.STRENGTHS:
        monkeypatch.setattr(probes, "STRENGTHS", (strength,))
        single.append(logistic_regression(*data))
    assert chosen >= max(single) - 0.02
    assert chosen > min(single)


def test_one_nearest_neighbor_remembers_and_all_neighbors_vote_for_the_majority():
    rng = np.random.default_rng(0)
    codes, labels = rng.normal(size=(100, 5)), rng.permutation(np.repeat([0, 1], [30, 70]))
    assert nearest_neighbors(codes, labels, codes, labels, k=1) == 1.0
    assert nearest_neighbors(codes, labels, codes, labels, k=1000) == 0.7


def test_standardized_codes_have_training_mean_0_and_deviation_1_and_constants_stay_0():
    rng = np.random.default_rng(0)
    train, test = rng.normal(3.0, 5.0, (50, 2, 3)), rng.normal(3.0, 5.0, (20, 2, 3))
    train[:, 1, 2] = 0.1  # constant in training only
    a, b = standardize(train, test)
    np.testing.assert_allclose(a.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(a.std(0), [1, 1, 1, 1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(b[:, 5], 0.0)
    flat = train.reshape(50, 6)[:, :5]
    np.testing.assert_allclose(
        b[:, :5], (test.reshape(20, 6)[:, :5] - flat.mean(0)) / flat.std(0), rtol=1e-5, atol=1e-6
    )


def test_probe_names_both_accuracies_and_keeps_the_classifier():
    images, labels = digits()
    train, train_labels, test, test_labels = halves(images, labels)
    pixels = probe("pixels", train, test, train_labels, test_labels)
    row = probe("row", train[:, 3], test[:, 3], train_labels, test_labels)
    for probed in (pixels, row):
        assert list(probed.accuracy) == ["logistic_regression", "nearest_neighbors"]
        assert all(type(a) is float and 0 < a < 1 for a in probed.accuracy.values())
    assert row.accuracy["logistic_regression"] < pixels.accuracy["logistic_regression"]
    assert np.mean(pixels.classify(test) == test_labels) == pixels.accuracy["logistic_regression"]
    np.testing.assert_array_equal(pixels.classify(test[:7]), pixels.classify(test)[:7])


def test_diverged_codes_are_named():
    codes, labels = make_blobs(40, 2, centers=2, random_state=0)
    broken = codes.copy()
    broken[3, 1] = np.nan
    with pytest.raises(UsageError, match="test codes 'latent'"):
        probe("latent", codes, broken, labels, labels)


@pytest.mark.parametrize("labels", [np.zeros(40, int), np.arange(40)])
def test_labels_that_leave_nothing_to_learn_are_refused(labels):
    with pytest.raises(UsageError, match="two classes"):
        logistic_regression(np.zeros((40, 2)), labels, np.zeros((40, 2)), labels)


def test_importing_the_probes_does_not_import_scikit_learn():
    code = "import sys, aejax.evaluation.probes; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
