"""Noisy harmonic oscillations of 200 steps: `oscillator`.

After Gregor et al. 2019. A single step carries little information; frequency and phase become known as more steps are seen.
"""

from __future__ import annotations

import numpy as np

from aejax.data.sets.recipe import Recipe

STEPS = 200
SIZES = {"train": 5000, "test": 1000}
PERIODS = 20.0, 60.0  # steps
NOISE = 0.1
STATES = ("position", "velocity")
"""State of the noise-free oscillation: sin θ_t and its derivative with respect to the angle, cos θ_t."""


def oscillator(rng: np.random.Generator, n: int) -> tuple[np.ndarray, None, np.ndarray]:
    """n sequences [n, 200, 1], float32, no labels, and states [n, 200, 2], float32.

    x_t = sin θ_t + ε_t with θ_t = 2π t / period + φ for t = 0 … 199, and ε_t Gaussian with sd .1. The period is log-uniform in
    20 … 60 steps, φ is uniform, the amplitude is 1. The state gives the phase, θ_t = atan2(position, velocity), and two states
    give the period.
    """
    period = np.exp(rng.uniform(np.log(PERIODS[0]), np.log(PERIODS[1]), (n, 1)))
    angle = 2 * np.pi * (np.arange(STEPS) / period + rng.random((n, 1)))
    state = np.stack([np.sin(angle), np.cos(angle)], axis=2)
    x = state[..., :1] + NOISE * rng.normal(size=(n, STEPS, 1))
    return x.astype(np.float32), None, state.astype(np.float32)


_CITATION = """@inproceedings{gregor2019temporal,
  author = {Gregor, Karol and Papamakarios, George and Besse, Frederic and Buesing, Lars and Weber, Theophane},
  title = {Temporal Difference Variational Auto-Encoder},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
}"""

RECIPE = Recipe(
    name="oscillator",
    about=(
        "`sequence` float32 [200, 1], a noisy harmonic oscillation, without label: 5000 and 1000 examples. See "
        "`sets.oscillator` for the rules; `state` [200, 2] is position and velocity. The seed determines the training "
        "sequences; the test sequences are the same for every seed."
    ),
    shape=(STEPS, 1),
    draw=oscillator,
    sizes=SIZES,
    feature="sequence",
    dtype=np.float32,
    states=STATES,
    citation=_CITATION,
)
