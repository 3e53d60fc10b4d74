"""Transformations of optimizers, beside those of Optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from aejax.described import described
from aejax.errors import UsageError
from aejax.types import Params


@described
def unit_rows(
    optimizer: optax.GradientTransformation, path: tuple[str, ...] = ("decoder", "kernel")
) -> optax.GradientTransformation:
    """Keeps the rows of a matrix at norm 1, with any optimizer.

    The gradient loses its part along each row before the optimizer sees it, and each row is divided by its norm after the step
    (Bricken et al. 2023). The rows must have norm 1 at the start.

    Args:
        optimizer: Optax optimizer.
        path: Keys of the matrix [n, d] in the parameters.

    Returns:
        An Optax optimizer.

    Raises:
        UsageError: The parameters have no matrix there.

    Example:
        >>> import optax
        >>> optimizer, params = unit_rows(optax.sgd(1.0), ("w",)), {"w": jnp.array([[1.0, 0.0]])}
        >>> updates, _ = optimizer.update({"w": jnp.array([[5.0, -1.0]])}, optimizer.init(params), params)
        >>> optax.apply_updates(params, updates)["w"].round(3).tolist()
        [[0.7070000171661377, 0.7070000171661377]]
    """

    def init(params: Params) -> Any:
        _at(params, path)
        return optimizer.init(params)

    def update(grads: Params, state: Any, params: Params | None = None, **more: Any) -> tuple[Params, Any]:
        assert params is not None, "unit_rows needs the parameters"
        rows = _at(params, path)
        gradient = _at(grads, path)
        along = jnp.sum(gradient * rows, axis=1, keepdims=True)
        updates, state = optimizer.update(_with(grads, path, gradient - along * rows), state, params, **more)
        moved = rows + _at(updates, path)
        unit = moved / jnp.maximum(jnp.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
        return _with(updates, path, unit - rows), state

    return optax.GradientTransformation(init, update)


def _at(tree: Any, path: tuple[str, ...]) -> Float[Array, "n d"]:
    leaf = tree
    for key in path:
        if not isinstance(leaf, dict) or key not in leaf:
            raise UsageError(f"unit_rows(path={path}): the parameters have no {'/'.join(path)}")
        leaf = leaf[key]
    return leaf


def _with(tree: Any, path: tuple[str, ...], value: jax.Array) -> Any:
    if not path:
        return value
    return {**tree, path[0]: _with(tree[path[0]], path[1:], value)}
