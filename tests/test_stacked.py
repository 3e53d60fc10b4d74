"""Stacks: a layer on frozen ones is the layer on their codes, and the unrolled stack is the stack."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.models import autoencoder, classifier
from aejax.models.stacked import layers, on_top_of, started_from, unroll
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.reports.study import finished
from aejax.runs.checkpoint import digest
from aejax.runs.opening import open_parent, open_run
from aejax.training.settings import Settings
from aejax.training.step import init_state, make_step
from aejax.types import Parent
from tiny import batch_of, uniform

SHAPE, WIDTHS = (4, 3), (7, 5, 6)
KEY = jax.random.key(0)


def images(n=6):
    return batch_of(uniform(n, *SHAPE), label=jnp.arange(n) % 3)


def layer(i, rate=0.25):
    seen = SHAPE if i == 0 else (WIDTHS[i - 1],)
    encoder, decoder = MLP((), WIDTHS[i], out_activation=jax.nn.sigmoid), MLP((), seen)
    return autoencoder(encoder, decoder, bernoulli(), corrupt=masking(rate), tied=True)


def parent_of(model, seed):
    params, extras = jax.jit(model.init)(jax.random.key(seed), images())
    return Parent("lower", "", model, params, extras, {})


@pytest.fixture(scope="module")
def stack():
    below = parent_of(layer(0), 0)
    for i in (1, 2):
        below = parent_of(on_top_of(below, layer(i)), i)
    return below


def test_a_layer_on_top_is_the_layer_on_the_uncorrupted_codes():
    below, batch = parent_of(layer(0), 0), images()
    model = on_top_of(below, layer(1))
    params, extras = jax.jit(model.init)(KEY, batch)
    codes = below.model.encode(below.params, {}, batch, KEY)
    (value, (_, metrics)), grads = jax.value_and_grad(model.loss, has_aux=True)(params, extras, batch, KEY, 0, None)
    (direct, (_, own)), direct_grads = jax.value_and_grad(layer(1).loss, has_aux=True)(
        params, {}, {**batch, "x": codes}, KEY, 0, None
    )
    assert float(value) == float(direct)
    jax.tree.map(np.testing.assert_array_equal, (metrics, grads), (own, direct_grads))


def test_what_lies_below_stays_as_it_is():
    below, batch = parent_of(layer(0), 0), images()
    model, optimizer = on_top_of(below, layer(1)), optax.sgd(0.5)
    state = init_state(model, optimizer, KEY, batch)
    after, _ = jax.jit(make_step(model, optimizer))(state, KEY, batch)
    jax.tree.map(np.testing.assert_array_equal, after.extras["lower"]["params"], below.params)
    assert digest(after.params) != digest(state.params)


def test_the_unrolled_stack_is_the_stack(stack):
    batch, sigmoid = images(), jax.nn.sigmoid
    net = MLP(WIDTHS[:2], WIDTHS[2], sigmoid, sigmoid), MLP(WIDTHS[1::-1], SHAPE, sigmoid)
    deep = started_from(autoencoder(*net, bernoulli()), unroll(layers(stack)))
    params, extras = jax.jit(deep.init)(KEY, batch)
    for name in ("encode", "reconstruct"):
        theirs = getattr(stack.model, name)(stack.params, stack.extras, batch, KEY)
        np.testing.assert_allclose(getattr(deep, name)(params, extras, batch, KEY), theirs, rtol=1e-5)


def test_a_stack_of_other_widths_is_refused(stack):
    wide = classifier(MLP((9, 5), 6, jax.nn.sigmoid, jax.nn.sigmoid), 3)
    started = started_from(wide, {"encoder": unroll(layers(stack))["encoder"]})
    with pytest.raises(UsageError, match="match the widths"):
        jax.eval_shape(started.init, KEY, images())


def test_an_untrained_classifier_is_undecided_and_its_loss_is_the_cross_entropy():
    model, batch = classifier(MLP((), 6), 3), images()
    params, _ = jax.jit(model.init)(KEY, batch)
    np.testing.assert_allclose(model.evaluate(params, {}, batch, KEY)["nll"], np.log(3.0), rtol=1e-6)
    kernel = jax.random.normal(KEY, (6, 3))
    params["head"]["kernel"] = kernel
    logits = model.encode(params, {}, batch, KEY) @ kernel
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    value, (_, metrics) = model.loss(params, {}, batch, KEY, 0, None)
    np.testing.assert_allclose(value, jnp.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(metrics["error"], np.mean(np.argmax(logits, axis=1) != batch["label"]))
    with pytest.raises(UsageError, match="needs labels"):
        model.init(KEY, {"x": batch["x"]})


def test_stages_are_runs_that_name_the_run_below(root, tmp_path):
    file, quick = root / "experiments" / "autoencoders" / "vincent2010.py", Settings(log_every=2, save_every=2)
    small = {"data": "digits", "hidden": (8, 6), "steps": 2}
    first = finished(file, tmp_path / "1", quick, **small)
    second = finished(file, tmp_path / "2", quick, **small, parent=str(tmp_path / "1"))
    assert second.config["parent"] == {"run": str(tmp_path / "1"), "digest": digest(first.params, first.state.extras)}
    for stage, name in (("supervised", "head"), ("autoencoder", "decoder")):
        top = finished(file, tmp_path / stage, quick, **small, stage=stage, parent=str(tmp_path / "2"), lr=1e-6)
        assert name in top.params
        codes = second.encode(np.ones((3, 8, 8, 1), np.float32))
        np.testing.assert_allclose(top.encode(np.ones((3, 8, 8, 1), np.float32)), codes, atol=1e-3)
    assert open_run(tmp_path / "2").step == 2
    with pytest.raises(UsageError, match="all 2 layers"):
        finished(file, tmp_path / "3", quick, **small, parent=str(tmp_path / "2"))

    # another state of the run below
    (tmp_path / "1").rename(tmp_path / "away")
    finished(file, tmp_path / "1", quick, **{**small, "steps": 3})
    with pytest.raises(UsageError, match="other digest"):
        open_run(tmp_path / "2")
    (tmp_path / "1" / "result.json").unlink()
    with pytest.raises(UsageError, match="not complete"):
        open_parent(tmp_path / "1")
