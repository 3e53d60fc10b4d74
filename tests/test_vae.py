"""The variational autoencoder: against probabilistic PCA, of which the linear one is an instance, and in its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.models import iwae, vae
from aejax.models.importance_weighted import log_mean
from aejax.models.latent import latent_net
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.divergences import capacity, free_bits, weighted
from aejax.objective.likelihoods import bernoulli, gaussian
from aejax.objective.penalties import contractive
from aejax.objective.posteriors import diagonal, flow, full_rank, inverse_autoregressive, planar
from aejax.objective.priors import conditional, mixture, standard_normal, vamp
from aejax.objective.schedules import cyclical
from tiny import batch_of, optimum, uniform

D, K = 6, 2
FLOWS = flow([planar(), inverse_autoregressive(8)], context=2)


def batch(n=16, d=D, seed=0):
    x = np.random.default_rng(seed).uniform(size=(n, d)).astype(np.float32)
    return batch_of(x)


def small(likelihood=None, width=2 * K, hidden=(5,), make=vae, **more):
    return make(MLP(hidden, width), MLP(hidden, (D,)), likelihood or bernoulli(), latent=K, shape=(D,), **more)


def loss_and_gradient(model, seen, step=0, seed=3):
    params, extras = jax.jit(model.init)(jax.random.key(0), seen)
    f = jax.jit(
        jax.value_and_grad(lambda p: model.loss(p, extras, seen, jax.random.key(seed), step, None), has_aux=True)
    )
    return f(params)


# --- probabilistic PCA (Tipping & Bishop 1999): the linear VAE at its optimum ------------------------------------------------


def ppca(n=400, seed=0):
    """Data with what pPCA makes of them: x centerd, W, σ², the exact −log p(x) per example, in float64."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, K)) @ rng.normal(size=(K, D)) * 2.0 + 0.7 * rng.normal(size=(n, D))
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x / n)
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[K:].mean()
    w = vectors[:, :K] * np.sqrt(values[:K] - noise)
    mean_nll = 0.5 * (D * np.log(2 * np.pi) + np.log(values[:K]).sum() + (D - K) * np.log(noise) + D)
    c = w @ w.T + noise * np.eye(D)
    nll = 0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(c)[1] + np.einsum("ni,ij,nj->n", x, np.linalg.inv(c), x))
    np.testing.assert_allclose(nll.mean(), mean_nll)
    return x, w, noise, nll


def linear(noise, **more):
    return small(gaussian(float(np.sqrt(noise))), hidden=(), **more)


