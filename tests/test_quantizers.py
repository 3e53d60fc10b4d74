"""Quantizers: gradients by their equations, moving averages against k-means, and what each promises of its codes."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.objective import finite_scalar, grouped, lookup_free, nearest, residual
from aejax.objective.quantizers import EPSILON

ALL = {
    "ema": nearest(8, 6),
    "gradient": nearest(8, 6, decay=None),
    "cosine": nearest(8, 6, cosine=True),
    "rotation": nearest(8, 6, rotation=True),
    "expiring": nearest(8, 6, expire=0.5),
    "finite_scalar": finite_scalar((2, 3, 4, 5, 2, 8)),
    "lookup_free": lookup_free(6),
    "residual": residual([nearest(4, 6), nearest(5, 6)]),
    "grouped": grouped([nearest(4, 4), nearest(5, 2)]),
}


def vectors(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def initial(quantizer):
    return jax.jit(quantizer.init)


@functools.cache
def applied(quantizer):
    """Outside training."""
    return jax.jit(lambda params, extras, z: quantizer.apply(params, extras, z, None, None, None))


@functools.cache
def trained(quantizer):
    """The statistics after a batch."""
    return jax.jit(lambda params, extras, z, key: quantizer.apply(params, extras, z, key, 0, None).extras)


def started(quantizer, z, seed=1):
    return initial(quantizer)(jax.random.key(seed), z.reshape(-1, quantizer.width))


@pytest.mark.parametrize("name", ALL)
def test_codes_say_all_of_the_vectors(name):
    quantizer, z = ALL[name], vectors(4, 2, 5, 6)
    params, extras = started(quantizer, z)
    q = applied(quantizer)(params, extras, z)
    assert q.codes.shape == (4, 2, 5, len(quantizer.sizes))
    assert q.codes.dtype == jnp.int32
    assert q.codes.min() >= 0
    assert all(q.codes[..., i].max() < n for i, n in enumerate(quantizer.sizes))
    np.testing.assert_allclose(quantizer.lookup(params, extras, q.codes), q.vectors, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_outside_training_statistics_stay_and_an_example_knows_nothing_of_the_others(name):
    quantizer, z = ALL[name], vectors(4, 2, 5, 6)
    params, extras = started(quantizer, z)
    whole = applied(quantizer)(params, extras, z)
    jax.tree.map(np.testing.assert_array_equal, whole.extras, extras)
    among_others = applied(quantizer)(params, extras, vectors(4, 2, 5, 6, seed=9).at[2].set(z[2]))
    np.testing.assert_array_equal(among_others.codes[2], whole.codes[2])
    if name != "lookup_free":  # whose second entropy is of the batch
        np.testing.assert_allclose(among_others.loss[2], whole.loss[2], rtol=1e-5)


def test_gradient_of_the_encoder_is_the_vectors_and_twice_beta_of_the_difference():
    beta, quantizer, z = 0.7, nearest(8, 6, commitment=0.7, decay=None), vectors(3, 5, 6)
    params, extras = started(quantizer, z)
    params = {"codebook": params["codebook"] + 0.1}  # away from where k-means left no difference
    g = vectors(3, 5, 6, seed=3)

    def objective(params, z):
        q = quantizer.apply(params, extras, z, None, 0, None)
        return jnp.sum(g * q.vectors) + jnp.sum(q.loss)

    of_book, of_z = jax.jit(jax.grad(objective, (0, 1)))(params, z)
    e = applied(quantizer)(params, extras, z)
    np.testing.assert_allclose(of_z, g + 2.0 * beta * (z - e.vectors), rtol=1e-5, atol=1e-5)
    # The codebook's has no part of the reconstruction: each code is drawn to the mean of its vectors.
    member = jax.nn.one_hot(e.codes[..., 0].reshape(-1), 8)
    expected = 2.0 * jnp.einsum("nk,nd->kd", member, (e.vectors - z).reshape(-1, 6))
    np.testing.assert_allclose(of_book["codebook"], expected, rtol=1e-4, atol=1e-5)


def test_moving_averages_on_the_same_vectors_come_to_the_centers_of_k_means():
    """Lloyd's fixed point: each code the mean of the vectors that are nearest to it."""
    rng = np.random.default_rng(0)
    centers = 5.0 * rng.normal(size=(4, 2))
    z = jnp.asarray((centers[:, None] + 0.1 * rng.normal(size=(4, 25, 2))).reshape(20, 5, 2), jnp.float32)
    quantizer = nearest(4, 2, decay=0.9, k_means=False)
    extras = {**started(quantizer, z)[1], "codebook": jnp.asarray(centers + 0.5, jnp.float32)}
    for _ in range(50):
        extras = trained(quantizer)({}, extras, z, None)
    means = np.asarray(z).reshape(4, 25, 2).mean(axis=1)
    np.testing.assert_allclose(extras["codebook"], means, atol=1e-3)
    np.testing.assert_allclose(extras["share"] / extras["weight"], 0.25, rtol=1e-5)


