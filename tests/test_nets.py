from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.nets import GRU, LSTM, MLP, ConvDecoder, ConvEncoder, Gated, OscillatorTransition, PixelCNN
from aejax.nets.mlp import check_mirror, tie, untie
from aejax.objective.time_gaps import embedding as told


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


def gradient_of(net, x):
    """The compiled gradient of a scalar of the net's output with respect to its parameters."""
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.square(net.apply({"params": params}, x)))))
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    # On CPU, XLA drops the barriers that keep it from merging what is computed twice; on accelerators it does not.
    return gradient.lower(params, x).compile({"xla_disable_hlo_passes": "cse_barrier_expander"})


@pytest.mark.parametrize("depth", [0, 5])
def test_remat_changes_neither_parameters_nor_gradients(depth):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    by_keeping, by_computing = (MLP((7,) * depth, 3, remat=remat) for remat in (False, True))
    params, again = (jax.jit(net.init)(jax.random.key(0), x)["params"] for net in (by_keeping, by_computing))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    gradients = [gradient_of(net, x)(params, x) for net in (by_keeping, by_computing)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)


def test_remat_halves_the_memory_of_a_deep_net():
    x = jax.ShapeDtypeStruct((512, 64), jnp.float32)
    kept, recomputed = (
        gradient_of(MLP((64,) * 24, 64, remat=remat), x).memory_analysis().temp_size_in_bytes for remat in (False, True)
    )
    assert recomputed < kept / 2


def test_bfloat16_is_the_arithmetic_of_the_layers_only():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 5)), jnp.float32)
    seen = []

    def activation(x):
        seen.append(x.dtype)
        return jnp.tanh(x)

    single, half = (MLP((16, 16), 3, activation=activation, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    params = jax.jit(half.init)(jax.random.key(0), x)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, jax.jit(single.init)(jax.random.key(0), x)["params"])
    seen.clear()
    by_half, by_single = half.apply({"params": params}, x), single.apply({"params": params}, x)
    assert seen == [jnp.bfloat16] * 2 + [jnp.float32] * 2
    assert {leaf.dtype for leaf in [by_half, *jax.tree.leaves(params)]} == {jnp.dtype(jnp.float32)}
    # Eight bits of mantissa: near, and not equal.
    np.testing.assert_allclose(by_half, by_single, atol=0.03)
    assert not np.array_equal(by_half, by_single)


@pytest.mark.parametrize(
    ("theirs", "ours", "gates"), [(nn.GRUCell(4), GRU(4), "rzn"), (nn.OptimizedLSTMCell(4), LSTM(4), "figo")]
)
def test_recurrent_cells_are_flaxs_with_the_dense_layers_before_their_gates_outside(theirs, ours, gates):
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    x = normal(5, 7)
    carry = jax.tree.map(lambda part: normal(*part.shape), theirs.initialize_carry(jax.random.key(0), x.shape))
    params = jax.tree.map(lambda leaf: normal(*leaf.shape), theirs.init(jax.random.key(0), carry, x)["params"])

    def side_by_side(source, part):
        found = [params[source + gate].get(part, jnp.zeros(4)) for gate in gates]
        return jnp.concatenate(found, axis=-1)

    given = x @ side_by_side("i", "kernel") + side_by_side("i", "bias")[None]
    carried = {"kernel": side_by_side("h", "kernel"), "bias": side_by_side("h", "bias")}
    found = ours.apply({"params": {"carried": carried}}, carry, given)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), found, theirs.apply({"params": params}, carry, x))


@pytest.mark.parametrize(("cell", "gates"), [(GRU(4), 3), (LSTM(4), 4)])
def test_recurrent_cells_begin_orthogonal_in_every_gate(cell, gates):
    given = jnp.zeros((1, gates * 4))
    kernel = cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(0), given.shape), given)["params"]
    for gate in jnp.split(kernel["carried"]["kernel"], gates, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(4), atol=1e-6)


class Sums(nn.Module):
    """Of each row, n times."""

    n: int

    def __call__(self, x):
        return jnp.broadcast_to(x.sum(axis=1, keepdims=True), (len(x), self.n))


