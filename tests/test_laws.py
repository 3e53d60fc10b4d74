"""Laws of every family, which a mistake in one line of one of them breaks: what learns from which split, which draws differ,
what the target of a corrupted input is, and where training and evaluation differ."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from aejax.data import load
from aejax.evaluation.evaluator import evaluate
from aejax.keys import each
from aejax.models import autoencoder, iwae, state_space, tdvae, vae, vqvae, vqvae2
from aejax.nets import GRU, MLP, Beliefs, ConvDecoder, ConvEncoder, Gated
from aejax.objective import bernoulli, gaussian_noise, masking, nearest, squared_error, top_k, winner_take_all
from aejax.objective.time_gaps import uniform
from aejax.samplers import sample_fitted
from aejax.training.settings import Settings
from aejax.training.step import Layout, init_state, make_runner
from aejax.training.trainer import train
from aejax.types import Model
from tiny import batch_of, normal
from tiny import uniform as uniform_numbers

D = 12


def linear(noise=None):
    return autoencoder(MLP((), 2), MLP((), D), squared_error(), corrupt=noise)


def in_subspace(n, axes, seed, center=0.5):
    """Examples [n, D] that vary in some of their components only, about a center, and whether the first of these is large."""
    rng = np.random.default_rng(seed)
    x = np.full((n, D), 0.5, np.float32)
    x[:, axes] = center + 0.3 * rng.uniform(-1, 1, size=(n, len(axes)))
    return x, (x[:, axes[0]] > center).astype(np.int64)


def made(train_set, test_set, directory, noise=None, steps=40, **more):
    """A run whose validation split is the end of the training split, and its evaluation."""
    (x, label), (x_test, label_test) = train_set, test_set
    splits = load(
        {"x_train": x, "label_train": label, "x_test": x_test, "label_test": label_test},
        ("train[:80%]", "train[80%:]", "test"),
    )
    experiment = aejax.fit(linear(noise), splits, 1e-2, 32, steps, 0, sweep=gaussian_noise if noise else None, **more)
    return train(experiment, directory, Settings(log_every=5, save_every=5, keep=100, verbose=False))


# What is fitted, and what is chosen, knows the training split, and the validation split, only.

HERE, ELSEWHERE = (0, 1, 2, 3), (6, 7, 8, 9)


def test_baselines_learn_from_the_training_split(tmp_path):
    """The test examples vary in directions in which the training examples do not: whoever learned from the latter knows nothing
    of them, and whoever has seen them restores them well."""
    train_set, test_set = in_subspace(400, HERE, 0), in_subspace(300, ELSEWHERE, 1, center=0.65)
    run = made(train_set, test_set, tmp_path / "run", gaussian_noise(0.1))
    found = evaluate(run, draws=0)
    variance = float(np.mean(np.square(test_set[0] - train_set[0].mean(0))))
    known = float(np.mean(np.square(test_set[0] - test_set[0].mean(0))))
    assert found["reconstruction"]["pca"]["mse"] == pytest.approx(variance, rel=0.05)
    assert found["reconstruction"]["mean"]["mse"] == pytest.approx(variance, rel=0.05)
    for level in found["restoration"]["sweep"]:
        if level["level"] > 0:
            assert level["optimal_linear"]["mse"] > 0.9 * known, "a denoiser that has seen the test split restores more"
    learned = evaluate(made(test_set, test_set, tmp_path / "seen", gaussian_noise(0.1)), draws=0, quick=True)
    assert learned["reconstruction"]["pca"]["mse"] < 0.7 * variance  # so the law can tell


def test_probes_learn_from_the_training_split(tmp_path):
    """The classes of the test examples are the other way round: whoever learned from the training split is always wrong."""
    train_set, (x, label) = in_subspace(400, HERE[:2], 0), in_subspace(300, HERE[:2], 1)
    found = evaluate(made(train_set, (x, 1 - label), tmp_path / "run", steps=300), draws=0)
    assert {"codes", "raw"} <= found["probes"].keys()
    for name in ("codes", "raw", "pca"):
        if name in found["probes"]:
            assert all(accuracy < 0.2 for accuracy in found["probes"][name].values()), (name, found["probes"])


def test_nothing_that_training_leaves_depends_on_the_test_split(tmp_path):
    """With a validation split: parameters, log, and which checkpoint is the best."""
    train_set = in_subspace(400, HERE, 0)
    runs = [made(train_set, in_subspace(300, axes, 1), tmp_path / f"{axes[0]}") for axes in (HERE, ELSEWHERE)]
    left = []
    for run in runs:
        lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("examples_per_second", None)
        best = aejax.open_run(run.directory, checkpoint="best", experiment=run.experiment).step
        left.append((json.loads((run.directory / "result.json").read_text())["metrics"], lines, best))
    assert left[0] == left[1]
    other = made(in_subspace(400, ELSEWHERE, 2), in_subspace(300, HERE, 1), tmp_path / "other")
    assert json.loads((other.directory / "result.json").read_text())["metrics"] != left[0][0]


def test_the_best_checkpoint_is_the_best_on_the_validation_split(tmp_path):
    """A learning rate that is far too high: the validation error goes up and down, and that of the test split elsewhere."""
    run = made(in_subspace(400, HERE, 0), in_subspace(300, ELSEWHERE, 1), tmp_path / "run", optimizer=optax.adam(0.3))
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    validated = {line["step"]: line["nll"] for line in lines if line["split"] == "validation"}
    assert aejax.open_run(run.directory, checkpoint="best", experiment=run.experiment).step == min(
        validated, key=validated.get
    )
    for step, nll in validated.items():
        if step == run.step:
            terms = run.evaluate(run.experiment.validation)
            assert nll == pytest.approx(float(np.mean(terms["nll"])), rel=1e-4)


def test_the_mixture_and_the_scaling_are_those_of_the_training_split(tmp_path):
    train_set = in_subspace(400, HERE, 0)
    runs = [made(train_set, in_subspace(300, axes, 1), tmp_path / f"{axes[0]}") for axes in (HERE, ELSEWHERE)]
    np.testing.assert_array_equal(*(sample_fitted(run, 3, 5) for run in runs))
    scalings = [
        load({"x_train": x, "x_test": y}, standardize="zscore")[0].scaling
        for x, y in itertools.product((train_set[0], 2 * train_set[0]), (train_set[0], 3 + train_set[0]))
    ]
    assert scalings[0] == scalings[1] != scalings[2] == scalings[3]


# Draws.


def telling(n):
    """A model that logs the noise that each of n examples gets for two purposes."""

    def init(key, batch):
        return {"w": jnp.zeros(())}, {}

    def loss(params, extras, batch, key, step, axis):
        purposes = jax.random.split(key)
        drawn = [jax.vmap(jax.random.normal)(each(k, batch["index"])) for k in purposes]
        logged_terms = {f"{i}/{p}": row[i] for p, row in enumerate(drawn) for i in range(n)}
        return params["w"] * 0.0, (extras, logged_terms)

    nothing = lambda *args: {}
    return Model(init=init, loss=loss, evaluate=nothing)


def test_noise_differs_between_steps_examples_purposes_and_seeds_and_is_uncorrelated():
    n, steps = 3, 400
    model, optimizer = telling(n), optax.sgd(0.0)
    batches = {
        "x": np.zeros((steps, n, 1), np.float32),
        "index": np.broadcast_to(np.arange(n, dtype=np.int32), (steps, n)),
    }
    series = {}
    for seed in (0, 1):
        state = init_state(model, optimizer, jax.random.key(9), jax.tree.map(lambda leaf: leaf[0], batches))
        run = make_runner(model, optimizer, Layout(), n)
        _, log = run(state, jax.random.key(seed), batches, np.int32(steps))
        series |= {(seed, name): np.asarray(values) for name, values in log.items() if name != "loss"}
    assert len(series) == 2 * 2 * n
    every = np.stack(list(series.values()))
    assert len(np.unique(every)) > every.size - 10  # of 2²⁴ numbers, hardly one comes twice
    correlation = np.corrcoef(every) - np.eye(len(every))
    assert np.max(np.abs(correlation)) < 4.5 / np.sqrt(steps)
    for row in every:  # nor with itself some steps later
        for lag in (1, 2, 5):
            assert abs(np.corrcoef(row[:-lag], row[lag:])[0, 1]) < 4.5 / np.sqrt(steps)


# The target of a corrupted input is the clean one.

SHAPE, FRAMES = (4, 4, 1), (6, 2, 2)
numbers = Gated(8, 2 * 4)
FAMILIES = {
    "autoencoder": (lambda c: autoencoder(MLP((8,), 3), MLP((8,), SHAPE), bernoulli(), corrupt=c), SHAPE),
    "vae": (lambda c: vae(MLP((8,), 6), MLP((8,), SHAPE), bernoulli(), 3, SHAPE, corrupt=c), SHAPE),
    "iwae": (lambda c: iwae(MLP((8,), 6), MLP((8,), SHAPE), bernoulli(), 3, SHAPE, samples=1, corrupt=c), SHAPE),
    "vqvae": (lambda c: vqvae(MLP((8,), 3), MLP((8,), SHAPE), bernoulli(), nearest(4, 3), SHAPE, corrupt=c), SHAPE),
    "vqvae2": (
        lambda c: vqvae2(
            [ConvEncoder((4,), 3, blocks=0, spatial=True)],
            [ConvDecoder((4,), SHAPE, blocks=0)],
            bernoulli(),
            [nearest(4, 3)],
            SHAPE,
            corrupt=c,
        ),
        SHAPE,
    ),
    "tdvae": (
        lambda c: tdvae(
            Beliefs(MLP((), 3 * 8), GRU(8)),
            numbers,
            numbers,
            numbers,
            MLP((), FRAMES[1:]),
            bernoulli(),
            4,
            FRAMES,
            uniform(1, 3),
            corrupt=c,
        ),
        FRAMES,
    ),
    "state_space": (
        lambda c: state_space(
            Beliefs(MLP((), 3 * 8), GRU(8)), numbers, numbers, MLP((), FRAMES[1:]), bernoulli(), 4, FRAMES, corrupt=c
        ),
        FRAMES,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_target_of_a_corrupted_input_is_the_clean_one(family):
    """If nothing of the input is left, −log p(x|z) of bits is all of the loss in which x occurs, and is affine in x: with x̃ as
    the target the loss would be constant. Where x is what is left, 0, it is the loss without a corruption."""
    build, shape = FAMILIES[family]
    model, plain = build(masking(1.0)), build(None)
    a, b = uniform_numbers(3, *shape, seed=1), uniform_numbers(3, *shape, seed=2)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(a))
    params = jax.tree.map(lambda leaf: leaf + normal(*leaf.shape, scale=0.3), params)  # biases are zero at first
    loss = jax.jit(lambda x, m=model: m.loss(params, extras, batch_of(x), jax.random.key(1), 0, None)[0])
    without = jax.jit(lambda x: plain.loss(params, extras, batch_of(x), jax.random.key(1), 0, None)[0])
    assert abs(float(loss(a) - loss(b))) > 1e-3
    np.testing.assert_allclose(loss((a + b) / 2), (loss(a) + loss(b)) / 2, rtol=1e-5)
    np.testing.assert_allclose(loss(0 * a), without(0 * a), rtol=1e-5)


# What is logged does not depend on the number of devices.


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=pytest.mark.slow if f in ("tdvae", "state_space") else ()) for f in FAMILIES]
)
def test_every_logged_metric_is_that_of_the_whole_batch(family):
    """On four devices as on one, perplexities and other functions of the whole batch included."""
    build, shape = FAMILIES[family]
    model, optimizer, x = build(masking(0.3)), optax.sgd(1e-2), np.asarray(uniform_numbers(2, 16, *shape))
    batches = {"x": x, "index": np.broadcast_to(np.arange(16, dtype=np.int32), (2, 16))}
    logs = []
    for devices in (1, 4):
        state = init_state(model, optimizer, jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], batches))
        _, log = make_runner(model, optimizer, Layout(devices), 16)(state, jax.random.key(1), batches, np.int32(2))
        logs.append({name: np.asarray(values) for name, values in log.items()})
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-4, atol=1e-6, err_msg=name)


# Tied weights.


def test_the_gradient_of_tied_weights_is_the_sum_of_both():
    nets = MLP((7,), 3), MLP((7,), D)
    tied, free = (autoencoder(*nets, squared_error(), tied=tied) for tied in (True, False))
    batch = batch_of(uniform_numbers(5, D))
    params, extras = jax.jit(tied.init)(jax.random.key(0), batch)
    mirror = [params["encoder"][f"dense_{i}"]["kernel"].T for i in (1, 0)]
    untied = {
        **params,
        "decoder": {f"dense_{i}": {**params["decoder"][f"dense_{i}"], "kernel": w} for i, w in enumerate(mirror)},
    }
    grad = lambda model, p: jax.jit(jax.grad(lambda q: model.loss(q, extras, batch, jax.random.key(1), 0, None)[0]))(p)
    both, each_ = grad(tied, params), grad(free, untied)
    for i in range(2):
        expected = each_["encoder"][f"dense_{i}"]["kernel"] + each_["decoder"][f"dense_{1 - i}"]["kernel"].T
        np.testing.assert_allclose(both["encoder"][f"dense_{i}"]["kernel"], expected, rtol=1e-4, atol=1e-6)
        assert float(jnp.max(jnp.abs(each_["decoder"][f"dense_{1 - i}"]["kernel"]))) > 1e-4


# Training and evaluation differ where the papers' do.

UNITS, K = 10, 2


@pytest.mark.parametrize(
    ("bottleneck", "in_training", "outside"),
    [
        (top_k(K, alpha=2.0), lambda z: (z != 0).sum(1) == K, lambda z: (z != 0).sum(1) == 2 * K),
        (winner_take_all(0.25), lambda z: (z != 0).sum(0) <= 2, lambda z: (z != 0).sum(1) == UNITS),
    ],
    ids=["top_k", "winner_take_all"],
)
def test_a_bottleneck_is_in_its_mode_through_every_public_function(bottleneck, in_training, outside):
    """k-sparse (Makhzani & Frey 2013): αk units outside training; winner-take-all (2015): all of them."""
    model = autoencoder(MLP((), UNITS), MLP((), D), squared_error(), bottleneck=bottleneck, penalties=())
    batch = batch_of(uniform_numbers(8, D))
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    encoder, decoder = (jax.tree.map(np.asarray, params[net]["dense_0"]) for net in ("encoder", "decoder"))
    codes = np.asarray(jax.jit(model.encode)(params, extras, batch, jax.random.key(1)))
    assert np.all(outside(codes))
    shown = codes @ decoder["kernel"] + decoder["bias"]
    reconstructed = jax.jit(model.reconstruct)(params, extras, batch, jax.random.key(1))
    np.testing.assert_allclose(reconstructed, shown, rtol=1e-4, atol=1e-5)
    terms = jax.jit(model.evaluate)(params, extras, batch, jax.random.key(1))
    np.testing.assert_allclose(terms["mse"], np.mean(np.square(shown - batch["x"]), axis=1), rtol=1e-4)
    _, (_, logged) = jax.jit(lambda: model.loss(params, extras, batch, jax.random.key(1), 0, None))()
    features = np.asarray(batch["x"]) @ encoder["kernel"] + encoder["bias"]
    kept = np.asarray(bottleneck(jnp.asarray(features), None, 0))
    assert np.all(in_training(kept))
    trained = np.mean(np.square(kept @ decoder["kernel"] + decoder["bias"] - batch["x"]))
    assert float(logged["mse"]) == pytest.approx(float(trained), rel=1e-4)
    assert float(logged["mse"]) != pytest.approx(float(np.mean(terms["mse"])), rel=1e-3)
