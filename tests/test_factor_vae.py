"""FactorVAE: the discriminator's estimate against a closed form, and who sees whose gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.models import factor_vae, vae
from aejax.models.factor import adversary, permuted
from aejax.nets import MLP
from aejax.objective.likelihoods import bernoulli
from aejax.objective.regularizers import Latents
from tiny import batch_of

D, K, N = 5, 2, 16
KEY = jax.random.key(3)


def small(make=factor_vae, **more):
    more = {"gamma": 3.0, "discriminator": MLP((6,), 1)} | more if make is factor_vae else more
    return make(MLP((4,), 2 * K), MLP((4,), (D,)), bernoulli(), K, (D,), **more)


def batch(n=N):
    x = np.random.default_rng(0).uniform(size=(n, D)).astype(np.float32)
    return batch_of(x)


@jax.jit
def gradient(params, gamma):
    """((loss, (extras, terms)), gradient); one program for all weights."""
    f = lambda p: small(gamma=gamma).loss(p, {}, batch(), KEY, 0, None)
    return jax.value_and_grad(f, has_aux=True)(params)


def differs(a, b):
    return any(np.any(np.abs(x - y) > 1e-5) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


@pytest.fixture(scope="module")
def params():
    return jax.jit(small().init)(jax.random.key(0), batch())[0]


def gaussian_codes(key, means, noise):
    """Codes of an encoder that gives these means, with a standard deviation of `noise`."""
    z, second = (means + noise * jax.random.normal(k, means.shape) for k in jax.random.split(key))
    return Latents(z, means, jnp.full_like(means, noise**2), second, second)


class Quadratic(nn.Module):
    """The optimal discriminator of a Gaussian is one of these."""

    @nn.compact
    def __call__(self, z):
        return nn.Dense(1)((z[:, :, None] * z[:, None, :]).reshape(len(z), -1))


def test_a_trained_discriminator_estimates_the_total_correlation_of_a_gaussian():
    """q(z) = N(0, Σ): TC = ½ (Σ_j log Σ_jj − log |Σ|); the log-ratio is a quadratic of z."""
    cov, noise = np.array([[1.0, 0.96], [0.96, 1.44]]), 0.3
    exact = 0.5 * (np.log(np.diag(cov)).sum() - np.linalg.slogdet(cov)[1])
    factor = jnp.float32(np.linalg.cholesky(cov - noise**2 * np.eye(K)))
    net, optimizer = Quadratic(), optax.adam(optax.cosine_decay_schedule(0.1, 200, alpha=1e-3), b1=0.5)
    regularizer = adversary(1.0, net)

    def term(trained, key):
        k_mean, k_draw, k_regularizer = jax.random.split(key, 3)
        seen = gaussian_codes(k_draw, jnp.dot(jax.random.normal(k_mean, (512, K)), factor.T), noise)
        return regularizer(seen, {"discriminator": trained}, k_regularizer, 0, None)

    @jax.jit
    def train(key):
        def step(carry, key):
            trained, state = carry
            slope, logged = jax.grad(term, has_aux=True)(trained, key)
            updates, state = optimizer.update(slope, state)
            return (optax.apply_updates(trained, updates), state), logged

        k_init, k_train = jax.random.split(key)
        first = net.init(k_init, jnp.zeros((1, K)))["params"]
        with jax.numpy_dtype_promotion("standard"):
            return jax.lax.scan(step, (first, optimizer.init(first)), jax.random.split(k_train, 240))[1]

    # The last steps, on new codes each, hardly move it any more.
    found = {name: np.mean(values[-50:]) for name, values in train(KEY).items()}
    np.testing.assert_allclose(found["total_correlation_nats"], exact, atol=0.04)
    assert found["discriminator"] < np.log(2) - 0.05
    assert found["discriminator_accuracy"] > 0.6


def test_without_weight_the_others_have_the_vaes_gradient(params):
    rest = {name: value for name, value in params.items() if name != "discriminator"}
    (_, (_, terms)), found = gradient(params, 0.0)
    f = lambda p: small(vae).loss(p, {}, batch(), KEY, 0, None)
    (_, (_, expected_terms)), expected = jax.jit(jax.value_and_grad(f, has_aux=True))(rest)
    for name in rest:
        assert not differs(found[name], expected[name])
    for name in ("distortion", "kl", "nelbo"):
        np.testing.assert_allclose(terms[name], expected_terms[name], rtol=1e-6)


def test_each_side_has_a_gradient_of_its_own(params):
    """The weight is the encoder's affair alone; the discriminator learns by its cross-entropy, and nothing else does."""
    _, free = gradient(params, 0.0)
    _, paid = gradient(params, 3.0)
    logged = jax.jit(jax.jacrev(lambda p: small().loss(p, {}, batch(), KEY, 0, None)[1][1]))(params)
    correlation, entropy = logged["total_correlation_nats"], logged["discriminator"]
    nothing = jax.tree.map(jnp.zeros_like, params)
    for name in ("encoder", "decoder"):
        assert not differs(entropy[name], nothing[name])
    assert not differs(correlation["discriminator"], nothing["discriminator"])
    assert differs(entropy["discriminator"], nothing["discriminator"])
    assert differs(correlation["encoder"], nothing["encoder"])
    for found in (free, paid):
        assert not differs(found["discriminator"], entropy["discriminator"])
    assert not differs(paid["encoder"], jax.tree.map(lambda a, b: a + 3.0 * b, free["encoder"], correlation["encoder"]))
    assert not differs(paid["decoder"], free["decoder"])


def test_an_order_is_each_dimensions_own_and_loses_nothing():
    z = jnp.float32(np.random.default_rng(0).normal(size=(200, 3)))
    found = np.asarray(permuted(KEY, z))
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(z, axis=0))
    came_from = np.argmax(found[:, None, :] == np.asarray(z)[None], axis=1)
    assert np.mean(came_from[:, 0] == came_from[:, 1]) < 0.05


def test_devices_permute_one_batch(params):
    """Loss, terms and gradients, averaged over four devices as the step does it, are those of one."""
    model, seen = small(), batch()
    (loss, (_, terms)), slope = gradient(params, 3.0)
    split = jax.tree.map(lambda a: a.reshape(4, N // 4, *a.shape[1:]), seen)
    f = lambda seen: jax.value_and_grad(model.loss, has_aux=True)(params, {}, seen, KEY, 0, "batch")
    (losses, (_, many)), slopes = jax.jit(jax.vmap(f, axis_name="batch"))(split)
    found = jax.tree.map(lambda a: np.mean(a, axis=0), (losses, many, slopes))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves((loss, terms, slope))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="at least 0"):
        small(gamma=-1.0)
    with pytest.raises(UsageError, match="one logit"):
        jax.eval_shape(small(discriminator=MLP((), 2)).init, jax.random.key(0), batch())
