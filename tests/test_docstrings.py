"""The docstrings of the public functions have all sections of Google's style, and their examples run."""

import doctest
import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aejax
import aejax.data
import aejax.models
import aejax.nets
import aejax.objective
import aejax.sklearn
from aejax.cli import main

MODULES = [aejax, aejax.models, aejax.nets, aejax.objective, aejax.sklearn]
DOCUMENTED = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in MODULES
    for name in module.__all__
    if name != "LikelihoodName"  # a type
    if not inspect.isclass(getattr(module, name)) or not issubclass(getattr(module, name), Exception)
]

MINE = """
from aejax import fit, load
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli


def experiment(data: str = "digits", batch_size: int = 128, steps: int = 20, seed: int = 0):
    splits = load(data)
    model = autoencoder(MLP((), 16), MLP((), splits[0].shape), bernoulli())
    return fit(model, splits, batch_size=batch_size, steps=steps, seed=seed)
"""


@pytest.mark.parametrize("public", DOCUMENTED)
def test_a_public_function_documents_arguments_results_and_an_example(public):
    text = inspect.getdoc(public)
    if inspect.isfunction(public):
        signature = inspect.signature(public)
        section = text.partition("Args:\n")[2].partition("\n\n")[0]
        for name in signature.parameters:
            assert f"    {name}: " in "\n" + section, name
        assert "Returns:\n" in text or signature.return_annotation in (None, "None")
    assert ">>> " in text


def run_examples(names):
    everything = {name: getattr(module, name) for module in MODULES[1:] for name in module.__all__}
    for public in names:
        public = inspect.unwrap(public)
        scope = {**everything, **vars(sys.modules[public.__module__]), "aejax": aejax, "jax": jax, "jnp": jnp, "np": np}
        for case in doctest.DocTestFinder().find(public, public.__name__, globs=scope):
            result = doctest.DocTestRunner(verbose=False).run(case)
            assert result.failed == 0, case.name


@pytest.mark.parametrize("module", [*MODULES[1:], aejax.data], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module):
    run_examples([public for name in module.__all__ if callable(public := getattr(module, name))])


def test_the_examples_of_the_package_run_on_a_trained_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    assert main(["train", "mine.py", "--run", "runs/mine", "--no-evaluate"]) == 0
    run_examples([getattr(aejax, name) for name in aejax.__all__])
