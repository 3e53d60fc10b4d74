import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.kernels import convolution
from aejax.kernels.convolution import LAYOUT, conv, conv_transpose
from aejax.models import autoencoder
from aejax.nets import ConvDecoder, ConvEncoder
from aejax.nets.conv import halvings
from aejax.objective.likelihoods import bernoulli, gaussian_learned
from tiny import normal


def plain(z, kernel, size):
    """The transposed convolution of the library, cut to size."""
    whole = jax.lax.conv_transpose(z, kernel, (2, 2), "SAME", transpose_kernel=True)
    return whole[:, : size[0], : size[1]]


@pytest.mark.parametrize("size", [(14, 14), (13, 14), (1, 7)])
def test_the_transposed_convolution_and_both_gradients_are_the_librarys(size):
    (small,) = halvings(size, 1)[1:]
    z, kernel, g = normal(3, *small, 6), normal(4, 4, 5, 6, seed=1), normal(3, *size, 5, seed=2)

    def of(f):
        value, pull = jax.vjp(lambda z, kernel: f(z, kernel, size), z, kernel)
        return value, *pull(g)

    for ours, theirs in zip(jax.jit(of, static_argnums=0)(conv_transpose), jax.jit(of, static_argnums=0)(plain)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def library(x, kernel, stride):
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, "SAME", dimension_numbers=LAYOUT)


def with_gradients(f, x, kernel, stride, g):
    @jax.jit
    def both(x, kernel, g):
        value, pull = jax.vjp(lambda x, kernel: f(x, kernel, stride), x, kernel)
        return value, *pull(g)

    return both(x, kernel, g)


