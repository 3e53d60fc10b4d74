import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.collectives import gather, mean
from aejax.errors import UsageError
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import bernoulli_masking, corrupt_batch, fixed_mask, gaussian_noise, masking, nothing
from aejax.objective.likelihoods import bernoulli, gaussian_learned, squared_error
from tiny import batch_of, optimum, uniform

SHAPE = (4, 5)


def images(n, seed=0, shape=SHAPE):
    return batch_of(uniform(n, *shape, seed=seed))


def small(corrupt=None, likelihood=None, **options):
    likelihood = bernoulli() if likelihood is None else likelihood
    return autoencoder(MLP((7,), 3), MLP((7,), (*SHAPE, likelihood.width)), likelihood, corrupt=corrupt, **options)


def loss_of(model, params, batch, step=0):
    value, (_, metrics) = jax.jit(model.loss, static_argnums=5)(
        params, {}, batch, jax.random.key(1), jnp.int32(step), None
    )
    return value, metrics


def linear(d, k, **options):
    """x -> W₂W₁x without biases."""
    return autoencoder(MLP((), k, use_bias=False), MLP((), d, use_bias=False), squared_error(), **options)


def weights(params):
    """W₂W₁ for column vectors."""
    return np.asarray((params["encoder"]["dense_0"]["kernel"] @ params["decoder"]["dense_0"]["kernel"]).T, np.float64)


def gaussian_data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    scales = 1.4 ** -np.arange(d)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return jnp.asarray(rng.normal(size=(n, d)) * scales @ rotation, jnp.float32)


def test_linear_autoencoder_reaches_the_pca_optimum_and_subspace():
    d, k = 8, 3
    x = gaussian_data(256, d)
    batch = batch_of(x)
    params = optimum(linear(d, k), lambda i: batch, 6_000, optax.adam(optax.cosine_decay_schedule(1e-2, 6_000)))
    second = np.asarray(x.T @ x, np.float64) / 256
    values, vectors = np.linalg.eigh(second)
    u = vectors[:, ::-1][:, :k]
    w = weights(params)
    np.testing.assert_allclose(w, u @ u.T, atol=2e-3)  # the projection: the subspace, not the axes
    residual = np.trace((np.eye(d) - w) @ second @ (np.eye(d) - w).T)
    np.testing.assert_allclose(residual, values[: d - k].sum(), rtol=1e-3)


@pytest.mark.optimized
@pytest.mark.parametrize("corrupt", [masking, bernoulli_masking], ids=["exact", "bernoulli"])
def test_linear_denoiser_reaches_its_closed_form(corrupt):
    # W = PQ⁻¹ with P = qS, Q_ii = qS_ii, Q_ij = π₂S_ij; π₂ = (1-ν)² for Bernoulli, (d-m)(d-m-1)/(d(d-1)) for the count m.
    d, rate, n = 8, 0.25, 512
    x = gaussian_data(n, d, seed=1) + 1.0
    repeats = 4  # of every example in the batch, with noise of its own each time
    batch = batch_of(jnp.tile(x, (repeats, 1)))
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, 2_000))
    params = optimum(linear(d, d, corrupt=corrupt(rate)), lambda i: batch, 2_000, optimizer)

    def closed_form(pair):
        second = np.asarray(x.T @ x, np.float64) / n
        q = pair * second
        np.fill_diagonal(q, (1 - rate) * np.diag(second))
        return (1 - rate) * second @ np.linalg.inv(q)

    pairs = {masking: 6 * 5 / (8 * 7), bernoulli_masking: 0.75**2}
    ours = closed_form(pairs.pop(corrupt))
    (other,) = (closed_form(pair) for pair in pairs.values())
    error, to_other = (np.abs(weights(params) - w).max() for w in (ours, other))
    assert error < 0.02
    assert to_other > 2 * error  # the two maskings have different optima, and this one is told from the other


