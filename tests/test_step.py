import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.collectives import gather, mean
from aejax.errors import UsageError
from aejax.keys import run_keys
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli
from aejax.training.step import Layout, init_state, make_runner, make_step, on_one_device, refuse_coupling
from tiny import batch_of

B, T, SHAPE = 16, 6, (5,)


def coupled(f, x, h, keys, axis):
    """Couples the batch: the squared norm of the code's mean over all devices, and the pairwise products of all codes."""
    everyone = gather(h, axis)
    return (
        jnp.sum(jnp.square(mean(jnp.mean(h, axis=0), axis))) + 1e-3 * jnp.sum(jnp.square(h @ everyone.T), axis=1).mean()
    )


model = autoencoder(MLP((9,), 3), MLP((9,), SHAPE), bernoulli(), corrupt=masking(0.4), penalties=(coupled,))
optimizer = optax.adam(optax.linear_schedule(1e-2, 1e-3, 10))
keys = run_keys(0)


def batches_of(t):
    x = np.random.default_rng(0).uniform(size=(T, B, *SHAPE)).astype(np.float32)[:t]
    return {"x": jnp.asarray(x), "index": jnp.tile(jnp.arange(B), (t, 1))}


def fresh():
    return init_state(model, optimizer, keys.init, jax.tree.map(lambda leaf: leaf[0], batches_of(1)))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_stretch_is_so_many_steps():
    step = jax.jit(make_step(model, optimizer))
    state, losses = fresh(), []
    for t in range(T):
        state, metrics = step(state, keys.run, jax.tree.map(lambda leaf: leaf[t], batches_of(T)))  # noqa: B023
        losses.append(metrics["loss"])
    stretched, metrics = make_runner(model, optimizer, 1, B)(fresh(), keys.run, batches_of(T), np.int32(T))
    assert int(stretched.step) == T
    np.testing.assert_allclose(metrics["loss"], np.array(losses), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stretched, state)


@pytest.mark.optimized
@pytest.mark.parametrize("devices", [1, 4])
def test_how_steps_are_grouped_changes_no_bit(devices):
    run = make_runner(model, optimizer, devices, B)
    whole, metrics = run(fresh(), keys.run, batches_of(T), np.int32(T))
    state, losses = fresh(), []
    for start, n in [(0, 1), (1, 3), (4, 2)]:
        part = jax.tree.map(lambda leaf: jnp.roll(leaf, -start, axis=0), batches_of(T))  # noqa: B023
        state, log = run(state, keys.run, part, np.int32(n))
        assert bool(jnp.all(jnp.isnan(log["loss"][n:])))
        losses.append(np.asarray(log["loss"])[:n])
    same(state, whole)
    same(np.concatenate(losses), metrics["loss"])


@pytest.mark.parametrize("numbers", [(4,), pytest.param((2, 8), marks=pytest.mark.slow)])
def test_devices_agree_noise_on_and_batch_coupled(numbers):
    results = {}
    for devices in (1, *numbers):
        state, metrics = make_runner(model, optimizer, devices, B)(fresh(), keys.run, batches_of(T), np.int32(T))
        for leaf in jax.tree.leaves(state):
            replicas = [np.asarray(shard.data) for shard in leaf.addressable_shards]
            assert len(replicas) == devices
            same(replicas, [replicas[0]] * devices)
        results[devices] = on_one_device((state, metrics))
    for devices in numbers:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), results[devices], results[1])


def test_a_second_call_compiles_nothing():
    for devices in (1, 2):
        run = make_runner(model, optimizer, devices, B)
        state, _ = run(fresh(), keys.run, batches_of(T), np.int32(2))
        assert _compilations(lambda: run(state, keys.run, batches_of(T), np.int32(3))) == 0  # noqa: B023
    assert _compilations(lambda: jax.jit(lambda x: x + 1.5)(jnp.ones(3))) > 0  # the counter counts


def _compilations(call):
    """How often JAX lowers a program to compile during a call, by its own event log."""
    seen = []

    def listen(name, seconds, **more):
        if name == "/jax/core/compile/backend_compile_duration":
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(seen)


def test_the_state_is_donated():
    state = fresh()
    make_runner(model, optimizer, 1, B)(state, keys.run, batches_of(T), np.int32(1))
    assert jax.tree.leaves(state.params)[0].is_deleted()


def test_what_devices_cannot_share_is_refused():
    with pytest.raises(UsageError, match="batch size 18 is not divisible by 4 devices"):
        make_runner(model, optimizer, 4, 18)
    with pytest.raises(UsageError, match="JAX sees 8"):
        make_runner(model, optimizer, 9, 18)
    for layout, told in [
        (Layout(2, parts=3), "--accumulate 3 does not divide the 8 examples of a device"),
        (Layout(2, parts=2, shards=4), "leave --accumulate out"),
        (Layout(8, shards=8), "--exact-reduce with 8 virtual shards on 8 devices.* use --virtual-shards 16"),
        (Layout(1, shards=12), "must be a power of two.* use --virtual-shards 16"),
        (Layout(1, shards=32), "not divisible by 32 virtual shards"),
    ]:
        with pytest.raises(UsageError, match=told):
            make_runner(model, optimizer, layout, B)
    with pytest.raises(UsageError, match="on 6 devices: their number must be a power of two"):
        make_runner(model, optimizer, Layout(6, shards=16), 48)


uncoupled = autoencoder(MLP((9,), 3), MLP((9,), SHAPE), bernoulli(), corrupt=masking(0.4))


@pytest.mark.optimized
def test_accumulated_and_exactly_added_gradients_are_those_of_the_whole_batch():
    results = []
    for layout in (Layout(1), Layout(1, parts=2), Layout(2, parts=8), Layout(4, shards=8)):
        run = make_runner(uncoupled, optimizer, layout, B)
        state, metrics = run(fresh(), keys.run, batches_of(T), np.int32(T))
        results.append(on_one_device((state, metrics)))
    for other in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), other, results[0])


def test_accumulation_saves_memory():
    def temporary(parts):
        deep = autoencoder(MLP((64,) * 3, 3), MLP((9,), SHAPE), bernoulli())
        step = jax.jit(make_step(deep, optax.sgd(0.1), None, Layout(parts=parts)))
        batch = batch_of(jnp.zeros((4096, *SHAPE)))
        state = jax.eval_shape(lambda: init_state(deep, optax.sgd(0.1), keys.init, batch))
        return step.lower(state, keys.run, batch).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16) < temporary(1) / 4


@pytest.mark.parametrize("layout", [Layout(parts=2), Layout(shards=4)])
def test_a_model_that_couples_the_batch_is_refused_parts_of_it(layout):
    batch = jax.tree.map(lambda leaf: leaf[0], batches_of(1))
    abstract = jax.eval_shape(lambda: model.init(keys.init, batch))
    with pytest.raises(UsageError, match="depend on the whole batch; leave --"):
        refuse_coupling(model, layout, *abstract, batch)
    refuse_coupling(uncoupled, layout, *jax.eval_shape(lambda: uncoupled.init(keys.init, batch)), batch)
    refuse_coupling(model, Layout(8), *abstract, batch)