def test_moving_averages_have_no_bias_towards_their_start_and_forget_at_their_rate():
    """One code: the first batch's mean, then (γ m₁ + m₂) / (γ + 1)."""
    quantizer, first, second = nearest(1, 3, decay=0.7, k_means=False), vectors(7, 3) + 4.0, vectors(7, 3, seed=2)
    extras = {**started(nearest(1, 3), first)[1], "codebook": jnp.zeros((1, 3))}
    extras = trained(quantizer)({}, extras, first, None)
    m1, m2 = first.mean(axis=0), second.mean(axis=0)
    np.testing.assert_allclose(extras["codebook"][0], m1, rtol=1e-4)
    extras = trained(quantizer)({}, extras, second, None)
    np.testing.assert_allclose(extras["codebook"][0], (0.7 * m1 + m2) / 1.7, rtol=1e-4)


def test_smoothing_moves_the_codes_but_not_the_counts():
    """Of three vectors two at one code: counts are 2/3 and 1/3, and the division's have ε more in all."""
    quantizer = nearest(2, 1, decay=0.0, k_means=False)
    z = jnp.asarray([[1.0], [1.0], [-1.0]])
    extras = {**started(quantizer, z)[1], "codebook": jnp.asarray([[1.0], [-1.0]])}
    extras = trained(quantizer)({}, extras, z, None)
    np.testing.assert_allclose(extras["share"], [2 / 3, 1 / 3], rtol=1e-7)
    share = np.array([2 / 3, 1 / 3])
    np.testing.assert_allclose(
        1.0 - np.abs(extras["codebook"][:, 0]), 1.0 - share * (1 + EPSILON) / (share + EPSILON / 2), atol=3e-7
    )


def test_k_means_starts_in_every_cluster_it_is_given():
    z = jnp.repeat(jnp.eye(5), 3, axis=0)
    _, extras = nearest(15, 5).init(jax.random.key(0), z)
    assert {tuple(row) for row in np.asarray(extras["codebook"]).tolist()} == {tuple(row) for row in np.eye(5).tolist()}