@pytest.mark.optimized
def test_denoiser_learns_the_score_of_a_gaussian_mixture():
    # Tweedie: r*(x̃) - x̃ = σ² ∇ log p_σ(x̃), exact at any σ; here p is two atoms, p_σ a mixture of two Gaussians.
    sigma, n = 0.5, 2048
    centers = jnp.array([[-1.0, 0.0], [1.0, 0.5]])
    x = centers[jnp.arange(n) % 2]
    model = autoencoder(MLP((64, 64), 2, jnp.tanh), MLP((), 2), squared_error(), corrupt=gaussian_noise(sigma))
    batch = batch_of(x)
    params = optimum(model, lambda i: batch, 1_500, optax.adam(optax.cosine_decay_schedule(5e-3, 1_500)))

    def log_p(y):
        return jax.nn.logsumexp(-jnp.sum(jnp.square(y[None] - centers), axis=1) / (2 * sigma**2))

    noisy = x[:512] + sigma * jax.random.normal(jax.random.key(5), (512, 2))
    restored = model.reconstruct(params, {}, batch_of(noisy), jax.random.key(0))
    score = sigma**2 * jax.vmap(jax.grad(log_p))(noisy)
    error = jnp.mean(jnp.sum(jnp.square(restored - noisy - score), axis=1))
    assert float(error / jnp.mean(jnp.sum(jnp.square(score), axis=1))) < 0.01


def test_denoising_without_noise_is_the_autoencoder_to_the_bit():
    batch = images(16)
    params, _ = jax.jit(small().init)(jax.random.key(0), batch)
    plain = jax.jit(jax.value_and_grad(lambda p: small().loss(p, {}, batch, jax.random.key(1), 0, None)[0]))(params)
    for corrupt in (masking(0.0), bernoulli_masking(0.0), gaussian_noise(0.0), nothing()):
        model = small(corrupt)
        silent = jax.jit(jax.value_and_grad(lambda p: model.loss(p, {}, batch, jax.random.key(1), 0, None)[0]))(params)  # noqa: B023
        jax.tree.map(np.testing.assert_array_equal, silent, plain)


def test_loss_of_an_example_ignores_its_batch():
    model, batch = small(masking(0.3)), images(12)
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    alone = [loss_of(model, params, {name: leaf[i : i + 1] for name, leaf in batch.items()})[0] for i in range(12)]
    np.testing.assert_allclose(np.mean(alone), loss_of(model, params, batch)[0], rtol=1e-5)


def test_the_clean_example_is_the_target():
    # All of x is masked: what the encoder sees holds nothing of x, the loss does.
    model, batch = small(masking(1.0)), images(6)
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    constant = model.reconstruct(params, {}, {**batch, "x": jnp.zeros_like(batch["x"])}, jax.random.key(0))
    np.testing.assert_allclose(
        loss_of(model, params, batch)[1]["mse"], np.mean((constant - batch["x"]) ** 2), rtol=1e-5
    )


def test_emphasis_weighs_touched_and_untouched():
    batch = images(10)
    params, _ = jax.jit(small().init)(jax.random.key(0), batch)

    def value(emphasis):
        return float(loss_of(small(masking(0.3), emphasis=emphasis), params, batch)[0])

    masked = small(masking(1.0), emphasis=(1.0, 0.0))
    np.testing.assert_allclose(
        loss_of(masked, params, batch)[0], loss_of(small(masking(1.0)), params, batch)[0], rtol=1e-6
    )  # all is touched, and α is its weight
    assert float(loss_of(small(fixed_mask(np.zeros(SHAPE, bool)), emphasis=(1.0, 0.0)), params, batch)[0]) == 0.0
    touched, untouched = value((1.0, 0.0)), value((0.0, 1.0))
    np.testing.assert_allclose(touched + untouched, value(None), rtol=1e-5)
    np.testing.assert_allclose(2.0 * touched + 0.5 * untouched, value((2.0, 0.5)), rtol=1e-5)
    metrics = loss_of(small(masking(0.3), emphasis=(1.0, 0.0)), params, batch)[1]
    np.testing.assert_allclose(metrics["nll"], value(None), rtol=1e-5)  # the logged likelihood stays unweighted


