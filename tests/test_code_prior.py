"""A prior over codes: it is a distribution, its samples are of it, and it learns what codes have in common."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.models import code_prior, nets_for
from aejax.types import Discrete, Model, Parent
from tiny import batch_of, optimum

KEY = jax.random.key(2)
SMALL = {"channels": 8, "layers": 2}


def base(sizes, apart):
    """A run whose codes are the numbers of x as they stand, and whose images are its codes. `apart` makes levels of them."""

    def codes(params, extras, batch, key):
        return apart(batch["x"].astype(jnp.int32))

    def decode(params, extras, z, batch):
        levels = z if isinstance(z, tuple) else (z,)
        return jnp.concatenate([level.reshape(len(level), -1) for level in levels], axis=1).astype(jnp.float32)

    def evaluate(params, extras, batch, key):
        return {"distortion": jnp.full(len(batch["x"]), 3.0), "mse": jnp.zeros(len(batch["x"]))}

    model = Model(None, None, evaluate, decode=decode, discrete=Discrete(codes, sizes))
    return Parent("runs/vq", "", model, {}, {}, {})


ONE = base((2, 3), lambda x: x.reshape(-1, 1, 2, 2)), (4,), [range(2), range(3)] * 2
SQUARE = base((2,), lambda x: x.reshape(-1, 2, 2, 1)), (4,), [range(2)] * 4
LINE = base((2,), lambda x: x.reshape(-1, 4, 1)), (4,), [range(2)] * 4
TWO = (
    base(((2,), (3,)), lambda x: (x[:, :3].reshape(-1, 1, 3, 1), x[:, 3:].reshape(-1, 1, 1, 1))),
    (4,),
    [range(2)] * 3 + [range(3)],
)


def labeled(x, label=0):
    return batch_of(jnp.asarray(x, jnp.float32), label=jnp.full(len(x), label, jnp.int32))


def made(parent, shape, heads=2, **more):
    """The prior, with parameters drawn at large, so that no code is like another."""
    model = code_prior(parent, nets_for(parent, shape, heads=heads, **SMALL), shape, **more)
    params, extras = jax.jit(model.init)(KEY, labeled(np.zeros((1, *shape))))
    return model, jax.tree.map(lambda p: p + 0.4 * jax.random.normal(jax.random.key(4), p.shape), params), extras


@pytest.mark.parametrize(
    ("parent", "shape", "values"),
    [pytest.param(*case, marks=pytest.mark.slow) if case is not SQUARE else case for case in (ONE, SQUARE, LINE, TWO)],
    ids=["codebooks", "square", "line", "levels"],
)
def test_it_is_a_distribution_and_its_samples_are_of_it(parent, shape, values):
    model, params, extras = made(parent, shape)
    everything = np.array(list(itertools.product(*values)))
    terms = jax.jit(model.evaluate)(params, extras, labeled(everything), KEY)
    p = np.exp(-np.asarray(terms["kl"], np.float64))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(terms["nelbo"], 3.0 + terms["kl"], rtol=1e-6)
    np.testing.assert_allclose(terms["bits_per_code"], -np.log2(p) / everything.shape[1], rtol=1e-4)
    n = 4_000
    drawn = np.asarray(jax.jit(model.sample)(params, extras, {"index": jnp.arange(n)}, KEY))
    counts = np.array([np.sum(np.all(drawn == row, axis=1)) for row in everything])
    assert counts.sum() == n
    assert np.all(np.abs(counts - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1)
    assert p.max() > 1.5 * p.min()  # there was something to tell
    few = jax.jit(model.sample)(params, extras, {"index": jnp.arange(10, 20)}, KEY)
    np.testing.assert_array_equal(few, drawn[10:20])  # each by its own place


def test_told_a_label_it_draws_what_goes_with_it():
    """Of label 0 all codes are 0, of label 1 all are 1: learnt, the code costs nothing, and a sample is of the label."""
    parent, shape, _ = SQUARE
    model, params, extras = made(parent, shape, condition=lambda batch: jax.nn.one_hot(batch["label"], 2))
    x = np.repeat([[0.0] * 4, [1.0] * 4], 8, axis=0)
    seen = labeled(x) | {"label": jnp.asarray(x[:, 0], jnp.int32)}
    params = optimum(model, lambda i: seen, 150, optax.adam(0.02), (params, extras))
    loss, (after, logged) = jax.jit(lambda p: model.loss(p, extras, seen, KEY, 0, None))(params)
    assert loss == logged["kl"] < 0.1 < 4 * math.log(2)
    assert jax.tree.structure(after) == jax.tree.structure(extras)
    sample = jax.jit(model.sample)
    for label in (0, 1):
        told = {"index": jnp.arange(20), "label": jnp.full(20, label)}
        assert np.mean(np.asarray(sample(params, extras, told, KEY)) == label) > 0.95
    with pytest.raises(UsageError, match="--label or --given"):
        model.sample(params, extras, {"index": jnp.arange(2)}, KEY)


def test_what_does_not_fit_is_refused():
    parent, shape, _ = TWO
    with pytest.raises(UsageError, match="a net for each level"):
        code_prior(parent, nets_for(parent, shape, **SMALL)[:1], shape)
    with pytest.raises(UsageError, match="no discrete codes"):
        nets_for(parent._replace(model=parent.model._replace(discrete=None)), shape)
    deep = base((2,), lambda x: x.reshape(-1, 1, 1, 2, 2, 1))
    with pytest.raises(UsageError, match="at most two axes of positions"):
        nets_for(deep, shape)