def at_optimum(x, w, noise):
    """Parameters of the linear VAE: q has covariance σ²M⁻¹ and mean M⁻¹Wᵀx, M = WᵀW + σ²I, here diagonal."""
    m = w.T @ w + noise * np.eye(K)
    variances = noise / np.diag(m)
    raw = 12.0 * np.arctanh(np.log(variances) / 12.0)
    into = np.concatenate([w @ np.linalg.inv(m), np.zeros((D, K))], axis=1)
    net = lambda kernel, bias: {"dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
    return {
        "encoder": net(into, np.concatenate([np.zeros(K), raw])),
        "decoder": net(w.T, np.zeros(D)),
        "posterior": {},
        "prior": {},
    }


def test_the_linear_vae_at_its_optimum_is_probabilistic_pca():
    x, w, noise, nll = ppca()
    model, params = linear(noise), at_optimum(x, w, noise)
    seen = batch_of(jnp.float32(x))
    # An exact posterior: each single draw weighs exactly p(x), so the bound is tight and its variance zero.
    log_w = jax.jit(model.latent.log_weights, static_argnums=4)(params, {}, seen, jax.random.key(1), 1)[:, 0]
    np.testing.assert_allclose(log_w, -nll, atol=2e-4)
    parts = latent_net(
        MLP((), 2 * K), MLP((), (D,)), gaussian(float(noise**0.5)), K, (D,), standard_normal(), diagonal(), None
    )
    h = parts.numbers(params, seen["x"], None)
    keys = jax.random.split(jax.random.key(2), len(x))
    many = jax.jit(parts.log_weights, static_argnums=5)(params, h, seen["x"], keys, None, 7)
    assert float(jnp.max(jnp.std(many, axis=1))) < 1e-4
    # There the expected gradient vanishes: no parameter of the decoder gains.
    keys = jax.random.split(jax.random.key(3), 200)
    slope = jax.jit(jax.vmap(jax.grad(lambda p, key: model.loss(p, {}, seen, key, 0, None)[0]), (None, 0)))(
        params, keys
    )
    for leaf in jax.tree.leaves(slope["decoder"]):
        assert np.all(np.abs(leaf.mean(axis=0)) < 5 * leaf.std(axis=0) / np.sqrt(len(keys)) + 1e-3)


def test_training_reaches_the_exact_likelihood():
    x, _, noise, nll = ppca()
    model, seen = linear(noise), batch_of(jnp.float32(x))
    params = optimum(model, lambda i: seen, 1500, optax.adam(optax.cosine_decay_schedule(0.03, 1500)))
    terms = jax.jit(model.evaluate)(params, {}, seen, jax.random.key(5))
    assert nll.mean() - 0.1 < float(jnp.mean(terms["nelbo"])) < nll.mean() + 0.15
    log_w = jax.jit(model.latent.log_weights, static_argnums=4)(params, {}, seen, jax.random.key(6), 200)
    np.testing.assert_allclose(-float(jnp.mean(log_mean(log_w))), nll.mean(), atol=0.03)


# --- limits -----------------------------------------------------------------------------------------------------------------


def test_one_draw_and_beta_one_are_the_vae():
    seen, sampled = batch(), diagonal(closed_form=False)
    (a, _), ga = loss_and_gradient(small(posterior=sampled), seen)
    (b, _), gb = loss_and_gradient(small(posterior=sampled, beta=lambda step: 1.0), seen)
    (c, _), gc = loss_and_gradient(small(posterior=sampled, make=iwae, samples=1), seen)
    (d, _), gd = loss_and_gradient(small(posterior=sampled, kl_cost=weighted(1.0)), seen)
    np.testing.assert_allclose([b, c, d], a, rtol=1e-6)
    for other in (gb, gc, gd):
        jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-6), ga, other)


def test_no_corruption_is_the_vae_and_beta_weighs_the_divergence():
    seen = batch()
    (a, (_, m)), ga = loss_and_gradient(small(), seen)
    (b, _), gb = loss_and_gradient(small(corrupt=masking(0.0)), seen)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-7), ga, gb)
    np.testing.assert_allclose(a, m["distortion"] + m["kl"], rtol=1e-6)
    (c, _), _ = loss_and_gradient(small(beta=4.0), seen)
    np.testing.assert_allclose(c, m["distortion"] + 4.0 * m["kl"], rtol=1e-6)


def test_more_draws_of_one_loss_are_its_mean_over_them():
    """The gradient of three draws has the expectation of one draw's, and varies less."""
    seen, n = batch(4), 300
    keys = jax.random.split(jax.random.key(1), n)
    values = []
    for samples in (1, 3):
        model = small(samples=samples)
        params, _ = jax.jit(model.init)(jax.random.key(0), seen)
        loss = jax.jit(jax.vmap(lambda key, f=model.loss, p=params: f(p, {}, seen, key, 0, None)[0]))
        values.append(np.asarray(loss(keys)))
    error = np.sqrt((values[0].var() + values[1].var()) / n)
    assert abs(values[0].mean() - values[1].mean()) < 4 * error
    assert 0.2 < values[1].var() / values[0].var() < 0.5


