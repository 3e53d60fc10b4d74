"""An encoder as a function of one example, with what it is made of: what penalties differentiate."""

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
    """x [*shape] -> h [...], of one example. A closed form may look at `module` and `params`."""

    module: nn.Module
    params: Params

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*code"]:
        return apply(self.module, self.params, x[None])[0]
