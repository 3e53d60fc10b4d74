"""A model of the user's own that breaks the contract is refused before the first step, in one line that names the function."""

import jax.numpy as jnp
import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli
from tiny import refusal

X = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)
SPLITS = aejax.load(X)
QUIET = aejax.Settings(verbose=False)


def model(**more):
    return autoencoder(MLP((), 2), MLP((), 6), bernoulli(), **more)


WHOLE = model()


def loss_with(objective=None, extras=None, metrics=None):
    def loss(params, old, batch, key, step, axis):
        scalar, (_, logged) = WHOLE.loss(params, old, batch, key, step, axis)
        return (
            scalar if objective is None else objective,
            (old if extras is None else extras, logged if metrics is None else metrics),
        )

    return loss


BREACHES = {
    "init returns parameters alone": (
        {"init": lambda key, batch: WHOLE.init(key, batch)[0]},
        "init must return (params, extras)",
    ),
    "a loss by example": (
        {"loss": loss_with(jnp.ones(8))},
        "loss must return (scalar, (extras, metrics)) with a scalar",
    ),
    "a loss without extras": (
        {"loss": lambda *arguments: (WHOLE.loss(*arguments)[0], {"nll": jnp.float32(1)})},
        "loss must return (scalar, (extras, metrics)), but",
    ),
    "a metric by example": (
        {"loss": loss_with(metrics={"nll": jnp.ones(8)})},
        "loss must return scalar metrics (take the mean of nll), but returns float32[8]",
    ),
    "extras that change": (
        {"loss": loss_with(extras={"a": jnp.ones(2)})},
        "loss must return extras of the same structure and shapes as init",
    ),
    "a loss that raises": ({"loss": lambda *arguments: 1 / 0}, "loss fails: ZeroDivisionError: division by zero"),
    "an evaluation of the batch": (
        {"evaluate": lambda params, extras, batch, key: {"nll": jnp.float32(1)}},
        "evaluate must return one number per example for nll, [8], but returns float32[]",
    ),
    "no evaluation": ({"evaluate": lambda params, extras, batch, key: {}}, "evaluate must return {name: [b]}"),
    "codes without a batch": (
        {"encode": lambda params, extras, batch, key: jnp.ones(3)},
        "encode must return codes [8, ...]",
    ),
    "half a reconstruction": (
        {"reconstruct": lambda params, extras, batch, key: batch["x"][:, :3]},
        "reconstruct must return examples [8, 6], but returns float32[8, 3]",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_named(breach, tmp_path):
    changed, told = BREACHES[breach]
    made = aejax.fit(WHOLE._replace(**changed), SPLITS, batch_size=8, steps=2)
    assert f"the model's {told}" in refusal(aejax.train, made, tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda key, x, step=None: 0.5 * x,
        lambda key, x, step=None: (x, x),
        lambda key, x, step=None: (x[:3], x[:3] > 0),
    ],
)
def test_a_corruption_gives_two_arrays_of_the_examples_shape(corrupt, tmp_path):
    made = aejax.fit(model(corrupt=corrupt), SPLITS, batch_size=8, steps=2)
    told = refusal(aejax.train, made, tmp_path / "run", QUIET)
    assert "the model's corruption must return (x_tilde, touched), both [6], touched bool, but returns" in told


def test_a_likelihood_keeps_the_elements(tmp_path):
    summed = bernoulli()._replace(neg_log_prob=lambda theta, x: jnp.sum(jnp.square(x - theta[..., 0])))
    made = aejax.fit(autoencoder(MLP((), 2), MLP((), 6), summed), SPLITS, batch_size=8, steps=2)
    assert "the model's loss fails" in refusal(aejax.train, made, tmp_path / "run", QUIET)


def test_a_file_returns_an_experiment(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from aejax.models import autoencoder\nfrom aejax.nets import MLP\nfrom aejax.objective import bernoulli\n"
        "def experiment(data: str = 'digits', batch_size: int = 8, steps: int = 2, seed: int = 0):\n"
        "    return autoencoder(MLP((), 2), MLP((), (8, 8, 1)), bernoulli())\n"
    )
    assert main(["train", str(file), "--run", str(tmp_path / "run")]) == 2
    assert "experiment() returns a Model; end it with `return fit(model, splits, …)`" in capsys.readouterr().err
