"""Synthetic features: their rates, trees and correlation by definition; examples as a function of their position."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from aejax.data import drawn, subset, take
from aejax.data.batches import positions_at
from aejax.data.sets import synthetic_features as sf
from aejax.errors import UsageError
from aejax.models import dictionary
from aejax.objective import relu_top_k
from aejax.optimizers import unit_rows
from aejax.training.step import Layout, init_state, make_runner

NAME = "synthetic_features/128x16"


@pytest.fixture(scope="module")
def world():
    return sf.make_features(128, 16)


@pytest.fixture(scope="module")
def many(world):
    return np.asarray(jax.jit(lambda p: sf.activations_at(world, p))(jnp.arange(40_000)))


def test_trees_are_laid_out_level_by_level(world):
    assert world.levels == (0, 1, 5, 21, 85)
    parents = sf.parents_of(world)
    assert parents[0] == -1
    assert np.all(parents[85:] == -1)
    for child in range(1, 85):
        assert parents[child] == (child - 1) // 4


def test_a_child_is_active_only_with_its_parent_and_without_siblings(world, many):
    active, parents = many > 0, sf.parents_of(world)
    child = np.flatnonzero(parents >= 0)
    assert not np.any(active[:, child] & ~active[:, parents[child]])
    for parent in range(21):
        assert active[:, parents == parent].sum(axis=1).max() <= 1
    assert active[:, child].sum() > 1000


def test_rates_are_those_of_the_law(world, many):
    """Roots and features outside trees have Zipf's probabilities."""
    ranks = np.arange(1, 129) ** -0.5
    zipf = 5e-4 + (0.4 - 5e-4) * (ranks - ranks[-1]) / (ranks[0] - ranks[-1])
    free = np.r_[0, 85:128]
    rates = (many > 0).mean(axis=0)
    # A magnitude is drawn from a normal distribution and may be zero or less.
    positive = 0.5 * (1 + np.vectorize(_erf)(world.means / world.sds / np.sqrt(2)))
    sd = np.sqrt(zipf * (1 - zipf) / len(many))
    assert np.all(np.abs(rates - zipf * positive)[free] < 4.5 * sd[free])
    np.testing.assert_allclose(sf.probabilities_of(world)[free], zipf[free], rtol=1e-12)
    p, above = zipf[1], zipf[0]
    siblings = zipf[2:5].sum()
    assert sf.probabilities_of(world)[1] == pytest.approx(min(1.0, p / above * (1 + siblings / above)))


def _erf(x):
    from math import erf

    return erf(x)


def test_one_of_the_active_siblings_is_kept_by_chance(world):
    a = np.zeros(128, np.float32)
    a[[0, 1, 3, 4]] = world.means[[0, 1, 3, 4]]
    keys = jax.random.split(jax.random.key(3), 6000)
    kept = np.asarray(jax.jit(jax.vmap(lambda key: sf.in_trees(world, jnp.asarray(a), key)))(keys)) > 0
    np.testing.assert_allclose(kept[:, [1, 2, 3, 4]].mean(axis=0), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.025)
    assert np.all(kept[:, 1:5].sum(axis=1) == 1)


def test_children_are_scaled_by_their_parent(world):
    a = np.zeros(128, np.float32)
    a[[0, 2, 9]] = [2 * world.means[0], 3.0, 4.0]
    out = np.asarray(sf.in_trees(world, jnp.asarray(a), jax.random.key(0)))
    np.testing.assert_allclose(out[[0, 2, 9]], [a[0], 6.0, 4.0 * 6.0 / world.means[2]], rtol=1e-6)
    a[0] = 0.0
    assert np.all(np.asarray(sf.in_trees(world, jnp.asarray(a), jax.random.key(0))) == 0)


