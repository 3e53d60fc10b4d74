"""How often units are active: counts of a known code."""

import jax.numpy as jnp
import numpy as np

from aejax.objective.sparsity import EDGES, above_half, active_terms, activity_histogram, nonzero


def test_counts_of_a_known_code():
    active = np.zeros((1000, 4), bool)
    active[:, 0] = True  # always
    active[:100, 1] = True  # 1 in 10: the upper edge of its bin
    active[0, 2] = True  # 1 in 1000
    assert active_terms(active) == {"active_units": 1.101, "dead_units": 1.0}
    counts = dict(zip(("dead", *EDGES[1:]), activity_histogram(active)))
    assert counts == {"dead": 1, 0.001: 1, 0.003: 0, 0.01: 0, 0.03: 0, 0.1: 1, 0.3: 0, 1.0: 1}


def test_a_channel_is_active_where_any_of_its_places_is():
    z = jnp.zeros((2, 3, 3, 4)).at[0, 1, 2, 3].set(-0.7).at[1, 0, 0, 0].set(0.6)
    np.testing.assert_array_equal(nonzero(z), [[False, False, False, True], [True, False, False, False]])
    np.testing.assert_array_equal(above_half(z), [[False] * 4, [True, False, False, False]])
