"""An encoder as a function of one example, with what it is made of: what penalties differentiate."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float


class Code(NamedTuple):
    """x [*shape] -> h [...], of one example. A closed form may look at `module` and `params`."""

    module: nn.Module
    params: dict

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*code"]:
        return self.module.apply({"params": self.params}, x[None])[0]  # type: ignore[return-value]
