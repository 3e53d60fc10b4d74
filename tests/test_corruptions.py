import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.kernels.exact_count import exact_count, plain_exact_count
from aejax.keys import each
from aejax.objective.corruptions import (
    bernoulli_masking,
    chain,
    corrupt_batch,
    fixed_mask,
    gaussian_noise,
    masking,
    nothing,
    patches,
    salt_and_pepper,
)

IMAGE = (6, 7, 2)
EVERY = [
    nothing(),
    masking(0.3),
    bernoulli_masking(0.3),
    salt_and_pepper(0.4),
    gaussian_noise(0.5),
    patches(3),
    patches(2, count=3),
    chain(masking(0.2), gaussian_noise(0.3)),
    chain(salt_and_pepper(0.3), gaussian_noise(0.2), masking(0.25)),
]
names = [c.name for c in EVERY]
SMALL, MANY = (4, 5, 2), 20_000  # of most tests: what one has compiled, operation by operation, the others use


def batch_of(n, shape=IMAGE, seed=0):
    x = np.random.default_rng(seed).uniform(0.2, 0.8, (n, *shape)).astype(np.float32)
    return jnp.asarray(x), jnp.arange(n)


@pytest.mark.parametrize(
    "d", [1, 2, 7, 64, 3000, pytest.param(784, marks=pytest.mark.slow), pytest.param(1024, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.999, 1.0])
def test_masking_touches_an_exact_count(d, rate):
    x, index = batch_of(16, (d,))
    x_tilde, touched = corrupt_batch(masking(rate), jax.random.key(1), x, index)
    np.testing.assert_array_equal(jnp.sum(touched, axis=1), round(rate * d))
    np.testing.assert_array_equal(x_tilde, np.where(touched, 0.0, x))


def test_masks_are_uniform_over_positions_and_pairs():
    # 20 000 masks of 12 out of 40: each position with probability 0.3, each pair with 12·11/(40·39).
    x, index = batch_of(MANY, SMALL)
    _, touched = corrupt_batch(masking(0.3), jax.random.key(2), x, index)
    t = np.asarray(touched, np.float64).reshape(MANY, 40)
    together = t.T @ t / MANY
    pair = 12 * 11 / (40 * 39)
    expected = np.full((40, 40), pair) + np.eye(40) * (0.3 - pair)
    assert np.max(np.abs(together - expected)) < 5 * np.sqrt(0.3 * 0.7 / MANY)


def test_each_mask_of_a_small_set_is_as_likely_as_any_other():
    x, index = batch_of(30_000, (5,))
    _, touched = corrupt_batch(masking(0.4), jax.random.key(3), x, index)
    _, counts = np.unique(np.asarray(touched), axis=0, return_counts=True)
    assert len(counts) == 10  # 5 choose 2
    chi_squared = np.sum((counts - 3000) ** 2 / 3000)
    assert chi_squared < 27.9  # the 0.999 quantile with 9 degrees of freedom


@pytest.mark.parametrize("d", [1, 7, 64, 784])
def test_an_exact_count_is_of_the_smallest_numbers_by_sorting(d):
    """The fast search and the definition, to the bit."""
    keys = jax.random.split(jax.random.key(5), 32)
    of_all = lambda choose: jax.jit(jax.vmap(lambda key, count: choose(key, (d,), count), (0, None)))
    fast, plain = of_all(exact_count), of_all(plain_exact_count)
    for count in sorted({0, 1, d // 3, d - 1, d}):
        np.testing.assert_array_equal(fast(keys, jnp.int32(count)), plain(keys, jnp.int32(count)))


def test_exact_and_bernoulli_counts_differ_in_spread():
    x, index = batch_of(MANY, SMALL)
    counts = [
        np.sum(corrupt_batch(c(0.3), jax.random.key(4), x, index)[1], axis=(1, 2, 3))
        for c in (masking, bernoulli_masking)
    ]
    assert counts[0].std() == 0
    assert counts[1].std() == pytest.approx(np.sqrt(40 * 0.3 * 0.7), rel=0.02)
    assert counts[1].mean() == pytest.approx(12, abs=5 * np.sqrt(40 * 0.3 * 0.7 / MANY))


def test_salt_and_pepper_tosses_a_fair_coin():
    x, index = batch_of(MANY, SMALL)
    x_tilde, touched = corrupt_batch(salt_and_pepper(0.4), jax.random.key(5), x, index)
    chosen = np.asarray(x_tilde)[np.asarray(touched)]
    assert len(chosen) == MANY * 16
    assert set(np.unique(chosen)) == {0.0, 1.0}
    assert chosen.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(len(chosen)))
    np.testing.assert_array_equal(np.where(touched, x, x_tilde), x)


def test_gaussian_noise_has_its_scale():
    x, index = batch_of(MANY, SMALL)
    x_tilde, touched = corrupt_batch(gaussian_noise(0.3), jax.random.key(6), x, index)
    assert np.all(touched)
    assert np.std(np.asarray(x_tilde) - x) == pytest.approx(0.3, rel=0.005)


def test_patches_are_whole_squares_across_channels():
    x, index = batch_of(MANY, SMALL)
    _, touched = corrupt_batch(patches(3), jax.random.key(7), x, index)
    t = np.asarray(touched)
    np.testing.assert_array_equal(t[..., 0], t[..., 1])
    np.testing.assert_array_equal(t[..., 0].sum(axis=(1, 2)), 9)
    rows, columns = t[..., 0].any(axis=2).sum(axis=1), t[..., 0].any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(rows, 3)
    np.testing.assert_array_equal(columns, 3)
    assert t[..., 0].any(axis=0).all()  # every pixel can be hit


def test_a_chain_touches_what_any_link_touched():
    x, index = batch_of(MANY, SMALL)
    x_tilde, touched = corrupt_batch(chain(masking(0.2), masking(0.3)), jax.random.key(8), x, index)
    zero = np.asarray(x_tilde) == 0.0
    np.testing.assert_array_equal(zero, touched)
    counts = zero.reshape(MANY, -1).sum(axis=1)
    assert counts.max() <= 8 + 12
    assert counts.min() >= 12  # at least the larger of the two
    assert len(set(counts)) > 1  # the links draw from keys of their own


@pytest.mark.parametrize("corrupt", EVERY, ids=names)
def test_moments_are_those_of_the_noise(corrupt):
    # x_tilde = a ⊙ x + b: with one key, x = 0 gives b and x = 1 gives a + b.
    n, key, index = MANY, jax.random.key(9), jnp.arange(MANY)
    b = np.asarray(corrupt_batch(corrupt, key, jnp.zeros((n, *SMALL)), index)[0], np.float64).reshape(n, -1)
    a = np.asarray(corrupt_batch(corrupt, key, jnp.ones((n, *SMALL)), index)[0], np.float64).reshape(n, -1) - b
    moments = corrupt.moments(SMALL)
    found = (a.mean(axis=0), b.mean(axis=0), a.T @ a / n, a.T @ b / n, b.T @ b / n)
    for name, expected, sampled in zip(moments._fields, moments, found):
        assert np.max(np.abs(sampled - expected)) < 5 * 0.5 / np.sqrt(n), name


def test_hiding_hides_the_same_of_every_example():
    hidden = np.arange(40).reshape(SMALL) % 3 == 0
    x, index = batch_of(3, SMALL)
    x_tilde, touched = corrupt_batch(fixed_mask(hidden), jax.random.key(0), x, index)
    np.testing.assert_array_equal(touched, np.broadcast_to(hidden, x.shape))
    np.testing.assert_array_equal(x_tilde, np.where(hidden, 0.0, x))
    a = 1.0 - hidden.reshape(-1)  # x_tilde = a ⊙ x, for sure
    for found, expected in zip(
        fixed_mask(hidden).moments(SMALL), (a, 0 * a, np.outer(a, a), np.zeros((40, 40)), np.zeros((40, 40)))
    ):
        np.testing.assert_array_equal(found, expected)


# All that draws: the primitives once each, in a chain or alone.
DRAWING = [bernoulli_masking(0.3), patches(2, count=3), chain(salt_and_pepper(0.3), gaussian_noise(0.2), masking(0.25))]


@pytest.mark.parametrize(
    ("corruptions", "numbers"), [(DRAWING, (4,)), pytest.param(EVERY, (1, 2, 8), marks=pytest.mark.slow)]
)
def test_noise_is_the_same_bits_on_any_number_of_devices_and_in_any_order(corruptions, numbers):
    x, index = batch_of(16)
    key = jax.random.key(10)

    def every(x, index):
        return {c.name: corrupt_batch(c, key, x, index) for c in corruptions}

    expected = jax.jit(every)(x, index)
    for devices in numbers:
        run = jax.pmap(every, devices=jax.devices()[:devices])
        shared = run(x.reshape(devices, -1, *IMAGE), index.reshape(devices, -1))
        jax.tree.map(
            lambda got, want: np.testing.assert_array_equal(np.asarray(got).reshape(want.shape), want), shared, expected
        )
    order = np.random.default_rng(0).permutation(16)
    permuted = jax.jit(every)(x[order], index[order])
    jax.tree.map(lambda got, want: np.testing.assert_array_equal(got, np.asarray(want)[order]), permuted, expected)


@pytest.mark.parametrize("corrupt", EVERY[1:], ids=names[1:])
def test_noise_is_fresh_for_each_example_and_step(corrupt):
    x, index = jnp.full((MANY, *SMALL), 0.4), jnp.arange(MANY)
    first, second = (np.asarray(corrupt_batch(corrupt, jax.random.key(k), x, index)[0])[:4] for k in (11, 12))
    assert len(np.unique(first.reshape(4, -1), axis=0)) > 1
    assert not np.array_equal(first, second)


def test_strength_follows_a_schedule():
    schedule = optax.linear_schedule(0.0, 0.5, 100)
    x, index = batch_of(MANY, SMALL)
    key = jax.random.key(13)
    few = jax.jit(lambda step: corrupt_batch(masking(schedule), key, x[:3], index[:3], step)[1])
    for step, count in [(0, 0), (50, 10), (100, 20), (1000, 20)]:
        np.testing.assert_array_equal(np.sum(few(jnp.int32(step)), axis=(1, 2, 3)), count)
    _, touched = jax.vmap(masking(schedule))(each(key, index), x)  # without a step: the end of the schedule
    np.testing.assert_array_equal(np.sum(touched, axis=(1, 2, 3)), 20)
    still, _ = corrupt_batch(gaussian_noise(optax.linear_schedule(0.0, 1.0, 10)), key, x, index, jnp.int32(0))
    np.testing.assert_array_equal(still, x)
    assert masking(schedule).moments((40,)).a[0] == 0.5
    for beyond, count in [(1.5, 40), (-0.5, 0)]:  # a schedule that leaves [0, 1] is clipped, not searched for ever
        _, touched = corrupt_batch(masking(optax.constant_schedule(beyond)), key, x, index)
        np.testing.assert_array_equal(np.sum(touched, axis=(1, 2, 3)), count)


@pytest.mark.parametrize(
    "make",
    [
        lambda: masking(1.2),
        lambda: masking(-0.1),
        lambda: masking(float("nan")),
        lambda: bernoulli_masking(2),
        lambda: salt_and_pepper(-1),
        lambda: gaussian_noise(-0.1),
        lambda: patches(0),
        lambda: chain(),
        lambda: patches(5)(jax.random.key(0), jnp.zeros((4, 4, 1))),
        lambda: patches(2)(jax.random.key(0), jnp.zeros(16)),
    ],
)
def test_impossible_strengths_are_refused(make):
    with pytest.raises(UsageError):
        make()
