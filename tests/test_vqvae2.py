"""The hierarchy of vector-quantized autoencoders: its limit of one level, what each level sees, and its codes' way back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.evaluation.codebook import codebook
from aejax.models import vqvae, vqvae2
from aejax.nets import MLP, ConvDecoder, ConvEncoder
from aejax.objective import finite_scalar, nearest, residual
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.runs.run import Run
from aejax.training.step import init_state
from aejax.types import Dataset, Experiment
from tiny import batch_of

SHAPE = (6, 5, 1)


def batch(n=8):
    x = (jax.random.uniform(jax.random.key(0), (n, *SHAPE)) < 0.3).astype(jnp.float32)
    return batch_of(x)


def nets(top_width, channels=3, positions=(3, 3)):
    """Two levels, of 3×3 and 2×2 positions."""
    encoders = ConvEncoder((4,), channels, spatial=True, blocks=0), ConvEncoder((4,), top_width, spatial=True, blocks=0)
    decoders = ConvDecoder((4,), SHAPE, blocks=0), ConvDecoder((4,), (*positions, channels), blocks=0)
    return encoders, decoders


def made(quantizers, **more):
    model = vqvae2(*nets(quantizers[-1].width), bernoulli(), quantizers, SHAPE, **more)
    return model, *jax.jit(model.init)(jax.random.key(1), batch())


BOTTOM, TOP = nearest(8, 4, expire=0.1), residual([finite_scalar((4, 2))] * 2)


@pytest.fixture(scope="module")
def two():
    return made((BOTTOM, TOP))


def test_with_one_level_it_is_the_vector_quantized_autoencoder():
    encoder, decoder = MLP((8,), 4), MLP((8,), SHAPE)
    one = vqvae(encoder, decoder, bernoulli(), BOTTOM, SHAPE, corrupt=masking(0.3))
    many = vqvae2((encoder,), (decoder,), bernoulli(), (BOTTOM,), SHAPE, corrupt=masking(0.3))
    params, extras = jax.jit(one.init)(jax.random.key(1), batch())
    level = lambda tree: {"level_0": tree}
    the_params = {"encoders": level(params["encoder"]), "decoders": level(params["decoder"]), "joins": {}}
    the_params["quantisers"] = level(params["quantiser"])
    the_extras = {"quantisers": level(extras["quantiser"])}
    own = jax.eval_shape(many.init, jax.random.key(1), batch())
    assert jax.tree.structure(own) == jax.tree.structure((the_params, the_extras))
    key, step = jax.random.key(5), jnp.int32(0)
    # Their keys of replaced codes differ, so it is the loss, and not the statistics, that agrees.
    loss, _ = jax.jit(lambda p, e: one.loss(p, e, batch(), key, step, None))(params, extras)
    again, _ = jax.jit(lambda p, e: many.loss(p, e, batch(), key, step, None))(the_params, the_extras)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    (codes,) = jax.jit(many.discrete.codes)(the_params, the_extras, batch(), key)
    np.testing.assert_array_equal(codes, jax.jit(one.discrete.codes)(params, extras, batch(), key))


def test_the_codes_cost_log_k_at_every_position_and_book_of_every_level(two):
    model, params, extras = two
    terms = jax.jit(model.evaluate)(params, extras, batch(), jax.random.key(2))
    np.testing.assert_allclose(terms["kl"], 9 * math.log(8) + 4 * math.log(8 * 8), rtol=1e-6)
    np.testing.assert_allclose(terms["nelbo"], terms["distortion"] + terms["kl"], rtol=1e-6)
    f = jax.jit(lambda batch: model.loss(params, extras, batch, jax.random.key(3), jnp.int32(0), None))
    loss, (after, logged) = f(batch())
    np.testing.assert_allclose(loss, logged["distortion"] + logged["commitment"], rtol=1e-6)
    np.testing.assert_allclose(logged["distortion"], jnp.mean(terms["distortion"]), rtol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(extras)
    assert float(after["quantisers"]["level_0"]["weight"]) > 0.0
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), batch())
    np.testing.assert_allclose(f(twice)[0], loss, rtol=1e-5)


def test_codes_and_vectors_are_decoded_to_what_is_reconstructed(two):
    model, params, extras = two
    codes = jax.jit(model.discrete.codes)(params, extras, batch(), None)
    assert [c.shape for c in codes] == [(8, 3, 3, 1), (8, 2, 2, 2)]
    assert model.discrete.codebook_sizes == ((8,), (8, 8))
    expected = jax.jit(model.reconstruct)(params, extras, batch(), None)
    vectors = jax.jit(model.encode)(params, extras, batch(), None)
    assert vectors.shape == (8, 9 * 4 + 4 * 2)
    decode = jax.jit(model.decode)
    np.testing.assert_allclose(decode(params, extras, codes, {}), expected, atol=1e-5)
    np.testing.assert_allclose(decode(params, extras, vectors, {}), expected, atol=1e-5)


def test_the_lower_level_sees_the_upper_one_and_the_image_sees_both(two):
    """By which codes change with which parameters, and with which codes the image does."""
    model, params, extras = two
    bottom, top = jax.jit(model.discrete.codes)(params, extras, batch(), None)
    changed = {**params, "decoders": {**params["decoders"]}}
    changed["decoders"]["level_1"] = jax.tree.map(lambda a: a + 1.0, params["decoders"]["level_1"])
    other_bottom, other_top = jax.jit(model.discrete.codes)(changed, extras, batch(), None)
    assert (bottom != other_bottom).any()
    np.testing.assert_array_equal(top, other_top)
    decode = jax.jit(lambda codes: model.decode(params, extras, codes, {}))
    x = decode((bottom, top))
    for codes in (((bottom + 1) % 8, top), (bottom, (top + 1) % 8)):
        assert jnp.abs(decode(codes) - x).max(axis=(1, 2, 3)).min() > 1e-4


def test_every_parameter_learns(two):
    model, params, extras = two
    loss = lambda params: model.loss(params, extras, batch(), jax.random.key(3), jnp.int32(0), None)[0]
    grads = jax.jit(jax.grad(loss))(params)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_every_level_asks_for_its_commitment_and_keeps_its_statistics():
    """Without a gradient of its own an upper codebook moves by its averages alone, and is drawn to by its own loss."""
    once, thrice = (made((nearest(8, 4), nearest(8, 4, commitment=beta))) for beta in (1.0, 3.0))
    found = []
    for model, params, extras in (once, thrice):
        train = jax.jit(lambda p, e, model=model: model.loss(p, e, batch(), jax.random.key(3), jnp.int32(0), None)[1])
        after, terms = train(params, extras)
        found.append(float(terms["commitment"]))
        for level in ("level_0", "level_1"):
            assert float(after["quantisers"][level]["weight"]) > 0.0
    lower, _, _ = made((nearest(8, 4), nearest(8, 4, commitment=0.0)))
    _, params, extras = once
    without = float(jnp.mean(jax.jit(lower.evaluate)(params, extras, batch(), None)["commitment"]))
    assert found[0] > without + 1e-3
    np.testing.assert_allclose(found[1] - without, 3.0 * (found[0] - without), rtol=1e-3)


def test_what_is_trained_sees_the_corrupted_image_and_is_evaluated_by_the_clean_one(two):
    """With all pixels masked the codes, and so the distortion, of every x are those of the empty image."""
    _, params, extras = two
    model = vqvae2(*nets(2), bernoulli(), (BOTTOM, TOP), SHAPE, corrupt=masking(1.0))
    train = jax.jit(lambda batch: model.loss(params, extras, batch, jax.random.key(3), jnp.int32(0), None)[1][1])
    empty = {**batch(), "x": jnp.zeros((8, *SHAPE))}
    mean = jax.jit(model.reconstruct)(params, extras, empty, None)
    x = batch()["x"]
    expected = -jnp.mean(jnp.sum(x * jnp.log(mean) + (1.0 - x) * jnp.log1p(-mean), axis=(1, 2, 3)))
    np.testing.assert_allclose(train(batch())["distortion"], expected, rtol=1e-4)


def test_without_a_corruption_what_is_seen_is_x_and_with_one_it_is_not(two):
    plain, params, extras = two
    expected = jax.jit(plain.evaluate)(params, extras, batch(), jax.random.key(2))["distortion"]
    model = vqvae2(*nets(2), bernoulli(), (BOTTOM, TOP), SHAPE, corrupt=masking(0.9))
    terms = jax.jit(model.evaluate)(params, extras, batch(), jax.random.key(2))
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-6)
    assert not np.allclose(terms["denoising_distortion"], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ([*nets(2)[0]], nets(2)[1][:1], (BOTTOM, TOP)), "needs as many encoders"),
        (lambda: (*nets(5), (BOTTOM, TOP)), "vectors of 2 numbers"),
        (lambda: (*nets(2, positions=(4, 4)), (BOTTOM, TOP)), "of level 0"),
    ],
)
def test_levels_that_do_not_fit_are_refused(make, told):
    encoders, decoders, quantizers = make()
    with pytest.raises(UsageError, match=told):
        jax.eval_shape(vqvae2(encoders, decoders, bernoulli(), quantizers, SHAPE).init, jax.random.key(0), batch())


def test_evaluation_tells_what_each_level_is_worth(tmp_path):
    """Decoding by hand the codes of the permutation that evaluation draws; and a level that says nothing is worth nothing."""
    x = np.asarray(batch(40)["x"])
    data = Dataset("bits", SHAPE, 40, None, "", {"x": x})
    flat = vqvae2(
        (MLP((8,), 6), MLP((), 3)), (MLP((8,), SHAPE), MLP((), 2)), bernoulli(), (nearest(16, 4), nearest(1, 3)), SHAPE
    )
    experiment = Experiment(flat, optax.sgd(1.0), data, data, 8, 1, 0)
    run = Run(tmp_path, {}, experiment, init_state(flat, optax.sgd(1.0), jax.random.key(1), batch(40)))
    terms = {name: float(values.mean()) for name, values in run.evaluate(data).items()}
    found = codebook(run, data, terms)
    assert found["positions"] == 2
    assert [book["size"] for book in found["codebooks"]] == [16, 1]
    bottom, top = (
        np.asarray(c) for c in flat.discrete.codes(run.params, run.state.extras, {"x": jnp.asarray(x)}, None)
    )
    assert found["codebooks"][0]["used"] == len(np.unique(bottom))
    np.testing.assert_array_equal(run.codes(data), np.concatenate([bottom, top], axis=1))
    order = np.random.default_rng(0).permutation(40)
    decoded = flat.decode(run.params, run.state.extras, (jnp.asarray(bottom[order]), jnp.asarray(top)), {})
    levels = found["levels"]
    np.testing.assert_allclose(levels[0]["mse_shuffled"], np.mean(np.square(decoded - x)), rtol=1e-5)
    np.testing.assert_allclose(levels[1]["mse_shuffled"], terms["mse"], rtol=1e-5)
