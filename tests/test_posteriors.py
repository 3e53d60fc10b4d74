"""Posteriors, flows and priors: densities against SciPy's, divergences against draws, flows against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal

from aejax.errors import UsageError
from aejax.nets import MLP
from aejax.objective.posteriors import diagonal, flow, full_rank, inverse_autoregressive, planar, real_nvp
from aejax.objective.priors import Encoding, conditional, gaussian_log_prob, mixture, standard_normal, vamp
from tiny import normal

D, MANY, KEY = 3, 20_000, jax.random.key(7)
FLOWS = {
    "planar": planar(),
    "forth": inverse_autoregressive(16),
    "back": inverse_autoregressive(16, reverse=True),
    "second_half": real_nvp(16),
    "first_half": real_nvp(16, reverse=True),
}


def double(x):
    return np.asarray(x, np.float64)


def anywhere(params):
    """Parameters of these shapes, far from where they begin."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.float32(0.7 * rng.normal(size=p.shape)), params)


def draws(posterior, params, h):
    return jax.jit(jax.vmap(lambda key: posterior.draw(params, key, h)))(jax.random.split(KEY, MANY))


def gaussian_of(h):
    """Mean and covariance that an encoder's numbers stand for: log-variances, then the rows below the diagonal."""
    mu, raw, below = np.split(double(h), [D, 2 * D])
    factor = np.diag(np.exp(0.5 * 12.0 * np.tanh(raw / 12.0)))
    factor[np.tril_indices(D, -1)] = below if len(below) else 0.0
    return mu, factor @ factor.T


def test_many_densities_of_correlated_gaussians_need_no_library_that_waits_for_threads():
    """A batch of LAPACK's triangular solves waits for threads of the pool it runs on: two of them on two cores for ever."""
    d, n = 11, 5
    posterior = full_rank()
    h, z = normal(n, posterior.width(d)), normal(n, d, seed=1)
    log_prob = jax.jit(jax.vmap(lambda h, z: posterior.log_prob({}, h, z)))
    rows, columns = np.tril_indices(d, -1)
    for numbers, point, found in zip(double(h), double(z), log_prob(h, z)):
        factor = np.diag(np.exp(6.0 * np.tanh(numbers[d : 2 * d] / 12.0)))
        factor[rows, columns] = numbers[2 * d :]
        expected = multivariate_normal(numbers[:d], factor @ factor.T).logpdf(point)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    slope = jax.jit(jax.grad(lambda h, z: jnp.sum(log_prob(h, z))))
    assert "custom-call" not in log_prob.lower(h, z).compile().as_text() + slope.lower(h, z).compile().as_text()


@pytest.mark.parametrize("posterior", [diagonal(), full_rank()], ids=["diagonal", "full_rank"])
def test_a_gaussian_is_the_one_its_numbers_stand_for(posterior):
    h = normal(posterior.width(D))
    mean, cov = gaussian_of(h)
    z, log_q = draws(posterior, {}, h)
    np.testing.assert_allclose(log_q, multivariate_normal(mean, cov).logpdf(double(z)), atol=1e-3)
    found = jax.jit(jax.vmap(lambda z: posterior.log_prob({}, h, z)))(z)
    np.testing.assert_allclose(found, log_q, atol=1e-3)
    np.testing.assert_allclose(posterior.mean({}, h), mean, rtol=1e-6)
    own = np.diag(cov)
    assert np.all(np.abs(double(z).mean(axis=0) - mean) < 5 * np.sqrt(own / MANY))
    assert np.all(np.abs(np.cov(double(z).T) - cov) < 5 * np.sqrt((np.outer(own, own) + cov**2) / MANY))
    if posterior.moments is not None:
        np.testing.assert_allclose(posterior.moments({}, h)[1], own, rtol=1e-5)


@pytest.mark.parametrize(
    ("posterior", "prior", "parts"),
    [(diagonal(), standard_normal(), D), (full_rank(), standard_normal(), 1), (diagonal(), conditional(MLP((), 6)), D)],
)
def test_a_divergence_in_closed_form_is_the_draws_mean(posterior, prior, parts):
    h, c, q = normal(posterior.width(D)), normal(1, 2, seed=1), Encoding(None, posterior, {})
    params = anywhere(prior.init(KEY, D, None, c))
    closed = prior.kl(params, q, h[None], c)
    assert closed.shape == (1, parts)
    z, log_q = draws(posterior, {}, h)
    each = double(log_q) - double(prior.log_prob(params, q, z, jnp.repeat(c, MANY, axis=0)))
    np.testing.assert_allclose(closed.sum(), each.mean(), atol=5 * each.std() / np.sqrt(MANY))


