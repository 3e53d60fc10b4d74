"""Sparse dictionaries: the limits in which one kind is another, their pseudo-gradients, and known features recovered."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import aejax
from aejax.cli import main
from aejax.errors import UsageError
from aejax.models import dictionary
from aejax.models.dictionaries import geometric_median
from aejax.objective import AuxiliaryLoss
from aejax.objective.activations import (
    MEMORY,
    batch_top_k,
    gated,
    jump,
    jump_relu,
    matching_pursuit,
    pursued,
    relu_l1,
    relu_top_k,
    step_above,
    threshold,
)
from aejax.optimizers import unit_rows
from aejax.training.step import Layout, init_state, make_runner
from tiny import batch_of, normal, optimum, refusal

D, UNITS, K = 6, 10, 3
KINDS = {
    "relu_l1": relu_l1(0.01),
    "relu_top_k": relu_top_k(K),
    "batch_top_k": batch_top_k(K),
    "jump_relu": jump_relu(0.01),
    "jump_relu_target": jump_relu(0.01, target=3.0),
    "gated": gated(0.01),
    "matching_pursuit": matching_pursuit(K),
}


def made(activation, **more):
    model = dictionary(UNITS, (D,), activation, **more)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch())
    return model, jax.tree.map(lambda leaf: leaf + 0.1 * normal(*leaf.shape, seed=leaf.size), params), extras


def batch(n=8, seed=1):
    return batch_of(normal(n, D, seed=seed))


def code(activation):
    model, params, extras = made(activation)
    return np.asarray(jax.jit(model.encode)(params, extras, batch(), jax.random.key(1)))


def loss_and_gradient(model, params, extras, given=None):
    f = lambda p: model.loss(p, extras, batch() if given is None else given, jax.random.key(1), 0, None)
    return jax.jit(jax.value_and_grad(f, has_aux=True))(params)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_equation(kind):
    """x̂ = z W_d + b; the parameters start as the paper says."""
    model, params, extras = made(KINDS[kind])
    first, _ = jax.jit(model.init)(jax.random.key(0), batch())
    rows = first["decoder"]["kernel"]
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)
    if kind != "matching_pursuit":
        np.testing.assert_array_equal(first["encoder"]["kernel"], rows.T)
    np.testing.assert_allclose(first["decoder"]["bias"], geometric_median(batch()["x"]))
    z = code(KINDS[kind])
    x_hat = jax.jit(model.reconstruct)(params, extras, batch(), jax.random.key(1))
    decoder = jax.tree.map(np.asarray, params["decoder"])
    np.testing.assert_allclose(x_hat, z @ decoder["kernel"] + decoder["bias"], rtol=1e-4, atol=1e-5)
    terms = jax.jit(model.evaluate)(params, extras, batch(), jax.random.key(1))
    np.testing.assert_allclose(terms["nll"], np.sum(np.square(x_hat - batch()["x"]), axis=1), rtol=1e-4)
    assert jax.jit(model.sparse.active)(params, extras, batch(), jax.random.key(1)).shape == (8, UNITS)


def test_the_geometric_median_is_where_the_sum_of_distances_is_least():
    x = normal(40, 3, seed=4) ** 3
    center = geometric_median(x)
    total = lambda c: float(jnp.sum(jnp.linalg.norm(x - c[None], axis=1)))
    assert total(center) < total(jnp.mean(x, axis=0))
    for direction in np.eye(3, dtype=np.float32):
        assert total(center) <= total(center + 0.05 * direction)
        assert total(center) <= total(center - 0.05 * direction)


def test_all_units_are_a_rectifier():
    plain = code(relu_l1(0.0))
    np.testing.assert_array_equal(code(relu_top_k(UNITS)), plain)
    np.testing.assert_array_equal(code(batch_top_k(UNITS)), plain)  # the threshold is zero before the first step
    assert (plain > 0).sum() > K * len(plain)


def test_top_k_keeps_k_of_each_example_and_batch_top_k_as_many_of_the_batch():
    z = code(relu_top_k(K))
    assert np.all((z > 0).sum(axis=1) <= K)
    model, params, extras = made(batch_top_k(K))
    _, (_, terms) = model.loss(params, extras, batch(), jax.random.key(1), 0, None)
    assert float(terms["active_units"]) == K
    one, given = made(relu_top_k(K))[0], batch(1)
    alone = [loss_and_gradient(m, params, e, given) for m, e in ((model, extras), (one, {"activation": {}}))]
    np.testing.assert_allclose(alone[0][0][0], alone[1][0][0], rtol=1e-6)  # of a batch of one it is top-k
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone[0][1], alone[1][1])


def test_the_threshold_is_the_moving_average_of_the_least_activation():
    model, params, extras = made(batch_top_k(K))
    least = []
    for seed in range(5):
        given = batch(seed=seed)
        h = nn.relu(
            (given["x"] - params["decoder"]["bias"][None]) @ params["encoder"]["kernel"]
            + params["activation"]["bias"][None]
        )
        least.append(float(jnp.sort(h.reshape(-1))[-K * 8]))
        _, (extras, _) = model.loss(params, extras, given, jax.random.key(1), 0, None)
    weights = MEMORY ** np.arange(5)[::-1]
    assert float(threshold(extras["activation"])) == pytest.approx(float(weights @ least / weights.sum()), rel=1e-4)
    z = jax.jit(model.encode)(params, extras, batch(), jax.random.key(1))
    assert np.all((z == 0) | (z > threshold(extras["activation"])))


@pytest.mark.parametrize("prefixes", [(), (2, 5)])
def test_nested_dictionaries_share_one_code(prefixes):
    model, params, extras = made(batch_top_k(K), prefixes=prefixes)
    plain, _, _ = made(batch_top_k(K), prefixes=(UNITS,))  # one prefix of all units is no prefix
    (loss, _), _ = loss_and_gradient(model, params, extras)
    (whole, (_, terms)), _ = loss_and_gradient(plain, params, extras)
    given = batch()["x"]
    h = nn.relu(
        (given - params["decoder"]["bias"][None]) @ params["encoder"]["kernel"] + params["activation"]["bias"][None]
    )
    z = jnp.where(h >= jnp.sort(h.reshape(-1))[-K * 8], h, 0.0)
    errors = [
        jnp.mean(
            jnp.sum(
                jnp.square(given - z[:, :p] @ params["decoder"]["kernel"][:p] - params["decoder"]["bias"][None]), axis=1
            )
        )
        for p in (*prefixes, UNITS)
    ]
    np.testing.assert_allclose(loss, jnp.mean(jnp.stack(errors)), rtol=1e-5)
    np.testing.assert_allclose(whole, errors[-1], rtol=1e-5)
    np.testing.assert_allclose(terms["nll"], errors[-1], rtol=1e-5)


def test_a_jump_at_zero_is_a_rectifier():
    a, zero = normal(50, 4), jnp.zeros((50, 4))
    np.testing.assert_array_equal(jump(a, zero, 0.1), nn.relu(a))
    slope = jax.grad(lambda a: jnp.sum(jump(a, zero, 0.1) * a))(a)
    np.testing.assert_allclose(slope, 2 * nn.relu(a), rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_pseudo_gradient_is_that_of_the_expected_loss(weight):
    """For a ~ N(0, 1), the derivative by θ of E[(c − JumpReLU(a))² + λ 1[a > θ]] is p(θ) (c² − (c − θ)² − λ)."""
    theta, target, epsilon, n = 0.6, 1.3, 0.05, 400_000
    a = jnp.asarray(norm.ppf((np.arange(n) + 0.5) / n), jnp.float32)

    def expected(t):
        threshold_ = jnp.full(a.shape, t)
        return jnp.mean(jnp.square(target - jump(a, threshold_, epsilon)) + weight * step_above(a, threshold_, epsilon))

    closed = norm.pdf(theta) * (target**2 - (target - theta) ** 2 - weight)
    assert float(jax.grad(expected)(theta)) == pytest.approx(closed, rel=1e-2)
    only = lambda t: jnp.mean(step_above(a, jnp.full(a.shape, t), epsilon))
    assert float(jax.grad(only)(theta)) == pytest.approx(-norm.pdf(theta), rel=5e-3)
    value = lambda t: jnp.mean(jump(a, jnp.full(a.shape, t), epsilon))
    assert float(jax.grad(value)(theta)) == pytest.approx(-theta * norm.pdf(theta), rel=5e-3)


def test_a_gate_that_is_the_magnitude_is_a_rectifier_and_its_own_loss_does_not_move_the_decoder():
    model, params, extras = made(gated(0.0))
    same = {
        **params,
        "activation": {
            "gate": params["activation"]["bias"],
            "bias": params["activation"]["bias"],
            "log_scale": jnp.zeros(UNITS),
        },
    }
    plain = made(relu_l1(0.0))[0]
    ours, theirs = (
        loss_and_gradient(model, same, extras),
        loss_and_gradient(plain, {**same, "activation": {"bias": same["activation"]["bias"]}}, extras),
    )
    np.testing.assert_allclose(ours[0][0], 2 * theirs[0][0], rtol=1e-5)  # the second error is the same
    np.testing.assert_allclose(ours[1]["decoder"]["kernel"], theirs[1]["decoder"]["kernel"], rtol=1e-4, atol=1e-5)


def test_matching_pursuit_is_the_greedy_algorithm():
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0].astype(np.float32)
    x = np.asarray(normal(5, D))
    np.testing.assert_allclose(
        pursued(jnp.asarray(x), jnp.asarray(rows), D), np.maximum(x @ rows.T, 0.0), atol=1e-5
    )  # orthonormal: the products
    wide = np.array(normal(UNITS, D, seed=3))
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    z, left = np.zeros((5, UNITS), np.float32), x.copy()
    for _ in range(K):
        for i in range(5):
            products = left[i] @ wide.T
            j = products.argmax()
            taken = max(products[j], 0.0)
            z[i, j] += taken
            left[i] -= taken * wide[j]
    np.testing.assert_allclose(pursued(jnp.asarray(x), jnp.asarray(wide), K), z, atol=1e-5)


def test_dead_units_learn_what_the_others_leave():
    """A unit is dead after so many examples without it; then, and only then, the auxiliary loss moves it."""
    auxiliary = AuxiliaryLoss(k=4, weight=0.5, dead_after=16)
    model, params, extras = made(relu_top_k(1), auxiliary=auxiliary)
    plain, _, _ = made(relu_top_k(1))
    (loss, (after, terms)), grads = loss_and_gradient(model, params, extras)
    np.testing.assert_allclose(loss, loss_and_gradient(plain, params, {"activation": {}})[0][0], rtol=1e-6)
    fired = np.any(code(relu_top_k(1)) != 0, axis=0)
    np.testing.assert_array_equal(after["silent"], np.where(fired, 0.0, 8.0))
    (_, (after, _)), _ = loss_and_gradient(model, params, after)
    (loss, (_, terms)), moved = loss_and_gradient(model, params, after)
    assert float(terms["dead_units"]) == (~fired).sum() > 0
    assert float(terms["auxiliary"]) > 0
    for i in range(UNITS):
        changed = float(jnp.max(jnp.abs(moved["decoder"]["kernel"][i] - grads["decoder"]["kernel"][i])))
        assert fired[i] <= (changed < 1e-6), i
    # the definition, written out
    x = np.asarray(batch()["x"])
    centered = x - np.asarray(params["decoder"]["bias"])
    a = (
        np.maximum(centered @ np.asarray(params["encoder"]["kernel"]) + np.asarray(params["activation"]["bias"]), 0)
        * ~fired
    )
    kept = np.where(np.argsort(np.argsort(-a, axis=1), axis=1) < 4, a, 0)
    e = x - np.asarray(jax.jit(model.reconstruct)(params, after, batch(), jax.random.key(1)))
    error = np.mean(np.sum((e - kept @ np.asarray(params["decoder"]["kernel"])) ** 2, axis=1))
    variance = np.mean(np.sum((e - e.mean(0)) ** 2, axis=1))
    assert float(terms["auxiliary"]) == pytest.approx(0.5 * error / variance, rel=1e-4)


@pytest.mark.parametrize("kind", ["batch_top_k", "jump_relu_target", "gated"])
def test_it_is_the_same_on_any_number_of_devices(kind):
    model = dictionary(UNITS, (D,), KINDS[kind], prefixes=(4,), auxiliary=AuxiliaryLoss(dead_after=20))
    optimizer = unit_rows(optax.adam(1e-2))
    batches = {"x": np.asarray(normal(6, 16, D)), "index": np.broadcast_to(np.arange(16, dtype=np.int32), (6, 16))}
    states, logs = [], []
    for devices in (1, 4):
        state = init_state(model, optimizer, jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], batches))
        state, log = make_runner(model, optimizer, Layout(devices), 16)(state, jax.random.key(1), batches, np.int32(6))
        states.append(jax.tree.map(np.asarray, (state.params, state.extras)))
        logs.append(log)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), *states)
    for name in logs[0]:
        np.testing.assert_allclose(logs[1][name], logs[0][name], rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(np.linalg.norm(states[0][0]["decoder"]["kernel"], axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("inner", [optax.sgd(0.5), optax.adam(0.1)], ids=["sgd", "adam"])
def test_rows_stay_at_norm_one_and_only_turn(inner):
    seen = []
    recorded = optax.chain(optax.stateless(lambda u, p: seen.append(u) or u), inner)
    optimizer, rows = unit_rows(recorded, ("w",)), normal(5, D)
    params = {"w": rows / jnp.linalg.norm(rows, axis=1, keepdims=True), "b": jnp.ones(3)}
    grads = {"w": normal(5, D, seed=7), "b": jnp.ones(3)}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        plain, _ = inner.update(grads, inner.init(params), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(jnp.linalg.norm(after["w"], axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(seen[0]["w"] * params["w"], axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(after["b"], params["b"] + plain["b"])
    assert "no decoder/kernel" in refusal(unit_rows(inner).init, params)


@pytest.mark.optimized
def test_an_orthonormal_dictionary_is_recovered():
    """Examples are sums of two of six orthonormal features: every feature becomes a row of the decoder."""
    features = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0].astype(np.float32)

    def drawn(i):
        key = jax.random.fold_in(jax.random.key(3), i)
        on = jax.random.uniform(key, (64, D)).argsort(axis=1) < 2
        return batch_of(jnp.where(on, 1 + jax.random.uniform(jax.random.fold_in(key, 1), (64, D)), 0.0) @ features)

    model = dictionary(D, (D,), relu_top_k(2))
    params = optimum(model, drawn, 3000, unit_rows(optax.adam(1e-2)))
    cosines = np.abs(np.asarray(params["decoder"]["kernel"]) @ features.T)
    assert np.all(cosines.max(axis=0) > 0.98)


def test_what_makes_no_sense_is_refused():
    assert "at least 1" in refusal(relu_top_k, 0)
    assert "prefixes" in refusal(dictionary, UNITS, (D,), relu_top_k(2), (3, 2))
    assert "prefixes" in refusal(dictionary, UNITS, (D,), relu_top_k(2), (UNITS + 1,))
    assert "units" in refusal(dictionary, 0, (D,), relu_top_k(2))
    assert "no encoder" in refusal(dictionary, UNITS, (D,), matching_pursuit(2), (), AuxiliaryLoss())
    assert "positive" in refusal(jump_relu, 0.1, -1.0)
    with pytest.raises(UsageError, match="at least 0"):
        gated(-1.0)


def test_a_transcoder_predicts_the_target(tmp_path):
    """With a dictionary as wide as both, a linear map is learnt; the first center is the geometric median of x."""
    x = normal(64, D, seed=3) + 1.0
    target = x @ normal(D, 4, seed=5) + 2.0
    model = dictionary(24, (D,), relu_top_k(24), target=(4,))
    given = {**batch_of(x), "target": target}
    params, extras = jax.jit(model.init)(jax.random.key(0), given)
    np.testing.assert_allclose(extras["center"], geometric_median(x))
    np.testing.assert_allclose(jnp.linalg.norm(params["encoder"]["kernel"], axis=0), 1.0, rtol=1e-5)
    assert params["decoder"]["kernel"].shape == (24, 4)
    assert model.reconstruct is None
    params = optimum(model, lambda step: given, 1500, unit_rows(optax.adam(2e-2)))
    z = jax.jit(model.encode)(params, extras, given, jax.random.key(1))
    predicted = jax.jit(model.decode)(params, extras, z, given)
    spread = float(jnp.mean(jnp.square(target - jnp.mean(target, axis=0)[None])))
    assert float(jnp.mean(jnp.square(predicted - target))) < 0.01 * spread
    terms = jax.jit(model.evaluate)(params, extras, given, jax.random.key(1))
    np.testing.assert_allclose(terms["nll"], jnp.sum(jnp.square(predicted - target), axis=1), rtol=1e-4)


def test_a_crosscoder_has_one_code_for_all_layers():
    x = normal(20, 3, D, seed=1)
    model = dictionary(UNITS, (3, D), batch_top_k(K))
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    assert params["decoder"]["kernel"].shape == (UNITS, 3 * D)
    assert jax.jit(model.encode)(params, extras, batch_of(x), jax.random.key(1)).shape == (20, UNITS)
    assert jax.jit(model.reconstruct)(params, extras, batch_of(x), jax.random.key(1)).shape == x.shape
    flat = dictionary(UNITS, (3 * D,), batch_top_k(K))
    one, other = (
        m.loss(params, extras, batch_of(given), jax.random.key(1), 0, None)[0]
        for m, given in ((model, x), (flat, x.reshape(20, -1)))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["relu_top_k", "batch_top_k", "jump_relu"])
def test_values_of_k_train_in_one_program(kind, tmp_path):
    """As separate runs, bit by bit or, where a kernel differs, up to rounding."""
    run = tmp_path / "sweep"
    command = [
        "train",
        "dictionary",
        "--latent",
        "16",
        "--steps",
        "6",
        "--batch-size",
        "32",
        "--kind",
        kind,
        "--no-verbose",
    ]
    assert main([*command, "--sweep", "k=2,3", "--evaluate", "none", "--run", str(run)]) == 0
    assert main([*command, "--k", "3", "--evaluate", "none", "--run", str(tmp_path / "alone")]) == 0
    members = {path.name: aejax.open_run(path).params for path in run.iterdir() if path.is_dir()}
    assert len(members) == 2
    alone = aejax.open_run(tmp_path / "alone").params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), members["k3-seed0"], alone)
    same = jax.tree.map(np.array_equal, members["k2-seed0"], members["k3-seed0"])
    assert not all(jax.tree.leaves(same))


def test_pursuit_of_several_lengths_is_refused_in_one_program(tmp_path, capsys):
    command = ["train", "dictionary", "--kind", "matching_pursuit", "--sweep", "k=2,3", "--steps", "2"]
    assert main([*command, "--run", str(tmp_path / "sweep")]) == 2
    assert "train one run for each" in capsys.readouterr().err
