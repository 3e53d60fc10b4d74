"""Models whose nets have batch normalization, dropout or other state, see `aejax.nets.stateful`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import Array, Key

from aejax.nets.stateful import STATEFUL, Carried, Training
from aejax.types import Axis, Batch, Extras, Model, Objective, Params

COLLECTIONS = "collections"
"""Name in a model's extras: path of a net in the parameters -> its collections."""


def with_collections(model: Model) -> Model:
    """Keeps the batch statistics and other collections of a model's nets in its extras, and tells the nets what is training.

    Args:
        model: A model whose nets are initialized by `aejax.nets.code.initialized` and applied by `aejax.nets.code.apply`.

    Returns:
        The model. One whose nets have parameters only is unchanged, to the bit.

    Example:
        >>> import flax.linen as nn
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> class Encoder(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train):
        ...         return nn.BatchNorm(use_running_average=not train)(nn.Dense(2)(x))
        >>> model = autoencoder(Encoder(), MLP((), 4), bernoulli())  # its constructor ends in with_collections(Model(...))
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), {"x": jnp.ones((3, 4)), "index": jnp.arange(3)})
        >>> extras["collections"]["encoder"]["batch_stats"]["BatchNorm_0"]["mean"].shape
        (2,)
    """

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        params, extras = model.init(key, batch)
        nets = dict(_nets(params))
        if not nets:
            return params, extras
        plain = _replaced(params, {path: net.params for path, net in nets.items()})
        own = {"/".join(path): net.collections for path, net in nets.items()}
        return plain, {**extras, COLLECTIONS: {**extras.get(COLLECTIONS, {}), **own}}

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        if COLLECTIONS not in extras:
            return model.loss(params, extras, batch, key, step, axis)
        key, k_nets = jax.random.split(key)
        collections = extras[COLLECTIONS]
        training = {
            path: Training(k, batch["index"], axis, [])
            for path, k in zip(collections, jax.random.split(k_nets, len(collections)))
        }
        value, (changed, terms) = model.loss(*_with_nets(params, extras, training), batch, key, step, axis)
        after = {path: (training[path].updated or [of_net])[-1] for path, of_net in collections.items()}
        return value, ({**changed, COLLECTIONS: after}, terms)

    def outside(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda params, extras, *rest: function(*_with_nets(params, extras, {}), *rest)

    def outside_all(group: Any) -> Any:
        return group._replace(**{name: outside(f) for name, f in group._asdict().items() if callable(f)})

    groups = {"latent": model.latent, "discrete": model.discrete, "sequence": model.sequence, "sparse": model.sparse}
    functions = {name: getattr(model, name) for name in ("evaluate", "encode", "decode", "reconstruct", "sample")}
    changed: dict[str, Any] = {name: outside(f) for name, f in functions.items() if f is not None}
    changed |= {name: outside_all(group) for name, group in groups.items() if group is not None}
    return model._replace(init=init, loss=loss, **changed)


def _with_nets(params: Params, extras: Extras, training: Mapping[str, Training]) -> tuple[Params, Extras]:
    if COLLECTIONS not in extras:
        return params, extras
    others = {name: value for name, value in extras.items() if name != COLLECTIONS}
    nets = {}
    for path, collections in extras[COLLECTIONS].items():
        keys = tuple(path.split("/"))
        nets[keys] = {STATEFUL: Carried(_at(params, keys), collections, training.get(path))}
    return _replaced(params, nets), others


def _nets(params: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Carried]]:
    if isinstance(params, Mapping) and STATEFUL in params:
        yield path, params[STATEFUL]
    elif isinstance(params, Mapping):
        for name, below in params.items():
            yield from _nets(below, (*path, name))


def _at(params: Any, path: tuple[str, ...]) -> Any:
    return params if not path else _at(params[path[0]], path[1:])


def _replaced(params: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    """The parameters with other values at these paths."""
    if () in values:
        return values[()]
    below = {path[0] for path in values}
    inner = lambda name: {path[1:]: value for path, value in values.items() if path[0] == name}
    return {name: _replaced(value, inner(name)) if name in below else value for name, value in params.items()}
