"""The contract between a model and training, checked once before the first step: shapes only, nothing is computed.

A breach is a UsageError of one line, which names the function and the shape it should return.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aejax.errors import UsageError
from aejax.runs.shapes import abstract_batch
from aejax.types import Batch, Corrupt, Experiment


def check_contract(experiment: Experiment) -> None:
    """Raises UsageError unless the model's functions return what `aejax.types.Model` asks for."""
    model, batch, key = experiment.model, abstract_batch(experiment), jax.random.key(0)
    b, shape = experiment.batch_size, experiment.train.shape

    if model.data.corrupt is not None:
        _check_corruption(model.data.corrupt, batch)
    made = _shapes("init", model.init, key, batch)
    if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, Mapping) for part in made)):
        raise _breach("init", "(params, extras), two dicts", made)
    params, extras = made

    # Without an axis no function may speak to other devices, so that one trace serves for any number of them.
    loss = lambda params, extras, batch, key: model.loss(params, extras, batch, key, jnp.int32(0), None)
    returned = _shapes("loss", loss, params, extras, batch, key)
    asked = "(scalar, (extras, metrics))"
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise _breach("loss", asked, returned)
    scalar, rest = returned
    if getattr(scalar, "shape", None) != ():
        raise _breach("loss", f"{asked} with a scalar of shape []", scalar)
    if not (isinstance(rest, tuple) and len(rest) == 2 and isinstance(rest[1], Mapping)):
        raise _breach("loss", asked, returned)
    if _structure(rest[0]) != _structure(extras):
        raise _breach("loss", "extras of the same structure and shapes as init", rest[0])
    for name, value in rest[1].items():
        if getattr(value, "shape", None) != ():
            raise _breach("loss", f"scalar metrics (take the mean of {name})", value)

    terms = _shapes("evaluate", model.evaluate, params, extras, batch, key)
    if not isinstance(terms, Mapping) or not terms:
        raise _breach("evaluate", "{name: [b]}", terms)
    for name, value in terms.items():
        if getattr(value, "shape", None) != (b,):
            raise _breach("evaluate", f"one number per example for {name}, [{b}]", value)
    if experiment.monitor not in terms:
        raise UsageError(f"the experiment monitors {experiment.monitor!r}; its model evaluates {', '.join(terms)}")

    if model.encode is not None:
        z = _shapes("encode", model.encode, params, extras, batch, key)
        if getattr(z, "shape", ())[:1] != (b,):
            raise _breach("encode", f"codes [{b}, ...]", z)
    if model.reconstruct is not None:
        x_hat = _shapes("reconstruct", model.reconstruct, params, extras, batch, key)
        if getattr(x_hat, "shape", None) != (b, *shape):
            raise _breach("reconstruct", f"examples {[b, *shape]}", x_hat)


def _check_corruption(corrupt: Corrupt, batch: Batch) -> None:
    x = jax.ShapeDtypeStruct(batch["x"].shape[1:], batch["x"].dtype)
    returned = _shapes("corruption", lambda key, x: corrupt(key, x, jnp.int32(0)), jax.random.key(0), x)
    fits = isinstance(returned, tuple) and len(returned) == 2 and all(_of(part)[0] == x.shape for part in returned)
    if not fits or returned[1].dtype != bool:
        raise _breach("corruption", f"(x_tilde, touched), both {list(x.shape)}, touched bool", returned)


def _shapes(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except UsageError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(f"the model's {name} fails: {type(error).__name__}: {reason}; --debug shows where") from error


def _breach(name: str, asked: str, returned: Any) -> UsageError:
    shown = str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", returned)).replace("'", "")
    return UsageError(f"the model's {name} must return {asked}, but returns {shown}")


def _of(leaf: Any) -> tuple[tuple[int, ...], Any]:
    return leaf.shape, leaf.dtype


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree), [_of(leaf) for leaf in jax.tree.leaves(tree)]