def test_dead_codes_are_put_among_the_vectors_and_only_they():
    """Code 2 has 1/32, less than a fair share of 1/8, but more than a fifth of one."""
    z = jnp.concatenate([vectors(15, 2), vectors(16, 2, seed=1) + 20.0, jnp.full((1, 2), -50.0)])
    book = jnp.concatenate([jnp.asarray([[0.0, 0.0], [20.0, 20.0], [-50.0, -50.0]]), jnp.full((5, 2), 100.0)])
    extras = {"codebook": book, "share": jnp.zeros(8), "sums": jnp.zeros((8, 2)), "weight": jnp.zeros(())}
    stay, move = (trained(nearest(8, 2, expire=e))({}, extras, z, jax.random.key(0)) for e in (0.0, 0.2))
    np.testing.assert_array_equal(stay["codebook"][3:], book[3:])
    np.testing.assert_allclose(stay["codebook"][:3], move["codebook"][:3], rtol=1e-5)
    rows = {tuple(row) for row in np.asarray(z).tolist()}
    assert all(tuple(row) in rows for row in np.asarray(move["codebook"][3:]).tolist())
    # They go on with a fair share of vectors, all of them there.
    np.testing.assert_allclose(move["share"][3:] / move["weight"], 1 / 8, rtol=1e-5)
    np.testing.assert_allclose(move["sums"][3:] / move["share"][3:, None], move["codebook"][3:], rtol=1e-5)
    # The key says where.
    again, elsewhere = (trained(nearest(8, 2, expire=0.2))({}, extras, z, jax.random.key(k)) for k in (0, 1))
    np.testing.assert_array_equal(again["codebook"], move["codebook"])
    assert (elsewhere["codebook"][3:] != move["codebook"][3:]).any()


def test_cosine_codes_are_of_length_one_and_lengths_say_nothing():
    quantizer, z = ALL["cosine"], vectors(4, 2, 5, 6)
    params, extras = started(quantizer, z)
    after = trained(quantizer)(params, extras, z, None)
    np.testing.assert_allclose(np.linalg.norm(after["codebook"], axis=1), 1.0, rtol=1e-5)
    q, longer = (applied(quantizer)(params, extras, f * z) for f in (1.0, 7.0))
    np.testing.assert_array_equal(longer.codes, q.codes)
    np.testing.assert_allclose(longer.loss, q.loss, rtol=1e-4)


def test_every_book_of_a_residual_draws_the_encoder_to_itself():
    """∂/∂z of Σ β‖rest_i − e_i‖² is 2β Σ (rest_i − e_i): what was subtracted before is held."""
    quantizer, z = ALL["residual"], vectors(4, 2, 5, 6)
    params, extras = started(quantizer, z)

    def both(params, extras, z):
        slope = jax.grad(lambda z: jnp.sum(quantizer.apply(params, extras, z, None, None, None).loss))(z)
        return slope, quantizer.apply(params, extras, z, None, None, None).codes

    slope, codes = jax.jit(both)(params, extras, z)
    first, second = (extras[f"book_{i}"]["codebook"][codes[..., i]] for i in (0, 1))
    np.testing.assert_allclose(slope, 2 * 0.25 * (z - first + z - first - second), rtol=1e-4, atol=1e-5)


def test_rotation_turns_gradients_as_it_turns_vectors():
    """z_q is a rotation and scaling R of z: its gradient is Rᵀg, of the angle to z that g has to z_q."""
    quantizer, z = nearest(8, 6, commitment=0.0, rotation=True), vectors(10, 6)
    params, extras = started(quantizer, z)
    g = vectors(10, 6, seed=5)

    @jax.jit
    def forth_and_back(z):
        q, back = jax.vjp(lambda z: quantizer.apply(params, extras, z, None, None, None).vectors, z)
        return q, back(g)[0]

    q, turned = forth_and_back(z)
    norm = lambda v: np.linalg.norm(np.asarray(v), axis=1)
    cosine = lambda a, b: np.sum(np.asarray(a) * np.asarray(b), axis=1) / norm(a) / norm(b)
    codes = applied(quantizer)(params, extras, z).codes[:, 0]
    np.testing.assert_allclose(q, extras["codebook"][codes], atol=1e-5)
    np.testing.assert_allclose(cosine(turned, z), cosine(g, q), atol=1e-5)
    np.testing.assert_allclose(norm(turned), norm(g) * norm(q) / norm(z), rtol=1e-4)


