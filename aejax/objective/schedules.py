"""Values that may change with the training step: weights, noise levels, numbers of units.

A value is a number, or a schedule `step -> number` (an Optax schedule works). A traced number is one that differs between the
members of one program. Outside training a schedule has its final value: it is evaluated at `END`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.described import described
from aejax.errors import UsageError

END = np.int32(np.iinfo(np.int32).max)
"""The step at which schedules are evaluated outside training."""

Schedule = Callable[[Any], Any]
"""step -> number."""

Strength = int | float | jax.Array | Schedule
"""A number, a traced number, or a schedule."""


def schedule_of(name: str, what: str, value: Strength, low: float, high: float) -> Schedule:
    """The value as a function of the training step.

    Args:
        name: Function whose argument it is, for the error message.
        what: Name of the argument.
        value: A number, a traced number, or a schedule.
        low: Smallest admissible number; schedules and traced numbers are not checked.
        high: Largest admissible number.

    Returns:
        A schedule from the training step to a number.

    Raises:
        UsageError: The number is outside [low, high] or not finite.
    """
    if callable(value):

        def schedule(step: Any) -> jax.Array:
            with jax.numpy_dtype_promotion("standard"):  # Optax's schedules mix the integer step with floats
                return jnp.asarray(value(step), jnp.float32)

        return schedule
    if isinstance(value, jax.core.Tracer):  # checked when the member's experiment was built
        return lambda step: value.astype(jnp.float32)
    number = float(value)
    if not (low <= number <= high and math.isfinite(number)):  # also refuses NaN
        admitted = f"a number of at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise UsageError(f"{name}({what}={value}): {what} must be {admitted}")
    return lambda step: number


@described
def cyclical(period: int, rising: float = 0.5, highest: float = 1.0) -> Schedule:
    """Cyclical schedule for β: in each period it rises linearly from 0 to `highest`, then stays (Fu et al. 2019, eq. 6-7).

    Args:
        period: Steps in a period.
        rising: Fraction of a period during which it rises, in (0, 1].
        highest: Largest value.

    Returns:
        A schedule from the training step to a number.

    Raises:
        UsageError: The period is below 1, `rising` is outside (0, 1], or `highest` is not positive.

    Example:
        >>> schedule = cyclical(100)
        >>> float(schedule(25)), float(schedule(75))
        (0.5, 1.0)
    """
    if period < 1 or not 0.0 < rising <= 1.0 or not highest > 0.0:
        raise UsageError(
            f"cyclical(period={period}, rising={rising}, highest={highest}): a period of at least one step, "
            "a fraction above 0 up to 1, and a number above 0"
        )
    return lambda step: highest * jnp.minimum(1.0, (step % period) / (rising * period))
