"""What every experiment owes: each file in experiments/ is tested by existing, on a few steps with tiny widths."""

import inspect
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.checkpoint import digest
from aejax.data import batches_at, describe, recorded
from aejax.errors import UsageError
from aejax.experiment import Source, build, load_file, sha256
from aejax.keys import run_keys
from aejax.run import abstract_batch, abstract_state, datasets, open_run
from aejax.step import Layout, init_state, make_runner, on_one_device, refuse_coupling
from aejax.train import Settings, resume, train

FILES = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))
TINY = {"data": "digits", "batch_size": 16, "steps": 6, "seed": 3, "hidden": (8,), "latent": 4}
QUICK = Settings(log_every=3, save_every=3)


def tiny(file, **changes):
    """The experiment with those of the tiny arguments that it has."""
    _, function = load_file(file)
    known = inspect.signature(function).parameters
    arguments = {name: value for name, value in (TINY | changes).items() if name in known}
    return build(function, arguments), Source(str(file), sha256(file), arguments)


@pytest.fixture(params=FILES, ids=[f.stem for f in FILES])
def file(request):
    return request.param


def test_devices_agree_and_replicas_are_equal_to_the_bit(file):
    experiment, _ = tiny(file)
    keys, states = run_keys(experiment.seed), {}
    for devices in (1, 4):
        batches = batches_at(experiment.train, experiment.seed, 0, experiment.batch_size, 3)
        state = init_state(experiment.model, experiment.optimizer, keys.init, {k: v[0] for k, v in batches.items()})
        run = make_runner(experiment.model, experiment.optimizer, devices, experiment.batch_size)
        state, _ = run(state, keys.run, batches, np.int32(3))
        for leaf in jax.tree.leaves(state):
            first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
            for other in others:
                np.testing.assert_array_equal(other, first)
        states[devices] = on_one_device(state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), states[4], states[1])


def test_exact_reduction_is_the_same_bits_on_any_number_of_devices(file):
    experiment, _ = tiny(file)
    keys, digests = run_keys(experiment.seed), set()
    abstract = abstract_state(experiment)
    shapes = abstract_batch(experiment)
    try:
        refuse_coupling(experiment.model, Layout(shards=16), abstract.params, abstract.extras, shapes)
    except UsageError:  # it couples the examples of a batch, and is tested with plain reduction above
        return
    for devices in (1, 2, 4, 8):
        batches = batches_at(experiment.train, experiment.seed, 0, experiment.batch_size, 3)
        state = init_state(experiment.model, experiment.optimizer, keys.init, {k: v[0] for k, v in batches.items()})
        run = make_runner(experiment.model, experiment.optimizer, Layout(devices, shards=16), experiment.batch_size)
        state, terms = run(state, keys.run, batches, np.int32(3))
        digests.add(digest(on_one_device((state, terms))))
    assert len(digests) == 1


def test_a_run_is_evaluated_resumed_and_reopened(file, tmp_path):
    experiment, source = tiny(file)
    whole = train(experiment, tmp_path / "whole", QUICK, source)

    # evaluate: one number per example, in any batch
    terms = whole.evaluate(experiment.test)
    assert {len(values) for values in terms.values()} == {experiment.test.size}
    assert all(values.ndim == 1 and np.all(np.isfinite(values)) for values in terms.values())
    assert experiment.monitor in terms

    # resume: the same bits as without the interruption
    shorter = tmp_path / "cut"
    train(experiment._replace(steps=3), shorter, QUICK, source)
    resumed = resume(shorter)
    assert resumed.step == experiment.steps
    assert digest(resumed.state) == digest(whole.state)

    # open_run: without the data, which a renamed data set in the configuration proves
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    config["source"]["arguments"]["data"] = "no_such_data_set"
    (tmp_path / "whole" / "config.json").write_text(json.dumps(config))
    opened = open_run(tmp_path / "whole")
    assert opened.experiment.train.arrays is None
    if experiment.model.reconstruct is not None:
        np.testing.assert_array_equal(opened.reconstruct(experiment.test), whole.reconstruct(experiment.test))
    if experiment.model.sample is not None:
        np.testing.assert_array_equal(opened.sample(100)[:10], opened.sample(10))


def test_init_needs_no_data(file):
    experiment, source = tiny(file)
    _, function = load_file(file)
    bare = build(function, source.arguments, data=recorded(describe(datasets(experiment))))
    assert bare.train.arrays is None
    state = abstract_state(bare)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    assert state.step.dtype == jnp.int32


def test_every_hyperparameter_is_typed_defaulted_and_told(file):
    module, function = load_file(file)
    assert module.__doc__
    assert f"aejax train experiments/{file.name}" in module.__doc__
    assert re.search(r" s: .* ± ", module.__doc__), "the lab note holds the time and the number that was measured"
    told = inspect.getdoc(function)
    for name, parameter in inspect.signature(function).parameters.items():
        assert parameter.annotation is not parameter.empty, name
        assert parameter.default is not parameter.empty, name
        assert f"{name}:" in told, name
