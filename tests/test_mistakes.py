"""What newcomers type by mistake, in Python and on the command line: one line that says what to type instead."""

import subprocess
import sys

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.models import autoencoder, vae
from aejax.nets import MLP
from aejax.objective import bernoulli, masking
from tiny import refusal

X = np.random.default_rng(0).random((60, 4, 4), np.float32)


def model(**options):
    return autoencoder(MLP((8,), 2), MLP((8,), (4, 4)), **{"likelihood": bernoulli(), **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    return aejax.train(aejax.fit(model(), X, steps=2), folder / "run", aejax.Settings(verbose=False))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: model(likelihood="mse"),
            "likelihood='mse'): give what a call returns, for example likelihood=bernoulli()",
        ),
        (lambda: model(likelihood=bernoulli), "likelihood=bernoulli): give what a call returns"),
        (lambda: model(corrupt=0.3), "for example corrupt=masking(0.3)"),
        (lambda: model(corrupt=masking), "corrupt=masking): give what a call returns"),
        (lambda: autoencoder(MLP, MLP((), 4), bernoulli()), "encoder=MLP): give what a call returns"),
        (lambda: vae(MLP((), 4), MLP((), 4), bernoulli(), 2, (4,), prior="normal"), "prior=standard_normal()"),
        (lambda: aejax.fit(model(), X, batch_size=0), "batch_size=0): it must be a whole number, at least 1"),
    ],
)
def test_a_mistake_in_python(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(call)


def test_values_of_another_type():
    """In a process of its own, because in this one the types in signatures are checked first."""
    script = """
import numpy as np
import aejax
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli

X = np.random.default_rng(0).random((60, 4), np.float32)
model = autoencoder(MLP((8,), 2), MLP((8,), 4), bernoulli())
for call in (
    lambda: aejax.train(model, X),
    lambda: aejax.train(aejax.fit(model, X), "x", {"devices": 2}),
    lambda: aejax.fit(model, X, steps=1e3),
    lambda: aejax.fit(model, X, lr="fast"),
):
    try:
        call()
    except aejax.UsageError as error:
        print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    ).stdout.splitlines()
    assert [line.split(";")[0] for line in said] == [
        "train() takes an experiment, not a Model",
        "train(settings=…) is a dict",
        "fit(steps=1000.0): it must be a whole number, at least 1",
        "the learning rate is 'fast'",
    ]


def test_mistakes_with_a_run(run):
    assert "a single example needs an axis before it, x[None]" in refusal(run.encode, X[0])
    assert "the codes are of shape (3,), those of this run of shape (2,)" in refusal(
        run.decode, np.zeros((5, 3), np.float32)
    )
    assert run.decode(np.zeros((5, 2), np.float32)).shape == (5, 4, 4)
    opened = aejax.open_run(run.directory)
    assert "open it with aejax.open_run(…, with_data=True)" in refusal(aejax.evaluate, opened)
    again = aejax.fit(model(), X, steps=2)
    assert "(in Python overwrite=True)" in refusal(aejax.train, again, run.directory)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train dae --epochs 3", "counted in steps, of one batch each: --steps"),
        ("train dae --learning-rate 0.1", "the learning rate is --lr"),
        ("train dae --gpu", "--devices is how many"),
        ("train dae --output-dir x", "the run directory is --run"),
        ("train dae --lr -1", "the learning rate is -1.0; it must be a positive number"),
        ("train dae --lr 0", "the learning rate is 0.0; it must be a positive number"),
        ("train dae --sweep lr=nan,1e-3", "'nan' is not one of its values (float)"),
        ("train dae --sweep lr=-1,1e-3", "the learning rate is -1.0"),
        ("train dae --hidden 999999999", "GiB, and there are"),
        ("train dae --run a\\b", "holds no backslash"),
        ("trian dae", "did you mean train?"),
        ("train dea", "did you mean dae?"),
    ],
)
def test_a_mistake_on_the_command_line(words, message, capsys):
    assert main(words.split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("making ")]
    assert len(lines) == 1
    assert message in lines[0]