def test_activity_is_correlated_as_the_factor_says(world):
    """Of features outside trees: how often two normal numbers are beyond thresholds, by numerical integration."""
    from scipy.stats import multivariate_normal, norm

    strong = world._replace(
        factor=np.tile(np.float32(0.8), (128, 1)), thresholds=np.zeros(128, np.float32), levels=(0, 1, 1)
    )
    a = np.asarray(jax.jit(lambda p: sf.activations_at(strong, p))(jnp.arange(20_000))) > 0
    both = multivariate_normal([0, 0], [[1, 0.64], [0.64, 1]]).cdf([0, 0])
    positive = norm.cdf(world.means / world.sds)
    assert (a[:, 100] & a[:, 101]).mean() == pytest.approx(both * positive[100] * positive[101], abs=0.015)


def test_directions_have_norm_one_and_overlap_less_than_random_ones(world):
    np.testing.assert_allclose(np.linalg.norm(world.directions, axis=1), 1.0, rtol=1e-5)
    random = np.random.default_rng(0).standard_normal((128, 16))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    overlap = lambda rows: np.mean(np.square(rows @ rows.T - np.eye(len(rows))))
    assert overlap(world.directions) < overlap(random)


def test_an_example_is_the_sum_of_its_features(world):
    _, test = aejax.load(NAME)
    positions = np.array([5, 700, 5, 99_999])
    a = test.truth.activations(positions)
    np.testing.assert_array_equal(a[0], a[2])
    np.testing.assert_allclose(take(test, positions)["x"], a @ world.directions + world.bias, rtol=1e-4, atol=1e-5)
    part = subset(test, np.array([700, 5]))
    np.testing.assert_array_equal(part.truth.activations(np.array([1, 0])), a[:2])


def test_examples_are_the_same_inside_a_step_and_outside():
    train, _ = aejax.load(NAME, ("train[1000:]", "test"))
    inside = jax.jit(drawn(train))({"position": jnp.array([3, 4, 5]), "index": jnp.arange(3)})
    np.testing.assert_allclose(inside["x"], take(train, np.array([3, 4, 5]))["x"], rtol=1e-5, atol=1e-6)
    whole, _ = aejax.load(NAME)
    np.testing.assert_array_equal(take(whole, np.array([1003]))["x"], take(train, np.array([3]))["x"])


def test_other_seeds_have_other_features_and_runs_another_order():
    first, second = (aejax.load(f"{NAME}{seed}")[0] for seed in ("", "/1"))
    assert not np.allclose(first.truth.directions, second.truth.directions)
    assert first.fingerprint != second.fingerprint
    assert np.intersect1d(positions_at(first.size, 0, 0, 64, 1), positions_at(first.size, 1, 0, 64, 1)).size == 0


@pytest.mark.parametrize("name", ["100x16", "128x0", "2000000x16"])
def test_sizes_without_a_tree_are_refused(name):
    with pytest.raises(UsageError, match="give 128 to"):
        aejax.load(f"synthetic_features/{name}")


def test_training_is_the_same_on_any_number_of_devices():
    train, _ = aejax.load(NAME)
    model, optimizer = dictionary(12, train.shape, relu_top_k(2)), unit_rows(optax.adam(1e-2))
    positions = positions_at(train.size, 0, 0, 16, 4).astype(np.int32)
    batches = {"position": positions, "index": np.tile(np.arange(16, dtype=np.int32), (4, 1))}
    first = {"x": take(train, positions[0])["x"], "index": np.arange(16)}
    ends = []
    for devices in (1, 2, 4):
        state = init_state(model, optimizer, jax.random.key(0), first)
        runner = make_runner(model, optimizer, Layout(devices, shards=8), 16, drawn(train))
        state, _ = runner(state, jax.random.key(1), batches, np.int32(4))
        ends.append(np.asarray(state.params["decoder"]["kernel"]))
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


@pytest.mark.slow
def test_the_benchmark_has_34_features_in_an_example():
    _, test = aejax.load("synthetic_features")
    assert (test.truth.activations(np.arange(2000)) > 0).sum(axis=1).mean() == pytest.approx(34.3, abs=0.5)
