"""Nets as functions of their parameters: initialization, application, and an encoder as a function of one example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float, Key

from aejax.nets.stateful import STATEFUL, carried, flag
from aejax.types import Params


def initialized(net: nn.Module, key: Key[Array, ""], *inputs: Any) -> tuple[Any, Params]:
    """The output of a net with new parameters, and these. A net without parameters has none, {}.

    Those of a net with batch normalization, dropout or other state hold a `Carried`, see `aejax.nets.stateful`.
    """
    out, variables = net.init_with_output(key, *inputs, **flag(net, None, training=False))
    return out, carried(net, variables)


def apply(net: nn.Module, params: Params, *inputs: Any, method: Callable[..., Any] | None = None) -> Any:
    """The output of a net with these parameters."""
    if STATEFUL in params:
        return params[STATEFUL].apply(net, inputs, method)
    return net.apply({"params": params}, *inputs, method=method)


class Code(NamedTuple):
    """The encoder as a function of one example, x [*shape] -> h [...].

    Penalties with a closed form use `module` and `params`.

    Example:
        >>> import flax.linen as nn
        >>> module = nn.Dense(2)
        >>> Code(module, module.init(jax.random.key(0), jnp.ones((1, 3)))["params"])(jnp.ones(3)).shape
        (2,)
    """

    module: nn.Module
    params: Params

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*code"]:
        return apply(self.module, self.params, x[None])[0]
