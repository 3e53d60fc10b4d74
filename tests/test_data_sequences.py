"""Sequences: the laws that frames and states obey, what a seed decides, and states and lengths on their way to batches."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import label as components
from scipy.sparse.csgraph import shortest_path
from scipy.stats import multivariate_normal

from aejax.data import ReadAs, available, batch_at, eval_batches, load, take
from aejax.data.sets import bouncing, linear_gaussian, maze, moving, oscillator
from aejax.data.sets.generated import BUILDERS
from aejax.data.sets.recipe import drawn
from aejax.errors import UsageError

SEQUENCES = ("moving_digits", "moving_fashion", "oscillator", "linear_gaussian", "bouncing", "maze")


@pytest.fixture
def garments(monkeypatch):
    """Fashion-MNIST's images are not at hand in every test: noise in their place, other noise to test."""
    found = {test: np.random.default_rng(test).random((50, 28, 28)) < 0.5 for test in (False, True)}
    monkeypatch.setattr(moving, "_fashion", lambda test: (found[test], np.arange(50) % 10))
    return found


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


# Laws


@pytest.mark.parametrize("name", ["moving_digits", "moving_fashion"])
@pytest.mark.parametrize("test", [False, True])
def test_a_frame_is_the_one_before_rolled_by_the_velocity(name, test, garments):
    x, label, state = getattr(moving, name)(np.random.default_rng(0), 300, test)
    images, labels = moving._digits(test) if name == "moving_digits" else (garments[test], np.arange(50) % 10)
    side = images.shape[1]
    assert (x.shape, x.dtype, state.dtype) == ((300, 20, side, side, 1), np.bool_, np.float32)
    known = {(image.tobytes(), k) for image, k in zip(images, labels)}
    position, velocity = state.astype(int).transpose(2, 0, 1)
    for frames, k, at, going in zip(x[..., 0], label, position, velocity):
        assert (going == going[0]).all()
        np.testing.assert_array_equal(np.diff(at) % side, going[0] % side)
        for t in range(19):
            np.testing.assert_array_equal(frames[t + 1], np.roll(frames[t], going[0], axis=1))
        assert (np.roll(frames[7], -at[7], axis=1).tobytes(), k) in known  # an image of this split, and its label
    assert set(velocity.ravel()) == {-1, 1}
    assert abs(velocity[:, 0].mean()) < 5 / np.sqrt(300)
    assert set(position[:, 0]) == set(range(side))


def test_an_oscillation_is_a_steady_turn_and_noise_of_a_tenth():
    x, _, state = oscillator.oscillator(np.random.default_rng(0), 500)
    assert (x.shape, x.dtype, state.shape, state.dtype) == ((500, 200, 1), np.float32, (500, 200, 2), np.float32)
    noise = x[..., 0] - state[..., 0]
    np.testing.assert_allclose(noise.std(), 0.1, rtol=5 / np.sqrt(2 * noise.size))
    assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 5 * 0.01 / np.sqrt(noise.size)
    np.testing.assert_allclose(np.square(state).sum(axis=2), 1, rtol=1e-6)
    turn = np.diff(np.unwrap(np.arctan2(*state.astype(np.float64).transpose(2, 0, 1))), axis=1)
    np.testing.assert_allclose(turn, np.broadcast_to(turn.mean(axis=1, keepdims=True), turn.shape), atol=1e-6)
    period = 2 * np.pi / turn.mean(axis=1)
    assert 20 < period.min() < 21
    assert 58 < period.max() < 60
    assert abs(np.mean(np.log(period)) - np.log(1200) / 2) < 5 * np.log(3) / np.sqrt(12 * 500)


def joint(steps):
    """Covariances of (z_1 … z_T) and (x_1 … x_T), and the matrix from the one to the mean of the other, without recursion."""
    model = linear_gaussian
    power = [np.linalg.matrix_power(model.A, k) for k in range(steps)]
    blocks = [
        [power[s - t] @ model.P_0 if s >= t else model.P_0 @ power[t - s].T for t in range(steps)] for s in range(steps)
    ]
    of_z, seen = np.block(blocks), np.kron(np.eye(steps), model.C)
    return of_z, seen @ of_z @ seen.T + np.kron(np.eye(steps), model.R), seen


