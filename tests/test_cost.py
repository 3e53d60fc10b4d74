import timeit

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.models import autoencoder
from aejax.nets import MLP, ConvDecoder, ConvEncoder
from aejax.objective.likelihoods import squared_error
from aejax.runs.shapes import abstract_batch, abstract_state
from aejax.training.cost import Cost, cost_line, cost_of, peak, step_cost
from aejax.training.step import jit_runner
from aejax.types import Dataset, Experiment


def experiment_of(encoder, decoder, shape, batch_size):
    """A step needs no data to be counted."""
    data = Dataset("none:train", shape, 1000, None, "", None)
    model = autoencoder(encoder, decoder, squared_error())
    return Experiment(model, optax.sgd(1e-3), data, data, batch_size, 10, 0)


def weights(experiment):
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_state(experiment).params) if leaf.ndim == 2)


def test_flops_of_an_mlp_are_six_per_weight_and_example_but_four_in_the_first_layer():
    experiment = experiment_of(MLP((256,), 32), MLP((256,), (196,)), (14, 14, 1), 128)
    # Forward, gradient of the weights, gradient of the input; nobody asks for the gradient of the data.
    by_hand = 128 * (6 * weights(experiment) - 2 * 196 * 256)
    cost = step_cost(experiment)
    assert by_hand <= cost.flops <= 1.1 * by_hand
    assert cost.dtype == "float32"
    # Parameters, read and written; more, but not a hundred times.
    state_bytes = 4 * weights(experiment)
    assert 2 * state_bytes < cost.bytes < 100 * state_bytes


def test_flops_of_a_conv_net_are_those_counted_by_hand():
    experiment = experiment_of(
        ConvEncoder((16, 32), 8, spatial=True, blocks=1), ConvDecoder((32, 16), (32, 32, 3), blocks=1), (32, 32, 3), 16
    )

    def strided(size, c, d):
        # Each of size / 2 windows of 4 along a side, with their padding: products of whole patches.
        return 2 * (2 * size) ** 2 * c * d

    def residual(size, c):
        return 2 * ((3 * size) ** 2 + size**2) * c * c

    first, second, dense = strided(32, 3, 16), strided(16, 16, 32), 2 * 8 * 8 * 32 * 8
    by_hand = 16 * (3 * (2 * first + 2 * second + 2 * residual(8, 32) + 2 * dense) - first)
    assert step_cost(experiment).flops == pytest.approx(by_hand, rel=0.1)


def test_a_loop_of_steps_costs_one_step():
    experiment = experiment_of(MLP((64,), 8), MLP((64,), (64,)), (64,), 32)
    batches = {k: jax.ShapeDtypeStruct((5, *v.shape), v.dtype) for k, v in abstract_batch(experiment).items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    runner = jit_runner(experiment.model, experiment.optimizer).lower(
        abstract_state(experiment), key, batches, np.int32(5)
    )
    assert cost_of(runner).flops == pytest.approx(step_cost(experiment).flops, rel=0.02)


def test_the_dtype_is_that_of_the_layers():
    net = {"dtype": jnp.bfloat16}
    assert step_cost(experiment_of(MLP((8,), 4, **net), MLP((8,), (9,), **net), (9,), 4)).dtype == "bfloat16"


def test_a_product_of_matrices_has_two_flops_per_multiplication():
    a = jnp.ones((64, 64))
    assert cost_of(jax.jit(jnp.matmul).lower(a, a)).flops == pytest.approx(2 * 64**3, rel=0.01)


def test_a_plugin_that_analyzes_nothing_before_compiling_has_its_flops_counted_all_the_same():
    class OfPlugin:
        """What lowering gives on a GPU or a TPU."""

        def __init__(self, lowered):
            self.lowered = lowered

        def cost_analysis(self):
            return None

        def __getattr__(self, name):
            return getattr(self.lowered, name)

    a = jnp.ones((64, 64))
    lowered = jax.jit(lambda a: jnp.tanh(a @ a) + 1.0).lower(a)
    assert cost_of(OfPlugin(lowered)) == cost_of(lowered)


def test_the_peak_is_the_speed_of_a_product_of_squares():
    a = jnp.ones((1024, 1024))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds = min(timeit.repeat(lambda: product(a, a).block_until_ready(), number=1, repeat=5))
    assert 0.2 < 2 * 1024**3 / seconds / peak("float32") < 5.0  # by another clock, on a machine that others use


def record_of(cost, steps_per_second):
    return {
        "flops_per_step": cost.flops,
        "bytes_per_step": cost.bytes,
        "dtype": cost.dtype,
        "flops_per_second": None if steps_per_second is None else cost.flops * steps_per_second,
        "peak_flops_per_second": 190e9,
    }


def test_the_line_names_cost_speed_and_share():
    cost = Cost(5.6e8, 31e6, "float32")
    assert cost_line(record_of(cost, 254.0)) == (
        "560 MFLOP and 31 MB a step; 142 GFLOP/s, 75% of the 190 GFLOP/s of float32 matmuls here"
    )
    assert cost_line(record_of(cost, None)) == "560 MFLOP and 31 MB a step"
    assert cost_line(record_of(Cost(9.999e11, 999.0, "bfloat16"), None)) == "1 TFLOP and 999 B a step"
