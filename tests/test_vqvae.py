"""The vector-quantized autoencoder: its divergence by counting, its loss by its parts, and the same on any batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.evaluation.codebook import codebook, use
from aejax.models import vqvae
from aejax.models.vector_quantized import perplexity
from aejax.nets import MLP, ConvDecoder, ConvEncoder
from aejax.objective import finite_scalar, nearest, residual
from aejax.objective.corruptions import fixed_mask, masking
from aejax.objective.likelihoods import bernoulli
from aejax.runs.run import Run
from aejax.training.step import init_state
from aejax.types import Dataset, Experiment
from tiny import batch_of

SHAPE = (6, 5, 1)


def batch(n=8):
    x = (jax.random.uniform(jax.random.key(0), (n, *SHAPE)) < 0.3).astype(jnp.float32)
    return batch_of(x)


def built(quantizer, **more):
    encoder, decoder = ConvEncoder((4,), quantizer.width, spatial=True, blocks=0), ConvDecoder((4,), SHAPE, blocks=0)
    return vqvae(encoder, decoder, bernoulli(), quantizer, SHAPE, **more)


def started(model, f):
    """f(params, extras) of the untrained model, all compiled as one."""
    return jax.jit(lambda key, batch: f(*model.init(key, batch)))(jax.random.key(1), batch())


def test_the_code_costs_log_k_at_every_position_and_book():
    for quantizer, nats in ((finite_scalar((8,)), math.log(8)), (residual([finite_scalar((4, 2))] * 2), math.log(64))):
        model = built(quantizer)
        terms = started(model, lambda *of, model=model: model.evaluate(*of, batch(), jax.random.key(2)))
        np.testing.assert_allclose(terms["kl"], 3 * 3 * nats, rtol=1e-6)
        np.testing.assert_allclose(terms["nelbo"], terms["distortion"] + terms["kl"], rtol=1e-6)


def test_loss_is_its_parts_whatever_the_batch():
    model = built(nearest(8, 4))
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), batch())
    f = lambda of, batch: model.loss(*of, batch, jax.random.key(3), jnp.int32(0), None)
    (loss, (_, logged)), (of_twice, _) = started(model, lambda *of: (f(of, batch()), f(of, twice)))
    np.testing.assert_allclose(loss, logged["distortion"] + logged["commitment"], rtol=1e-6)
    np.testing.assert_allclose(of_twice, loss, rtol=1e-5)


def test_codes_are_decoded_to_what_is_reconstructed():
    model = built(finite_scalar((4, 4)))

    def both(*of):
        codes = model.discrete.codes(*of, batch(), None)
        return codes, model.decode(*of, codes, {}), model.reconstruct(*of, batch(), None)

    codes, decoded, reconstructed = started(model, both)
    assert codes.shape == (8, 3, 3, 1)
    np.testing.assert_allclose(decoded, reconstructed, atol=1e-6)


def test_without_a_corruption_what_is_seen_is_x_and_with_one_it_is_not():
    nothing_touched = fixed_mask(np.zeros(SHAPE, bool))
    models = [built(nearest(8, 4), corrupt=noise) for noise in (None, nothing_touched, masking(0.9))]
    all_terms = started(models[0], lambda *of: [m.evaluate(*of, batch(), jax.random.key(2)) for m in models])
    expected = all_terms[0]["distortion"]
    for terms, same in zip(all_terms[1:], (True, False)):
        np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-6)
        assert np.allclose(terms["denoising_distortion"], expected, rtol=1e-6) == same


def test_what_is_trained_sees_the_corrupted_image_and_is_evaluated_by_the_clean_one():
    """With all pixels masked the codes, and so the distortion, of every x are those of the empty image."""
    model = built(nearest(8, 4), corrupt=masking(1.0))
    empty, x = {**batch(), "x": jnp.zeros((8, *SHAPE))}, batch()["x"]

    def both(*of):
        _, (_, terms) = model.loss(*of, batch(), jax.random.key(3), jnp.int32(0), None)
        return terms["distortion"], model.reconstruct(*of, empty, None)

    distortion, mean = started(model, both)
    expected = -jnp.mean(jnp.sum(x * jnp.log(mean) + (1.0 - x) * jnp.log1p(-mean), axis=(1, 2, 3)))
    np.testing.assert_allclose(distortion, expected, rtol=1e-4)


def test_a_flat_code_is_one_position():
    model = vqvae(MLP((8,), 4), MLP((8,), SHAPE), bernoulli(), nearest(6, 4), SHAPE)
    codes, terms = started(
        model, lambda *of: (model.discrete.codes(*of, batch(), None), model.evaluate(*of, batch(), None))
    )
    assert codes.shape == (8, 1)
    np.testing.assert_allclose(terms["kl"], math.log(6), rtol=1e-6)


def test_perplexity_is_the_number_of_codes_in_even_use():
    codes = jnp.stack([jnp.arange(12, dtype=jnp.int32) % 4, jnp.zeros(12, jnp.int32)], axis=1)
    np.testing.assert_allclose(perplexity(codes[:, :1], (9,), None), 4.0, rtol=1e-5)
    np.testing.assert_allclose(perplexity(codes, (9, 3), None), (4.0 + 1.0) / 2.0, rtol=1e-5)


def test_an_encoder_of_another_width_is_refused():
    model = vqvae(MLP((8,), 5), MLP((8,), SHAPE), bernoulli(), nearest(6, 4), SHAPE)
    with pytest.raises(UsageError, match="vectors of 4 numbers"):
        jax.eval_shape(model.init, jax.random.key(1), batch())


def test_evaluation_counts_the_codes_of_the_whole_split_and_the_bits_of_the_whole_bound(tmp_path):
    x = np.asarray(batch(40)["x"])
    data = Dataset("bits", SHAPE, 40, None, "", {"x": x})
    quantizer = nearest(16, 4, expire=0.1)
    model = built(quantizer)
    experiment = Experiment(model, optax.sgd(1.0), data, data, 8, 1, 0)
    run = Run(tmp_path, {}, experiment, init_state(model, optax.sgd(1.0), jax.random.key(1), batch(40)))
    terms = {name: float(values.mean()) for name, values in run.evaluate(data).items()}
    found = codebook(run, data, terms)
    codes = np.asarray(model.discrete.codes(run.params, run.state.extras, {"x": jnp.asarray(x)}, None)).reshape(-1)
    share = np.bincount(codes, minlength=16) / len(codes)
    (book,) = found["codebooks"]
    assert (found["positions"], book["size"], book["used"]) == (9, 16, np.count_nonzero(share))
    np.testing.assert_allclose(book["perplexity"], np.prod(share[share > 0] ** -share[share > 0]), rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_dimension"], terms["nelbo"] / math.log(2) / 30, rtol=1e-6)


def test_one_code_alone_has_a_perplexity_of_one():
    assert use(np.zeros(5, int)) == {"used": 1, "perplexity": 1.0}
