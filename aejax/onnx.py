"""The encoder and the decoder of a run as ONNX models, for onnxruntime and everything else that reads ONNX.

    encoder.onnx    x [n, *shape] in the data's own units -> codes [n, ...]
    decoder.onnx    codes [n, ...] -> reconstructions [n, *shape] in the data's own units

The number n of examples is free. A model of bits that are drawn from gray values has an encoder of bits, bool, since ONNX does
not draw numbers as JAX does. The extra `onnx` installs the converter, jax2onnx, and onnxruntime, with which each file is
checked.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from aejax.errors import UsageError
from aejax.files import write_bytes
from aejax.runs.run import Run

TOLERANCE = 1e-4
"""Largest difference between JAX and onnxruntime, relative to the largest output, or absolute if that is below 1."""


def write_onnx(run: Run, folder: Path) -> list[Path]:
    """Writes encoder.onnx and decoder.onnx, those of the two that the model has.

    Args:
        run: A run.
        folder: An existing folder.

    Returns:
        The files.

    Raises:
        UsageError: jax2onnx or onnxruntime is missing, the model needs more than x or codes (a label, a condition), it has an
            operation that cannot be converted, or onnxruntime computes something else than JAX.
    """
    model, shape = run.experiment.model, run.experiment.train.shape
    if model.data.condition is not None or run.experiment.parent is not None:
        raise UsageError("ONNX models take x only; a model with a condition or a parent cannot be exported")
    functions: dict[str, tuple[Callable[[Array], Array], np.ndarray]] = {}
    x = _examples(run)
    if model.encode is not None:
        functions["encoder"] = _encoder(run), x
    if model.encode is not None and model.decode is not None:
        functions["decoder"] = _decoder(run, shape), np.asarray(jax.jit(_encoder(run))(x))
    return [_written(folder / f"{name}.onnx", *parts) for name, parts in functions.items()]


def _examples(run: Run) -> np.ndarray:
    """Some inputs to compare both on: random ones, in the range of the training data."""
    train = run.experiment.train
    x = np.random.default_rng(0).random((4, *train.shape), np.float32)
    if run.experiment.model.data.observe is not None:
        return x < 0.5
    low, high = (0.0, 1.0) if train.found is None else (train.found.low, train.found.high)
    return (low + (high - low) * x).astype(np.float32)


def _encoder(run: Run) -> Callable[[Array], Array]:
    encode, state, scaling = run.experiment.model.encode, run.state, run.experiment.train.scaling
    assert encode is not None
    key = jax.random.key(0)  # an encoder gives the mean of a stochastic code, which needs no random numbers

    def encoder(x: Array) -> Array:
        if scaling is not None:
            x = (x - _row(scaling.shift, x)) / _row(scaling.scale, x)
        return encode(state.params, state.extras, {"x": x, "index": jnp.zeros(x.shape[0], jnp.int32)}, key)

    return encoder


def _decoder(run: Run, shape: tuple[int, ...]) -> Callable[[Array], Array]:
    decode, state, scaling = run.experiment.model.decode, run.state, run.experiment.train.scaling
    assert decode is not None

    def decoder(z: Array) -> Array:
        n = z.shape[0]
        # Only the shape of x is used. Bits are given as such, so that none are drawn.
        dtype = jnp.float32 if run.experiment.model.data.observe is None else jnp.bool_
        batch = {"x": jnp.zeros((n, *shape), dtype), "index": jnp.zeros(n, jnp.int32)}
        x = decode(state.params, state.extras, z, batch)
        return x if scaling is None else x * _row(scaling.scale, x) + _row(scaling.shift, x)

    return decoder


def _row(numbers: tuple[float, ...], like: Array) -> Array:
    return jnp.asarray(numbers, jnp.float32).reshape((1,) * (like.ndim - 1) + (-1,))


def _everywhere(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The function with its branches for one platform (`jax.lax.platform_dependent`) replaced by those for every platform."""

    def run(jaxpr: Any, constants: Any, *inputs: Any) -> list[Any]:
        values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs]))
        for equation in jaxpr.eqns:
            given = [v.val if hasattr(v, "val") else values[v] for v in equation.invars]
            name, parts = equation.primitive.name, equation.params
            if name == "platform_index":
                results = [int(parts["platforms"].index(None))]
            elif name == "conv_general_dilated" and parts["dimension_numbers"].rhs_spec == (2, 3, 0, 1):
                # The transpose of a convolution has a kernel [h, w, out, in], which the converter does not know.
                x, kernel = given
                parts = {**parts, "dimension_numbers": parts["dimension_numbers"]._replace(rhs_spec=(3, 2, 0, 1))}
                results = [equation.primitive.bind(x, jnp.swapaxes(kernel, 2, 3), **parts)]
            elif name == "cond" and isinstance(given[0], int):
                branch = parts["branches"][given[0]]
                results = run(branch.jaxpr, branch.consts, *given[1:])
            elif inner := parts.get("call_jaxpr") or (parts.get("jaxpr") if name in ("jit", "pjit") else None):
                results = run(inner.jaxpr, inner.consts, *given)
            else:
                results = equation.primitive.bind(*given, **parts)
                results = results if equation.primitive.multiple_results else [results]
            values.update(zip(equation.outvars, results))
        return [v.val if hasattr(v, "val") else values[v] for v in jaxpr.outvars]

    def everywhere(x: Array) -> Array:
        closed = jax.make_jaxpr(function)(x)
        (out,) = run(closed.jaxpr, closed.consts, x)
        return out

    return everywhere


def _written(file: Path, function: Callable[[Array], Array], x: np.ndarray) -> Path:
    jax2onnx, onnxruntime = _libraries()
    expected = np.asarray(jax.jit(function)(x))
    shape: list[Any] = ["n", *x.shape[1:]]
    try:
        # The converter explains itself at length, and adds biases without naming their axes.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
            warnings.simplefilter("ignore")
            converted = jax2onnx.to_onnx(
                _everywhere(function),
                [jax.ShapeDtypeStruct(tuple(shape), x.dtype)] if x.dtype == bool else [tuple(shape)],
            )
    except Exception as error:
        reason = f"{' '.join(str(error).split())[:300]}; this model cannot be exported"
        if "_DimExpr" in reason:
            reason = "a net asks for the number of examples as a Python integer; write x.shape[0] in place of len(x)"
        raise UsageError(f"{file.name}: {reason}") from error
    content = converted.SerializeToString()
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    difference = float(np.max(np.abs(found - expected))) / max(1.0, float(np.max(np.abs(expected))))
    if found.shape != expected.shape or not difference < TOLERANCE:
        raise UsageError(
            f"{file.name}: onnxruntime gives other numbers than JAX, by {difference:.2g} of the largest; this model cannot be "
            "exported"
        )
    write_bytes(file, content)
    return file


def _libraries() -> tuple[ModuleType, ModuleType]:
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise UsageError("ONNX needs jax2onnx and onnxruntime; pip install 'aejax[onnx]'") from error
    return jax2onnx, onnxruntime
