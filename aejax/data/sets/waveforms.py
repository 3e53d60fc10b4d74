"""Synthetic tones of three kinds of instruments: signals of 8 bits, drawn by a random generator.

They replace recorded sound where none is available. Time is counted in samples; at 4 kHz a signal would be an eighth of a
second.
"""

from __future__ import annotations

import numpy as np

from aejax.data.sets.recipe import Recipe

LENGTH = 512
SIZES = {"train": 5000, "test": 1000}
CLASSES = ("plucked", "bowed", "wind")

_HARMONICS = 8
_PITCH = 1 / 128, 1 / 24  # of the fundamental, periods per sample
_NOISE = 0.005


def waveforms(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n signals [n, 512, 1], uint8 with silence at 127.5, and their labels [n], the position in CLASSES.

    A tone is Σ a_h sin(2π h f t + φ_h) over the harmonics h = 1 … 8 with an envelope, scaled to a peak of .4 to 1, plus
    Gaussian noise with sd .005. f is log-uniform, φ uniform, and the start is uniform in the first eighth.

        plucked   a_h = 1/h, each harmonic decaying as exp(−h t / τ), τ uniform in 60 … 200
        bowed     a_h = 1/h, rising within 40 … 120 samples, with a vibrato of 1 % about twice per signal
        wind      only odd harmonics, a_h = 1/h², rising within 20 … 60 samples, decaying as slowly before the end
    """
    label = rng.integers(len(CLASSES), size=n)
    plucked, bowed, wind = (label[:, None] == k for k in range(3))
    pitch = np.exp(rng.uniform(np.log(_PITCH[0]), np.log(_PITCH[1]), (n, 1)))
    phase = rng.uniform(0, 2 * np.pi, (n, _HARMONICS))
    start = rng.uniform(0, LENGTH / 8, (n, 1))
    t = np.arange(LENGTH)[None] - start
    sway = rng.uniform(0, 2 * np.pi, (n, 1))
    swaying = np.where(bowed, 0.01 * np.sin(4 * np.pi * t / LENGTH + sway), 0.0)
    turns = pitch * np.cumsum(1.0 + swaying, axis=1)
    decay = rng.uniform(60, 200, (n, 1))
    rise = np.where(bowed, rng.uniform(40, 120, (n, 1)), rng.uniform(20, 60, (n, 1)))
    risen = np.clip(t / rise, 0, 1) * np.where(wind, np.clip((LENGTH - np.arange(LENGTH)[None]) / rise, 0, 1), 1.0)
    after = np.where(t >= 0, t, 0.0)
    tone = np.zeros((n, LENGTH))
    for h in range(1, _HARMONICS + 1):
        amplitude = np.where(wind, (h % 2) / h**2, 1.0 / h)
        envelope = np.where(plucked, np.exp(-h * after / decay) * (t >= 0), risen)
        tone += amplitude * envelope * np.sin(2 * np.pi * h * turns + phase[:, h - 1 : h])
    tone *= rng.uniform(0.4, 1.0, (n, 1)) / np.abs(tone).max(axis=1, keepdims=True)
    tone += _NOISE * rng.normal(size=tone.shape)
    return np.rint(127.5 + 127.5 * np.clip(tone, -1, 1)).astype(np.uint8)[..., None], label


RECIPE = Recipe(
    name="waveforms",
    about=(
        "`signal` uint8 [512, 1], a tone, and `label`, plucked, bowed or wind: 5000 and 1000 examples. See "
        "`sets.waveforms` for the rules. The seed determines the training signals; the test signals are the same for "
        "every seed."
    ),
    shape=(LENGTH, 1),
    draw=waveforms,
    sizes=SIZES,
    classes=CLASSES,
    feature="signal",
)
