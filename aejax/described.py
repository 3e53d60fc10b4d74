"""Models, likelihoods, corruptions and nets as JSON, by the calls that made them: what a run needs to be opened without its code.

A function that makes such a part is marked with `@described`. What it returns then knows its name and its arguments, and
`description` writes both as JSON; `made_of` calls the function again. Only marked functions of aejax, its nets and Flax's, and
functions of JAX and Flax by name, can be written, so that reading a description runs no code of anybody else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import flax.linen as nn
import jax
import numpy as np

from aejax.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


class NotDescribed(Exception):
    """Something that a description cannot hold: a function, module or object of the user's own."""


def described(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function whose results can be described by its name and arguments."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        _refuse_unmade(function.__name__, bound.arguments)
        return _knowing(function(*args, **kwargs), (_name_of(function), bound.arguments, signature))

    make.is_described = True  # type: ignore[attr-defined]
    return make


MADE = {
    "likelihood": "bernoulli()",
    "posterior": "diagonal()",
    "prior": "standard_normal()",
    "quantizer": "nearest(64, 32)",
    "corrupt": "masking(0.3)",
    "encoder": "MLP((64,), 8)",
    "decoder": "MLP((64,), train.shape)",
}
"""Argument -> an example of what it takes."""


def _refuse_unmade(function: str, arguments: Mapping[str, Any]) -> None:
    """UsageError for the name, the function or the class where what it makes is expected, a mistake that is easily made."""
    for name, example in MADE.items():
        value = arguments.get(name)
        called = inspect.isfunction(value) and value.__name__ == example.split("(")[0]
        if isinstance(value, (str, float, type)) or called or getattr(value, "is_described", False):
            shown = getattr(value, "__name__", repr(value))
            raise UsageError(f"{function}({name}={shown}): give what a call returns, for example {name}={example}")


def description(value: Any) -> Any:
    """A value as JSON.

    Raises:
        NotDescribed: It, or something that it was made of, was not made by aejax; the message says what.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    made = getattr(value, "made_by", None)
    if made is not None:
        name, arguments, signature = made
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for key, argument in arguments.items():
            kind = signature.parameters[key].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                positional += [description(part) for part in argument]
            elif kind is inspect.Parameter.VAR_KEYWORD:
                named |= {k: description(part) for k, part in argument.items()}
            elif kind is inspect.Parameter.POSITIONAL_ONLY or positional:
                positional.append(description(argument))
            else:
                named[key] = description(argument)
        return {"call": name, "positional": positional, "named": named}
    if isinstance(value, nn.Module):
        return {"module": _name_of(type(value)), "fields": _fields(value)}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return {"tuple": [description(part) for part in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[description(k), description(v)] for k, v in value.items()]}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, jax.core.Tracer):
        array = np.asarray(value)
        if array.size > 100_000 or array.dtype.kind not in "biuf":
            raise NotDescribed(f"an array of shape {array.shape}")
        return {"array": array.tolist(), "dtype": array.dtype.name}
    return {"name": _public_name(value)}


def made_of(description: Any) -> Any:
    """The value that a description describes.

    Raises:
        NotDescribed: It names something that this version of aejax does not have.
    """
    if not isinstance(description, Mapping):
        return description
    if "call" in description:
        function = _found(description["call"])
        if not getattr(function, "is_described", False):
            raise NotDescribed(description["call"])
        named = {key: made_of(value) for key, value in description["named"].items()}
        return function(*map(made_of, description["positional"]), **named)
    if "module" in description:
        kind = _found(description["module"])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise NotDescribed(description["module"])
        return kind(**{name: made_of(value) for name, value in description["fields"].items()})
    if "tuple" in description:
        return tuple(map(made_of, description["tuple"]))
    if "mapping" in description:
        return {made_of(key): made_of(value) for key, value in description["mapping"]}
    if "array" in description:
        return np.asarray(description["array"], description["dtype"])
    return _found(description["name"])


def _knowing(value: R, made: Any) -> R:
    """The same value, with the attribute `made_by`."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        known: Any = _subclass(type(value))(*value)
        known.made_by = made
        return known
    if (inspect.isfunction(value) and "<locals>" in value.__qualname__) or isinstance(value, functools.partial):
        value.made_by = made  # type: ignore[union-attr]
    return value


@functools.cache
def _subclass(kind: type) -> type:
    """A NamedTuple's class whose instances take attributes; `_replace` returns one that has none."""
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _fields(module: nn.Module) -> dict[str, Any]:
    """The fields of a module that differ from their defaults."""
    fields = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if field.init and field.name not in ("parent", "name") and value is not field.default:
            fields[field.name] = description(value)
    return fields


PUBLIC = ("flax.linen", "jax.nn", "jax.numpy", "flax.linen.initializers")
"""Where functions of JAX and Flax are looked for by name."""


def _public_name(value: Any) -> str:
    name = getattr(value, "__name__", None)
    for module in PUBLIC:
        if name is not None and getattr(importlib.import_module(module), name, None) is value:
            return f"{module}:{name}"
    if callable(value) and hasattr(value, "__qualname__"):
        return _name_of(value)
    raise NotDescribed(f"{type(value).__name__} {name or ''}".strip())


def _name_of(value: Any) -> str:
    if not (value.__module__ or "").startswith(("aejax.", "flax.linen")) or "<locals>" in value.__qualname__:
        raise NotDescribed(f"{value.__qualname__} of {value.__module__}")
    return f"{value.__module__}:{value.__qualname__}"


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    if not module.startswith(("aejax.", "flax.linen", "jax.nn", "jax.numpy")):
        raise NotDescribed(name)
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise NotDescribed(name) from error
