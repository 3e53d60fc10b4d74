"""The scikit-learn estimator: it keeps scikit-learn's contract, and its numbers are those of the library."""

import pickle

import jax
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from aejax.data import nats_of_scaling
from aejax.sklearn import Autoencoder

SMALL = {"latent": 2, "hidden": (8,), "steps": 6, "batch_size": 16}


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.mark.slow
@pytest.mark.parametrize("variational", [False, True])
def test_it_keeps_scikit_learns_contract(variational):
    for estimator, check in estimator_checks_generator(Autoencoder(**SMALL, variational=variational)):
        try:
            check(estimator)
        except pytest.skip.Exception:
            continue
        except Exception as error:
            if type(error).__name__ != "SkipTest":
                raise


def test_it_works_in_a_pipeline_and_a_search(wine):
    x, label = wine
    pipeline = make_pipeline(Autoencoder(latent=4, hidden=(32,), steps=400, random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"autoencoder__masking_rate": [0.0, 0.3]}, cv=3, error_score="raise")
    assert search.fit(x, label).best_score_ > 0.9
    codes = search.best_estimator_[0]
    assert list(codes.get_feature_names_out()) == [f"autoencoder{i}" for i in range(4)]
    spread = x.std(axis=0)
    restored = codes.inverse_transform(codes.transform(x))
    assert np.mean(np.square((restored - x) / spread)) < 0.6


def test_fitting_twice_gives_the_same_bits_and_compiles_nothing(wine):
    x, _ = wine
    first = Autoencoder(**SMALL, random_state=3).fit(x)
    codes, scores = first.transform(x), first.score_samples(x)
    compiled = []
    listen = lambda event, *rest, **more: compiled.append(event) if "backend_compile" in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = Autoencoder(**SMALL, random_state=3).fit(x)
        np.testing.assert_array_equal(again.transform(x), codes)
        np.testing.assert_array_equal(again.score_samples(x), scores)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    assert not np.array_equal(Autoencoder(**SMALL, random_state=4).fit(x).transform(x), codes)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).transform(x), codes)


def test_partial_fits_go_on_from_where_the_last_one_ended(wine):
    x, _ = wine
    estimator = Autoencoder(latent=4, hidden=(32,), steps=150, random_state=0).partial_fit(x)
    once = estimator.loss_curve_[-20:].mean()
    for _ in range(3):
        estimator.partial_fit(x)
    assert len(estimator.loss_curve_) == 600
    assert estimator.loss_curve_[-20:].mean() < once - 1.0


@pytest.mark.parametrize("variational", [False, True])
def test_scores_are_log_densities_in_the_units_of_the_data(wine, variational):
    x, _ = wine
    estimator = Autoencoder(**SMALL, variational=variational, random_state=0).fit(x)
    scaled = Autoencoder(**SMALL, variational=variational, random_state=0).fit(10.0 * x)
    np.testing.assert_allclose(
        scaled.score_samples(10.0 * x) + 13 * np.log(10.0), estimator.score_samples(x), rtol=1e-3
    )
    assert nats_of_scaling(estimator.scaling_, (13,)) != 0.0
    unusual = x.copy()
    unusual[0] *= 20.0
    assert np.argmin(estimator.score_samples(unusual)) == 0
    assert estimator.score(x) == pytest.approx(estimator.score_samples(x).mean())


def test_codes_of_another_width_are_refused(wine):
    x, _ = wine
    estimator = Autoencoder(**SMALL, random_state=0).fit(x)
    with pytest.raises(ValueError, match=r"\[n, 2\]"):
        estimator.inverse_transform(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="admits data in"):
        Autoencoder(**SMALL, likelihood="bernoulli").fit(x)
