from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.kernels.largest import largest, plain_largest
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.bottlenecks import spatial_winner_take_all, top_k, winner_take_all
from aejax.objective.likelihoods import squared_error
from aejax.objective.sparsity import nonzero
from tiny import batch_of, normal


def in_training(bottleneck, h):
    return np.asarray(jax.jit(lambda h, step: bottleneck(h, None, step))(h, np.int32(0)))


def outside(bottleneck, h):
    return np.asarray(jax.jit(lambda h: bottleneck(h, None, None))(h))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_largest_are_those_of_a_stable_sort(axis):
    rng = np.random.default_rng(1)
    # Ties, both zeros, both infinities, and numbers that differ in the last bit.
    some = np.array([0.0, -0.0, 1.0, np.nextafter(np.float32(1), 2), -1.0, np.inf, -np.inf, 1e-30, -3e38], np.float32)
    h = rng.choice(some, size=(7, 23)).astype(np.float32)
    choose = jax.jit(largest, static_argnums=2)
    for count in (0, 1, 3, h.shape[axis] - 1, h.shape[axis]):
        np.testing.assert_array_equal(choose(h, np.int32(count), axis), plain_largest(jnp.asarray(h), count, axis))


@pytest.mark.parametrize("h", [normal(5, 30), 0 * normal(5, 30), np.round(normal(5, 30)), -np.abs(normal(5, 30))])
def test_exactly_k_survive_as_they_are_ties_or_not(h):
    h = h + np.where(h >= 0, 10, -10).astype(np.float32)  # none is zero before
    z = in_training(top_k(7, alpha=2.0), h)  # alpha acts outside training only
    np.testing.assert_array_equal(np.sum(z != 0, axis=1), 7)
    np.testing.assert_array_equal(z[z != 0], h[z != 0])
    # The largest, not the largest in modulus: nothing that was dropped exceeds what was kept.
    assert np.all(np.where(z == 0, h, -np.inf).max(axis=1) <= np.where(z != 0, h, np.inf).min(axis=1))


@pytest.mark.parametrize(("k", "alpha", "kept"), [(4, 1.0, 4), (4, 1.5, 6), (5, 3.0, 15), (4, 0.01, 1), (4, 100.0, 20)])
def test_alpha_k_survive_outside_training(k, alpha, kept):
    h = normal(6, 20)
    np.testing.assert_array_equal(np.sum(outside(top_k(k, alpha), h) != 0, axis=1), kept)


def test_annealed_k_follows_its_schedule_in_one_program():
    h, schedule = jnp.asarray(normal(4, 50)), optax.linear_schedule(40, 10, 100)
    bottleneck = top_k(schedule, 2.0)
    run = jax.jit(lambda step: bottleneck(h, None, step))
    for step, k in ((0, 40), (1, 40), (50, 25), (99, 10), (100, 10), (10_000, 10)):
        np.testing.assert_array_equal(np.sum(run(np.int32(step)) != 0, axis=1), k)
    assert run._cache_size() == 1
    np.testing.assert_array_equal(np.sum(outside(bottleneck, h) != 0, axis=1), 20)
    # Members of one program differ in k.
    many = jax.jit(jax.vmap(lambda k: top_k(k)(h, None, np.int32(0))))(np.float32([1, 5, 70]))
    np.testing.assert_array_equal(np.sum(many != 0, axis=2), np.repeat([[1], [5], [50]], 4, axis=1))


@pytest.mark.parametrize(
    "bottleneck", [top_k(3), winner_take_all(0.3), spatial_winner_take_all(0.3)], ids=["k", "lifetime", "spatial"]
)
def test_the_jacobian_is_one_on_the_support_and_zero_off_it(bottleneck):
    h = normal(5, 3, 2, 4)
    jacobian = jax.jit(jax.jacrev(lambda flat: bottleneck(flat.reshape(h.shape), None, np.int32(0)).ravel()))(h.ravel())
    kept = (in_training(bottleneck, h) != 0).ravel()
    assert 0 < kept.sum() < h.size
    np.testing.assert_array_equal(jacobian, np.diag(kept.astype(np.float32)))


