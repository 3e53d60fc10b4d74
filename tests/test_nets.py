import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.nets import MLP
from aejax.nets.mlp import check_mirror, tie, untie


def test_shapes_follow_the_arguments():
    net = MLP((5, 6), (2, 3))
    params = net.init(jax.random.key(0), jnp.ones((4, 7, 2)))["params"]
    assert [params[f"dense_{i}"]["kernel"].shape for i in range(3)] == [(14, 5), (5, 6), (6, 6)]
    assert net.apply({"params": params}, jnp.ones((4, 7, 2))).shape == (4, 2, 3)


def test_a_net_without_hidden_layers_is_linear():
    net = MLP((), 3, use_bias=False)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    params = net.init(jax.random.key(0), x)["params"]
    assert list(params) == ["dense_0"]
    np.testing.assert_allclose(net.apply({"params": params}, x), x @ params["dense_0"]["kernel"], rtol=1e-6)


def test_activations_stand_where_they_are_named():
    net = MLP((4,), 2, activation=jnp.tanh, out_activation=jax.nn.sigmoid)
    x = jnp.ones((1, 3))
    p = net.init(jax.random.key(0), x)["params"]
    hidden = jnp.tanh(x @ p["dense_0"]["kernel"])
    np.testing.assert_allclose(net.apply({"params": p}, x), jax.nn.sigmoid(hidden @ p["dense_1"]["kernel"]), rtol=1e-6)


def test_tying_undoes_untying_for_a_mirrored_net():
    encoder = MLP((5,), 2).init(jax.random.key(0), jnp.ones((1, 7)))["params"]
    decoder = MLP((5,), 7).init(jax.random.key(1), jnp.ones((1, 2)))["params"]
    check_mirror(encoder, decoder)
    tied = tie(untie(decoder), encoder)
    assert jax.tree.map(jnp.shape, tied) == jax.tree.map(jnp.shape, decoder)
    np.testing.assert_array_equal(tied["dense_0"]["kernel"], encoder["dense_1"]["kernel"].T)
    with pytest.raises(UsageError):
        check_mirror(encoder, encoder)
