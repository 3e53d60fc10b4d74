"""A model on bits is the model on those very bits; what they are depends on the keys and the gray values as told."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from aejax.data import load, take
from aejax.errors import UsageError
from aejax.evaluation.part import Context, observed
from aejax.evaluation.restoration import reconstruction
from aejax.models import autoencoder, classifier, gsn
from aejax.models.binarization import binarized, keys_of_content
from aejax.models.stacked import on_top_of
from aejax.nets import MLP
from aejax.objective.corruptions import masking, nothing
from aejax.objective.likelihoods import bernoulli, categorical
from aejax.runs.checkpoint import digest
from aejax.runs.experiment import fit
from aejax.training.step import Layout, init_state, make_runner, on_one_device
from aejax.types import Discrete, Latent, Model, Parent, Sparse, Temporal
from tiny import batch_of

SHAPE = (4, 3)
KEY = jax.random.key(5)
rng = np.random.default_rng(0)
GRAY = rng.random((40, *SHAPE)).astype(np.float32)


def images(x=None):
    """Always of one size: each compiles anew."""
    return batch_of(rng.random((64, *SHAPE), np.float32) if x is None else np.asarray(x, np.float32))


def nets():
    return MLP((7,), 3), MLP((7,), SHAPE)


def looker():
    """A model all of whose functions give the x that they see."""
    see = lambda params, extras, batch, *rest: batch["x"]
    loss = lambda params, extras, batch, key, step, axis: (jnp.float32(0), (extras, {"x": batch["x"], "key": key}))
    init = lambda key, batch: ({"x": batch["x"]}, {})
    return Model(
        init,
        loss,
        decode=lambda params, extras, z, batch: batch["x"],
        latent=Latent(see, see, see),
        discrete=Discrete(see, (2,)),
        sequence=Temporal(see, see),
        sparse=Sparse(see),
        **dict.fromkeys(("evaluate", "encode", "reconstruct", "sample"), see),
    )


def seen_in_training(model, batch, key, step):
    return model.loss({}, {}, batch, key, step, None)[1][1]["x"]


dynamic = jax.jit(partial(seen_in_training, binarized(looker())))
static = jax.jit(partial(seen_in_training, binarized(looker(), seed=1)))


def test_every_function_that_looks_at_x_sees_bits():
    functions = [name for group in (Model, Latent, Discrete, Temporal, Sparse) for name in group._fields]
    groups = {"data", "latent", "discrete", "sequence", "sparse", "codebook_sizes", "directions"}
    of_a_batch = {*functions} - {"init", "loss", "decode"} - groups
    batch = images()
    model = binarized(looker(), seed=1)
    bits = static(batch, KEY, 0)
    assert set(np.unique(bits)) == {0.0, 1.0}
    # Not jitted: so what draws the bits is compiled once for all.
    seen = [model.function(name)({}, {}, batch, KEY, 2) for name in sorted(of_a_batch)]
    for found in (model.init(KEY, batch)[0]["x"], model.decode({}, {}, None, batch), *seen):
        np.testing.assert_array_equal(found, bits)
    plain = binarized(autoencoder(*nets(), bernoulli()))
    assert plain.sample is plain.sequence is plain.latent is None
    # Who samples or decodes without an x is not asked for one.
    echo = binarized(looker()._replace(sample=lambda params, extras, batch, key: batch))
    assert echo.sample({}, {}, {"index": KEY}, KEY) == {"index": KEY}


def test_what_a_model_of_bits_is_measured_by_are_the_bits(tmp_path):
    """A model that gives back what it sees has no error, and baselines see the same bits."""
    run = aejax.train(
        fit(binarized(autoencoder(*nets(), bernoulli())), load(GRAY), steps=1, batch_size=8), tmp_path / "run"
    )
    see = lambda params, extras, batch, key: binarized(looker()).reconstruct(params, extras, batch, key)
    run.experiment = run.experiment._replace(model=run.experiment.model._replace(reconstruct=see))
    context = Context(run, 0)
    assert context.test.arrays["x"].dtype == np.bool_
    assert reconstruction(context)["model"]["mse"] == 0.0
    raw = np.asarray(take(context.train, np.arange(context.train.size))["x"]).reshape(context.train.size, -1)
    np.testing.assert_allclose(context.statistics.mean, raw.mean(0), rtol=1e-5)
    # Their bits are theirs whoever draws them.
    np.testing.assert_array_equal(
        observed(context.test, run.experiment.model.data.observe).arrays["x"], context.test.arrays["x"]
    )


def test_gray_is_the_probability_of_white():
    x, many = rng.random((1, *SHAPE), np.float32), 4096
    of_seed = lambda seed: binarized(looker(), seed).encode({}, {}, images(x), KEY)
    afresh, fixed = dynamic(images(np.tile(x, (many, 1, 1))), KEY, 0), jax.jit(jax.vmap(of_seed))(jnp.arange(many))
    for bits in (np.asarray(each).reshape(many, -1) for each in (afresh, fixed)):
        np.testing.assert_allclose(bits.mean(axis=0), x.ravel(), atol=4.5 * 0.5 / np.sqrt(many))
        pairs = np.cov(bits.T)
        assert np.max(np.abs(pairs - np.diag(np.diag(pairs)))) < 5 * 0.25 / np.sqrt(many)  # independent


def test_dynamic_bits_are_new_at_every_presentation_and_fixed_outside_training():
    batch = images()
    first, second = (dynamic(batch, key, 0) for key in jax.random.split(KEY))
    # Two draws differ with probability 2 x (1 - x).
    np.testing.assert_allclose(np.mean(first != second), np.mean(2 * batch["x"] * (1 - batch["x"])), atol=0.06)
    # Equal gray values, other examples: other bits.
    alike = np.asarray(dynamic(images(np.full((64, *SHAPE), 0.5)), KEY, 0))
    assert len(np.unique(alike.reshape(64, -1), axis=0)) > 55
    once, again = (binarized(looker()).latent.log_weights({}, {}, batch, key) for key in jax.random.split(KEY))
    np.testing.assert_array_equal(once, again)
    # What is black and white already stays as it is.
    decided = images(batch["x"] > 0.5)
    for keys in range(20):
        np.testing.assert_array_equal(dynamic(decided, jax.random.key(keys), 0), decided["x"])


def test_static_bits_know_only_the_seed_and_the_gray_values():
    batch = images()
    bits = static(batch, KEY, 0)
    order = rng.permutation(64)
    other = {"x": batch["x"][order], "index": jnp.arange(64) + 7}
    elsewhere = static(other, jax.random.key(9), 12)
    np.testing.assert_array_equal(elsewhere, bits[order])
    model = binarized(looker(), seed=1)
    fewer = {name: leaf[:20] for name, leaf in other.items()}
    np.testing.assert_array_equal(jax.jit(model.encode)({}, {}, fewer, KEY), elsewhere[:20])
    assert np.mean(bits != binarized(looker(), seed=2).encode({}, {}, batch, KEY)) > 0.2
    # The model's own key is not touched.
    assert model.loss({}, {}, batch, KEY, 0, None)[1][1]["key"] is KEY


def test_content_tells_examples_apart_by_any_value_and_its_place():
    key_data = jax.jit(lambda x: jax.random.key_data(keys_of_content(0, x)))
    x = np.zeros((13, 12), np.float32)
    x[np.arange(12), np.arange(12)] = 1.0
    x[12, 0] = 0.5
    assert len(np.unique(key_data(jnp.asarray(x)), axis=0)) == 13
    # Coarse gray values use few bits of a float: the hash has to mix them all the same.
    coarse = jnp.asarray(np.unique(rng.integers(3, size=(5000, 12)), axis=0) / 2, jnp.float32)
    for word in np.asarray(key_data(coarse)).T:
        assert len(np.unique(word)) > len(coarse) - 5
        assert abs(np.mean(word / 2**32) - 0.5) < 0.03


def denoising():
    return autoencoder(*nets(), bernoulli(), corrupt=masking(0.4), emphasis=(1.0, 0.3))


def chaining():
    return gsn(*nets(), bernoulli(), nothing(), SHAPE)


def stacked():
    below = autoencoder(*nets(), bernoulli())
    parent = Parent("lower", "", below, *jax.jit(below.init)(KEY, images()), {})
    return on_top_of(parent, autoencoder(MLP((), 2), MLP((), 3), bernoulli(), corrupt=nothing()))


@pytest.mark.parametrize(
    ("family", "seed", "outside"),
    [(denoising, None, "evaluate"), (chaining, 1, "chain"), (stacked, 1, "encode")],
)
def test_any_family_on_gray_values_is_the_family_on_the_bits(family, seed, outside):
    plain, batch, given = family(), images(), [2] if outside == "chain" else []
    fixed, seen = ({**batch, "x": draw(batch, KEY, 0)} for draw in (static, static if seed else dynamic))
    _, k_model = jax.random.split(KEY)

    @jax.jit
    def both(params, extras):
        def of(model, outside_on, loss_on, key):
            found = model.function(outside)(params, extras, outside_on, KEY, *given)
            return found, model.loss(params, extras, loss_on, key, 0, None)

        # Without a seed the bits outside training are those of seed 0.
        expected = fixed if seed else {**batch, "x": binarized(looker()).encode({}, {}, batch, KEY)}
        return of(binarized(plain, seed), batch, batch, KEY), of(plain, expected, seen, KEY if seed else k_model)

    wrapped, by_hand = both(*jax.jit(plain.init)(KEY, batch))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), wrapped, by_hand)


def test_derivatives_are_those_at_the_bits():
    batch = images()
    square = looker()._replace(encode=lambda params, extras, batch, key: jnp.square(batch["x"]))
    encode = lambda x: binarized(square, seed=1).encode({}, {}, {**batch, "x": x}, KEY)
    bits = static(batch, KEY, 0)
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: jnp.sum(encode(x))))(batch["x"]), 2 * bits)


def test_bits_do_not_depend_on_the_layout_of_the_batch():
    batch = images()
    whole = dynamic(batch, KEY, 0)
    part = {name: leaf[16:32] for name, leaf in batch.items()}
    np.testing.assert_array_equal(dynamic(part, KEY, 0), whole[16:32])


@pytest.mark.slow
def test_training_is_the_same_on_any_number_of_devices():
    model, optimizer, steps = binarized(autoencoder(*nets(), bernoulli())), optax.sgd(0.1), 3
    x = rng.random((steps, 16, *SHAPE), np.float32)
    batches = {"x": x, "index": np.tile(np.arange(16, dtype=np.int32), (steps, 1))}
    first = {name: leaf[0] for name, leaf in batches.items()}

    def end(layout):
        state = init_state(model, optimizer, KEY, first)
        run = make_runner(model, optimizer, layout, 16)
        return digest(on_one_device(run(state, jax.random.key(1), batches, np.int32(steps))[0]))

    assert end(Layout(1, shards=8)) == end(Layout(4, shards=8))


def test_only_gray_values_are_admitted():
    model = binarized(autoencoder(*nets(), bernoulli()))
    model.data.check(np.array([[0.0, 0.3, 1.0]], np.float32), "x")
    for wrong in ([[-0.1, 0.5]], [[0.5, 1.1]], [[np.nan, 0.5]]):
        with pytest.raises(UsageError, match=r"binarized.*digits:train.*scale"):
            model.data.check(np.array(wrong), "digits:train")
    # What the wrapped model does not admit of bits, it refuses.
    with pytest.raises(UsageError, match=r"categorical.*x, binarized"):
        binarized(autoencoder(*nets(), categorical())).data.check(np.array([[0.7, 0.9]]), "x")
    binarized(classifier(MLP((), 2), 2)).data.check(np.array([[0.7, 0.9]]), "x")
