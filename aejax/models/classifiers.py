"""A classifier on an encoder: the supervised fine-tuning at the end of a stack (Vincent et al. 2010, §3.4)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from aejax.described import described
from aejax.errors import UsageError
from aejax.models.collections import with_collections
from aejax.nets.code import apply, initialized
from aejax.types import Axis, Batch, Extras, Model, Objective, Params


@described
def classifier(encoder: nn.Module, classes: int) -> Model:
    """Softmax regression on the encoder's code, trained together with the encoder.

    It logs and evaluates `nll`, the cross-entropy of the label in nats, and `error`, which is 1 if the most probable class is
    not the label.

    Args:
        encoder: Linen module, x [b, ...] -> h [b, d].
        classes: Number of labels.

    Returns:
        A `Model` for batches with `x` and `label`.

    Example:
        >>> from aejax.nets import MLP
        >>> model = classifier(MLP((64,), 32), classes=10)
        >>> batch = {"x": jnp.zeros((2, 8, 8, 1)), "label": jnp.array([3, 7]), "index": jnp.arange(2)}
        >>> params, extras = jax.jit(model.init)(jax.random.key(0), batch)
        >>> jax.jit(model.evaluate)(params, extras, batch, jax.random.key(1))["nll"].shape
        (2,)
    """
    head = nn.Dense(classes, kernel_init=nn.initializers.zeros)  # initially all classes are equally probable

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        if "label" not in batch:
            raise UsageError("a classifier needs labels; choose data that has them")
        k_encoder, k_head = jax.random.split(key)
        h, of_encoder = initialized(encoder, k_encoder, batch["x"])
        return {"encoder": of_encoder, "head": head.init(k_head, h)["params"]}, {}

    def features(params: Params, x: Array) -> Array:
        return apply(encoder, params["encoder"], x)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        logits = apply(head, params["head"], features(params, batch["x"]))
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=1)[:, 0]
        return {"nll": nll, "error": (jnp.argmax(logits, axis=1) != batch["label"]).astype(jnp.float32)}

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        means = {name: jnp.mean(term) for name, term in evaluate(params, extras, batch, key).items()}
        return means["nll"], (extras, means)

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return features(params, batch["x"])

    return with_collections(Model(init=init, loss=loss, evaluate=evaluate, encode=encode))