def test_the_filter_gives_the_likelihood_and_the_beliefs_of_the_joint_gaussian():
    x = linear_gaussian.linear_gaussian(np.random.default_rng(0), 6)[0].reshape(2, 3, 20, 2)
    found = linear_gaussian.kalman_filter(x)
    assert {array.dtype for array in found} == {np.dtype(np.float64)}
    for steps in (1, 2, 7, 20):
        of_z, of_x, seen = joint(steps)
        flat = x[..., :steps, :].reshape(2, 3, -1).astype(np.float64)
        exact = multivariate_normal(np.zeros(2 * steps), of_x).logpdf(flat)
        np.testing.assert_allclose(found.log_p[..., :steps].sum(axis=-1), exact, rtol=1e-11)
        gain = np.linalg.solve(of_x, seen @ of_z).T
        means, covariance = flat @ gain.T, of_z - gain @ seen @ of_z
        np.testing.assert_allclose(found.means[..., steps - 1, :], means[..., -2:], atol=1e-12)
        np.testing.assert_allclose(found.covariances[steps - 1], covariance[-2:, -2:], atol=1e-12)
        smoothed = linear_gaussian.smoother(x[..., :steps, :])
        np.testing.assert_allclose(smoothed.means.reshape(2, 3, -1), means, atol=1e-12)
        for t in range(steps):
            inside = slice(2 * t, 2 * t + 2)
            np.testing.assert_allclose(smoothed.covariances[t], covariance[inside, inside], atol=1e-12)


def test_linear_gaussian_sequences_have_the_covariance_of_their_model():
    n = 20_000
    x, _, z = linear_gaussian.linear_gaussian(np.random.default_rng(0), n)
    assert (x.shape, x.dtype, z.dtype) == ((n, 20, 2), np.float32, np.float32)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(linear_gaussian.A)), 0.95)
    of_z, of_x, seen = joint(20)
    both = np.concatenate([z.reshape(n, -1), x.reshape(n, -1)], axis=1).astype(np.float64)
    exact = np.block([[of_z, of_z @ seen.T], [seen @ of_z, of_x]])
    # Of the product of two Gaussians: variance σ_ii σ_jj + σ_ij².
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / n)
    assert np.abs((both.T @ both / n - exact) / error).max() < 5


def test_balls_stay_in_their_box_and_keep_energy_and_momentum():
    x, _, state = bouncing.bouncing(np.random.default_rng(0), 600)
    assert (x.shape, x.dtype, state.shape, state.dtype) == ((600, 20, 16, 16, 1), np.bool_, (600, 20, 12), np.float32)
    balls = state.reshape(600, 20, 3, 4).astype(np.float64)
    center, velocity = balls[..., :2], balls[..., 2:]
    assert center.min() >= bouncing.RADIUS - 1e-6
    assert center.max() <= bouncing.SIDE - bouncing.RADIUS + 1e-6
    energy = np.square(velocity).sum(axis=(2, 3))
    np.testing.assert_allclose(energy, np.broadcast_to(energy[:, :1], energy.shape), rtol=1e-5)
    # Who goes on as before has gone by its velocity.
    free = (np.abs(np.diff(velocity, axis=1)) < 1e-7).all(axis=3)
    assert 0.5 < free.mean() < 0.95
    np.testing.assert_allclose(np.diff(center, axis=1)[free], velocity[:, :-1][free], atol=1e-5)
    # No ball can reach a wall within this step; but others, some.
    reach = bouncing.RADIUS + np.sqrt(energy)[:, :-1, None, None]
    inside = ((center[:, :-1] > reach) & (center[:, :-1] < bouncing.SIDE - reach)).all(axis=(2, 3))
    met = inside & ~free.all(axis=2)
    assert met.sum() > 50
    momentum = velocity.sum(axis=2)
    np.testing.assert_allclose(momentum[:, 1:][inside], momentum[:, :-1][inside], atol=1e-5)
    for i, j in itertools.combinations(range(3), 2):
        assert np.hypot(*(center[:, :, i] - center[:, :, j]).T).min() > 2 * bouncing.RADIUS - 0.7
    pixel = np.stack(np.meshgrid(np.arange(16) + 0.5, np.arange(16) + 0.5), axis=2)  # [row, column] -> (x, y)
    for frame, seen in zip(x[:10, 11, ..., 0], center[:10, 11]):
        near = np.square(pixel[:, :, None] - seen).sum(axis=3).min(axis=2)
        np.testing.assert_array_equal(frame, near <= bouncing.RADIUS**2)