def test_penalties_are_of_the_posteriors_mean():
    """Contraction of a linear encoder: the squared norm of the part of its kernel that gives the means."""
    seen = batch()
    model = small(hidden=(), penalties=(contractive(0.5),))
    (value, (_, m)), _ = loss_and_gradient(model, seen)
    params, _ = jax.jit(model.init)(jax.random.key(0), seen)
    kernel = np.asarray(params["encoder"]["dense_0"]["kernel"])
    np.testing.assert_allclose(m["contractive"], 0.5 * (kernel[:, :K] ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(value, m["nelbo"] + m["contractive"], rtol=1e-6)


def test_masked_input_is_restored_under_the_bound_of_the_clean():
    seen, model = batch(), small(corrupt=masking(0.5))
    params, _ = jax.jit(model.init)(jax.random.key(0), seen)
    terms = jax.jit(model.evaluate)(params, {}, seen, jax.random.key(1))
    assert {"denoising_distortion", "denoising_kl", "denoising_nelbo", "denoising_mse"} < {*terms}
    again = jax.jit(model.reconstruct)(params, {}, seen, jax.random.key(2))
    decoded = model.decode(params, {}, model.encode(params, {}, seen, jax.random.key(3)), seen)
    np.testing.assert_allclose(again, decoded, rtol=1e-5)
    np.testing.assert_allclose(terms["mse"], jnp.mean(jnp.square(again - seen["x"]), axis=1), rtol=1e-5)


def test_more_draws_tighten_the_bound_below_quadrature():
    model, seen = small(), batch(8)
    params, _ = jax.jit(model.init)(jax.random.key(0), seen)
    parts = latent_net(MLP((5,), 2 * K), MLP((5,), (D,)), bernoulli(), K, (D,), standard_normal(), diagonal(), None)
    # log p(x) by the trapezoidal rule on a grid of the two-dimensional latent.
    line = jnp.linspace(-6.0, 6.0, 121)
    grid = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(1, -1, K)
    theta = parts.theta(params, grid, None)
    log_joint = parts.log_prior(params, grid, None) - jax.vmap(lambda x: parts.neg_log_prob(theta, x[None])[0])(
        seen["x"]
    )
    exact = jax.nn.logsumexp(log_joint, axis=1) + 2 * np.log(0.1)

    h = parts.numbers(params, seen["x"], None)
    keys = jax.random.split(jax.random.key(4), len(seen["x"]))
    log_w = jax.jit(parts.log_weights, static_argnums=5)(params, h, seen["x"], keys, None, 20_000)
    bounds = [float(jnp.mean(log_mean(log_w.reshape(-1, k)))) for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] <= float(jnp.mean(exact)) + 1e-3
    np.testing.assert_allclose(log_mean(log_w), exact, atol=0.02)
    # The ELBO with the divergence in closed form has the expectation of the one by draws.
    judged = jax.jit(jax.vmap(lambda key: model.evaluate(params, {}, seen, key)["nelbo"]))
    found = judged(jax.random.split(jax.random.key(5), 4_000))
    np.testing.assert_allclose(jnp.mean(found), -bounds[0], atol=0.02)


def test_doubly_reparametrized_gradients_agree_in_the_mean_and_vary_less():
    seen, k, n = batch(4), 16, 400
    plain, doubly = (small(make=iwae, samples=k, doubly_reparametrized=on) for on in (False, True))
    params, _ = jax.jit(plain.init)(jax.random.key(0), seen)
    keys = jax.random.split(jax.random.key(1), n)

    def gradients(model):
        one = lambda key: jax.value_and_grad(lambda p: model.loss(p, {}, seen, key, 0, None)[0])(params)
        return jax.jit(jax.vmap(one))(keys)

    (a, ga), (b, gb) = gradients(plain), gradients(doubly)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    flat = lambda tree: np.concatenate([np.asarray(leaf).reshape(n, -1) for leaf in jax.tree.leaves(tree)], axis=1)
    np.testing.assert_allclose(flat(ga["decoder"]), flat(gb["decoder"]), rtol=1e-3, atol=1e-5)
    ours, theirs = flat(gb["encoder"]), flat(ga["encoder"])
    error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / n)
    assert np.mean(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 3 * error + 1e-6) > 0.95
    assert ours.var(axis=0).sum() < 0.5 * theirs.var(axis=0).sum()


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_training_survives_extreme_data_and_wild_rates(fill):
    seen, model = batch() | {"x": jnp.full((16, D), fill)}, small()
    params, _ = jax.jit(model.init)(jax.random.key(0), seen)

    @jax.jit
    def slope(params, key):
        return jax.value_and_grad(lambda p: model.loss(p, {}, seen, key, 0, None)[0])(params)

    @jax.jit
    def descend(params, key):
        _, grads = slope(params, key)
        return jax.tree.map(lambda p, g: p - g, params, grads)

    for i in range(100):
        params = descend(params, jax.random.key(i))
    for at in (params, jax.tree.map(lambda p: 1e3 * p, params)):
        value, grads = slope(at, jax.random.key(0))
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


# --- rates --------------------------------------------------------------------------------------------------------------------


def test_a_capacity_draws_the_divergence_to_itself():
    kl = uniform(8, 3)
    mean = float(jnp.mean(jnp.sum(kl, axis=1)))
    pull = lambda c: jax.grad(lambda kl: jnp.mean(capacity(10.0, lambda step: c)(kl, 0, None)))(kl)
    assert float(jnp.mean(capacity(10.0, lambda step: mean)(kl, 0, None))) == pytest.approx(0.0, abs=1e-5)
    assert np.all(pull(mean - 0.5) > 0)
    assert np.all(pull(mean + 0.5) < 0)


def test_free_bits_are_free_and_the_others_cost_what_they_are():
    kl = uniform(8, 3)
    cost = lambda floor: free_bits(floor)(kl, 0, None)
    np.testing.assert_allclose(cost(0.0), np.full(8, np.asarray(kl).mean(axis=0).sum()), rtol=1e-5)
    assert np.all(cost(0.5) >= cost(0.0))
    np.testing.assert_allclose(cost(10.0), np.full(8, 30.0), rtol=1e-6)
    assert not np.any(jax.grad(lambda k: free_bits(10.0)(k, 0, None).sum())(kl))


def test_a_weight_multiplies_and_a_cycle_begins_again():
    kl = uniform(8, 3)
    np.testing.assert_allclose(weighted(2.0)(kl, 0, None), 2 * weighted(1.0)(kl, 0, None), rtol=1e-6)
    np.testing.assert_allclose(weighted(1.0)(kl, 0, None), kl.sum(axis=1), rtol=1e-6)
    beta = np.array([cyclical(100, 0.5)(t) for t in range(200)])
    np.testing.assert_allclose(beta[:100], beta[100:], atol=1e-6)
    assert beta[0] == 0.0
    assert np.all(np.diff(beta[:51]) > 0)
    np.testing.assert_allclose(beta[50:100], 1.0, atol=1e-6)


@pytest.mark.parametrize("rate", [capacity(10.0, 2.0), free_bits(0.3)])
def test_rates_that_couple_the_batch_are_the_same_on_devices(rate):
    kl = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 3)).astype(np.float32))
    on_four = jax.vmap(lambda part: rate(part, 0, "batch"), axis_name="batch")(kl.reshape(4, 2, 3)).reshape(-1)
    np.testing.assert_allclose(on_four, rate(kl, 0, None), rtol=1e-5)


