"""Nets with batch normalization and dropout in every kind of model, and networks of other libraries."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from aejax.models import autoencoder, cvae, factor_vae, gsn, iwae, tdvae, vae, vqvae
from aejax.models.collections import COLLECTIONS
from aejax.nets import MLP, Adapter
from aejax.objective import bernoulli, contractive, gaussian, masking, nearest, salt_and_pepper
from aejax.objective.posteriors import diagonal
from aejax.runs.checkpoint import digest
from aejax.training.settings import Settings
from aejax.training.step import init_state, make_runner
from aejax.training.trainer import resume
from tiny import batch_of, refusal, uniform


class Net(nn.Module):
    """Flat, with batch normalization and dropout."""

    out: int | tuple[int, ...]
    rate: float = 0.5
    norm: bool = True

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(16)(x.reshape(len(x), -1))
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(self.rate, deterministic=not train)(nn.relu(x))
        return MLP((), self.out)(x)


X = uniform(32, 6)


def model_of(**options):
    return autoencoder(Net(3, **options), Net(6, **options), bernoulli())


def trained(model, devices=1, steps=3, x=X, **layout):
    """The state after some steps on the same batch."""
    from aejax.training.step import Layout

    optimizer = optax.sgd(0.1)
    batch = batch_of(x, label=jnp.arange(len(x)) % 2)
    state = init_state(model, optimizer, jax.random.key(0), batch)
    run = make_runner(model, optimizer, Layout(devices, **layout), len(x))
    batches = jax.tree.map(lambda leaf: np.stack([leaf] * steps), batch)
    state, metrics = run(state, jax.random.key(1), batches, steps)
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state), metrics  # on one device


def test_running_statistics_are_those_of_the_global_batch_on_any_number_of_devices():
    one, _ = trained(model_of(rate=0.0))
    four, _ = trained(model_of(rate=0.0), devices=4)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6), one, four)

    # By hand, for the first step: 0.9 times the initial statistics, plus a tenth of the batch's.
    model = model_of(rate=0.0)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(X))
    kernel, bias = params["encoder"]["Dense_0"]["kernel"], params["encoder"]["Dense_0"]["bias"]
    h = np.asarray(X @ kernel) + np.asarray(bias)
    _, (after, _) = model.loss(params, extras, batch_of(X), jax.random.key(1), 0, None)
    found = after[COLLECTIONS]["encoder"]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], 0.1 * h.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * h.var(0), rtol=1e-4)


def test_only_training_changes_statistics_and_drops_units():
    state, _ = trained(model_of())
    model = model_of()
    key = jax.random.key(5)
    codes = [model.encode(state.params, state.extras, batch_of(X), k) for k in (key, jax.random.key(6))]
    np.testing.assert_array_equal(*codes)
    # An example's code depends on no other example.
    np.testing.assert_allclose(
        model.encode(state.params, state.extras, batch_of(X[:1]), key), codes[0][:1], rtol=1e-5, atol=1e-6
    )
    losses = [model.loss(state.params, state.extras, batch_of(X), k, 0, None)[0] for k in (key, jax.random.key(6))]
    assert losses[0] != losses[1]


def test_dropout_has_a_key_for_each_example():
    seen = []

    class Kept(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic=True):
            out = nn.Dropout(0.3)(jnp.ones((len(x), 50)), deterministic=deterministic)
            seen.append(out)
            return nn.Dense(3)(out)

    model = autoencoder(Kept(), MLP((), 6), bernoulli())
    batch = batch_of(X)
    params, extras = model.init(jax.random.key(0), batch)
    seen.clear()
    model.loss(params, extras, batch, jax.random.key(1), 0, None)
    half = {name: leaf[16:] for name, leaf in batch.items()}
    model.loss(params, extras, half, jax.random.key(1), 0, None)
    whole, second = seen
    np.testing.assert_array_equal(whole[16:], second)
    assert len(np.unique(np.asarray(whole), axis=0)) == len(X)
    np.testing.assert_allclose(np.unique(whole), [0.0, 1 / 0.7], rtol=1e-6)
    assert abs(float((whole > 0).mean()) - 0.7) < 0.03  # 1600 draws: four standard deviations are 0.046
    # Accumulation shows a model a part of the batch, which changes nothing but rounding.
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        trained(model_of(norm=False))[0].params,
        trained(model_of(norm=False), parts=4)[0].params,
    )


def test_a_penalty_uses_the_running_statistics():
    """Within the penalty, an example's code depends on that example only: the Jacobian of the batch is block diagonal."""
    model = autoencoder(Net(3, 0.5), Net(6, 0.5), bernoulli(), penalties=(contractive(1.0),))
    params, extras = model.init(jax.random.key(0), batch_of(X))
    both = [model.loss(params, extras, batch_of(X), jax.random.key(k), 0, None)[1][1]["contractive"] for k in (1, 2)]
    assert both[0] == both[1]  # no dropout


