"""Nets with batch normalization, dropout, or other collections beside their parameters.

A Linen module may behave differently in training. It says so by an argument of its `__call__` that is called `train`, `training`,
`is_training` or, with the opposite meaning, `deterministic`; it is True in training and False everywhere else.

- Collections other than `params`, such as the running statistics of `nn.BatchNorm`, are kept in the model's extras. Training
  updates them; everything else only reads them.
- The statistics of `nn.BatchNorm` in training are those of the *global* batch, on any number of devices, whether or not the
  module names an axis.
- `nn.Dropout` draws with a key for each example, folded with its position in the global batch, so that its noise does not depend
  on the number of devices. Other random numbers that a module draws from the collection `dropout` or `params` are drawn for the
  batch of one device.

A model has such nets if its constructor ends in `aejax.models.with_collections(Model(...))`; those of aejax do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, Key

from aejax.errors import UsageError
from aejax.keys import each
from aejax.types import Axis, Params

FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False}
"""Argument that says how a module is used -> its value in training."""


@struct.dataclass
class Training:
    """What a net needs in training beside its parameters."""

    key: Key[Array, ""]
    index: Int[Array, " b"]
    """Positions of the examples in the global batch."""
    axis: Axis = struct.field(pytree_node=False)
    updated: list[Any] = struct.field(pytree_node=False)
    """Receives the collections after each application."""


STATEFUL = "stateful"
"""Parameters with this only key hold a `Carried`, which `aejax.nets.code.apply` uses in their place."""


@struct.dataclass
class Carried:
    """Parameters of a net together with its other collections."""

    params: Params
    collections: dict[str, Any]
    training: Training | None = None

    def apply(self, net: nn.Module, inputs: tuple[Any, ...], method: Callable[..., Any] | None) -> Any:
        if self.training is None:
            how = flag(net, method, training=False)
            return net.apply({"params": self.params, **self.collections}, *inputs, method=method, **how)
        updated = self.training.updated
        key = jax.random.fold_in(self.training.key, len(updated))
        collections = updated[-1] if updated else self.collections
        with _over_the_global_batch(self.training):
            out, changed = net.apply(
                {"params": self.params, **collections},
                *inputs,
                method=method,
                mutable=list(collections),
                rngs={"params": key, "dropout": key},
                **flag(net, method, training=True),
            )
        updated.append(dict(changed))
        return out


def carried(net: nn.Module, variables: Mapping[str, Any]) -> Params:
    """The parameters among a net's variables, with its other collections if it has any or is different in training."""
    params = variables.get("params", {})
    others = {name: collection for name, collection in variables.items() if name != "params"}
    return {STATEFUL: Carried(params, others)} if others or flag(net, None, training=True) else params


def flag(net: nn.Module, method: Callable[..., Any] | None, training: bool) -> dict[str, Any]:
    """The keyword argument that says whether a module is used in training; {} if it has none."""
    arguments = inspect.signature(type(net).__call__ if method is None else method).parameters
    return {name: value is training for name, value in FLAGS.items() if name in arguments}


def reading(params: Params) -> Params:
    """Parameters for use outside training: running statistics, no dropout, no updates."""
    if STATEFUL not in params:
        return params
    net = params[STATEFUL]
    return {STATEFUL: Carried(net.params, net.collections)}


@contextmanager
def _over_the_global_batch(training: Training) -> Iterator[None]:
    """Batch normalization averages over all devices, and dropout draws with a key for each example."""

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, nn.BatchNorm):
            object.__setattr__(module, "axis_name", training.axis)  # a module is frozen after its setup
            return call(*args, **kwargs)
        if isinstance(module, nn.Dropout):
            return _dropout(module, training.index, *args, **kwargs)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def _dropout(
    module: nn.Dropout, index: Array, inputs: Array, deterministic: bool | None = None, rng: Array | None = None
) -> Array:
    """`nn.Dropout.__call__` with a key for each example. Rows may be several of an example, next to each other."""
    if nn.merge_param("deterministic", module.deterministic, deterministic) or module.rate == 0.0:
        return inputs
    if module.rate == 1.0:
        return jnp.zeros_like(inputs)
    copies, rest = divmod(inputs.shape[0], len(index))
    if rest or 0 in module.broadcast_dims:
        raise UsageError(
            f"nn.Dropout is given {inputs.shape}, whose first axis is not that of the {len(index)} examples; each needs a "
            "mask of its own"
        )
    keys = each(module.make_rng(module.rng_collection) if rng is None else rng, index)
    keys = jax.vmap(lambda key: jax.random.split(key, copies))(keys).reshape(-1)
    shape = [1 if axis in module.broadcast_dims else n for axis, n in enumerate(inputs.shape)][1:]
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - module.rate, shape))(keys)
    return jnp.where(keep, inputs / (1.0 - module.rate), 0.0).astype(inputs.dtype)
