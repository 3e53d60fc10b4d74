"""What every experiment owes: each file in experiments/ is tested by existing, on a few steps with tiny widths."""

import inspect
import json
import tempfile
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.cli.flags import SHARED
from aejax.data import batches_at, describe, recorded
from aejax.errors import UsageError
from aejax.keys import run_keys
from aejax.runs.checkpoint import digest
from aejax.runs.directory import datasets
from aejax.runs.experiment import Source, build, load_file, sha256, shipped
from aejax.runs.opening import open_run
from aejax.runs.shapes import abstract_batch, abstract_state
from aejax.training.checks import checked
from aejax.training.settings import Settings
from aejax.training.step import Layout, init_state, make_runner, on_one_device, refuse_coupling
from aejax.training.trainer import resume, train
from tiny import refusal

FILES = list(shipped().values())
AT_NIGHT = {
    "ae",
    "beta_vae",
    "classical",
    "contractive",
    "conv_dae",
    "cvae",
    "dictionary",
    "dip_vae",
    "factor_vae",
    "fashion_nll",
    "fsq",
    "gsn",
    "hinton2006_curves",
    "iwae",
    "kl_autoencoder",
    "ksparse",
    "sparse",
    "tcvae",
    "tdvae_linear",
    "tdvae_oscillator",
    "vamp",
    "vincent2010",
    "vq_prior",
    "vqvae2",
    "wae",
    "wta",
}
"""Experiments that add nothing to what this file tests, or take too long for it: trained here only with the slow tests."""
HALF, EXACT = 3, Layout(shards=8)
TINY = {
    "data": "digits",
    "batch_size": 16,
    "steps": 2 * HALF,
    "seed": 3,
    "hidden": (8,),
    "upper": (8,),
    "latent": 4,
    "blocks": 1,
    "k": 2,
    "levels": 17,
    "channels": 8,
    "maps": 6,
    "pairs": 2,
    "layers": 1,
    "widths": (8,),
    "codes": 16,
}


PARENTS = {"vq_prior": "vqvae"}
"""Experiments that are nothing without a parent, and whose."""


@cache
def parent_of(name):
    """A tiny run of the experiment of this name."""
    experiment, source = tiny(shipped()[name])
    directory = Path(tempfile.mkdtemp(prefix="aejax-tests-")) / "parent"
    train(experiment, directory, Settings(), source)
    return str(directory)


def tiny(file, **changes):
    """The experiment with those of the tiny arguments that it has."""
    _, function = load_file(file)
    known = inspect.signature(function).parameters
    arguments = {name: value for name, value in (TINY | changes).items() if name in known}
    if file.stem in PARENTS:
        arguments["parent"] = parent_of(PARENTS[file.stem])
    return build(function, arguments), Source(str(file), sha256(file), arguments)


@pytest.fixture(scope="module", params=FILES, ids=[f.stem for f in FILES])
def file(request):
    return request.param


def couples(experiment):
    """Whether it couples the examples of a batch, which exact reduction refuses."""
    abstract = abstract_state(experiment)
    try:
        refuse_coupling(experiment.model, EXACT, abstract.params, abstract.extras, abstract_batch(experiment))
    except UsageError:
        return True
    return False


@pytest.fixture(
    scope="module",
    params=[pytest.param(f, marks=pytest.mark.slow if f.stem in AT_NIGHT else ()) for f in FILES],
    ids=[f.stem for f in FILES],
)
def trained(request):
    return request.param


@pytest.fixture(scope="module")
def resumed(trained, tmp_path_factory):
    """A run of its first half on four devices, resumed to its end, on one device where its reduction is exact."""
    experiment, source = tiny(trained)
    coupled = couples(experiment)
    settings = Settings(
        log_every=HALF, save_every=HALF, devices=4, exact_reduce=not coupled, virtual_shards=EXACT.shards
    )
    directory = tmp_path_factory.mktemp(trained.stem) / "run"
    train(experiment._replace(steps=HALF), directory, settings, source)
    return resume(directory, devices=4 if coupled else 1)