@pytest.mark.parametrize("posterior", [diagonal(), full_rank()], ids=["diagonal", "full_rank"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_a_divergence_in_closed_form_is_that_of_the_density(posterior, scale):
    """KL(q‖N(0, I)) = E_q[−log p] − H(q), with mean and covariance found in log q itself, and the entropy by SciPy."""
    h = normal(posterior.width(D), scale=scale, seed=3)
    log_q = lambda z: posterior.log_prob({}, h, z)
    curvature = double(jax.jit(jax.hessian(log_q))(jnp.zeros(D)))
    cov = -np.linalg.inv(curvature)
    mean = cov @ double(jax.jit(jax.grad(log_q))(jnp.zeros(D)))
    cross = 0.5 * (D * np.log(2 * np.pi) + np.trace(cov) + mean @ mean)
    found = standard_normal().kl({}, Encoding(None, posterior, {}), h[None], jnp.zeros((1, 0))).sum()
    np.testing.assert_allclose(found, cross - multivariate_normal(mean, cov).entropy(), rtol=1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flows_log_determinant_is_autodiffs(name):
    f, seen, z = FLOWS[name], normal(2, seed=1), normal(50, D, scale=2.0, seed=2)
    params = anywhere(f.init(KEY, D, 2))
    forward = jax.jit(lambda z, seen: f.forward(params, z, seen))
    log_det = jax.vmap(lambda z: forward(z, seen)[1])(z)
    slopes = double(jax.jit(jax.vmap(jax.jacfwd(lambda z: forward(z, seen)[0])))(z))
    sign, expected = np.linalg.slogdet(slopes)
    assert np.all(sign > 0)
    np.testing.assert_allclose(log_det, expected, atol=1e-3)
    # Every dimension is shown the context, but for the half that a regularizer layer keeps.
    kept = {"second_half": [0], "first_half": [D - 1]}.get(name, [])
    shown = np.delete(np.arange(D), kept)
    assert np.all((forward(z[0], seen)[0] != forward(z[0], seen + 1.0)[0])[shown])
    if kept:
        np.testing.assert_array_equal(jax.vmap(lambda z: forward(z, seen)[0])(z)[:, kept], z[:, kept])
        assert np.all(slopes[:, shown, kept] != 0.0)
        assert np.all(slopes[:, shown, shown[::-1]] == 0.0)  # of two dimensions that move neither sees the other
    elif name != "planar":  # it looks back only, and at all that is behind
        slopes = slopes if name == "forth" else slopes[:, ::-1, ::-1]
        assert np.all(np.triu(slopes, 1) == 0.0)
        assert np.all(slopes[:, *np.tril_indices(D)] != 0.0)


def test_a_planar_flow_never_folds():
    """With wᵀu = -9 the map would fold back; corrected, it rises along w everywhere."""
    f, params = planar(), planar().init(KEY, D, 0) | {"w": jnp.ones(D), "u": jnp.full(D, -3.0)}
    line = jnp.broadcast_to(jnp.linspace(-2.0, 2.0, 81)[:, None], (81, D))
    assert np.all(np.diff(jax.vmap(lambda z: f.forward(params, z, jnp.zeros(0))[0].sum())(line)) > 0)


@pytest.mark.parametrize("name", ["second_half", "first_half"])
def test_a_coupling_layer_is_undone_by_what_it_keeps(name):
    """With the scale and shift that the kept half gives, read off two points."""
    f, seen, z = FLOWS[name], normal(2, seed=1), normal(D, scale=2.0, seed=2)
    params = anywhere(f.init(KEY, D, 2))
    moved = slice(1, None) if name == "second_half" else slice(None, -1)
    at = lambda values: f.forward(params, z.at[moved].set(values), seen)[0][moved]
    shift = at(0.0)
    np.testing.assert_allclose((at(z[moved]) - shift) / (at(1.0) - shift), z[moved], rtol=1e-4)


def test_a_coupling_layers_volume_is_bounded():
    f = real_nvp(4)
    far = jax.tree.map(lambda p: 100.0 * p, anywhere(f.init(KEY, D, 1)))
    assert np.abs(f.forward(far, normal(D), jnp.ones(1))[1]) <= 2.0 * 2
    for d in (1, 2):
        out, log_det = f.forward(f.init(KEY, d, 1), normal(d), jnp.ones(1))
        assert out.shape == (d,)
        assert np.isfinite(log_det)


def test_flows_follow_one_another():
    posterior = flow(list(FLOWS.values()), context=2)
    params, h = anywhere(posterior.init(KEY, D)), normal(posterior.width(D))

    def carried(z):
        log_det = 0.0
        for i, f in enumerate(FLOWS.values()):
            step = lambda z, f=f, i=i: f.forward(params[f"flow_{i}"], z, h[2 * D :])[0]
            log_det += np.linalg.slogdet(double(jax.jacfwd(step)(z)))[1]
            z = step(z)
        return z, log_det

    start, log_start = diagonal().draw({}, KEY, h[: 2 * D])
    z, log_q = posterior.draw(params, KEY, h)
    end, log_det = carried(start)
    np.testing.assert_allclose(z, end, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_q, log_start - log_det, atol=1e-3)
    np.testing.assert_allclose(posterior.mean(params, h), carried(h[:D])[0], rtol=1e-5, atol=1e-6)


def test_gaussian_nats_are_the_formula_of_every_pair():
    z, means, log_variances = normal(7, D, scale=3.0), 10.0 + normal(5, D, seed=1), normal(5, D, seed=2)
    a, m, v = double(z)[:, None], double(means), double(log_variances)
    expected = -0.5 * ((a - m) ** 2 / np.exp(v) + v + np.log(2 * np.pi)).sum(axis=2)
    np.testing.assert_allclose(gaussian_log_prob(z, means, log_variances), expected, rtol=1e-4)


def is_the_sum(prior, params, q, log_pi, rows):
    """Density and the draws' mean are those of the Gaussians that `rows` stand for, with these log-weights."""
    z, parts = normal(6, D, scale=2.0, seed=5), [gaussian_of(h) for h in rows]
    nats = [log + multivariate_normal(*part).logpdf(double(z)) for log, part in zip(log_pi, parts)]
    np.testing.assert_allclose(prior.log_prob(params, q, z, None), logsumexp(nats, axis=0), rtol=1e-4, atol=1e-3)
    drawn = double(prior.draw(params, q, jax.random.split(KEY, MANY), D, None))
    mean = np.exp(log_pi) @ np.stack([mu for mu, _ in parts])
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 5 * drawn.std(axis=0) / np.sqrt(MANY))


def test_a_mixture_is_the_sum_written_out():
    params = anywhere(mixture(4).init(KEY, D, None, None))
    rows = np.concatenate([params["means"], params["log_variances"]], axis=1)
    is_the_sum(mixture(4), params, None, log_softmax(double(params["logits"])), rows)


@pytest.mark.parametrize("posterior", [diagonal(), full_rank()], ids=["diagonal", "full_rank"])
def test_vamp_is_the_mean_of_the_posteriors_of_its_pseudo_inputs(posterior):
    prior, w, seen = vamp(4), normal(5, posterior.width(D), scale=0.5), []
    q = Encoding(lambda u: seen.append(u) or jnp.dot(u, w), posterior, {})
    x = jnp.float32(np.random.default_rng(1).uniform(size=(3, 5)))  # fewer than there are pseudo-inputs
    params = prior.init(KEY, D, x, None)
    prior.log_prob(params, q, normal(1, D), None)
    assert len(np.unique(seen[0], axis=0)) == 4
    assert np.all((seen[0] >= 0.0) & (seen[0] <= 1.0))
    is_the_sum(prior, params, q, np.full(4, -np.log(4)), double(seen[0]) @ double(w))


def test_pseudo_inputs_of_black_and_white_images_can_all_move():
    prior, w = vamp(2), normal(5, 2 * D)
    x = jnp.float32([[0, 0, 0, 1, 1], [1, 1, 0, 0, 1]])
    nats = lambda params: prior.log_prob(params, Encoding(lambda u: jnp.dot(u, w), diagonal(), {}), normal(4, D), None)
    params = prior.init(KEY, D, x, None)
    assert np.all(jax.grad(lambda p: nats(p).sum())(params)["logits"] != 0.0)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="one number of context"):
        flow([planar()], context=0)
    with pytest.raises(UsageError, match="at least one unit"):
        real_nvp(0)
    with pytest.raises(UsageError, match="low below high"):
        vamp(3, low=1.0, high=0.0)
    q = Encoding(None, flow([planar()], context=1), {})
    with pytest.raises(UsageError, match="needs the density"):
        vamp(2).log_prob({"logits": jnp.zeros((2, 5))}, q, normal(1, D), None)