def ways(free):
    """Steps [81, 81] between the cells of one maze, infinite from walls."""
    beside = np.zeros((81, 81))
    for row, column in np.argwhere(free):
        for step in (1, 9):
            if free.ravel()[9 * row + column + step]:
                beside[9 * row + column, 9 * row + column + step] = 1
    return shortest_path(beside, directed=False, unweighted=True)


def test_player_and_ghost_walk_the_maze_as_they_must():
    n = 150
    x, _, state = maze.maze(np.random.default_rng(0), n)
    assert (x.shape, x.dtype, state.shape, state.dtype) == ((n, 20, 9, 9, 3), np.bool_, (n, 20, 4), np.float32)
    assert (x[..., 0] == x[:, :1, ..., 0]).all()
    assert (x[..., 1:].sum(axis=(2, 3)) == 1).all()
    free = ~x[:, 0, ..., 0]
    assert len(np.unique(free, axis=0)) == n
    cells = state.astype(int).reshape(n, 20, 2, 2)
    straight, nearer = [], []
    for maze_free, frames, walk in zip(free, x, cells):
        assert components(maze_free)[1] == 1
        assert maze_free.sum() == 16 + 15 + 3  # rooms, what joins them, and three openings more
        assert maze_free[1::2, 1::2].all()
        assert not maze_free[::2, ::2].any()
        distance = ways(maze_free)
        for t, (player, ghost) in enumerate(walk):
            assert maze_free[tuple(player)]
            assert maze_free[tuple(ghost)]
            assert frames[t, *player, 1]
            assert frames[t, *ghost, 2]
        player, ghost = (9 * walk[:, k, 0] + walk[:, k, 1] for k in range(2))
        assert player[0] != ghost[0]
        assert (distance[player[1:], player[:-1]] == 1).all()
        assert (distance[ghost[1:], ghost[:-1]] <= 1).all()
        for before, here, after in zip(player, player[1:], player[2:]):
            onward = np.flatnonzero((distance[here] == 1) & (np.arange(81) != before))
            assert (after == before) == (len(onward) == 0)  # back only from a dead end
            if len(onward) > 1 and 2 * here - before in onward:
                straight.append((after == 2 * here - before) - 4 / (3 + len(onward)))
        for before, after, followed in zip(ghost, ghost[1:], player[1:]):
            if before != followed:
                beside = distance[before] == 1
                share = (distance[beside, followed] < distance[before, followed]).mean()
                nearer.append((distance[after, followed] < distance[before, followed]) - (0.8 + 0.2 * share))
    for surprise in (straight, nearer):
        assert len(surprise) > 300
        assert abs(np.mean(surprise)) < 4 * np.std(surprise) / np.sqrt(len(surprise))