def halves(experiment, layout):
    """The states on the devices after each half of the steps, by the runner alone, without the loop of training."""
    keys, state = run_keys(experiment.seed), None
    run = make_runner(experiment.model, experiment.optimizer, layout, experiment.batch_size)
    for start in range(0, experiment.steps, HALF):
        batches = batches_at(experiment.train, experiment.seed, start, experiment.batch_size, HALF)
        if state is None:
            first = {k: v[0] for k, v in batches.items()}
            state = init_state(experiment.model, experiment.optimizer, keys.init, first)
        state, _ = run(state, keys.run, batches, np.int32(HALF))
        for leaf in jax.tree.leaves(state):
            replica, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
            assert len(others) == layout.devices - 1
            for other in others:
                np.testing.assert_array_equal(other, replica)
        yield jax.tree.map(np.array, on_one_device(state))  # a copy: the next half takes the state's memory


def equal_but_for_rounding(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.optimized
def test_devices_and_interruptions_make_no_difference(resumed):
    """Four devices, uninterrupted, give the bits of the resumed run, and but for rounding what one device gives.

    A model that can be reduced exactly makes no use of the axis: reduced plainly it is a mean of means (test_step.py).
    """
    experiment = resumed.experiment
    assert resumed.step == experiment.steps
    four, end = halves(experiment, Layout(4) if couples(experiment) else EXACT._replace(devices=4))
    assert digest(end) == digest(resumed.state)
    equal_but_for_rounding(four, next(halves(experiment, Layout())))


@pytest.mark.slow
@pytest.mark.optimized
def test_any_number_of_devices_agrees(file):
    experiment, _ = tiny(file)
    one = next(halves(experiment, Layout()))
    for devices in (2, 4, 8):
        equal_but_for_rounding(next(halves(experiment, Layout(devices))), one)
    if not couples(experiment):
        layouts = [Layout(devices, shards=16) for devices in (1, 2, 4, 8)]
        assert len({digest(next(halves(experiment, layout))) for layout in layouts}) == 1


@pytest.mark.optimized
def test_a_run_is_evaluated_and_reopened(resumed):
    run, experiment = resumed, resumed.experiment

    # evaluate: one number per example, in any batch
    terms = run.evaluate(experiment.test)
    assert {len(values) for values in terms.values()} == {experiment.test.size}
    assert all(values.ndim == 1 and np.all(np.isfinite(values)) for values in terms.values())
    assert experiment.monitor in terms

    # open_run: without the data, which a renamed data set in the configuration proves
    config = json.loads((run.directory / "config.json").read_text())
    config["source"]["arguments"]["data"] = "no_such_data_set"
    (run.directory / "config.json").write_text(json.dumps(config))
    opened = open_run(run.directory)
    assert opened.experiment.train.arrays is None
    if experiment.model.reconstruct is not None:
        np.testing.assert_array_equal(opened.reconstruct(experiment.test), run.reconstruct(experiment.test))
    if experiment.model.sample is not None:
        given = None if experiment.model.data.condition is None else experiment.test
        np.testing.assert_array_equal(opened.sample(100, given=given)[:10], opened.sample(10, given=given))


def test_init_needs_no_data(file):
    experiment, source = tiny(file)
    _, function = load_file(file)
    bare = build(function, source.arguments, data=recorded(describe(datasets(experiment))))
    assert bare.train.arrays is None
    state = abstract_state(bare)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    assert state.step.dtype == jnp.int32


def begin(file, changes):
    """All that happens before an experiment computes."""
    experiment, _ = tiny(file, **changes)
    checked(experiment, Settings())
    abstract_state(experiment)


WIDTHS = ("hidden", "upper", "latent", "width", "codes", "channels", "maps", "pairs", "batch_size")


def test_a_width_below_one_is_refused_in_one_line(file):
    """Before anything is computed."""
    _, function = load_file(file)
    parameters = inspect.signature(function).parameters
    for name in WIDTHS:
        if name in parameters:
            default = parameters[name].default
            below = (0,) * max(1, len(default)) if isinstance(default, tuple) else 0
            assert refusal(begin, file, {name: below})


def test_every_hyperparameter_is_typed_defaulted_and_documented(file):
    module, function = load_file(file)
    assert f"aejax train {file.stem}" in module.__doc__
    documented = inspect.getdoc(function)
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.annotation is not parameter.empty, name
        assert parameter.default is not parameter.empty, name
        assert f"{name}:" in documented or name in SHARED, name
