"""The linear baselines against least squares, the Wiener filter and their own optimality."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.evaluation.linear import Affine, Statistics, apply, optimal_linear, pca, pca_codes, statistics, with_axes
from aejax.objective.corruptions import Moments, chain, corrupt_batch, gaussian_noise, masking, salt_and_pepper

D = 8


def data(n=300, d=D, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / 3 + rng.normal(size=d)


def survival(keep, keep_both, d=D):
    """Moments of masking: components survive with probability `keep`, pairs of them with `keep_both`."""
    aa = np.full((d, d), keep_both)
    np.fill_diagonal(aa, keep)
    return Moments(np.full(d, keep), np.zeros(d), aa, np.zeros((d, d)), np.zeros((d, d)))


def added(covariance):
    d = len(covariance)
    return Moments(np.ones(d), np.zeros(d), np.ones((d, d)), np.zeros((d, d)), covariance)


def empirical(a, b):
    """Moments of drawn noise [n, d]."""
    n = len(a)
    return Moments(a.mean(0), b.mean(0), a.T @ a / n, a.T @ b / n, b.T @ b / n)


def tangled(n, d=D):
    """Draws of noise with everything at once: a and b correlated with each other and across components, not centerd."""
    rng = np.random.default_rng(1)
    latent = rng.normal(size=(n, 3))
    a = 0.7 + 0.4 * np.tanh(latent @ rng.normal(size=(3, d)))
    b = 0.3 * a + latent @ rng.normal(size=(3, d)) / 4 + 0.3 * rng.normal(size=(n, d)) + 0.2
    return a, b


def expected_error(affine: Affine, train: Statistics, noise: Moments):
    """E‖x - W x_tilde - c‖² from moments, the constant as a last component of x_tilde that is never corrupted."""
    m, s = train.mean, train.covariance + np.outer(train.mean, train.mean)
    mixed = noise.ab * m[:, None]
    mean = noise.a * m + noise.b
    q = np.block([[noise.aa * s + mixed + mixed.T + noise.bb, mean[:, None]], [mean[None, :], np.ones((1, 1))]])
    p = np.concatenate([s * noise.a + np.outer(m, noise.b), m[:, None]], axis=1)
    v = np.concatenate([affine.weight, affine.bias[:, None]], axis=1)
    return np.trace(s) - 2 * np.sum(v * p) + np.sum(v @ q * v)


NOISES = {
    "masking": survival(0.75, 0.75**2),
    "gaussian": added(0.09 * np.eye(D)),
    "tangled": empirical(*tangled(60)),
}


def test_statistics_are_those_of_the_whole_array_at_any_dtype(monkeypatch):
    monkeypatch.setattr("aejax.evaluation.linear.ROWS", 7)
    x = data(30, 12).reshape(30, 3, 4)
    train = statistics(x)
    np.testing.assert_allclose(train.mean, x.reshape(30, 12).mean(0))
    np.testing.assert_allclose(train.covariance, np.cov(x.reshape(30, 12).T, bias=True), atol=1e-12)
    bits = x > 0
    np.testing.assert_allclose(statistics(bits).covariance, statistics(bits.astype(float)).covariance)


def test_statistics_keep_their_digits_far_from_the_origin():
    x = data()
    np.testing.assert_allclose(statistics(x + 1e5).covariance, statistics(x).covariance, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("components", [0, 3, D])
def test_pca_leaves_the_discarded_eigenvalues_as_error(components):
    x = data()
    train = statistics(x)
    error = np.mean(np.sum((apply(pca(train, components), x) - x) ** 2, axis=1))
    np.testing.assert_allclose(error, np.linalg.eigvalsh(train.covariance)[: D - components].sum(), atol=1e-12)


def test_pca_beats_any_other_projection_of_its_rank():
    x = data()
    train = statistics(x)
    best = np.mean((apply(pca(train, 2), x) - x) ** 2)
    for seed in range(20):
        axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, 2)))
        other = Affine(axes @ axes.T, train.mean - axes @ axes.T @ train.mean)
        assert np.mean((apply(other, x) - x) ** 2) > best


def test_pca_with_more_components_than_dimensions_is_the_identity():
    x = data()
    np.testing.assert_allclose(apply(pca(statistics(x), 99), x), x, atol=1e-12)


def test_axes_that_are_worked_out_once_serve_every_projection(monkeypatch):
    x = data()
    train = statistics(x)
    once = with_axes(train)
    expected = apply(pca(train, 3), x), pca_codes(train, 3, x)
    monkeypatch.setattr(np.linalg, "eigh", None)
    np.testing.assert_array_equal(apply(pca(once, 3), x), expected[0])
    np.testing.assert_array_equal(pca_codes(once, 3, x), expected[1])


def test_pca_codes_are_uncorrelated_with_the_largest_eigenvalues_as_variances():
    x = data().reshape(-1, 2, 4)
    train = statistics(x)
    codes = pca_codes(train, 3, x)
    eigenvalues = np.linalg.eigvalsh(train.covariance)[::-1][:3]
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.diag(eigenvalues), atol=1e-12)
    np.testing.assert_allclose(codes.mean(0), 0.0, atol=1e-12)
    assert pca_codes(train, 99, x).shape == (len(x), D)


@pytest.mark.parametrize("affine", [True, False])
def test_optimal_linear_is_least_squares_on_every_pair_of_example_and_noise(affine):
    """With the noise uniform on 60 values, the pairs with 200 examples are the whole population."""
    x, (a, b) = data(200), tangled(60)
    clean = np.repeat(x, 60, axis=0)
    x_tilde = np.tile(a, (200, 1)) * clean + np.tile(b, (200, 1))
    found = optimal_linear(statistics(x), empirical(a, b), affine=affine)
    weight, bias = least_squares(x_tilde, clean, affine)
    np.testing.assert_allclose(found.weight, weight, atol=1e-9)
    np.testing.assert_allclose(found.bias, bias, atol=1e-9)


def least_squares(x_tilde, clean, affine=True):
    regressors = np.concatenate([x_tilde, np.full((len(clean), 1), float(affine))], axis=1)
    solution = np.linalg.lstsq(regressors, clean)[0].T
    return solution[:, :-1], solution[:, -1]


@pytest.mark.parametrize(
    "corruption", [masking(0.25), gaussian_noise(0.5), salt_and_pepper(0.25), chain(masking(0.25), gaussian_noise(0.2))]
)
def test_optimal_linear_is_least_squares_on_many_draws_of_a_corruption(corruption):
    x, repeats = data(200), 500
    clean = np.tile(x, (repeats, 1)).astype(np.float32)
    x_tilde, _ = corrupt_batch(corruption, jax.random.key(0), jnp.asarray(clean), jnp.arange(len(clean)))
    weight, bias = least_squares(np.asarray(x_tilde, np.float64), clean)
    found = optimal_linear(statistics(x), corruption.moments((D,)))
    # The slopes' standard error is residual / (deviation of x_tilde · sqrt(draws)), here about .003.
    np.testing.assert_allclose(found.weight, weight, atol=0.02)
    np.testing.assert_allclose(found.bias, bias, atol=0.02)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_no_other_map_has_a_lower_expected_error(noise):
    train = statistics(data())
    affine, linear = optimal_linear(train, noise), optimal_linear(train, noise, affine=False)
    best, best_linear = expected_error(affine, train, noise), expected_error(linear, train, noise)
    assert 0 < best < best_linear
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 1e-1):
        step = size * rng.normal(size=(D, D))
        offset = size * rng.normal(size=D)
        assert expected_error(Affine(affine.weight + step, affine.bias), train, noise) > best
        assert expected_error(Affine(affine.weight, affine.bias + offset), train, noise) > best
        assert expected_error(Affine(affine.weight + step, affine.bias + offset), train, noise) > best
        assert expected_error(Affine(linear.weight + step, linear.bias), train, noise) > best_linear


def test_without_noise_the_optimum_is_the_identity_on_the_span_of_the_data():
    x = data(50)
    np.testing.assert_allclose(optimal_linear(statistics(x), survival(1.0, 1.0)).weight, np.eye(D), atol=1e-9)
    flat = data(50) @ np.diag([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])  # dead pixels
    flat[:, 3] = flat[:, 0] + flat[:, 1]  # and a dependent one
    train = statistics(flat)
    found = optimal_linear(train, survival(1.0, 1.0))
    np.testing.assert_allclose(apply(found, flat), flat, atol=1e-9)
    np.testing.assert_allclose(found.weight @ found.weight, found.weight, atol=1e-9)
    assert np.linalg.matrix_rank(found.weight, tol=1e-6) == 4


def test_faint_directions_are_not_taken_for_dead_ones():
    x = 3.0 + data(50) @ np.diag(10.0 ** -np.arange(D))
    restored = apply(optimal_linear(statistics(x), survival(1.0, 1.0)), x)
    assert np.all(np.abs(restored - x).max(axis=0)[:6] < 1e-3 * x.std(axis=0)[:6])


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_gaussian_noise_gives_the_wiener_filter(sigma):
    train = statistics(data())
    found = optimal_linear(train, added(sigma**2 * np.eye(D)))
    wiener = train.covariance @ np.linalg.inv(train.covariance + sigma**2 * np.eye(D))
    np.testing.assert_allclose(found.weight, wiener, atol=1e-10)
    np.testing.assert_allclose(found.bias, train.mean - wiener @ train.mean, atol=1e-10)


@pytest.mark.parametrize(("pair_survives", "value"), [(0.75**2, 0.5625), (6 * 5 / (8 * 7), 0.5357)])
def test_linear_optimum_of_masking_by_hand(pair_survives, value):
    """W = P Q⁻¹, P = qS, Q_ii = qS_ii, Q_ij = π₂S_ij, of independent masking and the exact count (d = 8, ν = 1/4)."""
    np.testing.assert_allclose(pair_survives, value, atol=5e-5)
    x = data()
    s, q = x.T @ x / len(x), 0.75
    by_hand = q * s @ np.linalg.inv(pair_survives * s + np.diag((q - pair_survives) * np.diag(s)))
    found = optimal_linear(statistics(x), survival(q, pair_survives), affine=False)
    np.testing.assert_allclose(found.weight, by_hand, atol=1e-9)
    np.testing.assert_array_equal(found.bias, 0.0)


def test_affine_optimum_moves_with_the_origin_under_added_noise():
    x, shift = data(), 10.0 * np.ones(D)
    here, there = (optimal_linear(statistics(z), added(0.25 * np.eye(D))) for z in (x, x + shift))
    np.testing.assert_allclose(there.weight, here.weight, atol=1e-9)
    np.testing.assert_allclose(apply(there, x + shift), apply(here, x) + shift, atol=1e-8)


def test_when_nothing_survives_the_optimum_is_the_mean():
    train = statistics(data())
    found = optimal_linear(train, survival(0.0, 0.0))
    np.testing.assert_array_equal(found.weight, 0.0)
    np.testing.assert_allclose(found.bias, train.mean)


def test_dead_pixels_are_ignored_and_restored():
    x = data()
    x[:, [2, 5]] = 0.0
    found = optimal_linear(statistics(x), survival(0.75, 0.75**2))
    assert np.all(np.isfinite(found.weight))
    for part in (found.weight[[2, 5]], found.weight[:, [2, 5]], found.bias[[2, 5]]):
        np.testing.assert_array_equal(np.abs(part) < 1e-12, True)
    alive = [0, 1, 3, 4, 6, 7]
    without = optimal_linear(statistics(x[:, alive]), survival(0.75, 0.75**2, d=6))
    np.testing.assert_allclose(found.weight[np.ix_(alive, alive)], without.weight, atol=1e-9)


def test_apply_keeps_shape_and_floating_dtype():
    affine = Affine(2.0 * np.eye(D), np.ones(D))
    x = np.arange(3 * D).reshape(3, 2, 2, 2)
    for dtype, result in ((np.float32, np.float32), (np.float64, np.float64), (np.uint8, np.float32)):
        mapped = apply(affine, x.astype(dtype))
        np.testing.assert_array_equal(mapped, 2 * x + 1)
        assert mapped.dtype == result
