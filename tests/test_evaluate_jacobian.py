import flax.linen as nn
import jax
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.evaluation import jacobian
from aejax.evaluation.jacobian import charts, spectrum
from aejax.nets import MLP, ConvEncoder
from tiny import normal


def encoder(net, x):
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    return lambda x: net.apply({"params": params}, x)


def jacrev(encode, x):
    """[n, code, d], by JAX."""
    return jax.jit(jax.vmap(jax.jacrev(lambda one: encode(one[None])[0])))(x).reshape(len(x), -1, x[0].size)


@pytest.mark.parametrize("code", [3, 12])
def test_of_a_linear_encoder_they_are_its_matrix_decomposed(code):
    x, w = np.asarray(normal(5, 2, 4)), normal(8, code, seed=1)
    encode = lambda x: x.reshape(len(x), -1) @ w
    _, values, vectors = np.linalg.svd(w.T, full_matrices=False)
    found = spectrum(encode, x)
    assert found.shape == (5, min(8, code))
    np.testing.assert_allclose(found, np.tile(values, (5, 1)), rtol=1e-5)
    leading = charts(encode, x, 2)
    assert leading.shape == (5, 2, 2, 4)
    for one in leading.reshape(5, 2, 8):
        np.testing.assert_allclose(np.abs(np.sum(one * vectors[:2], axis=1)), 1.0, rtol=1e-5)
        assert np.all(one.max(axis=1) == np.abs(one).max(axis=1))


def test_each_example_has_its_own_and_batches_change_nothing(monkeypatch):
    x = np.asarray(normal(7, 6))
    encode = encoder(MLP((5,), 4, activation=nn.sigmoid), x)
    at_once, pictures = spectrum(encode, x), charts(encode, x, 3)
    np.testing.assert_allclose(at_once, np.linalg.svd(jacrev(encode, x), compute_uv=False), rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(jacobian, "JACOBIAN_BYTES", 3 * 4 * 6 * 4)  # three examples at once: batches of 3, 3 and 1
    np.testing.assert_allclose(spectrum(encode, x), at_once, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(charts(encode, x, 3), pictures, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("spatial", [False, True])
def test_convolutions_have_spectra_without_forward_mode(spatial):
    x = np.asarray(normal(2, 4, 4, 1))
    encode = encoder(ConvEncoder((2,), 7 if spatial else 3, spatial=spatial, blocks=0), x)
    found = spectrum(encode, x)
    np.testing.assert_allclose(found, np.linalg.svd(jacrev(encode, x), compute_uv=False), rtol=1e-4, atol=1e-5)
    assert charts(encode, x, 2).shape == (2, 2, 4, 4, 1)


def test_more_directions_than_there_are_is_refused():
    x = np.asarray(normal(2, 6))
    encode = lambda x: x[:, :3]
    with pytest.raises(UsageError, match="1 to 3"):
        charts(encode, x, 4)
    with pytest.raises(UsageError, match="at least one"):
        spectrum(encode, x[:0])