# --- priors, conditions, refusals ----------------------------------------------------------------------------------------


# Every prior and every posterior once, all pairs with the slow tests.
@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        pytest.param(prior, posterior, marks=() if i == j else pytest.mark.slow)
        for i, prior in enumerate([vamp(4), mixture(3), standard_normal()])
        for j, posterior in enumerate([diagonal(), full_rank(), FLOWS])
    ],
)
def test_every_prior_goes_with_every_posterior(prior, posterior):
    seen = batch()
    model = small(width=posterior.width(K), prior=prior, posterior=posterior)
    if prior.name == "vamp" and posterior.log_prob is None:
        with pytest.raises(UsageError, match="needs the density"):
            loss_and_gradient(model, seen)
        return
    (value, _), grads = loss_and_gradient(model, seen)
    assert np.isfinite(value)
    params, _ = jax.jit(model.init)(jax.random.key(0), seen)
    sample = jax.jit(model.sample)
    drawn, fewer = (sample(params, {}, {"index": jnp.arange(n)}, jax.random.key(0)) for n in (10, 4))
    np.testing.assert_allclose(drawn[:4], fewer, rtol=1e-6)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves((grads["prior"], grads["posterior"])))
    # The parts are those of the very divergence that is judged, drawn or not.
    parts, terms = (jax.jit(f)(params, {}, seen, jax.random.key(1)) for f in (model.latent.divergences, model.evaluate))
    np.testing.assert_allclose(parts.sum(axis=1), terms["kl"], rtol=1e-5, atol=1e-5)
    assert (model.latent.moments is None) == (posterior.moments is None)


