"""Layers trained one after the other, and fine-tuning of the stack (Vincent et al. 2010, §3.4; Bengio et al. 2007).

Each layer is a run of its own on top of a finished run, whose parameters are kept frozen in its extras: one checkpoint of the
third layer encodes images and decodes to images. A layer is trained on the *uncorrupted* code of the layer below, and corrupts
that code itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Key

from aejax.errors import UsageError
from aejax.types import Axis, Batch, DataContract, Extras, Model, Objective, Params, Parent


def on_top_of(parent: Parent, upper: Model) -> Model:
    """`upper`, trained on the codes of the parent, which stays frozen.

    `evaluate` returns the terms of `upper`, in code space. `encode`, `decode` and `reconstruct` map images to the upper code
    and back.

    Args:
        parent: A finished run of an autoencoder, see `aejax.runs.opening.open_parent`.
        upper: An autoencoder of its codes.

    Returns:
        A `Model`.

    Raises:
        UsageError: The parent or `upper` cannot encode and decode.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, squared_error
        >>> from aejax.types import Parent
        >>> batch = {"x": jnp.zeros((2, 4, 4, 1)), "index": jnp.arange(2)}
        >>> lower = autoencoder(MLP((), 8), MLP((), (4, 4, 1)), bernoulli())
        >>> parent = Parent("runs/lower", "", lower, *jax.jit(lower.init)(jax.random.key(0), batch), {})
        >>> model = on_top_of(parent, autoencoder(MLP((), 4), MLP((), 8), squared_error()))
        >>> params, extras = jax.jit(model.init)(jax.random.key(1), batch)
        >>> jax.jit(model.encode)(params, extras, batch, jax.random.key(2)).shape
        (2, 4)
    """
    lower = parent.model
    encode_below, decode_below = lower.encode, lower.decode
    if encode_below is None or decode_below is None:
        raise UsageError(f"{parent.directory} cannot encode and decode; build on an autoencoder")
    encode_above, decode_above = upper.encode, upper.decode
    if encode_above is None or decode_above is None:
        raise UsageError("the upper model of on_top_of() cannot encode and decode; give an autoencoder")

    def codes(extras: Extras, batch: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        """The batch that the upper model receives."""
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
        frozen, key = extras["lower"], jax.random.key(0)  # only the shape of the code below is used
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
    """Parameters of every layer of a stack.

    Args:
        parent: A finished run, on top of any number of others.

    Returns:
        `{"encoder", "decoder"}` of each layer, the lowest first.

    Example:
        >>> from aejax.types import Parent
        >>> bottom = {"encoder": 1, "decoder": 2}
        >>> top = Parent("runs/top", "", None, {"encoder": 3}, {"lower": {"params": bottom, "extras": {}}}, {})
        >>> layers(top)
        [{'encoder': 1, 'decoder': 2}, {'encoder': 3}]
    """
    stack = [parent.params]
    extras: Mapping[str, Any] = parent.extras
    while extras:
        if "lower" not in extras:
            raise UsageError(
                f"the layers of {parent.directory} have batch normalization or other state, which a stack cannot be unrolled "
                "with; leave it out of their nets"
            )
        stack.append(extras["lower"]["params"])
        extras = extras["lower"]["extras"]
    return stack[::-1]


def unroll(stack: list[Params]) -> Params:
    """A stack of one-layer MLPs as the parameters of one deep autoencoder, with one `MLP` as encoder and one as decoder.

    The kernel of a tied layer is copied, transposed, into the decoder, so fine-tuning unties the weights (Hinton &
    Salakhutdinov 2006).

    Args:
        stack: Parameters of the layers, as `layers` returns them.

    Returns:
        Parameters `{"encoder", "decoder"}`.

    Raises:
        UsageError: A layer does not have a single dense layer in encoder and decoder.

    Example:
        >>> dense = lambda i, o: {"dense_0": {"kernel": jnp.ones((i, o)), "bias": jnp.zeros(o)}}
        >>> deep = unroll([{"encoder": dense(6, 4), "decoder": dense(4, 6)}, {"encoder": dense(4, 2), "decoder": dense(2, 4)}])
        >>> [layer["kernel"].shape for layer in deep["decoder"].values()]
        [(2, 4), (4, 6)]
    """
    for i, layer in enumerate(stack):
        if set(layer["encoder"]) != {"dense_0"} or set(layer["decoder"]) != {"dense_0"}:
            raise UsageError(f"layer {i + 1} of the stack is not a single dense layer; unroll() takes one-layer MLPs")
    encoder = {f"dense_{i}": layer["encoder"]["dense_0"] for i, layer in enumerate(stack)}
    decoder = {
        f"dense_{i}": {"kernel": layer["encoder"]["dense_0"]["kernel"].T, **layer["decoder"]["dense_0"]}
        for i, layer in enumerate(reversed(stack))
    }
    return {"encoder": encoder, "decoder": decoder}


def started_from(model: Model, params: Params) -> Model:
    """The model with parts of its initial parameters replaced by given ones.

    Args:
        model: Any model.
        params: Values for some of the top-level names of its parameters.

    Returns:
        A `Model` that differs in `init`.

    Raises:
        UsageError: At initialization, the shapes do not match.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli
        >>> batch = {"x": jnp.zeros((2, 4)), "index": jnp.arange(2)}
        >>> model = autoencoder(MLP((), 2), MLP((), 4), bernoulli())
        >>> trained, _ = jax.jit(model.init)(jax.random.key(0), batch)
        >>> params, _ = started_from(model, {"encoder": trained["encoder"]}).init(jax.random.key(1), batch)
        >>> bool((params["encoder"]["dense_0"]["kernel"] == trained["encoder"]["dense_0"]["kernel"]).all())
        True
    """

    def init(key: Key[Array, ""], batch: Batch) -> tuple[Params, Extras]:
        drawn, extras = model.init(key, batch)
        for name, part in params.items():
            shapes, given = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (drawn[name], part))
            if shapes != given:
                raise UsageError(
                    f"the {name} has parameters of shapes {shapes}, but the parent's have shapes {given}; match the widths"
                )
        return {**drawn, **params}, extras

    return model._replace(init=init)
