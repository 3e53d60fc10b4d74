import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.keys import EVALUATION, each, evaluation_key, run_keys


def test_an_examples_key_depends_on_its_index_alone():
    key = jax.random.key(3)
    whole = jax.random.key_data(each(key, jnp.arange(8)))
    part = jax.random.key_data(each(key, jnp.array([5, 2])))
    np.testing.assert_array_equal(part, whole[np.array([5, 2])])
    assert len(np.unique(whole, axis=0)) == 8


def test_runs_with_other_seeds_share_no_key():
    data = [jax.random.key_data(k).tobytes() for seed in range(4) for k in run_keys(seed)]
    assert len(set(data)) == 12


def test_a_new_purpose_leaves_the_others_their_keys(monkeypatch):
    keys = {name: evaluation_key(3, name) for name in EVALUATION}
    monkeypatch.setattr("aejax.keys.EVALUATION", (*EVALUATION, "new"))
    assert all(jnp.all(evaluation_key(3, name) == key) for name, key in keys.items())
    assert not any(jnp.all(evaluation_key(3, "new") == key) for key in keys.values())


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_that_vmap_does_not_honor_are_refused(kind):
    with pytest.raises(UsageError, match="threefry2x32"):
        each(jax.random.key(0, impl=kind), jnp.arange(2))
    with jax.default_prng_impl(kind), pytest.raises(UsageError, match=kind):
        run_keys(0)