class Beliefs(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = x.reshape(*x.shape[:2], -1)
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        return nn.RNN(nn.SimpleCell(4))(x)


FAMILIES = {
    "autoencoder": lambda: autoencoder(Net(3), Net(6), bernoulli(), corrupt=masking(0.3)),
    "vae": lambda: vae(Net(diagonal().width(3)), Net(6), bernoulli(), 3, (6,)),
    "iwae": lambda: iwae(Net(diagonal().width(3)), Net(6), bernoulli(), 3, (6,), samples=4),
    "factor_vae": lambda: factor_vae(Net(diagonal().width(3)), Net(6), bernoulli(), 3, (6,), 1.0, MLP((8,), 1)),
    "cvae": lambda: cvae(
        Net(diagonal().width(3)),
        Net(diagonal().width(3)),
        Net(6),
        bernoulli(),
        3,
        (6,),
        lambda batch: jax.nn.one_hot(batch["label"], 2),
        alpha=0.5,
    ),
    "gsn": lambda: gsn(Net(3), Net(6), bernoulli(), salt_and_pepper(0.2), (6,), burn_in=2),
    "vqvae": lambda: vqvae(Net(4), Net(6), bernoulli(), nearest(8, 4), (6,)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_with_such_nets(name):
    model = FAMILIES[name]()
    state, metrics = trained(model, devices=2)
    assert np.isfinite(metrics["loss"]).all()
    batch = batch_of(X, label=jnp.arange(32) % 2)
    before = model.init(jax.random.key(0), batch)[1][COLLECTIONS]
    assert {"encoder", "decoder"} <= set(before)
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, state.extras[COLLECTIONS])
    assert all(jax.tree.leaves(changed))
    terms = model.evaluate(state.params, state.extras, batch, jax.random.key(0))
    assert all(term.shape == (32,) for term in terms.values())
    assert model.reconstruct(state.params, state.extras, batch, jax.random.key(0)).shape == (32, 6)


def test_td_vae_trains_with_such_beliefs():
    nets = [Beliefs(), *[MLP((), 6)] * 3, MLP((), (3,))]
    model = tdvae(*nets, bernoulli(), latent=3, shape=(5, 3))
    x = uniform(8, 5, 3)
    (one, _), (two, _) = trained(model, x=x, steps=1), trained(model, devices=2, x=x, steps=1)
    found = one.extras[COLLECTIONS]["beliefs"]["batch_stats"]["BatchNorm_0"]
    assert np.any(found["mean"] != 0.0)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), one.extras, two.extras)


def test_a_run_of_such_nets_resumes_replays_and_carries_a_second_one(tmp_path):
    splits = aejax.load("digits", aejax.usual_splits("digits"))

    def experiment(steps):
        return aejax.fit(autoencoder(Net(8), Net(splits[0].shape), bernoulli()), splits, steps=steps, batch_size=32)

    settings = Settings(save_every=10, verbose=False)
    whole = aejax.train(experiment(20), tmp_path / "whole", settings)
    aejax.train(experiment(20), tmp_path / "cut", settings, callbacks=[lambda step, split, terms: step >= 10])
    (tmp_path / "cut" / "result.json").unlink()
    assert digest(resume(tmp_path / "cut", experiment=experiment(20)).state) == digest(whole.state)
    np.testing.assert_array_equal(
        aejax.open_run(tmp_path / "whole", experiment=experiment(20)).encode(splits[1]), whole.encode(splits[1])
    )
    numbers = aejax.evaluate(whole, quick=True)
    assert json.loads((tmp_path / "whole" / "eval.json").read_text())["terms"]
    assert numbers["terms"]


def test_batch_normalization_needs_the_whole_batch():
    train, test = aejax.load("digits")
    experiment = aejax.fit(autoencoder(Net(8), Net(train.shape), bernoulli()), (train, test), steps=2)
    message = refusal(aejax.train, experiment, "runs/refused", Settings(accumulate=2, verbose=False))
    assert "the terms of this model depend on the whole batch; leave --accumulate out" in message


# Networks of other libraries


def nnx_net(sizes):
    from flax import nnx

    def make(key):
        return nnx.Linear(*sizes, rngs=nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(lambda: make(jax.random.key(0))))
    return Adapter(lambda key: nnx.state(make(key), nnx.Param), lambda params, x: nnx.merge(graph, params)(x))


def equinox_net(sizes):
    eqx = pytest.importorskip("equinox")

    def make(key):
        return eqx.nn.Linear(*sizes, key=key)

    static = eqx.partition(eqx.filter_eval_shape(make, jax.random.key(0)), eqx.is_inexact_array)[1]
    create = lambda key: eqx.filter(make(key), eqx.is_inexact_array)
    return Adapter(create, lambda params, x: jax.vmap(eqx.combine(params, static))(x))


@pytest.mark.parametrize("net", [nnx_net, equinox_net])
def test_networks_of_other_libraries_train_and_are_saved(net, tmp_path):
    x = np.asarray(uniform(64, 6))
    splits = aejax.load(x)
    make = lambda: aejax.fit(autoencoder(net((6, 2)), net((2, 6)), gaussian()), splits, steps=60, lr=0.03)
    run = aejax.train(make(), tmp_path / "run", Settings(verbose=False))
    losses = run.history["train"]["loss"][1]
    opened = aejax.open_run(tmp_path / "run", experiment=make())
    np.testing.assert_array_equal(opened.encode(splits[1]), run.encode(splits[1]))
    # A linear autoencoder is at best PCA, and here not far from it.
    mse = float(np.mean((run.reconstruct(x) - x) ** 2))
    _, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    assert np.isfinite(losses).all()
    assert np.sum(s[2:] ** 2) / x.size <= mse * 1.001
    assert mse < np.mean((x - x.mean(0)) ** 2)
