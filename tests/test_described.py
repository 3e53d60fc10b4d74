"""Runs made in Python, opened without their code by the calls that made them."""

import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aejax
from aejax.cli import main
from aejax.described import NotDescribed, description, made_of
from aejax.models import autoencoder, binarized, factor_vae, iwae, vae, vqvae
from aejax.nets import MLP, ConvDecoder, ConvEncoder
from aejax.objective import (
    bernoulli,
    chain,
    contractive,
    discretized_logistic,
    flow,
    gaussian,
    gaussian_noise,
    masking,
    mixture,
    nearest,
    planar,
    residual,
    student_t,
    top_k,
    weighted,
)
from tiny import batch_of, refusal, uniform

QUIET = aejax.Settings(verbose=False)
X = uniform(12, 8, 8, 1)
SHAPE = (8, 8, 1)

MODELS = {
    "autoencoder": lambda: autoencoder(MLP((5,), 4), MLP((5,), (*SHAPE, 2)), student_t(), masking(0.3), (1.0, 0.5)),
    "activation": lambda: autoencoder(MLP((5,), 4, activation=nn.gelu, dtype=jnp.bfloat16), MLP((), SHAPE), gaussian()),
    "penalty": lambda: autoencoder(MLP((5,), 4), MLP((), SHAPE), bernoulli(), penalties=(contractive(0.1),)),
    "sparse": lambda: autoencoder(MLP((5,), 4), MLP((), SHAPE), bernoulli(), bottleneck=top_k(2)),
    "chain": lambda: autoencoder(MLP((), 4), MLP((), SHAPE), gaussian(), chain(masking(0.2), gaussian_noise(0.1))),
    "vae": lambda: binarized(vae(MLP((5,), 6), MLP((), SHAPE), bernoulli(), 3, SHAPE, prior=mixture(2)), 0),
    "flow": lambda: vae(
        MLP((), flow([planar()] * 2, 2).width(3)),
        MLP((), SHAPE),
        bernoulli(),
        3,
        SHAPE,
        posterior=flow([planar()] * 2, 2),
    ),
    "iwae": lambda: iwae(MLP((), 6), MLP((), SHAPE), bernoulli(), 3, SHAPE, samples=2),
    "factor": lambda: factor_vae(MLP((), 6), MLP((), SHAPE), bernoulli(), 3, SHAPE, 2.0, MLP((4,), 1)),
    "weighted": lambda: vae(MLP((), 6), MLP((), SHAPE), bernoulli(), 3, SHAPE, kl_cost=weighted(0.5)),
    "vqvae": lambda: vqvae(
        ConvEncoder((4,), 4, blocks=0, spatial=True),
        ConvDecoder((4,), (*SHAPE, 2), blocks=0),
        discretized_logistic(17),
        residual([nearest(8, 4)] * 2),
        SHAPE,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_after_its_description(name):
    model = MODELS[name]()
    text = json.dumps(description(model))
    again = made_of(json.loads(text))
    assert json.dumps(description(again)) == text
    batch = batch_of(jnp.round(X * 16) / 16 if name == "vqvae" else X)
    key = jax.random.key(3)

    def terms(model):
        params, extras = model.init(jax.random.key(0), batch)
        return model.loss(params, extras, batch, key, jnp.int32(0), None)[1][1]

    found, expected = jax.jit(lambda: terms(again))(), jax.jit(lambda: terms(model))()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_is_the_users_own_is_named():
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x.reshape(x.shape[0], -1))

    for part, name in [
        (autoencoder(Mine(), MLP((), SHAPE), gaussian()), "Mine"),
        (autoencoder(MLP((), 4), MLP((), SHAPE), gaussian(), corrupt=lambda key, x, step: (x, x > 0)), "lambda"),
        (autoencoder(MLP((), 4), MLP((), SHAPE), gaussian())._replace(sample=None), "Model"),
    ]:
        with pytest.raises(NotDescribed, match=name):
            description(part)


@pytest.mark.parametrize(
    "text",
    ["os:system", "aejax.files:write_bytes", "aejax.data:load", "builtins:eval", "aejax.cli:main", "jax.nn:nothing"],
)
def test_a_description_calls_nothing_but_what_makes_models(text):
    with pytest.raises(NotDescribed):
        made_of({"call": text, "positional": ["x"], "named": {}})
    with pytest.raises(NotDescribed):
        made_of({"module": text, "fields": {}})


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A run as a notebook leaves it: trained on an array, which is saved beside it."""
    monkeypatch.chdir(tmp_path)
    x = np.asarray(uniform(60, 8, 8, 1))
    np.save("x.npy", x)
    model = autoencoder(MLP((8,), 4), MLP((8,), SHAPE), bernoulli(), corrupt=masking(0.3))
    return aejax.train(aejax.fit(model, x, steps=8, batch_size=16, sweep=masking), "run", QUIET), x


def test_the_command_line_evaluates_reports_encodes_and_replays_a_run_of_a_notebook(notebook, capsys):
    run, x = notebook
    assert main(["encode", "run", "x.npy", "codes.npy"]) == 0
    np.testing.assert_array_equal(np.load("codes.npy"), run.encode(x))
    assert main(["evaluate", "run", "--quick"]) == 2
    assert (
        "trained on arrays in memory; save them as .npy or .npz and pass that file with --data"
        in capsys.readouterr().err
    )
    assert main(["evaluate", "run", "--data", "x.npy"]) == 0
    evaluation = json.loads(Path("run/eval.json").read_text())
    assert len(evaluation["restoration"]["sweep"]) == 8  # `sweep=masking` is known too
    assert main(["report", "run", "--data", "x.npy"]) == 0
    assert main(["verify", "run", "--data", "x.npy"]) == 0
    assert "same digest" in capsys.readouterr().out
    np.save("other.npy", x + 0.01)
    assert main(["evaluate", "run", "--data", "other.npy"]) == 2
    assert "are not what run was trained on" in capsys.readouterr().err


def test_it_is_resumed_and_shared_too(notebook, capsys):
    assert main(["resume", "run", "--steps", "12", "--data", "x.npy", "--no-evaluate"]) == 0
    assert aejax.open_run("run").step == 12
    assert main(["export", "run", "folder"]) == 0
    assert main(["import", "folder", "again"]) == 0
    np.testing.assert_array_equal(
        aejax.open_run("again").encode(notebook[1]), aejax.open_run("run").encode(notebook[1])
    )


def test_a_run_with_something_of_ones_own_says_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Mine(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x.reshape(x.shape[0], -1))

    splits = aejax.load("digits")
    model = autoencoder(Mine(), MLP((), SHAPE), gaussian())
    aejax.train(aejax.fit(model, splits, steps=2), "run", QUIET)
    message = refusal(aejax.open_run, "run")
    assert "it is made with something of your own" in message
    assert "Mine" in message
    assert "open_run(..., experiment=…)" in message
    aejax.train(aejax.fit(MODELS["autoencoder"](), splits, steps=2, optimizer=optax.sgd(0.1)), "own", QUIET)
    assert "something of your own" in refusal(aejax.open_run, "own")


def test_models_pickle_with_cloudpickle():
    """In a process of its own, without the checks of types, which do not pickle."""
    pytest.importorskip("cloudpickle")
    script = """
import cloudpickle, pickle, jax.numpy as jnp
from aejax.models import vae
from aejax.nets import MLP
from aejax.objective import bernoulli
model = pickle.loads(cloudpickle.dumps(vae(MLP((5,), 6), MLP((), 4), bernoulli(), 3, (4,))))
params, extras = model.init(__import__("jax").random.key(0), {"x": jnp.ones((2, 4)), "index": jnp.arange(2)})
print(sorted(params))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "['decoder', 'encoder', 'posterior', 'prior']\n", ended.stderr


def test_a_notebook_plots_a_term(notebook):
    from aejax.errors import UsageError

    figure = aejax.plot(notebook[0])
    assert len(figure.axes[0].lines) == 3  # training, validation, and validation on corrupted input
    assert len(aejax.plot(notebook[0], "loss").axes[0].lines) == 1
    with pytest.raises(UsageError, match="has no term accuracy; it logged"):
        aejax.plot(notebook[0], "accuracy")
