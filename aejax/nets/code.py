"""An encoder as a function of one example, together with its module and parameters: the input of penalties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from aejax.types import Params


def apply(net: nn.Module, params: Params, *inputs: Any, method: Callable[..., Any] | None = None) -> Any:
    """The output of a net: Flax's `apply` for nets whose only collection is `params`."""
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