@pytest.mark.parametrize(("kernel", "stride"), [((4, 4), 2), ((3, 3), 1), ((3, 5), 2), ((2, 3), 1)])
@pytest.mark.parametrize("size", [(14, 14), (13, 8), (2, 1)])
def test_the_convolution_and_both_gradients_are_the_librarys(size, kernel, stride):
    x, kernel = normal(3, *size, 4), normal(*kernel, 4, 5, seed=1)
    g = normal(3, *(-(-side // stride) for side in size), 5, seed=2)
    for ours, theirs in zip(*(with_gradients(f, x, kernel, stride, g) for f in (conv, library))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((2, 2), 1), ((4, 4), 2), ((3, 3), 2)])
@pytest.mark.parametrize("size", [(13, 8), (2, 1)])
def test_tiles_of_winograd_give_the_convolution_and_both_gradients(size, kernel, stride, monkeypatch):
    """An identity, so to the last digits of float64; `conv` itself takes this way in float32 alone."""
    monkeypatch.setattr(convolution, "_in_fewer", lambda x, kernel: True)
    with jax.enable_x64(True):
        x, kernel, g = (
            jnp.asarray(np.random.default_rng(seed).normal(size=shape))
            for seed, shape in enumerate(
                [(2, *size, 3), (*kernel, 3, 5), (2, *(-(-side // stride) for side in size), 5)]
            )
        )
        for ours, theirs in zip(*(with_gradients(f, x, kernel, stride, g) for f in (conv, library))):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere convolutions are the library's")
@pytest.mark.parametrize(("kernel", "stride", "size"), [((3, 3), 1, (7, 7)), ((4, 4), 2, (14, 13))])
def test_many_channels_lose_a_digit_by_fewer_multiplications(kernel, stride, size):
    small = [-(-side // stride) for side in size]
    x, kernel, g = normal(4, *size, 64), normal(*kernel, 64, 65, seed=1), normal(4, *small, 65, seed=2)
    text = jax.jit(lambda x, kernel: conv(x, kernel, stride)).lower(x, kernel).as_text()
    assert "convolution" not in text
    for ours, theirs in zip(*(with_gradients(f, x, kernel, stride, g) for f in (conv, library))):
        np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-5 * float(jnp.max(jnp.abs(theirs))))


def test_the_transposed_convolution_is_the_transpose():
    z, kernel, x = normal(2, 4, 3, 6), normal(4, 4, 5, 6, seed=1), normal(2, 7, 6, 5, seed=2)
    there, back = jnp.vdot(z, conv(x, kernel)), jnp.vdot(conv_transpose(z, kernel, (7, 6)), x)
    np.testing.assert_allclose(there, back, rtol=1e-4)


def test_the_transposed_convolution_has_the_librarys_second_gradients():
    z, kernel = normal(1, 2, 2, 2), normal(4, 4, 1, 2, seed=1)

    def penalty(f):
        slope = jax.grad(lambda z, kernel: jnp.sum(jnp.sin(f(z, kernel, (3, 4)))))
        return jax.jit(jax.grad(lambda z, kernel: jnp.sum(jnp.square(slope(z, kernel))), argnums=(0, 1)))

    for ours, theirs in zip(penalty(conv_transpose)(z, kernel), penalty(plain)(z, kernel)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (13, 9, 3), (5, 1, 2)])
@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("likelihood", [bernoulli(), gaussian_learned()], ids=lambda likelihood: likelihood.name)
def test_an_image_of_any_size_comes_back_in_its_shape(shape, spatial, likelihood):
    out = shape if likelihood.width == 1 else (*shape, likelihood.width)
    encoder, decoder = ConvEncoder((4, 6), 3, spatial=spatial, blocks=1), ConvDecoder((6, 4), out, blocks=1)
    model = autoencoder(encoder, decoder, likelihood)
    batch = {"x": jax.ShapeDtypeStruct((2, *shape), jnp.float32), "index": jax.ShapeDtypeStruct((2,), jnp.int32)}
    params, extras = jax.eval_shape(model.init, jax.random.key(0), batch)
    code = jax.eval_shape(model.encode, params, extras, batch, jax.random.key(0))
    assert code.shape == ((2, *halvings(shape[:2], 2)[-1], 3) if spatial else (2, 3))
    assert jax.eval_shape(model.reconstruct, params, extras, batch, jax.random.key(0)).shape == (2, *shape)


@pytest.mark.parametrize("shape", [(16, 1), (13, 3)])
@pytest.mark.parametrize("spatial", [False, True])
def test_a_signal_of_any_length_comes_back_in_its_shape(shape, spatial):
    encoder = ConvEncoder((4, 6), 3, spatial=spatial, blocks=1, signal=True)
    decoder = ConvDecoder((6, 4), (*shape, 2), blocks=1, signal=True)
    batch = {"x": jax.ShapeDtypeStruct((2, *shape), jnp.float32), "index": jax.ShapeDtypeStruct((2,), jnp.int32)}
    model = autoencoder(encoder, decoder, gaussian_learned())
    params, extras = jax.eval_shape(model.init, jax.random.key(0), batch)
    code = jax.eval_shape(model.encode, params, extras, batch, jax.random.key(0))
    assert code.shape == ((2, 4, 3) if spatial else (2, 3))
    assert jax.eval_shape(model.reconstruct, params, extras, batch, jax.random.key(0)).shape == (2, *shape)


def test_a_signal_is_an_image_of_width_one():
    """The image's kernels, of which only the column that meets the image counts, are the signal's there."""
    widths, x, z = (4, 5), normal(2, 13, 3), normal(2, 4, 6, seed=1)

    def as_image(kernel):
        wide = kernel.shape[0]
        return jnp.zeros((wide, wide, *kernel.shape[2:])).at[:, 1:2].set(kernel) if kernel.ndim == 4 else kernel

    encoder = lambda **more: ConvEncoder(widths, 6, spatial=True, blocks=1, **more)
    params = jax.jit(encoder(signal=True).init)(jax.random.key(0), x)
    found = jax.jit(encoder().apply)(jax.tree.map(as_image, params), x[:, :, None])
    np.testing.assert_allclose(jax.jit(encoder(signal=True).apply)(params, x), found[:, :, 0], rtol=1e-4, atol=1e-5)

    params = jax.jit(ConvDecoder(widths, (13, 3), blocks=1, signal=True).init)(jax.random.key(0), z)
    found = jax.jit(ConvDecoder(widths, (13, 1, 3), blocks=1).apply)(jax.tree.map(as_image, params), z[:, :, None])
    ours = jax.jit(ConvDecoder(widths, (13, 3), blocks=1, signal=True).apply)(params, z)
    np.testing.assert_allclose(ours, found[:, :, 0], rtol=1e-4, atol=1e-5)


def test_a_code_of_positions_is_local():
    """A pixel reaches the codes around its own position only, in an encoder without residual blocks."""
    encoder = ConvEncoder((4, 4), 3, spatial=True, blocks=0)
    x = normal(1, 32, 32, 1)
    params, apply = jax.jit(encoder.init)(jax.random.key(0), x), jax.jit(encoder.apply)
    moved = apply(params, x.at[0, 9, 21, 0].add(1.0)) != apply(params, x)
    rows, columns = np.nonzero(np.any(np.asarray(moved[0]), axis=-1))
    assert len(rows)
    assert set(rows) <= {1, 2, 3}
    assert set(columns) <= {4, 5, 6}


def test_the_net_of_the_paper():
    """Two strided convolutions, two residual blocks of 3×3 and 1×1, all of 256 channels: 8×8 codes for 32×32 images."""
    encoder, decoder = ConvEncoder((256, 256), 10, spatial=True), ConvDecoder((256, 256), (32, 32, 3))
    x, z = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 32, 32, 3), (1, 8, 8, 10)))

    def count(net, given):
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), given)))

    blocks = 2 * (9 * 256 * 256 + 256 + 256 * 256 + 256)
    assert count(encoder, x) == (16 * 3 * 256 + 256) + (16 * 256 * 256 + 256) + blocks + (256 * 10 + 10)
    assert count(decoder, z) == (10 * 256 + 256) + blocks + (16 * 256 * 256 + 256) + (16 * 256 * 3 + 3)


