"""Networks of other libraries (Flax NNX, Equinox, Haiku, plain functions) as Linen modules."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Key, PyTree

from aejax.errors import UsageError


class Adapter(nn.Module):
    """A network given by two pure functions, whose parameters are any tree of arrays.

    Its parameters are stored by their paths in the tree, so that checkpoints hold nested dicts of arrays as for other modules.
    State that training does not reach by gradient, such as running statistics, must stay in a Linen module.

    Attributes:
        create: key -> parameters, a tree of floating-point arrays. It is called once to initialize, and with shapes only
            afterwards.
        call: (parameters, x [b, ...]) -> [b, ...].

    Example:
        >>> import jax.numpy as jnp
        >>> create = lambda key: {"w": jax.random.normal(key, (4, 2))}
        >>> net = Adapter(create, lambda params, x: x @ params["w"])
        >>> variables = net.init(jax.random.key(0), jnp.ones((3, 4)))
        >>> sorted(variables["params"]["net"]), net.apply(variables, jnp.ones((3, 4))).shape
        (['w'], (3, 2))
    """

    create: Callable[[Key[Array, ""]], PyTree]
    call: Callable[[PyTree, Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shapes = jax.eval_shape(self.create, jax.random.key(0))
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
        if not paths:
            raise UsageError("Adapter(create, call): create returns no arrays; let it return the network's parameters")
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
        leaves = self.param("net", lambda key: dict(zip(names, jax.tree.leaves(self.create(key)))))
        return self.call(jax.tree.unflatten(jax.tree.structure(shapes), [leaves[name] for name in names]), x)