def test_a_conditional_linear_gaussian_model_is_exact():
    """y = a·c + b z + noise with z ~ N(0, 1): p(y|c) is Gaussian, and the exact posterior's single draw weighs exactly it."""
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=D), rng.normal(size=D), 0.5
    c = rng.normal(size=20)
    y = c[:, None] * a + rng.normal(size=(20, 1)) * b + noise * rng.normal(size=(20, D))
    cov = np.outer(b, b) + noise**2 * np.eye(D)
    r = y - c[:, None] * a
    exact = -0.5 * (
        D * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1] + np.einsum("ni,ij,nj->n", r, np.linalg.inv(cov), r)
    )
    m = b @ b + noise**2
    variance = noise**2 / m
    into = np.concatenate([np.stack([b / m, np.zeros(D)], axis=1), [[-(a @ b) / m, 0.0]]])
    net = lambda kernel, bias: {"dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
    params = {
        "encoder": net(into, [0.0, 12 * np.arctanh(np.log(variance) / 12)]),
        "decoder": net(np.stack([b, a]), np.zeros(D)),
        "posterior": {},
        "prior": net(np.zeros((1, 2)), np.zeros(2)),
    }
    model = vae(
        MLP((), 2),
        MLP((), (D,)),
        gaussian(noise),
        latent=1,
        shape=(D,),
        prior=conditional(MLP((), 2)),
        condition=lambda batch: batch["condition"],
    )
    seen = batch_of(jnp.float32(y)) | {"condition": jnp.float32(c[:, None])}
    init, _ = jax.jit(model.init)(jax.random.key(0), seen)
    assert jax.tree.map(jnp.shape, init) == jax.tree.map(jnp.shape, params)
    with pytest.raises(UsageError, match="needs 'condition', which the examples do not have"):
        model.encode(params, {}, batch_of(jnp.float32(y)), jax.random.key(0))
    log_w = jax.jit(model.latent.log_weights, static_argnums=4)(params, {}, seen, jax.random.key(0), 1)[:, 0]
    np.testing.assert_allclose(log_w, exact, rtol=1e-4, atol=1e-4)
    # The closed form of the divergence to the prior net is the draws' mean.
    shifted = {**params, "prior": net([[0.3, 0.1]], [0.2, -0.4])}
    kl = model.latent.divergences(shifted, {}, seen, jax.random.key(0))[:, 0]
    keys = jax.random.split(jax.random.key(1), 4_000)
    distortion = jax.jit(jax.vmap(lambda key: model.evaluate(shifted, {}, seen, key)["distortion"]))(keys)
    log_w = jax.jit(model.latent.log_weights, static_argnums=4)(shifted, {}, seen, jax.random.key(2), 4_000)
    np.testing.assert_allclose(kl, -log_w.mean(axis=1) - distortion.mean(axis=0), atol=0.1)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match=r"diagonal\(\) of 2 dimensions needs 4 numbers"):
        jax.eval_shape(small(width=3).init, jax.random.key(0), batch())
    with pytest.raises(UsageError, match="both weigh"):
        small(beta=2.0, kl_cost=weighted(1.0))
    with pytest.raises(UsageError, match="at least one draw"):
        small(make=iwae, samples=0)
    with pytest.raises(UsageError, match=r"use train\.shape"):
        jax.eval_shape(small().init, jax.random.key(0), batch(d=5))