def test_the_support_is_recovered_on_an_orthonormal_dictionary():
    rng, d, k = np.random.default_rng(2), 24, 5
    dictionary = np.linalg.qr(rng.normal(size=(d, d)))[0]
    codes = np.zeros((200, d))
    for row in codes:
        row[rng.choice(d, k, replace=False)] = rng.uniform(0.1, 2.0, k)
    x = (codes @ dictionary.T).astype(np.float32)
    bias = {"use_bias": False}
    model = autoencoder(
        MLP((), d, **bias), MLP((), d, **bias), squared_error(), bottleneck=top_k(k), tied=True, active=nonzero
    )
    params = {"encoder": {"dense_0": {"kernel": dictionary.astype(np.float32)}}, "decoder": {"dense_0": {}}}
    batch = batch_of(x)
    functions = (model.encode, model.sparse.active, model.evaluate)
    z, active, terms = jax.jit(lambda batch: [f(params, {}, batch, jax.random.key(0)) for f in functions])(batch)
    np.testing.assert_array_equal(active, codes > 0)
    np.testing.assert_allclose(z, codes, atol=1e-5)
    assert np.max(terms["mse"]) < 1e-10


def test_winners_are_the_largest_of_each_unit_across_the_batch():
    h = np.maximum(normal(40, 9), 0)
    z = in_training(winner_take_all(0.1), h)
    np.testing.assert_array_equal(np.sum(z != 0, axis=0), 4)
    np.testing.assert_array_equal(np.sort(z, axis=0)[-4:], np.sort(h, axis=0)[-4:])
    # At least one, however small the rate; every one at rate 1.
    np.testing.assert_array_equal(np.sum(in_training(winner_take_all(0.001), h) != 0, axis=0), 1)
    np.testing.assert_array_equal(in_training(winner_take_all(1.0), h), h)


def test_one_position_wins_in_each_channel_then_one_example_in_a_few():
    h = normal(20, 3, 4, 6) + 10.0
    z = (in_training(spatial_winner_take_all(), h)).reshape(20, 12, 6)
    np.testing.assert_array_equal(np.sum(z != 0, axis=1), 1)
    np.testing.assert_array_equal(z.max(axis=1), h.max(axis=(1, 2)))
    both = (in_training(spatial_winner_take_all(0.1), h)).reshape(20, 12, 6)
    np.testing.assert_array_equal(np.sum(both != 0, axis=(0, 1)), 2)
    winners = in_training(winner_take_all(0.1), h.max(axis=(1, 2)))
    np.testing.assert_array_equal(both.max(axis=1), winners)
    # Of equals the first position, in reading order.
    first = in_training(spatial_winner_take_all(), np.ones((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(first.ravel(), [1, 0, 0, 0])


@pytest.mark.parametrize("bottleneck", [winner_take_all(0.1), spatial_winner_take_all(), spatial_winner_take_all(0.1)])
def test_winner_take_all_is_the_identity_outside_training(bottleneck):
    h = normal(8, 3, 3, 5)
    np.testing.assert_array_equal(outside(bottleneck, h), h)


@pytest.mark.parametrize(
    "bottleneck", [winner_take_all(0.2), spatial_winner_take_all(0.2)], ids=["lifetime", "spatial"]
)
def test_winners_are_the_same_on_any_number_of_devices(bottleneck):
    # Many ties, which the place in the global batch must decide.
    x, w = np.round(2 * normal(16, 2, 2, 3)) / 2, normal(3, 5, seed=1)
    target = normal(16, 2, 2, 5, seed=2)

    def value(w, x, target, step, axis):
        z = bottleneck(jax.nn.relu(x @ w), axis, step)
        return jnp.mean(jnp.sum(jnp.square(z - target), axis=(1, 2, 3))), z

    step = np.int32(0)
    (one, z), gradient = jax.jit(jax.value_and_grad(partial(value, axis=None), has_aux=True))(w, x, target, step)

    def on_devices(w, x, target, step):
        (found, z), gradient = jax.value_and_grad(partial(value, axis="batch"), has_aux=True)(w, x, target, step)
        return jax.lax.pmean((found, gradient), "batch"), z

    run = jax.pmap(on_devices, "batch", in_axes=(None, 0, 0, None), out_axes=(None, 0), devices=jax.devices()[:4])
    (found, their_gradient), theirs = run(w, *(a.reshape(4, 4, *a.shape[1:]) for a in (x, target)), step)
    theirs = np.asarray(theirs).reshape(z.shape)
    np.testing.assert_array_equal(theirs != 0, np.asarray(z) != 0)
    np.testing.assert_allclose(theirs, z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, one, rtol=1e-6)
    np.testing.assert_allclose(their_gradient, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: top_k(0),
        lambda: top_k(float("nan")),
        lambda: top_k(3, alpha=-1.0),
        lambda: winner_take_all(1.5),
        lambda: spatial_winner_take_all(-0.1),
        lambda: spatial_winner_take_all()(jnp.ones((2, 3)), None, 0),
    ],
)
def test_what_makes_no_sense_is_refused(bad):
    with pytest.raises(UsageError):
        bad()
