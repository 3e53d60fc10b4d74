from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.keys import each
from aejax.nets import MLP, Code, ConvEncoder
from aejax.nets.mlp import slopes
from aejax.objective.penalties import (
    batched,
    contractive,
    contractive_h,
    hutchinson,
    kl_sparsity,
    l1,
    narrow_side,
    pullback,
    squared_difference,
    squared_jacobian,
)


def inputs(n, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def weights(net, x, seed=0):
    """Random kernels and biases."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(len(leaf))).astype(np.float32), shapes)


def keys_of(x):
    return each(jax.random.key(1), jnp.arange(len(x)))


def term_of(penalty, f, x):
    """(term, what is logged besides). To be compiled."""
    found = penalty(f, x, jax.vmap(f)(x), keys_of(x), None)
    return found if isinstance(found, tuple) else (found, {})


def norms(f, x, of=jax.jacrev):
    """‖J‖² of each example, by JAX."""
    return jnp.sum(jnp.square(jax.vmap(of(f))(x).reshape(len(x), -1)), axis=1)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gelu(a):
    return a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))


IN_NUMPY = {
    nn.relu: lambda a: np.maximum(a, 0),
    nn.sigmoid: sigmoid,
    jnp.tanh: np.tanh,
    nn.gelu: gelu,
    nn.silu: lambda a: a * sigmoid(a),
}


def jacobian(net, params, x):
    """Of an MLP at each example, [b, d, code] in float64: the chain rule, each slope by central differences."""
    a = np.asarray(x, np.float64).reshape(len(x), -1)
    found = np.tile(np.eye(a.shape[1]), (len(x), 1, 1))
    activations = [net.activation] * len(net.hidden) + [net.out_activation]
    for i, activation in enumerate(activations):
        act = IN_NUMPY.get(activation, lambda a: a)
        layer = params[f"dense_{i}"]
        a = a @ layer["kernel"] + layer.get("bias", 0.0)
        found = found @ layer["kernel"] * ((act(a + 1e-5) - act(a - 1e-5)) / 2e-5)[:, None]
        a = act(a)
    return found


CLOSED = {
    "one sigmoid layer": MLP((), 5, out_activation=nn.sigmoid),
    "two layers, one matrix for all": MLP((4,), 5, activation=nn.sigmoid),
    "two layers, narrow code": MLP((60,), 2, activation=nn.relu),
    "a sigmoid code": MLP((5,), 4, activation=jnp.tanh, out_activation=nn.sigmoid),
    "a wide sigmoid code": MLP((7, 6), 40, activation=nn.gelu, out_activation=nn.sigmoid),
    "three layers": MLP((7, 6), (2, 2), activation=nn.gelu),
}
ALSO_CLOSED = {
    "linear": MLP((), 5),
    "deep linear": MLP((6, 3), 4, activation=lambda a: a),
    "a linear hidden layer": MLP((6,), 4, activation=lambda a: a, out_activation=nn.sigmoid),
    "two layers, wide": MLP((60,), 50, activation=jnp.tanh),
    "three layers, wide first": MLP((30, 6), 3, activation=nn.relu),
    "three layers, wide code": MLP((7, 6), 20, activation=nn.silu, use_bias=False),
    "four layers": MLP((7, 5, 6), 4, activation=nn.silu, out_activation=jnp.tanh, remat=True),
    "four layers, wide code": MLP((7, 5, 6), 30, activation=jnp.tanh, out_activation=jnp.tanh),
}


@pytest.mark.parametrize("name", [*CLOSED, *(pytest.param(name, marks=pytest.mark.slow) for name in ALSO_CLOSED)])
def test_the_closed_form_and_its_gradient_are_those_of_the_chain_rule(name):
    net, x = {**CLOSED, **ALSO_CLOSED}[name], inputs(6, 3, 4)
    params = weights(net, x)
    importance = np.arange(1.0, 7.0, dtype=np.float32)

    @jax.jit
    def ours(params, x):
        assert slopes(net, params, x) is not None
        value = lambda params: importance * squared_jacobian(Code(net, params), x)
        return value(params), jax.grad(lambda params: jnp.sum(value(params)))(params)

    def theirs(params):
        return importance * np.sum(jacobian(net, params, x) ** 2, axis=(1, 2))

    value, gradient = ours(params, x)
    np.testing.assert_allclose(value, theirs(params), rtol=1e-4)
    rng, step = np.random.default_rng(1), 1e-4
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    ahead, behind = (theirs(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (step, -step))
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))
    assert along == pytest.approx(np.sum(ahead - behind) / (2 * step), rel=1e-3)


def test_exact_is_jacrev_is_jacfwd_is_the_mean_of_hutchinson():
    net, x = MLP((9,), 6, activation=nn.sigmoid), inputs(5, 12)

    @jax.jit
    def ways(params, x):
        f = Code(net, params)
        exact, estimate = term_of(contractive(0.5), f, x)[0], term_of(hutchinson(0.5, probes=4000), f, x)
        return exact, [norms(f, x, of) for of in (jax.jacrev, jax.jacfwd)], estimate

    exact, by_jax, (estimate, logged) = ways(weights(net, x), x)
    for found in by_jax:
        np.testing.assert_allclose(exact, 0.5 * found, rtol=1e-5)
    error = np.sqrt(logged["hutchinson_variance"] / len(x))
    assert abs(np.mean(estimate - exact)) < 4 * error
    assert error < 0.01 * np.mean(exact)


def test_rifai_formula_of_one_sigmoid_layer():
    net, x = CLOSED["one sigmoid layer"], inputs(4, 7)
    params = weights(net, x)
    w = params["dense_0"]["kernel"]
    h = sigmoid(x @ w + params["dense_0"]["bias"])
    formula = np.square(h * (1 - h)) @ np.sum(w**2, axis=0)
    found = jax.jit(lambda params, x: term_of(contractive(2.0), Code(net, params), x)[0])(params, x)
    np.testing.assert_allclose(found, 2 * formula, rtol=1e-5)


@pytest.mark.parametrize("probes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_logged_variance_is_that_of_the_estimate(probes):
    # Every example has the same Jacobian: Var vᵀAv = 2 Σ_{i≠j} A_ij², with A = JJᵀ.
    net, x = MLP((), 4), inputs(8000, 3)
    params = weights(net, x)
    w = params["dense_0"]["kernel"].astype(np.float64)
    a = w.T @ w
    expected = 0.7**2 * 2 * (np.sum(a**2) - np.sum(np.diag(a) ** 2)) / probes
    term, logged = jax.jit(lambda params, x: term_of(hutchinson(0.7, probes), Code(net, params), x))(params, x)
    assert np.var(term) == pytest.approx(expected, rel=0.1)
    assert float(logged["hutchinson_variance"]) == pytest.approx(expected, rel=0.1)


def test_a_linear_encoder_has_the_norm_of_its_matrix_and_no_second_order():
    net, x = MLP((), 5), inputs(4, 7)
    params = weights(net, x)

    @jax.jit
    def terms(params, x):
        f = Code(net, params)
        plain = lambda one: f(one)
        return [[term_of(p, g, x)[0] for p in (contractive(1.0), contractive_h(1.0, 0.5, 2))] for g in (f, plain)]

    for penalty, second_order in terms(params, x):
        np.testing.assert_allclose(penalty, np.full(4, np.sum(params["dense_0"]["kernel"] ** 2)), rtol=1e-5)
        np.testing.assert_allclose(second_order, np.zeros(4), atol=1e-9)


@jax.jit
def normal_noise(keys):
    return jax.vmap(lambda key: jax.random.normal(key, (2, 6)))(keys)


@pytest.mark.parametrize(
    "name",
    ["two layers, one matrix for all", "three layers", pytest.param("one sigmoid layer", marks=pytest.mark.slow)],
)
def test_the_h_term_is_the_mean_difference_to_jacobians_near_by(name):
    net, x = CLOSED[name], inputs(3, 6)
    params = weights(net, x)

    term, _ = jax.jit(lambda params, x: term_of(contractive_h(0.2, 0.3, samples=2), Code(net, params), x))(params, x)
    noise = normal_noise(keys_of(x))
    here = jacobian(net, params, x)
    expected = [np.sum((here - jacobian(net, params, x + 0.3 * noise[:, i])) ** 2, axis=(1, 2)) for i in range(2)]
    np.testing.assert_allclose(term, 0.2 * np.mean(expected, axis=0), rtol=1e-3)


@pytest.mark.slow
def test_the_h_term_is_the_hessian_as_sigma_vanishes():
    # E‖J(x) − J(x+ε)‖² → σ²‖H‖² (Rifai et al. 2011b); here for a code of one unit.
    net, x = MLP((3,), 1, activation=jnp.tanh), inputs(1, 4)

    @jax.jit
    def both(params, x):
        f = Code(net, params)
        return term_of(contractive_h(1.0, 1e-2, samples=4000), f, x)[0], jax.hessian(lambda one: f(one)[0])(x[0])

    term, hessian = both(weights(net, x), x)
    assert float(term[0]) == pytest.approx(1e-4 * float(np.sum(np.square(hessian))), rel=0.1)


def normalized(a):
    return a / jnp.linalg.norm(a, axis=1)[:, None]


@pytest.mark.parametrize(
    "net",
    [MLP((6,), 4, activation=jnp.tanh, out_activation=nn.softmax), MLP((6,), 20, out_activation=normalized)],
    ids=["softmax, by rows", "normalized, by columns"],
)
def test_activations_that_mix_units_have_no_closed_form(net):
    x = inputs(4, 9)

    @jax.jit
    def ways(params, x):
        assert slopes(net, params, x) is None
        f = Code(net, params)
        h, pull = pullback(batched(f), x)
        assert narrow_side(pull, h, x)[1] is (h if net.out < 9 else x)
        return squared_jacobian(f, x), norms(f, x)

    ours, theirs = ways(weights(net, x), x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    "spatial", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["by rows", "by columns, without forward mode"]
)
def test_convolutions_have_exact_and_estimated_penalties(spatial):
    x = inputs(3, 4, 4, 1)
    net = ConvEncoder((2,), 7 if spatial else 3, spatial=spatial, blocks=0)

    @jax.jit
    def ways(params, x):
        value = lambda of: jax.value_and_grad(lambda params: jnp.sum(of(Code(net, params), x)))(params)
        f, near = Code(net, params), x + 0.1
        of_near = jax.vmap(lambda one, other: jnp.sum(jnp.square(jax.jacrev(f)(one) - jax.jacrev(f)(other))))(x, near)
        return (
            (*value(squared_jacobian), squared_difference(f, x, near)),
            (*value(norms), of_near),
            term_of(hutchinson(1.0, probes=300), f, x),
        )

    ours, theirs, (estimate, logged) = ways(weights(net, x), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)
    assert abs(np.mean(estimate) - ours[0] / 3) < 4 * np.sqrt(logged["hutchinson_variance"] / 3)


def test_kl_sparsity_and_its_gradient():
    @jax.jit
    def of_two(p):
        def value(p, rho=0.05):
            found = kl_sparsity(rho, 1.0)(None, None, jnp.stack([p - 0.1, p + 0.1])[:, None], None, None)
            return found[0], found[1]["rho_hat"]

        return jax.value_and_grad(value, has_aux=True)(p), value(p, 0.2)[0]

    ((term, rho_hat), gradient), nothing = of_two(np.float32(0.2))
    assert float(term) == pytest.approx(0.093943, abs=1e-6)
    assert float(rho_hat) == pytest.approx(0.2)
    assert float(gradient) == pytest.approx(-0.05 / 0.2 + 0.95 / 0.8, rel=1e-5)
    assert float(nothing) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("activation", [0.0, 1.0])
def test_kl_sparsity_of_saturated_units_is_finite(activation):
    value = jax.jit(jax.value_and_grad(lambda h: kl_sparsity(0.05, 1.0)(None, None, h, None, None)[0]))
    term, gradient = value(np.full((4, 3), activation, np.float32))
    assert 3 * 0.093943 < float(term) < 1e3
    assert np.all(np.isfinite(gradient))


def test_l1_is_the_sum_of_magnitudes_over_all_units():
    h = inputs(3, 2, 4)
    found = jax.jit(lambda h: l1(0.3)(None, None, h, None, None))(h)
    np.testing.assert_allclose(found, 0.3 * np.abs(h).sum((1, 2)), rtol=1e-6)


def test_rho_hat_is_of_the_global_batch_on_any_number_of_devices():
    x, w = inputs(16, 5), inputs(5, 4, seed=1)

    def found(w, x, axis):
        def term(w):
            return kl_sparsity(0.05, 2.0)(None, x, nn.sigmoid(x @ w), None, axis)

        return jax.value_and_grad(term, has_aux=True)(w)

    averaged = jax.pmap(
        lambda w, x: jax.lax.pmean(found(w, x, "batch"), "batch"),
        axis_name="batch",
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:4],
    )
    one, four = jax.jit(partial(found, axis=None))(w, x), averaged(w, x.reshape(4, 4, 5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, four)


def test_strengths_may_be_traced_and_terms_have_names():
    net, x = MLP((5,), 3, activation=nn.sigmoid, out_activation=nn.sigmoid), inputs(8, 6)

    def every(s, other):
        return l1(s), kl_sparsity(other, s), contractive(s), contractive_h(s, other), hutchinson(s)

    @jax.jit
    def terms(params, x, s, other):
        return [term_of(p, Code(net, params), x)[0] for p in every(s, other)]

    params = weights(net, x)
    one, twice = (terms(params, x, np.float32(s), np.float32(0.1)) for s in (0.5, 1.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-5), one, twice)
    assert all(np.mean(term) > 0 for term in one)
    assert [p.__name__ for p in every(0.5, 0.1)] == ["l1", "kl_sparsity", "contractive", "contractive_h", "hutchinson"]


def test_an_example_has_its_own_noise():
    net, x = MLP((5,), 3, activation=nn.sigmoid), inputs(8, 6)
    params = weights(net, x)

    @jax.jit
    def terms(params, x, index):
        f, keys = Code(net, params), each(jax.random.key(1), index)
        return hutchinson(1.0)(f, x, jax.vmap(f)(x), keys, None)[0], contractive_h(1.0, 0.2, 2)(f, x, x, keys, None)

    order = np.random.default_rng(0).permutation(8)
    for term, permuted in zip(terms(params, x, np.arange(8)), terms(params, x[order], order)):
        np.testing.assert_allclose(permuted, term[order], rtol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: l1(-1.0),
        lambda: contractive(float("nan")),
        lambda: kl_sparsity(1.0, 1.0),
        lambda: kl_sparsity(0.0, 1.0),
        lambda: contractive_h(1.0, -0.1),
        lambda: contractive_h(1.0, 0.1, samples=0),
        lambda: hutchinson(1.0, probes=0),
    ],
)
def test_strengths_out_of_range_are_refused(bad):
    with pytest.raises(UsageError):
        bad()
