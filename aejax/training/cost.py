"""The cost of a training step: its arithmetic and memory traffic, compared with the peak of the device."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aejax.runs.shapes import abstract_batch, abstract_state
from aejax.training.step import make_step
from aejax.types import Experiment

DTYPES = {"f64": "float64", "f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class Cost(NamedTuple):
    """Cost of one step over the global batch: forward, backward and optimizer."""

    flops: float
    bytes: float
    dtype: str
    """Type in which most matrix products and convolutions are computed."""

    def times(self, n: int) -> Cost:
        return self._replace(flops=n * self.flops, bytes=n * self.bytes)


def step_cost(experiment: Experiment) -> Cost:
    """The cost of an experiment's step on one device. It needs shapes only, but compiles the step."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = jax.jit(make_step(experiment.model, experiment.optimizer), donate_argnums=0)
    return cost_of(step.lower(abstract_state(experiment), key, abstract_batch(experiment)))


def cost_of(lowered: Any) -> Cost:
    """The cost of a lowered step (`jax.jit(f).lower(...)`), or of a loop of steps, whose body XLA counts once.

    A multiplication and an addition are two FLOPs; elementwise operations count one per element, but exp, log and the like
    none. FLOPs are those of the program before compilation, including recomputation by `remat`: a compiled matrix product may
    be a library call, whose operations XLA does not count. Bytes are those that the compiled operations read and write,
    counting each array at each use. That is an upper bound on memory traffic, because caches are not modeled. The compilation
    is not wasted if the same function is called afterwards: JAX reuses it.
    """
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).*?: \(tensor<(?:\d+x)*(\w+)>", lowered.as_text())
    return Cost(
        flops=_flops(lowered),
        bytes=lowered.compile().cost_analysis()["bytes accessed"],
        dtype=DTYPES[Counter(products).most_common(1)[0][0]] if products else "float32",
    )


def _flops(lowered: Any) -> float:
    analysis = lowered.cost_analysis()
    if analysis is None:
        # Plugins (GPU, TPU) analyze compiled programs only; XLA's CPU client analyzes the program of any platform.
        from jaxlib._jax import hlo_module_cost_analysis  # called by JAX's own analysis; there is no public interface

        module = lowered.compiler_ir("hlo").as_hlo_module()
        analysis = hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)
    return float(analysis["flops"])


@cache
def peak(dtype: str = "float32") -> float:
    """FLOP/s of one device in square matrix products: the best of three, at the first size that takes at least 20 ms."""
    for n in (512, 2048, 8192):
        a = jax.random.normal(jax.random.key(0), (n, n), dtype)
        product = jax.jit(jnp.matmul)
        product(a, a).block_until_ready()
        seconds = min(_seconds(product, a) for _ in range(3))
        if seconds >= 0.02:
            break
    return 2 * n**3 / seconds


def cost_record(cost: Cost, steps_per_second: float | None, devices: int) -> dict[str, Any]:
    """The entry of result.json: the cost of a step, the measured speed, and the peak of all devices together."""
    # Virtual devices on one CPU share its cores.
    count = (1 if jax.default_backend() == "cpu" else devices) * jax.process_count()
    return {
        "flops_per_step": cost.flops,
        "bytes_per_step": cost.bytes,
        "dtype": cost.dtype,
        "flops_per_second": None if steps_per_second is None else cost.flops * steps_per_second,
        "peak_flops_per_second": peak(cost.dtype) * count,
    }


def cost_line(record: Mapping[str, Any]) -> str:
    """The record as a line of text; without a measured speed, only the cost of a step."""
    line = f"{_si(record['flops_per_step'])}FLOP and {_si(record['bytes_per_step'])}B a step"
    speed, highest = record["flops_per_second"], record["peak_flops_per_second"]
    if speed is None:
        return line
    dtype = record.get("dtype", "float32")  # version 0.1 recorded none
    return f"{line}; {_si(speed)}FLOP/s, {speed / highest:.0%} of the {_si(highest)}FLOP/s of {dtype} matmuls here"


def _seconds(product: Any, a: jax.Array) -> float:
    start = time.perf_counter()
    product(a, a).block_until_ready()
    return time.perf_counter() - start


def _si(value: float) -> str:
    """Three digits and a prefix: 142 G."""
    prefixes = ["", "k", "M", "G", "T", "P"]
    while value >= 999.5 and len(prefixes) > 1:
        value, prefixes = value / 1000, prefixes[1:]
    return f"{value:.3g} {prefixes[0]}"
