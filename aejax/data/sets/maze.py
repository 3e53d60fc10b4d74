"""A player who walks through a maze, followed by a ghost: `maze`, in the spirit of the MiniPacman of Gregor et al. 2019.

All walls are visible at once. The moves of both are random; the maze and their previous moves narrow them down.
"""

from __future__ import annotations

import numpy as np

from aejax.data.sets.recipe import Recipe

STEPS = 20
SIZES = {"train": 5000, "test": 1000}
STATES = ("player_row", "player_column", "ghost_row", "ghost_column")

_ROOMS = 4  # a side
SIDE = 2 * _ROOMS + 1
_OPENINGS = 3  # in addition to the spanning tree
_MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # clockwise, so that the reverse of a move is two further
_AHEAD = 4.0  # weight of going straight relative to one turn
_FOLLOWING = 0.8


def maze(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None, np.ndarray]:
    """n sequences [n, 20, 9, 9, 3], bool, no labels, and states [n, 20, 4], float32.

    Channel 0 holds the walls, 1 the player, 2 the ghost. Each sequence has its own maze: 4×4 rooms at the odd rows and columns,
    joined by a random spanning tree and three more openings. Player and ghost start in two different rooms.

    The player moves one cell per step. In a corridor he continues; at a junction going straight has four times the weight of a
    turn; he turns back only in a dead end. The ghost then also moves one cell, with probability .8 on a shortest path to the
    player (it waits once it has reached him), else to a random neighboring cell.
    """
    free = _mazes(rng, n)
    rooms = rng.permuted(np.tile(np.arange(_ROOMS**2), (n, 1)), axis=1)[:, :2]
    player, ghost = (1 + 2 * np.stack(np.divmod(rooms[:, k], _ROOMS), axis=1) for k in range(2))
    heading = rng.integers(4, size=n)
    state = np.empty((n, STEPS, 4), np.int64)
    for t in range(STEPS):
        state[:, t, :2], state[:, t, 2:] = player, ghost
        heading = _chosen(rng, _ways(free, player, heading))
        player = player + _MOVES[heading]
        ghost = _followed(rng, free, ghost, player)
    frames = np.zeros((n, STEPS, SIDE, SIDE, 3), np.bool_)
    frames[..., 0] = ~free[:, None]
    each, step = np.ogrid[:n, :STEPS]
    for channel in (1, 2):
        row, column = state[..., 2 * channel - 2], state[..., 2 * channel - 1]
        frames[each, step, row, column, channel] = True
    return frames, None, state.astype(np.float32)


def _mazes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Open cells, [n, 9, 9]: Kruskal's spanning tree over edges in random order, for all mazes at once."""
    room = np.arange(_ROOMS**2).reshape(_ROOMS, _ROOMS)
    pairs = [(room[:, :-1], room[:, 1:]), (room[:-1], room[1:])]
    ends = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in pairs])  # [edges, 2]
    edges, each = len(ends), np.arange(n)
    order = rng.permuted(np.tile(np.arange(edges), (n, 1)), axis=1)
    part = np.tile(room.ravel(), (n, 1))  # [n, rooms]: rooms with equal numbers are connected
    opened = np.zeros((n, edges), np.bool_)
    for edge in order.T:
        a, b = part[each, ends[edge, 0]], part[each, ends[edge, 1]]
        opened[each, edge] = a != b
        part = np.where(part == b[:, None], a[:, None], part)
    last = np.argsort(np.where(opened, 2.0, rng.random(opened.shape)), axis=1)[:, :_OPENINGS]
    opened[each[:, None], last] = True
    free = np.zeros((n, SIDE, SIDE), np.bool_)
    free[:, 1::2, 1::2] = True
    between = np.stack(np.divmod(ends, _ROOMS), axis=2).sum(axis=1) + 1  # the cell halfway between two rooms
    free[:, between[:, 0], between[:, 1]] = opened
    return free


def _open(free: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Whether each of the moves is open from cells [n, 2], [n, 4]."""
    row, column = (cell[:, None] + _MOVES).transpose(2, 0, 1)
    return free[np.arange(len(free))[:, None], row, column]  # the rim is all wall: never beyond it


def _ways(free: np.ndarray, cell: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Weights [n, 4] of the player's moves."""
    ways, each = _open(free, cell), np.arange(len(free))
    onward = ways.copy()
    onward[each, (heading + 2) % 4] = False
    weights = np.where(onward.any(axis=1, keepdims=True), onward, ways).astype(np.float64)
    weights[each, heading] *= _AHEAD
    return weights


def _followed(rng: np.random.Generator, free: np.ndarray, ghost: np.ndarray, player: np.ndarray) -> np.ndarray:
    """The next cell of the ghost, given that of the player, both [n, 2]."""
    row, column = (ghost[:, None] + _MOVES).transpose(2, 0, 1)
    each = np.arange(len(free))
    away = _distances(free, player)
    here = away[each, ghost[:, 0], ghost[:, 1]]
    nearer = away[each[:, None], row, column] < here[:, None]
    follows = rng.random(len(free)) < _FOLLOWING
    ways = np.where(follows[:, None], nearer & (here > 0)[:, None], _open(free, ghost))
    waits = ~ways.any(axis=1, keepdims=True)
    return ghost + np.where(waits, 0, _MOVES[_chosen(rng, ways | waits)])


def _distances(free: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Steps from every open cell to cells [n, 2], [n, 9, 9]; walls have a value larger than any distance."""
    far = SIDE**2
    away = np.full(free.shape, far, np.int16)
    away[np.arange(len(free)), cell[:, 0], cell[:, 1]] = 0
    while True:
        nearest = away.copy()  # the rim is all wall, so the middle is all that changes
        middle = nearest[:, 1:-1, 1:-1]
        for beside in (away[:, :-2, 1:-1], away[:, 2:, 1:-1], away[:, 1:-1, :-2], away[:, 1:-1, 2:]):
            np.minimum(middle, beside + 1, out=middle)
        nearest[~free] = far
        if np.array_equal(nearest, away):
            return away
        away = nearest


def _chosen(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """A column [n] for each row of weights [n, k], drawn in proportion to them."""
    below = np.cumsum(weights, axis=1, dtype=np.float64)
    return (rng.random((len(weights), 1)) * below[:, -1:] >= below).sum(axis=1)


_CITATION = """@inproceedings{gregor2019temporal,
  author = {Gregor, Karol and Papamakarios, George and Besse, Frederic and Buesing, Lars and Weber, Theophane},
  title = {Temporal Difference Variational Auto-Encoder},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
}"""

RECIPE = Recipe(
    name="maze",
    about=(
        "`sequence` bool [20, 9, 9, 3], a player in a maze and a ghost that follows, without label: 5000 and 1000 "
        "examples. See `sets.maze` for the rules; `state` [20, 4] is the cell of each. The seed determines the "
        "training sequences; the test sequences are the same for every seed."
    ),
    shape=(STEPS, SIDE, SIDE, 3),
    draw=maze,
    sizes=SIZES,
    feature="sequence",
    dtype=np.bool_,
    states=STATES,
    citation=_CITATION,
)
