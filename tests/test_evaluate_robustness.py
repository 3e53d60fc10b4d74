"""How codes bear corruption: closed forms and invariances of the displacement, and what a run's evaluation says of it."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

from aejax.data import load
from aejax.errors import UsageError
from aejax.evaluation import evaluate, probes
from aejax.evaluation.baselines import cached
from aejax.evaluation.linear import pca_codes, statistics
from aejax.evaluation.part import corrupted
from aejax.evaluation.probes import fit_regression, probe
from aejax.evaluation.robustness import CORRUPTION, displacement, robustness
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.likelihoods import bernoulli
from aejax.runs.run import Run
from aejax.types import Dataset, Experiment, TrainState


def codes_and_noise(n=1500, d=40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0, 3.0])
def test_displacement_of_gaussian_codes_by_gaussian_noise(sigma):
    # Differences of two codes N(0, I) are N(0, 2I), noise is N(0, σ²I): the ratio of the mean norms is σ/√2.
    codes, noise = codes_and_noise()
    assert displacement(codes, codes + sigma * noise) == pytest.approx(sigma / np.sqrt(2), rel=0.01)


def test_displacement_to_another_example_is_one():
    codes, _ = codes_and_noise()
    assert displacement(codes, np.roll(codes, 1, axis=0)) == pytest.approx(1.0, rel=0.01)


def test_scale_offset_and_rotation_of_the_code_are_worth_nothing():
    codes, noise = codes_and_noise(200, 6)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    expected = displacement(codes, codes + noise)
    assert displacement(*(0.01 * c @ rotation + 5.0 for c in (codes, codes + noise))) == pytest.approx(expected)
    assert displacement(*(c.reshape(200, 2, 3) for c in (codes, codes + noise))) == pytest.approx(expected)


def test_a_collapsed_code_has_no_displacement():
    codes = np.full((10, 3), 0.1, np.float32)
    assert displacement(codes, codes + 1.0) is None
    assert displacement(codes[:1], codes[:1]) is None


def test_the_classifier_of_clean_codes_judges_the_corrupted_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    codes = rng.normal(size=(300, 4)) + 4.0 * np.eye(3, 4)[labels]
    probed = probe("codes", codes, codes, labels, labels)
    unmoved = robustness("codes", probed, codes, codes, labels)
    assert unmoved == {"logistic_regression": probed.accuracy["logistic_regression"], "displacement": 0.0}
    other = np.roll(np.arange(3), 1)
    swapped = robustness(
        "codes", probed, codes, codes + 4.0 * (np.eye(3, 4)[other[labels]] - np.eye(3, 4)[labels]), labels
    )
    assert swapped["logistic_regression"] < 0.1
    with pytest.raises(UsageError, match="corrupted codes 'codes'"):
        robustness("codes", probed, codes, np.full_like(codes, np.inf), labels)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of an untrained encoder of digits."""
    folder, (train, test) = tmp_path_factory.mktemp("robust"), load("digits", ("train[:30%]", "test[:200]"))
    model = autoencoder(MLP((), 8), MLP((), train.shape), bernoulli())

    def run(seed):
        params, extras = jax.jit(model.init)(jax.random.key(seed), {"x": train.arrays["x"][:2]})
        experiment = Experiment(model, optax.sgd(0.1), train, test, 64, 0, seed)
        (folder / str(seed)).mkdir()
        return Run(folder / str(seed), {}, experiment, TrainState(np.int32(0), params, extras, ()))

    return run(0), run(1)


def test_evaluation_judges_the_very_codes_and_pixels_that_were_corrupted(runs):
    run = runs[0]
    result, seen, test = evaluate(run), run.experiment.train, run.experiment.test
    x, moved, labels = test.arrays["x"], corrupted(run, CORRUPTION, test), test.arrays["label"]
    assert result["robustness"]["corruption"] == "masking(0.3)"
    axes = statistics(seen.arrays["x"])
    expected = {
        "codes": [run.encode(part) for part in (seen, test, moved)],
        "raw": [seen.arrays["x"], x, moved],
        "pca": [pca_codes(axes, 8, part) for part in (seen.arrays["x"], x, moved)],
    }
    assert [*expected] == [name for name in result["robustness"] if name != "corruption"]
    for name, (of_train, clean, under) in expected.items():
        classify = fit_regression(of_train, seen.arrays["label"])
        found = result["robustness"][name]
        assert found["logistic_regression"] == np.mean(classify(under) == labels)
        assert found["displacement"] == pytest.approx(displacement(clean, under), rel=1e-5)
        assert result["probes"][name]["logistic_regression"] == np.mean(classify(clean) == labels)


def test_baselines_are_fitted_once_for_runs_on_the_same_data(runs, monkeypatch):
    evaluate(runs[0])
    fitted, fit = [], probes.fit_regression
    monkeypatch.setattr(
        probes, "fit_regression", lambda codes, labels: fitted.append(codes.shape) or fit(codes, labels)
    )
    first, second = evaluate(runs[0]), evaluate(runs[1])
    assert [shape[1:] for shape in fitted] == [(8,), (8,)]
    for name in ("raw", "pca"):
        assert first["probes"][name] == second["probes"][name]
    assert first["robustness"]["raw"] != second["robustness"]["raw"]  # a run has its own noise


def test_other_data_and_data_without_a_fingerprint_are_not_taken_for_the_same():
    def data(fingerprint, size=3):
        return Dataset("d:test", (1,), size, None, fingerprint, {})

    counted = iter(range(100))
    found = [cached("count", [data(f, n)], lambda: next(counted)) for f, n in [("a", 3), ("b", 3), ("a", 3), ("a", 2)]]
    assert found == [0, 1, 0, 2]
    assert cached("other", [data("a")], lambda: next(counted)) == 3
    assert [cached("count", [data("")], lambda: next(counted)) for _ in range(2)] == [4, 5]