# What a seed decides


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_seed_and_a_place_decide_a_sequence_whatever_the_threads(name, garments):
    recipe = BUILDERS[name].recipe._replace(sizes={"train": 510, "test": 4})
    one, two, other = (list(drawn(recipe, seed, "train", threads)) for seed, threads in ((0, 1), (0, 2), (1, 2)))
    for a, b in zip(one, two, strict=True):
        for ours, theirs in zip(a, b, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert sum((a[0] != b[0]).any() for a, b in zip(one, other)) > 480
    assert sum((a[0] != b[0]).any() for a, b in zip(one, one[500:])) > 8  # no stretch repeats another
    for a, b in zip(drawn(recipe, 0, "test"), drawn(recipe, 1, "test"), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("name", SEQUENCES)
def test_they_are_data_sets_with_states_by_name_and_seed(name, garments, empty, monkeypatch):
    recipe = BUILDERS[name].recipe._replace(sizes={"train": 11, "test": 5})
    monkeypatch.setattr(BUILDERS[name], "recipe", recipe)
    listed = {line.name: line for line in available()}[name]
    for part, split in zip(load(f"{name}/3"), recipe.sizes):
        x, label, state = zip(*drawn(recipe, 3, split))
        assert (part.shape, part.size) == (listed.shape, recipe.sizes[split])
        assert (part.classes, part.states) == (recipe.classes, recipe.states)
        assert part.arrays["x"].dtype == x[0].dtype
        np.testing.assert_array_equal(part.arrays["x"], x)
        np.testing.assert_array_equal(part.arrays["state"], state)
        assert part.arrays["state"].dtype == np.float32
        assert state[0].shape == (part.shape[0], len(part.states))
        if recipe.classes:
            np.testing.assert_array_equal(part.arrays["label"], label)
        (streamed,) = load(ReadAs(stream=True, data=f"{name}/3"), (split,))
        assert streamed.states == recipe.states
        for key, array in take(streamed, np.array([3, 1])).items():
            np.testing.assert_array_equal(array, take(part, np.array([3, 1]))[key])
    again = {line.name: line for line in available()}[f"{name}/3"]
    assert (again.shape, again.prepared) == (listed.shape, True)


def test_moving_fashion_says_what_it_lacks(empty, monkeypatch):
    def lacking(test):
        raise UsageError("fashion_mnist cannot be downloaded")

    monkeypatch.setattr(moving, "_fashion", lacking)
    with pytest.raises(UsageError, match=r"^fashion_mnist cannot be downloaded$"):
        load("moving_fashion")


# States and lengths from a user's file


def save(path, n=20, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(n, 7, 3)),
        "state": rng.normal(size=(n, 7, 2)),
        "length": 1 + np.arange(n) % 7,
        "label": np.arange(n),
    }
    arrays.update(changed)
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(path, **arrays)
    return arrays


def test_states_and_lengths_stay_with_their_sequence(empty):
    saved = save(empty / "a.npz")
    train, test = load(str(empty / "a.npz"))
    assert (train.size, test.size, train.states) == (18, 2, ("0", "1"))
    seen = []
    for batch, valid in itertools.chain(eval_batches(train, 4), eval_batches(test, 4), [(batch_at(train, 0, 5, 6), 0)]):
        assert (batch["state"].dtype, batch["length"].dtype) == (np.float32, np.int32)
        for name in ("x", "state", "length"):  # the rows that fill up a batch among them
            np.testing.assert_array_equal(batch[name], saved[name][batch["label"]].astype(batch[name].dtype))
        seen.extend(batch["label"][:valid])
    assert sorted(seen) == list(range(20))


def test_states_and_lengths_by_split(empty):
    parts = {f"{name}_{split}": array for split in ("train", "test") for name, array in save(empty / "a.npz").items()}
    np.savez(empty / "b.npz", **parts)
    train, test = load(str(empty / "b.npz"))
    np.testing.assert_array_equal(train.arrays["length"], 1 + train.arrays["label"] % 7)
    assert test.states == ("0", "1")
    for lacking in ("state", "length", "label"):
        rest = {name: array for name, array in parts.items() if name != f"{lacking}_test"}
        np.savez(empty / "c.npz", **rest)
        with pytest.raises(UsageError, match=f"has no {lacking} for test"):
            load(str(empty / "c.npz"))


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        (
            "length",
            np.arange(20) % 8,
            r"lengths of shape \(20,\), from 0 to 7; give \[20\], each from 1 to the 7 steps",
        ),
        ("length", np.arange(20) % 8 + 1, "from 1 to 8"),
        ("length", np.ones(19, int), r"shape \(19,\)"),
        ("length", np.ones(20), "no integers"),
        ("state", np.zeros((20, 6, 2)), r"states of shape \(20, 6, 2\); give \[20, 7, numbers\]"),
        ("state", np.zeros((20, 7)), r"shape \(20, 7\)"),
        ("state", np.full((20, 7, 1), np.nan), "states that are not finite"),
        ("state", np.full((20, 7, 1), "a"), "states of dtype <U1"),
    ],
)
def test_states_and_lengths_of_other_sequences_are_refused_in_one_line(empty, name, array, told):
    save(empty / "a.npz", **{name: array})
    with pytest.raises(UsageError, match=told) as caught:
        load(str(empty / "a.npz"))
    assert "\n" not in str(caught.value)
