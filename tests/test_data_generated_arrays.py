"""Whatever array a user gives: each example is held as it is, or the array is refused; none is lost, none is changed."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aejax.data import load, open_split, take
from aejax.errors import UsageError

dtypes = st.sampled_from(
    [np.float16, np.float32, np.float64, np.uint8, np.bool_, np.int8, np.int32, np.int64, np.uint16, "U2", object]
)
examples = dtypes.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
)


def every_example_is_held_or_the_array_refused(x):
    try:
        held = open_split(x)
    except UsageError as error:
        wrong = (
            x.ndim < 2 or 0 in x.shape or x.dtype.type not in (np.float16, np.float32, np.float64, np.uint8, np.bool_)
        )
        with np.errstate(over="ignore"):
            wrong = wrong or not np.isfinite(x.astype(np.float32)).all()
        if not wrong and (x.dtype != np.uint8 or set(x.ravel().tolist()) != {0, 1}):
            raise AssertionError("refused without a reason") from error
        return
    with np.errstate(over="ignore"):
        expected = x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)
    np.testing.assert_array_equal(take(held, np.arange(held.size))["x"], expected)
    assert (held.found.low, held.found.high) == pytest.approx((expected.min(), expected.max()), rel=1e-6)
    if len(x) > 1:
        parts = load({"x": x, "label": np.arange(len(x))})
        assert sorted(np.concatenate([part.arrays["label"] for part in parts])) == list(range(len(x)))
        for part in parts:
            np.testing.assert_array_equal(take(part, np.arange(part.size))["x"], expected[part.arrays["label"]])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(examples)
def test_every_example_is_held_or_the_array_is_refused(x):
    every_example_is_held_or_the_array_refused(x)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(examples)
def test_every_example_of_thousands_of_arrays_is_held_or_the_array_is_refused(x):
    every_example_is_held_or_the_array_refused(x)
