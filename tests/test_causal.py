"""PixelCNN: what each logit may depend on, by a change of every code in turn, and that it depends on all of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.nets import PixelCNN

H, W, SIZES = 3, 4, (3, 5)


def made(**more):
    """The net, its parameters, moved off their initial zeros, and codes."""
    net = PixelCNN(SIZES, (H, W), channels=4, layers=4, **more)
    codes = jnp.zeros((1, H, W, 2), jnp.int32)
    return net, codes


def told(net):
    above = jnp.zeros((1, 2, 2, 1), jnp.int32) if net.above else None
    return jnp.ones((1, 2)), above


def influence(net, params, label, above):
    """[book, i, j, book', i', j']: whether the logits of the first change with the code of the second."""
    codes = np.random.default_rng(3).integers(0, SIZES, (H, W, 2)).astype(np.int32)
    changed = np.repeat(codes[None], 2 * H * W, axis=0)
    which = np.arange(len(changed))
    book, i, j = np.unravel_index(which, (2, H, W))
    changed[which, i, j, book] = (changed[which, i, j, book] + 1) % np.asarray(SIZES)[book]
    together = lambda a: None if a is None else jnp.repeat(a, 1 + len(changed), axis=0)
    everything = jnp.asarray(np.concatenate([codes[None], changed]))
    logits = jax.jit(lambda codes: net.apply({"params": params}, codes, together(label), together(above)))(everything)
    moved = np.stack([np.abs(a[1:] - a[:1]).max(axis=-1) > 0 for a in map(np.asarray, logits)])  # [book, change, i, j]
    return np.moveaxis(moved, 1, -1).reshape(2, H, W, 2, H, W)


@pytest.mark.parametrize(
    ("heads", "above"),
    [pytest.param(0, (), marks=pytest.mark.slow), (2, ()), (0, (4,)), pytest.param(2, (4,), marks=pytest.mark.slow)],
)
def test_a_code_depends_on_all_that_is_before_it_and_on_nothing_else(heads, above):
    net, codes = made(heads=heads, above=above)
    label, upper = told(net)
    params = jax.jit(net.init)(jax.random.key(1), codes, label, upper)["params"]
    # Off the zeros and the dead units, so that what can have an influence has one.
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(2), p.shape), params)
    found = influence(net, params, label, upper)
    order = np.arange(H * W).reshape(H, W)
    for book in range(2):
        for other in range(2):
            earlier = order[:, :, None, None] > order[None, None]
            here = order[:, :, None, None] == order[None, None]
            expected = earlier | (here & (other < book))
            np.testing.assert_array_equal(found[book, :, :, other], expected)


def test_every_logit_sees_the_condition():
    net, codes = made(above=(4,))
    label, upper = told(net)
    params = jax.jit(net.init)(jax.random.key(1), codes, label, upper)["params"]
    logits = jax.jit(lambda label, upper: net.apply({"params": params}, codes, label, upper))
    plain = logits(label, upper)
    for other in (logits(2.0 * label, upper), logits(label, upper + 1)):
        for a, b in zip(plain, other):
            assert np.all(np.abs(a - b).max(axis=-1) > 0)
