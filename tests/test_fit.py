"""Arrays are data: one call from an array to a run, and a run that knows its arrays again."""

import numpy as np
import optax
import pytest

import aejax
from aejax.errors import UsageError
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import squared_error
from tiny import refusal

X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = np.arange(60) % 3
QUICK = aejax.Settings(verbose=False)


def model():
    return autoencoder(MLP((4,), 2), MLP((4,), 6), squared_error())


def fit(data, **more):
    return aejax.fit(model(), data, batch_size=8, steps=3, **more)


def test_an_array_is_split_as_load_splits_it():
    made = fit(X)
    train, validation, test = aejax.load(X, aejax.usual_splits(X))
    for ours, theirs in [(made.train, train), (made.validation, validation), (made.test, test)]:
        assert ours.fingerprint == theirs.fingerprint


def test_splits_given_by_name_keep_their_names():
    made = fit({"x_train": X[:40], "x_validation": X[40:50], "x_test": X[50:]})
    assert [d.size for d in (made.train, made.validation, made.test)] == [40, 10, 10]


@pytest.mark.parametrize("pair", [(X[:40], X[40:]), (X, Y), [X, X, X, X]])
def test_arrays_whose_meaning_is_open_are_refused(pair):
    assert "aejax.load(" in refusal(fit, pair)


def test_too_many_data_sets_are_refused():
    assert "not 1 data sets" in refusal(fit, aejax.load(X, ("train",)))


def test_an_experiment_of_arrays_trains_and_is_opened_with_them_alone(tmp_path):
    def made(train):
        return aejax.Experiment(model(), optax.adam(1e-3), train, X[40:], batch_size=8, steps=3, seed=0)

    run = aejax.train(made(X[:40]), tmp_path / "run", QUICK)
    assert (run.experiment.train.size, run.experiment.test.size) == (40, 20)
    opened = aejax.open_run(tmp_path / "run", experiment=made(X[:40]))
    np.testing.assert_array_equal(opened.encode(X), run.encode(X))
    for call in (aejax.open_run, aejax.resume):
        with pytest.raises(UsageError, match=r"not what .* was trained on"):
            call(tmp_path / "run", experiment=made(X[:40] + 1.0))
    assert aejax.open_run(tmp_path / "run", experiment=made(X[:40] + 1.0), allow_changed=True).step == 3


def test_arrays_and_data_sets_do_not_mix(tmp_path):
    mixed = fit(X)._replace(test=X)
    assert "all as data sets or all as arrays" in refusal(aejax.train, mixed, tmp_path / "run", QUICK)
