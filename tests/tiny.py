"""Small things that many tests need: numbers, batches, training to an optimum, and how a refusal looks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aejax.errors import UsageError


def normal(*shape, scale=1.0, seed=0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def uniform(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def batch_of(x, **more):
    """A whole batch of these examples."""
    x = jnp.asarray(x)
    return {"x": x, "index": jnp.arange(len(x), dtype=jnp.int32), **more}


def optimum(model, batches, steps, optimizer, start=None):
    """Parameters after so many steps, without the loop of training: for what the optimum is, not how it is reached.

    `batches(i)` is the batch of step i.
    """
    params, extras = jax.jit(model.init)(jax.random.key(0), batches(0)) if start is None else start

    def step(carry, i):
        params, opt_state = carry
        batch = batches(i)
        grads = jax.grad(lambda p: model.loss(p, extras, batch, jax.random.key(i), i, None)[0])(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(steps)))
    return run((params, optimizer.init(params)))[0][0]


def refusal(call, *arguments, **options):
    """The message of the UsageError, which is one line."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