def test_a_transposed_convolution_keeps_the_variance():
    z = normal(64, 8, 8, 32)
    decoder = ConvDecoder((32, 24), (32, 32, 8), blocks=0)
    theta, _ = jax.jit(decoder.init_with_output)(jax.random.key(0), z)
    # Dense layer 1, then a ReLU, which halves the second moment, before each of two convolutions.
    assert float(jnp.var(theta[:, 8:-8, 8:-8])) == pytest.approx(0.25, rel=0.25)
    decoder = ConvDecoder((32, 24), (256, 8), blocks=0, signal=True)
    theta, _ = jax.jit(decoder.init_with_output)(jax.random.key(0), z.reshape(64, 64, 32))
    assert float(jnp.var(theta[:, 8:-8])) == pytest.approx(0.25, rel=0.25)


def test_dtype_and_remat_change_neither_the_parameters_nor_what_is_computed():
    x, rng = normal(2, 8, 8, 1), np.random.default_rng(0)

    def nets(**options):
        encoder = ConvEncoder((4,), 3, blocks=1, groups=2, **options)
        decoder = ConvDecoder((4,), (8, 8, 1), blocks=1, groups=2, **options)

        def init(key):
            return encoder.init(key, x), decoder.init(key, jnp.ones((2, 3)))

        def loss(params):
            z = encoder.apply(params[0], x)
            theta = decoder.apply(params[1], z)
            assert z.dtype == theta.dtype == jnp.float32
            return jnp.mean(jnp.square(theta - x))

        return jax.eval_shape(init, jax.random.key(0)), jax.jit(jax.value_and_grad(loss))

    (shapes, plain), (same, computed_twice), (also, half) = (
        nets(),
        nets(remat=True),
        nets(dtype=jnp.bfloat16, remat=True),
    )
    assert shapes == same == also
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape, scale=0.3), leaf.dtype), shapes)
    value, gradients = plain(params)
    by_remat, gradients_by_remat = computed_twice(params)
    np.testing.assert_allclose(by_remat, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradients_by_remat, gradients)
    by_half, gradients_by_half = half(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradients_by_half))} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(by_half, value, rtol=0.03)
    assert by_half != value


def test_remat_halves_the_memory_of_many_blocks():
    x = jax.ShapeDtypeStruct((32, 16, 16, 8), jnp.float32)

    def temporary(remat):
        net = ConvEncoder((8,), 4, blocks=8, remat=remat)
        gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.square(net.apply(params, x)))))
        # As in test_nets: the barrier that XLA honors on accelerators, but drops on CPU.
        compiled = gradient.lower(jax.eval_shape(net.init, jax.random.key(0), x), x).compile(
            {"xla_disable_hlo_passes": "cse_barrier_expander"}
        )
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(True) < temporary(False) / 1.5


def test_what_cannot_be_an_image_is_refused():
    x, key = jnp.ones((2, 8, 8, 1)), jax.random.key(0)
    with pytest.raises(UsageError, match="images"):
        ConvEncoder((4,), 3).init(key, jnp.ones((2, 64)))
    with pytest.raises(UsageError, match="signals"):
        ConvEncoder((4,), 3, signal=True).init(key, x)
    with pytest.raises(UsageError, match="as many widths"):
        ConvDecoder((4,), (9, 1), signal=True).init(key, jnp.ones((2, 4, 3)))
    with pytest.raises(UsageError, match="width"):
        ConvEncoder((), 3).init(key, x)
    with pytest.raises(UsageError, match="images"):
        ConvDecoder((4,), (64,)).init(key, jnp.ones((2, 3)))
    with pytest.raises(UsageError, match="as many widths"):
        ConvDecoder((4,), (8, 8, 1)).init(key, jnp.ones((2, 2, 2, 3)))