def turned(z, delta=None, most=0, **more):
    """The state that goes on by itself: what a net of zeros adds."""
    nothing = Gated(2, 2 * z.shape[1], last_init=nn.initializers.zeros)
    row = z if delta is None else jnp.concatenate([z, told(jnp.full(len(z), delta, jnp.int32), most)], axis=1)
    net = OscillatorTransition(nothing, z.shape[1], most=most, **more)
    out = net.apply(net.init(jax.random.key(0), row), row)
    assert np.all(out[:, z.shape[1] :] == 0)
    return out[:, : z.shape[1]]


def test_a_turned_fourier_series_is_a_shift():
    """Of eight numbers in a circle, by three places in three steps of one."""
    x = np.random.default_rng(0).normal(size=(5, 8))
    series = np.fft.rfft(x)
    to_right = np.full((5, 1), -np.pi / 2)  # −2π/8 in each step
    z = jnp.asarray(np.hstack([series.real[:, 1:], series.imag[:, 1:], to_right, series.real[:, :1]]), jnp.float32)
    found = np.asarray(turned(z, 3, 7, planes=4, harmonics=4), np.float64)
    again = np.hstack([found[:, 9:], found[:, :4] + 1j * found[:, 4:8]])
    np.testing.assert_allclose(np.fft.irfft(again), np.roll(x, 3, axis=1), atol=1e-5)


def test_a_jump_is_as_two_that_are_as_long_together_and_is_undone():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)), jnp.float32)
    jump = partial(turned, most=10, planes=2)
    np.testing.assert_allclose(jump(jump(z, 2), 5), jump(z, 7), atol=1e-5)
    np.testing.assert_allclose(jump(jump(z, 7), 7, back=True), z, atol=1e-5)
    np.testing.assert_allclose(turned(z, planes=2), jump(z, 1), atol=1e-6)
    assert not np.allclose(jump(z, 7), z, atol=0.1)


@pytest.mark.parametrize("most", [0, 5])
def test_what_a_net_adds_is_of_all_but_the_gap(most):
    rng = np.random.default_rng(0)
    z, b = (jnp.asarray(rng.normal(size=(5, n)), jnp.float32) for n in (4, 3))
    gap = [told(jnp.full(5, 1, jnp.int32), most)] if most else []
    by_itself = turned(z, planes=1)
    found = OscillatorTransition(Sums(7), 4, 1, most=most).apply({}, jnp.concatenate([z, *gap, b], axis=1))
    added = z.sum(axis=1, keepdims=True) + b.sum(axis=1, keepdims=True) + by_itself.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.hstack([by_itself + added, np.repeat(added, 3, axis=1)]), rtol=2e-5)


def test_what_skips_the_gates_is_linear():
    net, x = Gated(3, 2, skip=True), jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    params = net.init(jax.random.key(0), x)["params"]
    shut = {**params, "gated_0": jax.tree.map(jnp.zeros_like, params["gated_0"])}
    np.testing.assert_allclose(net.apply({"params": shut}, x), x @ params["out"]["kernel"][3:], rtol=1e-5)
    assert not np.allclose(net.apply({"params": params}, x), x @ params["out"]["kernel"][3:], atol=1e-3)


@pytest.mark.parametrize("number", [0, -3])
@pytest.mark.parametrize(
    "net",
    [
        lambda n: MLP((8, n, 8), 2),
        lambda n: MLP((), n),
        lambda n: MLP((), (4, n)),
        lambda n: ConvEncoder((n,), 2),
        lambda n: ConvDecoder((4,), (8, n, 1)),
        lambda n: Gated(n, 2),
        lambda n: GRU(n),
        lambda n: LSTM(n),
        lambda n: OscillatorTransition(MLP((), 2), n, 1),
        lambda n: PixelCNN((4,), (2, 2), channels=n),
    ],
)
def test_a_width_below_one_is_refused_where_the_net_is_made(net, number):
    with pytest.raises(UsageError, match="must be at least 1"):
        net(number)
