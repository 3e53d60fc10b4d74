"""Layers trained one after the other, and what becomes of the stack (Vincent et al. 2010, §3.4; Bengio et al. 2007).

Each layer is a run of its own on top of a finished one, whose parameters it holds frozen in its extras: one checkpoint of the
third layer encodes images and decodes to images. A layer sees the *uncorrupted* code of the one below, and corrupts that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Key

from aejax.errors import UsageError
from aejax.types import Axis, Batch, DataContract, Extras, Model, Objective, Params, Parent


def on_top_of(parent: Parent, upper: Model) -> Model:
    """`upper`, trained on the codes of the parent, which stays as it is.

    `evaluate` gives upper's terms, of codes; `encode`, `decode` and `reconstruct` go from images to the upper code and back.

    Returns:
        A `Model`.
    """
    lower = parent.model
    encode_below, decode_below = lower.encode, lower.decode
    if encode_below is None or decode_below is None:
        raise UsageError(f"{parent.directory} neither encodes nor decodes; build on an autoencoder")
    encode_above, decode_above = upper.encode, upper.decode
    if encode_above is None or decode_above is None:
        raise UsageError("the upper model of on_top_of() neither encodes nor decodes; give an autoencoder")

    def codes(extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        """The batch as the upper model sees it."""
        frozen = extras["lower"]
        return {**batch, "x": encode_below(frozen["params"], frozen["extras"], batch, key)}

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        frozen = {"params": parent.params, "extras": parent.extras}
        params, extras = upper.init(key, codes({"lower": frozen}, batch, key))
        return params, {"lower": frozen, "upper": extras}

    def loss(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""], step: Any, axis: Axis) -> Objective:
        seen = jax.lax.stop_gradient(codes(extras, batch, key))
        value, (own, metrics) = upper.loss(params, extras["upper"], seen, key, step, axis)
        return value, ({**extras, "upper": own}, metrics)

    def evaluate(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        return upper.evaluate(params, extras["upper"], codes(extras, batch, key), key)

    def encode(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return encode_above(params, extras["upper"], codes(extras, batch, key), key)

    def decode(params: Params, extras: Extras, z: Array, batch: Batch) -> Array:
        frozen, key = extras["lower"], jax.random.key(0)  # of the code below only the shape is used
        below = decode_above(params, extras["upper"], z, codes(extras, batch, key))
        return decode_below(frozen["params"], frozen["extras"], below, batch)

    def reconstruct(params: Params, extras: Extras, batch: Batch, key: Key[Array, ""]) -> Array:
        return decode(params, extras, encode(params, extras, batch, key), batch)

    return Model(
        init=init,
        loss=loss,
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        data=DataContract(check=lower.data.check),
    )


def layers(parent: Parent) -> list[Params]:
    """Parameters `{"encoder", "decoder"}` of every layer of a stack, the lowest first."""
    stack = [parent.params]
    extras: Mapping[str, Any] = parent.extras
    while extras:
        stack.append(extras["lower"]["params"])
        extras = extras["lower"]["extras"]
    return stack[::-1]


def unroll(stack: list[Params]) -> Params:
    """A stack of one-layer MLPs as the parameters of one deep autoencoder: an `MLP` up, and an `MLP` down.

    A tied layer's kernel is copied, transposed, into the decoder: fine-tuning unties (Hinton & Salakhutdinov 2006).
    """
    for i, layer in enumerate(stack):
        if set(layer["encoder"]) != {"dense_0"} or set(layer["decoder"]) != {"dense_0"}:
            raise UsageError(f"layer {i + 1} of the stack is no single dense layer; unroll layers of one each")
    encoder = {f"dense_{i}": layer["encoder"]["dense_0"] for i, layer in enumerate(stack)}
    decoder = {
        f"dense_{i}": {"kernel": layer["encoder"]["dense_0"]["kernel"].T, **layer["decoder"]["dense_0"]}
        for i, layer in enumerate(reversed(stack))
    }
    return {"encoder": encoder, "decoder": decoder}


def started_from(model: Model, params: Params) -> Model:
    """The model with these parts of its parameters (top-level names) in place of their random initialization."""

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        drawn, extras = model.init(key, batch)
        for name, part in params.items():
            shapes, given = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (drawn[name], part))
            if shapes != given:
                raise UsageError(
                    f"the {name} has parameters of shapes {shapes}, the parent gives {given}; match the widths"
                )
        return {**drawn, **params}, extras

    return model._replace(init=init)
