import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError
from aejax.runs.checkpoint import digest, open_checkpoints, restore, save
from aejax.types import TrainState


def state_at(step, optimizer=None, width=4, dtype=jnp.float32):
    optimizer = optax.adam(optax.linear_schedule(1e-3, 0.0, 9)) if optimizer is None else optimizer
    rng = np.random.default_rng(step)
    params = {"encoder": {"kernel": jnp.asarray(rng.normal(size=(3, width)), dtype)}, "bias": jnp.zeros(2)}
    return TrainState(jnp.int32(step), params, {"count": jnp.ones(3, jnp.int32)}, optimizer.init(params))


@pytest.fixture
def saved(tmp_path):
    with open_checkpoints(tmp_path / "checkpoints", keep=2, monitor="nll") as checkpoints:
        for step, nll in [(1, 0.5), (2, 0.1), (3, 0.4), (4, 0.2), (5, None)]:
            save(checkpoints, state_at(step), None if nll is None else {"nll": nll})
        checkpoints.wait_until_finished()
        yield checkpoints


def test_a_state_comes_back_to_the_bit_and_in_its_types(saved):
    abstract = jax.eval_shape(lambda: state_at(5))
    restored = restore(saved, abstract, 5)
    assert digest(restored) == digest(state_at(5))
    assert jax.tree.structure(restored) == jax.tree.structure(state_at(5))


def test_the_last_and_the_best_are_kept(saved):
    assert sorted(saved.all_steps()) == [2, 4, 5]
    assert saved.best_step() == 2
    assert saved.latest_step() == 5


@pytest.mark.parametrize(
    ("other", "leaf"),
    [
        (lambda: state_at(5, width=5), r"params/encoder/kernel as float32\[3, 4\], this model expects float32\[3, 5\]"),
        (lambda: state_at(5, dtype=jnp.bfloat16), r"params/encoder/kernel as float32.*expects bfloat16"),
        (lambda: state_at(5, optax.sgd(0.1)), r"holds opt_state/0/count, which this model does not have"),
        (
            lambda: state_at(5)._replace(extras={"count": jnp.ones(3, jnp.int32), "more": jnp.ones(1)}),
            r"lacks extras/more",
        ),
    ],
)
def test_another_structure_shape_or_dtype_is_refused_by_the_leafs_path(saved, other, leaf):
    with pytest.raises(UsageError, match=leaf):
        restore(saved, other(), 5)


def test_digest_sees_paths_dtypes_shapes_and_every_bit():
    tree = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2)}
    others = [
        {"a": tree["a"], "c": tree["b"]},
        {"a": tree["a"].reshape(2, 3), "b": tree["b"]},
        {"a": tree["a"].astype(np.float64), "b": tree["b"]},
        {"a": np.nextafter(tree["a"], 9).astype(np.float32), "b": tree["b"]},
        {"a": tree["a"], "b": -tree["b"]},  # the sign of zero is a bit
    ]
    digests = [digest(t) for t in (tree, *others)]
    assert len(set(digests)) == len(digests)
    assert digest({"b": tree["b"].copy(), "a": tree["a"].copy()}) == digests[0]