@pytest.mark.parametrize("levels", [(2,), (3,), (2, 2, 2), (8, 5, 5, 5)])
def test_finite_scalar_reaches_every_code_from_vectors_that_training_can_move(levels):
    quantizer = finite_scalar(levels)
    every = jnp.arange(math.prod(levels), dtype=jnp.int32)[:, None]
    z_q = quantizer.lookup({}, {}, every)
    grid = itertools.product(*[np.linspace(-1.0, 1.0, n) for n in reversed(levels)])
    np.testing.assert_allclose(z_q, [row[::-1] for row in grid], atol=1e-6)
    z = jnp.arctanh(0.99 * z_q)
    q = applied(quantizer)({}, {}, z)
    np.testing.assert_array_equal(q.codes, every)
    assert q.loss.shape == (len(every),)
    assert not q.loss.any()
    slope = jax.jit(jax.grad(lambda z: jnp.sum(quantizer.apply({}, {}, z, None, None, None).vectors)))(z)
    np.testing.assert_allclose(slope, 1.0 - jnp.square(jnp.tanh(z)), rtol=1e-3, atol=1e-6)


def test_lookup_free_entropies_are_those_of_the_codes():
    """Against the softmax over all 2³ codes; with one vector alone both entropies are one."""
    one = vectors(1, 1, 3)
    z = jnp.stack([one[0], -one[0]])
    quantizer = lookup_free(3, entropy=1.0, commitment=0.0, temperature=2.0)
    np.testing.assert_allclose(applied(quantizer)({}, {}, jnp.concatenate([one, one])).loss, 0.0, atol=1e-5)
    p = jax.nn.softmax(2.0 * z[0, 0] @ quantizer.lookup({}, {}, jnp.arange(8, dtype=jnp.int32)[:, None]).T / 2.0)
    sure = -float(jnp.sum(p * jnp.log(p)))
    np.testing.assert_allclose(applied(quantizer)({}, {}, z).loss, sure - 3 * math.log(2), rtol=1e-4)
    committed = applied(lookup_free(3, entropy=0.0, commitment=0.7))({}, {}, z).loss
    np.testing.assert_allclose(committed, 0.7 * jnp.sum(jnp.square(jnp.abs(z) - 1.0), axis=(1, 2)), rtol=1e-5)


def test_residual_books_leave_less_and_less():
    z = vectors(64, 6)
    left = []
    for n in (1, 2):
        quantizer = residual([nearest(8, 6)] * n)
        params, extras = started(quantizer, z)
        left.append(float(jnp.mean(jnp.square(applied(quantizer)(params, extras, z).vectors - z))))
    assert left[0] > 1.2 * left[1]


@pytest.mark.parametrize("name", ["ema", "expiring", "lookup_free", "residual"])
def test_one_device_is_as_many(name):
    quantizer, z = ALL[name], vectors(4, 2, 5, 6)
    params, extras = started(quantizer, z)
    key = jax.random.key(7)
    one = jax.jit(lambda z: quantizer.apply(params, extras, z, key, 0, None))(z)
    several = jax.pmap(
        lambda z: quantizer.apply(params, extras, z, key, 0, "batch"), axis_name="batch", devices=jax.devices()[:2]
    )(z.reshape(2, 2, 2, 5, 6))
    np.testing.assert_array_equal(one.codes, several.codes.reshape(one.codes.shape))
    np.testing.assert_allclose(one.loss, several.loss.reshape(-1), rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(one.extras), jax.tree.leaves(several.extras)):
        np.testing.assert_allclose(np.broadcast_to(a, b.shape), b, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nearest(0, 4),
        lambda: nearest(4, 4, decay=1.0),
        lambda: nearest(4, 4, decay=None, expire=0.1),
        lambda: nearest(4, 4, commitment=-1.0),
        lambda: finite_scalar((1, 4)),
        lambda: finite_scalar(()),
        lambda: lookup_free(0),
        lambda: lookup_free(2, temperature=0.0),
        lambda: residual([nearest(4, 4), nearest(4, 5)]),
        lambda: residual([]),
        lambda: grouped([]),
        lambda: grouped([grouped([nearest(4, 4)] * 2)]),
    ],
)
def test_wrong_numbers_are_refused_at_once(make):
    with pytest.raises(UsageError):
        make()
