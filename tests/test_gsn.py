"""The chain of a denoising autoencoder against the transition matrix of a finite state space, and walkback by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.models import autoencoder, gsn
from aejax.nets import MLP, ConvDecoder, ConvEncoder
from aejax.objective.corruptions import bernoulli_masking, masking, nothing, salt_and_pepper
from aejax.objective.corruptions import chain as chained
from aejax.objective.corruptions import gaussian_noise as noise
from aejax.objective.likelihoods import bernoulli, categorical, gaussian, gaussian_learned, squared_error
from tiny import batch_of, optimum, uniform

SHAPE = (4, 5)


def images(n, seed=0, shape=SHAPE):
    return batch_of(uniform(n, *shape, seed=seed))


def small(likelihood, **options):
    nets = MLP((7,), 3), MLP((7,), (*SHAPE, likelihood.width))
    return gsn(*nets, likelihood, noise(0.3), SHAPE, **options)


# A law of 8 states, one-hot; a corruption replaces the state by any of them.

COUNTS = np.array([1, 2, 3, 5, 8, 12, 14, 19])
LAW = COUNTS / COUNTS.sum()
STATES = np.eye(len(LAW), dtype=np.float32)
NU = 0.6
CORRUPTION = (1 - NU) * np.eye(len(LAW)) + NU / len(LAW)


def replaced(key, x, step):
    """C(x̃|x), of which `CORRUPTION` is the matrix."""
    k_whether, k_which = jax.random.split(key)
    other = jax.nn.one_hot(jax.random.randint(k_which, (), 0, x.size), x.size)
    hit = jax.random.bernoulli(k_whether, NU)
    return jnp.where(hit, other, x), jnp.full(x.shape, hit)


def trained(model, steps=400, repeats=16):
    """On every state as often as the law says, in one batch."""
    batch = batch_of(np.repeat(STATES, COUNTS * repeats, axis=0))
    return optimum(model, lambda i: batch, steps, optax.adam(optax.cosine_decay_schedule(3e-2, steps)))


def stationary(transition):
    values, vectors = np.linalg.eig(transition.T)
    law = np.real(vectors[:, np.argmax(np.real(values))])
    return law / law.sum()


def total_variation(p, q):
    return 0.5 * np.abs(p - q).sum(axis=-1)


def tabular(walkback):
    """Linear nets: a free row of logits for each x̃."""
    k = len(LAW)
    net = MLP((), k, kernel_init=lambda key, shape, dtype: jnp.eye(*shape))
    return gsn(net, net, categorical(), replaced, (k,), walkback=walkback, burn_in=20)


BAYES = CORRUPTION @ (LAW * CORRUPTION.T / (LAW @ CORRUPTION)[:, None])
"""T for the true posterior under the corruption."""


def transition(model, params):
    """T = C·P, P(x|x̃) a row for each x̃."""
    every = batch_of(STATES)
    return CORRUPTION @ model.reconstruct(params, {}, every, jax.random.key(0))


@pytest.fixture(scope="module")
def plain():
    """The model without walkback, trained; its T; and its chain and samples, each compiled once for all tests."""
    model = tabular(1)

    @jax.jit
    def train():
        params = trained(model)
        return params, transition(model, params)

    params, matrix = train()
    chain = jax.jit(partial(model.sequence.chain, params, {}), static_argnums=2)
    return np.asarray(matrix), chain, jax.jit(partial(model.sample, params, {}))


STARTS = batch_of(np.tile(STATES, (64, 1)))
MANY = {"index": jnp.arange(8192)}


def test_the_stationary_law_of_the_chain_is_the_data_law(plain):
    matrix, chain, sample = plain
    law = stationary(matrix)
    assert total_variation(law, LAW) < 0.02
    assert np.max(total_variation(matrix, BAYES)) < 0.03

    # The chain itself: it starts at x, stays among the states, moves as the matrix says, and forgets where it started.
    states = np.asarray(chain(STARTS, jax.random.key(1), 200))
    np.testing.assert_array_equal(states[:, 0], STARTS["x"])
    assert set(np.unique(states)) == {0.0, 1.0}
    np.testing.assert_array_equal(states.sum(axis=-1), 1.0)
    moves = np.einsum("btk,btl->kl", states[:, :-1], states[:, 1:])
    assert np.max(total_variation(moves / moves.sum(axis=1, keepdims=True), matrix)) < 0.03
    assert total_variation(states[:, 20:].mean(axis=(0, 1)), law) < 0.01

    # Samples, of discrete data draws, are the chain's states after the burn-in.
    samples = np.asarray(sample(MANY, jax.random.key(2)))
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert total_variation(samples.mean(axis=0), law) < 0.02


def test_neither_longer_chains_nor_other_examples_change_a_state(plain):
    _, chain, sample = plain
    key, shift = jax.random.key(1), 100
    states = chain(STARTS, key, 200)
    np.testing.assert_array_equal(chain(STARTS, key, 3), states[:, :3])
    elsewhere = chain({name: jnp.roll(leaf, shift, axis=0) for name, leaf in STARTS.items()}, key, 200)
    np.testing.assert_array_equal(elsewhere, jnp.roll(states, shift, axis=0))
    elsewhere = sample({"index": MANY["index"] + shift}, key)
    np.testing.assert_array_equal(elsewhere[:-shift], sample(MANY, key)[shift:])


def test_walkback_leaves_the_stationary_law_where_it_is():
    # Its P is another one: the posterior under the mixture of one and two rounds of the chain, so that π(T + T²)/2 = π.
    model = tabular(2)
    matrix = np.asarray(jax.jit(lambda: transition(model, trained(model)))())
    assert total_variation(stationary(matrix), LAW) < 0.02
    assert np.max(total_variation(matrix, BAYES)) > 0.05


def test_without_walkback_it_is_the_denoising_autoencoder_to_the_bit():
    batch = images(16)
    plain = autoencoder(MLP((7,), 3), MLP((7,), SHAPE), bernoulli(), corrupt=noise(0.3))

    @jax.jit
    def everything():
        params, _ = plain.init(jax.random.key(0), batch)

        def of(model):
            f = lambda p: model.loss(p, {}, batch, jax.random.key(1), 0, None)
            (value, (_, terms)), grads = jax.value_and_grad(f, has_aux=True)(params)
            return value, terms, grads

        return of(plain), of(small(bernoulli()))

    autoencoders, (value, terms, grads) = everything()
    assert terms.pop("walkback_nll") == terms["nll"]
    jax.tree.map(np.testing.assert_array_equal, (value, terms, grads), autoencoders)


def test_walkback_goes_back_to_the_first_x_and_does_not_differentiate_its_draws():
    # x̂ = w x without noise, each draw its mean: the walk is x, wx, w²x, …, the loss mean_i ½(x - w·wⁱx)² with wⁱx held.
    likelihood = gaussian()._replace(draw=lambda key, theta: theta[..., 0])
    linear = MLP((), 1, use_bias=False)
    model = gsn(linear, linear, likelihood, nothing(), (1,), walkback=3)
    x = jnp.array([[1.0], [2.0]])
    kernel = lambda v: {"dense_0": {"kernel": jnp.array([[v]])}}
    params = {"encoder": kernel(0.5), "decoder": kernel(1.4)}
    w, power = 0.7, np.mean(np.square(x))
    f = lambda p: model.loss(p, {}, batch_of(x), jax.random.key(0), 0, None)
    (value, (_, terms)), grads = jax.jit(jax.value_and_grad(f, has_aux=True))(params)

    nll = [0.5 * (1 - w ** (i + 1)) ** 2 * power + 0.5 * np.log(2 * np.pi) for i in range(3)]
    np.testing.assert_allclose(value, np.mean(nll), rtol=1e-6)
    np.testing.assert_allclose([terms["nll"], terms["walkback_nll"]], [nll[0], nll[2]], rtol=1e-6)
    slope = np.mean([-(1 - w ** (i + 1)) * w**i * power for i in range(3)])
    np.testing.assert_allclose(grads["encoder"]["dense_0"]["kernel"], [[1.4 * slope]], rtol=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "corrupt", "conv"),
    [
        (gaussian(0.3), masking(0.3), True),
        (gaussian_learned(), chained(salt_and_pepper(0.1), noise(0.1)), True),
        (squared_error(), nothing(), False),
        (categorical(), bernoulli_masking(0.3), False),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_any_likelihood_corruption_and_net_go_together(likelihood, corrupt, conv):
    shape, key = (4, 4, 2), jax.random.key(0)
    out, batch = (*shape, likelihood.width), images(3, shape=shape)
    nets = (ConvEncoder((4,), 3), ConvDecoder((4,), out)) if conv else (MLP((5,), 3), MLP((5,), out))
    model = gsn(*nets, likelihood, corrupt, shape, walkback=2)

    def everything():
        params, extras = model.init(key, batch)
        value, _ = model.loss(params, extras, batch, key, jnp.int32(0), None)
        return value, model.sequence.chain(params, extras, batch, key, 4), model.sample(params, extras, batch, key)

    assert [leaf.shape for leaf in jax.eval_shape(everything)] == [(), (3, 4, *shape), (3, *shape)]


def test_impossible_arguments_are_refused():
    for wrong in ({"walkback": 0}, {"burn_in": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            small(bernoulli(), **wrong)
    with pytest.raises(UsageError, match=r"shape=\(4, 5\).*\(5, 4\).*train\.shape"):
        jax.eval_shape(small(bernoulli()).init, jax.random.key(0), images(2, shape=(5, 4)))
