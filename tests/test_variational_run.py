"""A variational run from training to its page: what is evaluated agrees with itself, and is what the page tells."""

import math
import re

import numpy as np
import optax
import pytest

from aejax.data import load
from aejax.evaluation import bounds, evaluate
from aejax.evaluation.bounds import section as latent_section
from aejax.evaluation.part import Context
from aejax.evaluation.parts import PARTS
from aejax.evaluation.summary import evaluation_numbers
from aejax.models import iwae
from aejax.models.binarization import binarized
from aejax.nets import MLP
from aejax.objective.likelihoods import bernoulli
from aejax.training.settings import Settings
from aejax.training.trainer import train
from aejax.types import Experiment

LATENT = 3


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run of a few steps with what `aejax evaluate` found of its first 64 test images."""
    data, test = load("digits")
    test = test._replace(size=64, arrays={name: array[:64] for name, array in test.arrays.items()})
    model = iwae(MLP((16,), 2 * LATENT), MLP((16,), data.shape), bernoulli(), LATENT, data.shape, samples=3)
    experiment = Experiment(binarized(model), optax.adam(3e-3), data, test, 64, 150, 0, monitor="iwae_nll")
    run = train(experiment, tmp_path_factory.mktemp("vae") / "run", Settings(log_every=50))
    return run, evaluate(run, draws=120)


def test_the_bounds_are_in_order_and_the_parts_add_up(evaluated):
    _run, found = evaluated
    terms, bound = found["terms"], found["bound"]
    nll = bound["importance"]
    np.testing.assert_allclose(sum(bound["divergences"]), terms["kl"], rtol=1e-5)
    np.testing.assert_allclose(terms["nelbo"], terms["distortion"] + terms["kl"], rtol=1e-6)
    assert nll["nll"] < terms["iwae_nll"] < terms["nelbo"]
    assert nll["sampling_error"] < nll["standard_error"]
    assert 1.0 <= nll["effective_draws"] <= nll["draws"] == 120
    assert 0 < bound["active_units"] <= bound["units"] == LATENT
    # 64 black or white pixels
    bits = bound["bits_per_dimension"]
    np.testing.assert_allclose(bits["importance"], nll["nll"] / (64 * math.log(2)))
    np.testing.assert_allclose(bits["nelbo"], terms["nelbo"] / (64 * math.log(2)))
    # A model of 64 independent fair coins needs a bit for each: what has been learnt is better.
    assert bits["importance"] < 1.0


def test_the_page_tells_what_was_evaluated(evaluated):
    run, found = evaluated
    section = latent_section(run, found)
    nll = found["bound"]["importance"]["nll"]
    told = re.sub(r"<[^>]+>", "", section.html)
    assert f"{nll:.2f} nats" in told
    assert f"{found['bound']['bits_per_dimension']['importance']:.4f} bits per dimension" in told
    assert {*section.pngs} == {"divergences", "traversals", "interpolations"}


def test_every_number_that_a_page_compares_runs_by_is_in_the_summary_over_seeds(evaluated):
    _, evaluation = evaluated
    numbers = evaluation_numbers(evaluation)
    assert numbers["bound/importance/nll"] == evaluation["bound"]["importance"]["nll"]
    parts = [part for part in PARTS if evaluation.get(part.name) is not None]
    compared = [number.value for part in parts for number in part.numbers(evaluation[part.name])]
    assert {value for value in compared if value is not None} <= set(numbers.values())


def test_a_collapsed_estimate_is_withheld_and_the_page_says_so(evaluated, monkeypatch):
    run, found = evaluated
    collapsed = {**found["bound"]["importance"], "draws": 1000, "effective_draws": 2.0}
    monkeypatch.setattr(bounds, "importance_nll", lambda *_: dict(collapsed))
    result = bounds.bound(Context(run, 1000))
    assert result["importance"]["nll"] is None
    assert result["bits_per_dimension"]["importance"] is None
    assert all(number.value is None for number in bounds.numbers(result) if number.name == "−log p(x)")
    assert "-log p(x) is not given" in latent_section(run, {**found, "bound": result}).html


def test_without_draws_there_is_no_estimate(evaluated):
    run, _ = evaluated
    found = evaluate(run, draws=0)
    assert found["bound"]["importance"] is None
    assert found["bound"]["bits_per_dimension"]["importance"] is None
