"""TD-VAE against the Kalman filter, with which every single draw of the sequential bound is exact, and in its limits."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.models import state_space, tdvae
from aejax.models.layered import layered
from aejax.models.sequences import window
from aejax.models.temporal_difference import TRAINED
from aejax.nets import MLP, Beliefs, Gated
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import bernoulli, categorical, gaussian
from aejax.objective.posteriors import LOG_VARIANCE, diagonal, flow, full_rank, planar
from aejax.objective.time_gaps import embedding, growing, mixed, uniform
from tiny import batch_of

T, D = 6, 2
A = np.array([[0.9, -0.3], [0.2, 0.7]])
Q = np.array([[0.3, 0.1], [0.1, 0.2]])
C = np.array([[1.0, 0.4], [-0.3, 0.8]])
SCALE = 0.5
START = np.array([[1.0, 0.3], [0.3, 0.6]])


# --- exact maps -----------------------------------------------------------------------------------------------------------------


class Exactly(nn.Module):
    """A net with nothing to train."""

    f: Callable

    def __call__(self, rows):
        return self.f(rows)


def numbers(mean, covariance):
    """Of N(mean, covariance) those that `full_rank` reads."""
    factor = jnp.linalg.cholesky(covariance)
    raw = LOG_VARIANCE * jnp.arctanh(2 * jnp.log(jnp.diagonal(factor)) / LOG_VARIANCE)
    return jnp.concatenate([mean, raw, factor[np.tril_indices(D, -1)]])


def rows(f):
    """f of one row, of rows."""
    return Exactly(jax.vmap(f))


def held(constant):
    """In the precision that is in force."""
    return jnp.asarray(constant, jnp.result_type(float))


def believed(b):
    return b[:D], b[D:].reshape(D, D)


def predicted(steps):
    """(A^δ, covariance of what δ steps add)."""
    a, q = np.eye(D), np.zeros((D, D))
    for _ in range(steps):
        a, q = A @ a, A @ q @ A.T + Q
    return a, q


def kalman(x):
    """Of one sequence in NumPy: beliefs [(m, P)] from before the first frame on, and log p(x_t|x_<t)."""
    beliefs, log_p = [(np.zeros(D), START)], []
    for frame in np.asarray(x, np.float64):
        m, p = A @ beliefs[-1][0], A @ beliefs[-1][1] @ A.T + Q
        s = C @ p @ C.T + SCALE**2 * np.eye(D)
        error = frame - C @ m
        log_p.append(-0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(s)[1] + error @ np.linalg.solve(s, error)))
        gain = p @ C.T @ np.linalg.inv(s)
        beliefs.append((m + gain @ error, p - gain @ C @ p))
    return beliefs, np.array(log_p)


def run_filter(x):
    def one(x):
        a, c = held(A), held(C)

        def step(belief, frame):
            m, p = a @ belief[0], a @ belief[1] @ a.T + held(Q)
            gain = p @ c.T @ jnp.linalg.inv(c @ p @ c.T + held(SCALE**2 * np.eye(D)))
            return ((m + gain @ (frame - c @ m), p - gain @ c @ p),) * 2

        start = held(np.zeros(D)), held(START)
        m, p = jax.tree.map(
            lambda first, later: jnp.concatenate([first[None], later]), start, jax.lax.scan(step, start, x)[1]
        )
        return jnp.concatenate([m, p.reshape(len(p), -1)], axis=1)

    return jax.vmap(one)(x)


def exact(gap=1):
    """The model whose every map is the true one, for jumps of just so many steps."""
    a, q = map(held, predicted(gap))

    def smooth(row):
        z2, (m, p) = row[:D], believed(row[D + 9 : D + 15])  # nine numbers tell the gap
        gain = p @ a.T @ jnp.linalg.inv(a @ p @ a.T + q)
        return numbers(m + gain @ (z2 - a @ m), p - gain @ a @ p)

    return tdvae(
        Exactly(run_filter),
        rows(lambda b: numbers(*believed(b))),
        rows(smooth),
        rows(lambda row: numbers(a @ row[:D], q)),
        rows(lambda z: held(C) @ z),
        gaussian(SCALE),
        latent=D,
        shape=(T, D),
        gap=uniform(gap, gap),
        pairs=64,
        posterior=full_rank(),
    )


@pytest.fixture(scope="module")
def x():
    """Sequences of the true model, float64."""
    rng, found = np.random.default_rng(0), []
    for _ in range(16):
        z, frames = rng.multivariate_normal(np.zeros(D), START), []
        for _ in range(T):
            z = A @ z + rng.multivariate_normal(np.zeros(D), Q)
            frames.append(C @ z + SCALE * rng.normal(size=D))
        found.append(frames)
    return np.array(found)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_every_draw_of_the_sequential_bound_is_the_exact_likelihood(x, double):
    """Float64; in float32 the maps themselves are rounded, below."""
    model, batch = exact(), batch_of(x)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    truth = np.array([kalman(one)[1] for one in x])
    found = jax.jit(model.latent.log_weights, static_argnums=4)(params, extras, batch, jax.random.key(1), 5)
    np.testing.assert_allclose(found, np.broadcast_to(truth[:, None], found.shape), rtol=0, atol=1e-12)
    terms = jax.jit(model.evaluate)(params, extras, batch, jax.random.key(2))
    np.testing.assert_allclose(terms["nelbo"], -truth.sum(axis=1), rtol=0, atol=1e-11)
    np.testing.assert_allclose(terms["nelbo_per_step"], -truth.mean(axis=1), rtol=0, atol=1e-12)


def test_so_it_is_in_single_precision(x):
    model, batch = exact(), batch_of(x.astype(np.float32))
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    found = jax.jit(model.latent.log_weights, static_argnums=4)(params, extras, batch, jax.random.key(1), 16)
    assert float(jnp.max(jnp.std(found, axis=1))) < 1e-5


def test_a_jump_costs_what_theory_says(x, double):
    """The bound of a jump of two steps is log p(x_t2|x_≤t1) − KL(q(z_t1, z_t2) ‖ p(z_t1, z_t2|x_≤t1, x_t2)): here it is not
    tight, for p_B(z_t2|b_t2) knows of the frame between."""
    model, batch = exact(2), batch_of(x)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    loss = jax.jit(lambda key: model.loss(params, extras, batch, key, 0, None)[0])
    drawn = np.array([loss(jax.random.key(i)) for i in range(40)])
    found = np.mean([jump_of_two(one, t1) for one in x for t1 in range(T - 1)])
    assert abs(drawn.mean() + found) < 4 * drawn.std() / np.sqrt(len(drawn))
    log_p = np.mean([kalman(one)[1] for one in x])
    assert found < log_p - 0.1


def jump_of_two(x, t1):
    """Its bound in closed form."""
    a, q = predicted(2)
    beliefs, _ = kalman(x)
    (m1, p1), (m2, p2) = beliefs[t1], beliefs[t1 + 2]
    # The joint of z1 and z2 before x_t2 is seen, then given it.
    mean = np.concatenate([m1, a @ m1])
    joint = np.block([[p1, p1 @ a.T], [a @ p1, a @ p1 @ a.T + q]])
    c = np.hstack([np.zeros((D, D)), C])
    s = c @ joint @ c.T + SCALE**2 * np.eye(D)
    error = x[t1 + 1] - c @ mean
    log_p = -0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(s)[1] + error @ np.linalg.solve(s, error))
    gain = joint @ c.T @ np.linalg.inv(s)
    mean_p, joint_p = mean + gain @ error, joint - gain @ c @ joint
    # The joint that is drawn.
    back = p1 @ a.T @ np.linalg.inv(a @ p1 @ a.T + q)
    mean_q = np.concatenate([m1 + back @ (m2 - a @ m1), m2])
    joint_q = np.block([[p1 - back @ a @ p1 + back @ p2 @ back.T, back @ p2], [p2 @ back.T, p2]])
    inverse, off = np.linalg.inv(joint_p), mean_p - mean_q
    kl = 0.5 * (
        np.trace(inverse @ joint_q)
        + off @ inverse @ off
        - 2 * D
        + np.linalg.slogdet(joint_p)[1]
        - np.linalg.slogdet(joint_q)[1]
    )
    return log_p - kl


def test_futures_are_spread_about_the_predicted_mean(x, double):
    model = exact()
    batch = batch_of(np.repeat(x[:2], 1000, axis=0))
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    found = jax.jit(model.sequence.rollout)(params, extras, batch, jax.random.key(1), jnp.array([1, 1, 1], jnp.int32))
    for one, futures in zip(x[:2], found.reshape(2, 1000, 3, D)):
        m, p = kalman(one)[0][-1]
        for step in range(3):
            a, q = predicted(step + 1)
            spread = C @ (a @ p @ a.T + q) @ C.T
            np.testing.assert_allclose(futures[:, step].mean(0), C @ a @ m, atol=5 * np.sqrt(spread.max() / 1000))
            np.testing.assert_allclose(np.cov(futures[:, step].T), spread, atol=0.2 * spread.max())


# --- models with something to train ---------------------------------------------------------------------------------------------

FRAME = (3, 1)
STEPS = 7


def small(make=tdvae, layers=1, posterior=diagonal(), likelihood=bernoulli(), **more):
    width = posterior.width(D)
    beliefs = Beliefs(MLP((5,), 4, jnp.tanh), nn.GRUCell(6))
    decoder = MLP((5,), (*FRAME, likelihood.width), jnp.tanh)
    if make is tdvae:
        nets = beliefs, Gated(5, width), Gated(5, width), Gated(5, width), decoder
    else:
        nets = beliefs, Gated(5, width), Gated(5, width), decoder
    return make(*nets, likelihood, D, (STEPS, *FRAME), layers=layers, posterior=posterior, **more)


def frames(n=8, seed=0, t=STEPS):
    return np.random.default_rng(seed).integers(2, size=(n, t, *FRAME)).astype(np.float32)


@pytest.mark.parametrize(("make", "layers"), [pytest.param(tdvae, 2, marks=pytest.mark.slow), (state_space, 1)])
def test_what_pads_a_sequence_does_not_matter(make, layers):
    model, x = small(make, layers), jnp.asarray(frames())
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    n, index = 4, jnp.arange(8, dtype=jnp.int32)
    short = {"x": x[:, :n], "index": index}
    padded = {"x": x.at[:, n:].set(1.0), "index": index, "length": jnp.full(8, n, jnp.int32)}

    @jax.jit
    def found(batch):
        seen, gaps = (params, extras, batch, jax.random.key(1)), jnp.array([1, 2], jnp.int32)
        return {
            "loss": model.loss(*seen, 0, None)[0],
            "weights": jnp.sum(model.latent.log_weights(*seen, 3).reshape(8, 3, -1), axis=2),
            "futures": model.sequence.rollout(*seen, gaps),
            **model.evaluate(*seen),
        }

    one, other = found(short), found(padded)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("make", [pytest.param(tdvae, marks=pytest.mark.slow), state_space])
def test_gradients_are_those_of_finite_differences(make):
    """So nothing on the way from the beliefs to the frame is cut off, z_t2 least of all."""
    model, batch = small(make, 2, full_rank(), gaussian(0.7)), batch_of(frames())
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    f = lambda params: model.loss(params, extras, batch, jax.random.key(1), 0, None)[0]
    gradient = jax.jit(jax.grad(f))(params)
    f = jax.jit(f)
    for part in params:
        rng = np.random.default_rng(2)
        direction = jax.tree.map(
            lambda leaf, rng=rng: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params[part]
        )

        def along(s, part=part, direction=direction):
            return f({**params, part: jax.tree.map(lambda leaf, way: leaf + s * way, params[part], direction)})

        slope = sum(jnp.vdot(*pair) for pair in zip(*map(jax.tree.leaves, (gradient[part], direction))))
        np.testing.assert_allclose((along(3e-3) - along(-3e-3)) / 6e-3, slope, rtol=0.02, atol=2e-3, err_msg=part)
        assert abs(slope) > 0.02


@pytest.mark.parametrize("shown", [False, True])
def test_a_frame_is_seen_by_no_earlier_belief(shown):
    beliefs = Beliefs(MLP((), 4), nn.OptimizedLSTMCell(6), shown)
    x = jnp.asarray(frames(1))
    params = beliefs.init(jax.random.key(0), x)
    slope = jnp.abs(jax.jacobian(lambda x: beliefs.apply(params, x)[0])(x)).sum(axis=(1, 2, 4, 5))  # [t + 1, t]
    assert np.all(np.triu(slope) == 0)
    assert np.all(slope[np.tril_indices(STEPS + 1, -1, STEPS)] > 0)
    b = beliefs.apply(params, x)
    assert np.all(b[:, 0] == 0)
    assert b.shape[2] == 6 + shown * x[0, 0].size
    assert not shown or np.all(b[:, 1:, 6:] == x.reshape(1, STEPS, -1))


@pytest.mark.parametrize("t", [1, 4, 7])
def test_recomputing_changes_nothing(t):
    make = lambda remat: Beliefs(MLP((5,), 4), nn.GRUCell(6), remat=remat)
    x = jnp.asarray(frames(3, t=t))
    params = make(False).init(jax.random.key(0), x)
    f = lambda params, remat: jnp.sum(jnp.sin(make(remat).apply(params, x)))
    kept, again = (jax.value_and_grad(f)(params, remat) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), kept, again)


def test_recomputing_saves_memory():
    x = jax.ShapeDtypeStruct((4, 256, *FRAME), jnp.float32)

    def taken(remat):
        beliefs = Beliefs(MLP((), 4), nn.GRUCell(32), remat=remat)
        params = jax.eval_shape(beliefs.init, jax.random.key(0), x)
        gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.sin(beliefs.apply(params, x)))))
        return gradient.lower(params, x).compile().memory_analysis().temp_size_in_bytes

    assert taken(True) < taken(False) / 2


def test_layers_make_one_density():
    """Of a draw as of the value; and it is 1 in all."""
    state = layered(Gated(5, 2), diagonal(), 1, 2, "state")
    c = jnp.ones((3, 4))
    params = state.init(jax.random.key(0), c)
    z, log_p = state.draw(params, jax.random.split(jax.random.key(1), 3), c)
    np.testing.assert_allclose(state.log_prob(params, c, z), log_p, rtol=1e-5)
    grid = np.linspace(-8, 8, 161, dtype=np.float32)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    density = jnp.exp(state.log_prob(params, jnp.broadcast_to(c[:1], (len(points), 4)), points))
    assert abs(float(density.sum()) * 0.1**2 - 1) < 1e-3


def test_layers_draw_noise_of_their_own():
    key = jax.random.key(0)
    state = layered(Exactly(lambda c: jnp.zeros((len(c), 4))), diagonal(), 2, 2, "state")
    z, _ = state.draw(state.init(key, jnp.ones((1, 1))), jax.random.split(key, 4000), jnp.ones((4000, 1)))
    np.testing.assert_allclose(np.corrcoef(z, rowvar=False), np.eye(4), atol=0.08)


def test_a_filter_goes_on_from_the_state_before(double):
    """One whose posterior is its transition, a step further from wherever the state was, costs nothing and counts the steps."""
    key = jax.random.key(0)
    further = Exactly(lambda row: jnp.concatenate([row[:, :1] + 1, jnp.full_like(row[:, :1], -30)], axis=1))
    seen = Exactly(lambda x: jnp.zeros((x.shape[0], x.shape[1] + 1, 1)))
    model = state_space(seen, further, further, Exactly(lambda z: z), gaussian(1.0), 1, (4, 1))
    batch = batch_of(np.zeros((3, 4, 1)))
    params, extras = model.init(key, batch)
    np.testing.assert_allclose(model.encode(params, extras, batch, key)[..., 0], np.tile(np.arange(1.0, 5.0), (3, 1)))
    np.testing.assert_allclose(model.evaluate(params, extras, batch, key)["kl"], 0.0, atol=1e-9)
    prefixes = {**batch, "length": jnp.array([0, 2, 4], jnp.int32)}
    futures = model.sequence.rollout(params, extras, prefixes, key, jnp.array([1, 2], jnp.int32))
    np.testing.assert_allclose(futures[..., 0], [[1, 3], [3, 5], [5, 7]], atol=0.05)


def test_a_state_is_filtered_exactly_where_nothing_is_remembered():
    """With independent steps the posterior of each is a Gaussian of its frame, and every single draw is the exact likelihood."""
    noise, prior = 0.5, 2.0
    gain = prior / (prior + noise**2)
    posterior = lambda frame: (gain * frame[:1], prior - gain * prior)
    raw = lambda variance: LOG_VARIANCE * jnp.arctanh(jnp.log(jnp.array([variance], jnp.float32)) / LOG_VARIANCE)
    last = Exactly(lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x], axis=1))
    x = np.random.default_rng(0).normal(size=(5, 4, 1)).astype(np.float32)
    variance = prior + noise**2
    truth = -0.5 * (x[..., 0] ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    for mean_field in (True, False):
        look = lambda row: posterior(row[-1:])  # a state before it that a filter sees too tells nothing
        model = state_space(
            last,
            Exactly(jax.vmap(lambda row, look=look: jnp.concatenate([look(row)[0], raw(look(row)[1])]))),
            Exactly(jax.vmap(lambda z: jnp.concatenate([jnp.zeros(1), raw(prior)]))),
            Exactly(lambda z: z),
            gaussian(noise),
            latent=1,
            shape=(4, 1),
            mean_field=mean_field,
        )
        params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
        found = model.latent.log_weights(params, extras, batch_of(x), jax.random.key(1), 3)
        np.testing.assert_allclose(found, np.broadcast_to(truth[:, None], (5, 3)), rtol=1e-5)


def test_weights_of_states_are_unbiased(x, double):
    """The mean of p(x, z)/q(z) over draws of z is p(x), here with the best q that looks back only."""
    information = C.T @ C / SCALE**2

    def look(row):
        z, frame = row[:D], row[D:]
        covariance = jnp.linalg.inv(np.linalg.inv(Q) + information)
        return numbers(covariance @ (np.linalg.inv(Q) @ A @ z + C.T @ frame / SCALE**2), covariance)

    last = Exactly(lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x], axis=1))
    transition = rows(lambda z: numbers(A @ z, jnp.asarray(Q)))
    model = state_space(
        last, rows(look), transition, rows(lambda z: C @ z), gaussian(SCALE), D, (3, D), posterior=full_rank()
    )
    x = x[:4, :3]
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    w = np.exp(model.latent.log_weights(params, extras, batch_of(x), jax.random.key(1), 4000))
    # z_0 = 0: one step before the first frame nothing is uncertain.
    whole = np.zeros((4, 3, D, 3, D))
    p = [np.zeros((D, D))]
    for _ in range(3):
        p.append(A @ p[-1] @ A.T + Q)
    for one in range(3):
        for other in range(one, 3):
            both = np.linalg.matrix_power(A, other - one) @ p[one + 1]
            whole[:, other, :, one, :] = C @ both @ C.T
            whole[:, one, :, other, :] = C @ both.T @ C.T
    covariance = whole[0].reshape(3 * D, 3 * D) + SCALE**2 * np.eye(3 * D)
    flat = x.reshape(4, -1)
    squares = np.einsum("ni,ij,nj->n", flat, np.linalg.inv(covariance), flat)
    truth = np.exp(-0.5 * (3 * D * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + squares))
    assert np.all(np.abs(w.mean(axis=1) - truth) < 5 * w.std(axis=1) / np.sqrt(4000))


def test_a_window_is_a_stretch_of_what_counts():
    x = jnp.asarray(np.arange(6, dtype=np.float32)[None, :, None] + 10 * np.arange(40, dtype=np.float32)[:, None, None])
    n = jnp.asarray(np.tile([6, 4], 20), jnp.int32)
    (found, same), m = window(3, jax.random.split(jax.random.key(0), 40), (x, x), n)
    place = np.asarray(found)[:, :, 0] - 10 * np.arange(40)[:, None]
    start = place[:, 0]
    np.testing.assert_array_equal(place, start[:, None] + np.arange(3))
    np.testing.assert_array_equal(found, same)
    assert set(start[::2]) == {0, 1, 2, 3}
    assert set(start[1::2]) == {0, 1}
    assert np.all(m == 3)
    assert np.all(window(5, jax.random.split(jax.random.key(0), 40), (x,), n)[1][1::2] == 4)


def test_training_sees_windows_and_corruption():
    """Of what is no longer than a window all."""
    loss = lambda model: jax.jit(lambda params, batch: model.loss(params, {}, batch, jax.random.key(1), 0, None)[0])
    whole, part = loss(small()), loss(small(window=3))
    batch = batch_of(frames())
    params, _ = jax.jit(small().init)(jax.random.key(0), batch)
    short = batch | {"length": jnp.full(8, 3, jnp.int32)}
    np.testing.assert_allclose(part(params, short), whole(params, short), rtol=1e-6)
    assert abs(part(params, batch | {"length": jnp.full(8, STEPS, jnp.int32)}) - whole(params, short)) > 1e-3
    masked = jax.jit(small(corrupt=masking(0.9)).evaluate)(params, {}, batch, jax.random.key(1))
    assert not np.allclose(masked["denoising_nelbo"], masked["nelbo"])


def test_gaps_are_as_probable_as_asked_for():
    keys = jax.random.split(jax.random.key(0), 4000)
    gap = mixed([(0.8, (1, 10)), (0.2, (1, 120))])
    drawn = np.asarray(jax.vmap(gap.draw, (0, None))(keys, 0))
    assert gap.most == 120
    assert drawn.min() == 1
    assert abs(np.mean(drawn > 10) - 0.2 * 110 / 120) < 0.02
    assert set(np.asarray(jax.vmap(uniform(2, 4).draw, (0, None))(keys, 0))) == {2, 3, 4}
    rows = embedding(jnp.arange(1, 121, dtype=jnp.int32), 120)
    assert rows.shape == (120, 9)
    assert len(np.unique(np.asarray(rows), axis=0)) == 120


def test_gaps_grow_with_training():
    gap = growing(uniform(1, 2), uniform(5, 6), 10, 30)
    drawn = lambda step: np.asarray(jax.vmap(gap.draw, (0, None))(jax.random.split(jax.random.key(0), 4000), step))
    shares = [np.mean(drawn(step) > 2) for step in (0, 10, 15, 20, 30, TRAINED)]
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.5, 1, 1], atol=0.03)
    assert [shares[i] for i in (0, 1, 4, 5)] == [0, 0, 1, 1]
    assert set(drawn(20)) == {1, 2, 5, 6}
    assert gap.most == 6


def test_training_jumps_as_far_as_its_step_says():
    """The loss is that of gaps of one, then that of gaps of three."""
    batch = batch_of(frames())
    loss = lambda gap: jax.jit(small(gap=gap).loss, static_argnums=5)
    params, _ = jax.jit(small(gap=uniform(1, 3)).init)(jax.random.key(0), batch)
    found = loss(growing(uniform(1, 1), uniform(3, 3), 5, 5))
    for step, same in ((5, mixed([(1.0, (1, 1)), (0.0, (3, 3))])), (6, uniform(3, 3))):
        key = jax.random.key(1)
        one, other = (f(params, {}, batch, key, step, None)[0] for f in (found, loss(same)))
        assert abs(one - other) < 1e-5, step


def test_discrete_data_are_drawn():
    model = small(likelihood=categorical())
    x = np.zeros((4, STEPS, *FRAME), np.float32)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    found = jax.jit(model.sample)(params, extras, {"index": jnp.arange(4, dtype=jnp.int32)}, jax.random.key(0))
    assert found.shape == (4, STEPS, *FRAME)
    assert set(np.unique(found)) <= {0.0, 1.0}


def test_what_cannot_be_is_said():
    with pytest.raises(UsageError, match="at least one"):
        small(pairs=0)
    with pytest.raises(UsageError, match="from 1 to the 7 frames"):
        small(window=8)
    with pytest.raises(UsageError, match="the density of a state"):
        small(posterior=flow([planar()], 2))
    with pytest.raises(UsageError, match="ranges of steps"):
        uniform(3, 2)
    with pytest.raises(UsageError, match="no sooner than the start"):
        growing(uniform(1, 1), uniform(1, 2), 3, 2)
    with pytest.raises(UsageError, match="must give 4 numbers"):
        layered(Gated(5, 3), diagonal(), 2, 1, "state").init(jax.random.key(0), jnp.ones((1, 2)))
