"""Three balls that bounce off each other and the walls of a box: `bouncing`."""

from __future__ import annotations

import itertools

import numpy as np

from aejax.data.sets.recipe import Recipe

STEPS = 20
SIDE = 16
BALLS = 3
RADIUS = 1.8  # px
SIZES = {"train": 5000, "test": 1000}
STATES = tuple(f"{name}{ball}" for ball in range(1, BALLS + 1) for name in ("x", "y", "vx", "vy"))
"""For each ball: x to the right and y downwards in px from the corner, and its velocity in px per step."""

_SPEEDS = 0.5, 1.5  # px a step
_PARTS = 10  # of a step


def bouncing(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None, np.ndarray]:
    """n sequences [n, 20, 16, 16, 1], bool, no labels, and states [n, 20, 12], float32.

    Three balls of equal mass and radius 1.8 px start without touching, each in a random direction with a speed uniform in
    .5 … 1.5 px per step. Collisions are elastic. The simulation takes tenths of a step, so colliding balls overlap by the
    distance they move in one tenth. A pixel is on if its center lies in a ball.
    """
    center = _apart(rng, n)
    direction, speed = rng.uniform(0, 2 * np.pi, (n, BALLS)), rng.uniform(*_SPEEDS, (n, BALLS, 1))
    velocity = speed * np.stack([np.cos(direction), np.sin(direction)], axis=2)
    state = np.empty((n, STEPS, BALLS, 4))
    for t in range(STEPS):
        state[:, t, :, :2], state[:, t, :, 2:] = center, velocity
        for _ in range(_PARTS):
            center, velocity = _reflected(center + velocity / _PARTS, velocity)
            velocity = _collided(center, velocity)
    state = state.astype(np.float32)
    return _drawn(state[..., :2]), None, state.reshape(n, STEPS, -1)


def _apart(rng: np.random.Generator, n: int) -> np.ndarray:
    """Centers [n, balls, 2], uniform, redrawn while balls touch."""
    center = np.empty((n, BALLS, 2))
    again = np.arange(n)
    while len(again):
        center[again] = rng.uniform(RADIUS, SIDE - RADIUS, (len(again), BALLS, 2))
        apart = [np.hypot(*(center[again, i] - center[again, j]).T) > 2 * RADIUS for i, j in _PAIRS]
        again = again[~np.all(apart, axis=0)]
    return center


_PAIRS = tuple(itertools.combinations(range(BALLS), 2))


def _reflected(center: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = center < RADIUS, center > SIDE - RADIUS
    center = np.where(low, 2 * RADIUS - center, np.where(high, 2 * (SIDE - RADIUS) - center, center))
    return center, np.where(low | high, -velocity, velocity)


def _collided(center: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Balls that touch and approach exchange their velocity components along the line between them."""
    velocity = velocity.copy()
    for i, j in _PAIRS:
        between = center[:, i] - center[:, j]
        square = np.sum(between**2, axis=1, keepdims=True)
        nearing = np.sum((velocity[:, i] - velocity[:, j]) * between, axis=1, keepdims=True)
        met = (square < (2 * RADIUS) ** 2) & (nearing < 0)
        exchanged = np.where(met, nearing / square, 0.0) * between
        velocity[:, i] -= exchanged
        velocity[:, j] += exchanged
    return velocity


def _drawn(center: np.ndarray) -> np.ndarray:
    """Frames [n, t, 16, 16, 1] of balls with centers [n, t, balls, 2]."""
    pixel = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    across, down = (np.square(pixel - center[..., k, None]) for k in range(2))  # [n, t, balls, 16]
    return (down[..., :, None] + across[..., None, :] <= RADIUS**2).any(axis=2)[..., None]


RECIPE = Recipe(
    name="bouncing",
    about=(
        "`sequence` bool [20, 16, 16, 1], three balls in a box, without label: 5000 and 1000 examples. See "
        "`sets.bouncing` for the rules; `state` [20, 12] is place and velocity of each ball. The seed determines the "
        "training sequences; the test sequences are the same for every seed."
    ),
    shape=(STEPS, SIDE, SIDE, 1),
    draw=bouncing,
    sizes=SIZES,
    feature="sequence",
    dtype=np.bool_,
    states=STATES,
)