def test_tied_weights_are_the_encoders_transposed():
    batch = images(8)
    model = small(tied=True)
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    assert set(params["decoder"]["dense_0"]) == {"bias"}
    untied_params = {
        "encoder": params["encoder"],
        "decoder": {
            "dense_0": {"kernel": params["encoder"]["dense_1"]["kernel"].T, **params["decoder"]["dense_0"]},
            "dense_1": {"kernel": params["encoder"]["dense_0"]["kernel"].T, **params["decoder"]["dense_1"]},
        },
    }
    np.testing.assert_array_equal(loss_of(model, params, batch)[0], loss_of(small(), untied_params, batch)[0])
    lopsided = autoencoder(MLP((7,), 3), MLP((6,), SHAPE), bernoulli(), tied=True)
    with pytest.raises(UsageError, match="transposed"):
        jax.eval_shape(lopsided.init, jax.random.key(0), batch)


def test_tied_linear_autoencoder_learns_an_orthogonal_projection():
    d, k = 6, 2
    x = gaussian_data(256, d, seed=2)
    batch = batch_of(x)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 3_000))
    params = optimum(linear(d, k, tied=True), lambda i: batch, 3_000, optimizer)
    kernel = np.asarray(params["encoder"]["dense_0"]["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(k), atol=1e-3)


def activity(f, x, h, keys, axis):
    """Half the squared norm of the code, per example."""
    return 0.5 * jnp.sum(jnp.square(h), axis=1)


def spread(f, x, h, keys, axis):
    """A term that couples the batch: the variance of the code over all devices' examples."""
    everyone = gather(h, axis)
    return jnp.sum(jnp.mean(jnp.square(everyone - mean(jnp.mean(h, axis=0), axis)[None]), axis=0))


def stretch_of_one(f, x, h, keys, axis):
    """Uses f, the map of one example to its code, and the keys: the code must agree with h."""
    codes = jax.vmap(f)(x)
    return jnp.sum(jnp.square(codes - h), axis=1) + 0.0 * jax.vmap(jax.random.uniform)(keys)


def test_penalties_add_to_the_loss_under_their_names():
    batch = images(8)
    model = small(masking(0.2), penalties=(activity, spread, stretch_of_one))
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    value, metrics = loss_of(model, params, batch)
    np.testing.assert_allclose(value, metrics["nll"] + metrics["activity"] + metrics["spread"], rtol=1e-5)
    assert float(metrics["stretch_of_one"]) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(UsageError, match="share a name"):
        small(penalties=(activity, activity))
    with pytest.raises(UsageError, match="give corrupt="):
        small(emphasis=(1.0, 0.0))


def test_bottleneck_stands_between_encoder_and_decoder():
    def top_one(h, axis, step):
        return jnp.where(h == jnp.max(h, axis=1, keepdims=True), h, 0.0)

    model, batch = small(bottleneck=top_one), images(8)
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    z = model.encode(params, {}, batch, jax.random.key(0))
    np.testing.assert_array_equal(jnp.sum(z != 0, axis=1), 1)
    np.testing.assert_array_equal(
        model.decode(params, {}, z, batch), model.reconstruct(params, {}, batch, jax.random.key(0))
    )


def test_a_decoder_of_the_wrong_size_is_refused():
    with pytest.raises(UsageError, match=r"needs 40 numbers.*gives \(4, 5\).*\(4, 5, 2\)"):
        jax.eval_shape(
            autoencoder(MLP((7,), 3), MLP((7,), SHAPE), gaussian_learned()).init, jax.random.key(0), images(2)
        )


def test_evaluation_is_per_example_and_judges_the_denoising():
    model, batch = small(masking(0.3), likelihood=gaussian_learned()), images(9)
    params, _ = jax.jit(model.init)(jax.random.key(0), batch)
    terms = jax.jit(model.evaluate)(params, {}, batch, jax.random.key(1))
    assert {name: term.shape for name, term in terms.items()} == dict.fromkeys(
        ("nll", "mse", "denoising_nll", "denoising_mse"), (9,)
    )
    x_hat = model.reconstruct(params, {}, batch, jax.random.key(0))
    np.testing.assert_allclose(terms["mse"], np.mean((x_hat - batch["x"]) ** 2, axis=(1, 2)), rtol=1e-5)
    x_tilde, _ = corrupt_batch(masking(0.3), jax.random.key(1), batch["x"], batch["index"])
    restored = model.reconstruct(params, {}, {**batch, "x": x_tilde}, jax.random.key(0))
    np.testing.assert_allclose(terms["denoising_mse"], np.mean((restored - batch["x"]) ** 2, axis=(1, 2)), rtol=1e-5)
