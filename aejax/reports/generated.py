"""The parts of a page about what a model generates: samples, and the states of its Markov chain."""

from __future__ import annotations

import numpy as np

from aejax.data import has_data, is_image, subset, take
from aejax.evaluation.part import without_data
from aejax.figures import page
from aejax.figures.examples import data_range, some_of_each_class
from aejax.figures.page import Section
from aejax.figures.pixels import coarse, pixels_png, tiles
from aejax.runs.run import Run

SAMPLES = 64
SHARPEST = 64
"""Largest side in pixels; larger images are subsampled."""
ALTERNATIVES = 8
"""Number of samples per condition."""
CHAINS, STATES = 8, 20
"""Number of test examples from which a chain starts, and of its states that are shown, including the example itself."""


def samples_section(run: Run) -> Section | None:
    """Samples of the model, beside as many test examples."""
    test = run.experiment.test
    if run.experiment.model.sample is None or not is_image(test.shape):
        return None
    conditional = run.experiment.model.data.condition is not None
    if conditional and not has_data(test):
        return Section("Samples", without_data(run))
    samples = run.sample(SAMPLES, run.experiment.seed, given=test if conditional else None)
    examples = take(test, np.arange(min(SAMPLES, test.size)))["x"] if has_data(test) else None
    low, high = data_range(samples if examples is None else examples)
    pngs, blocks = {}, []
    for name, title, images in (("samples", "Model", samples), ("examples", "Test split", examples)):
        if images is not None:
            pixels = tiles(coarse(images, SHARPEST), 8, low, high)
            caption = f"The first {len(images)} samples."
            if conditional and images is samples:
                caption += " Each has the condition of the test example at the same position."
            blocks.append(f"<h3>{title}</h3>" + page.figure(page.png_uri(pixels_png(pixels)), caption, name, "pixels"))
            pngs[name] = pixels_png(pixels, 1000)
    return Section("Samples", page.columns(blocks), pngs)


def conditions_section(run: Run) -> Section | None:
    """Several samples for each of a few conditions, a row per condition."""
    test = run.experiment.test
    model = run.experiment.model
    if model.data.condition is None or model.sample is None or not is_image(test.shape) or not has_data(test):
        return None
    positions, how = some_of_each_class(test)
    batch, given = take(test, positions), run.condition(subset(test, positions))
    rows = subset(test, np.repeat(positions, ALTERNATIVES))
    samples = run.sample(rows.size, run.experiment.seed, given=rows).reshape(len(positions), ALTERNATIVES, *test.shape)
    columns = [batch["x"][:, None], *([given[:, None]] if given.shape == batch["x"].shape else []), samples]
    images = np.concatenate(columns, axis=1)
    pixels = tiles(coarse(images.reshape(-1, *test.shape), SHARPEST), images.shape[1], *data_range(batch["x"]))
    caption = (
        f"Left: {how[0].lower()}{how[1:]} of {test.name}. "
        + ("Then: the observed part of each. " if len(columns) == 3 else "")
        + f"Right: {ALTERNATIVES} samples given that condition."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Samples by condition", "pixels")
    return Section("Samples by condition", image, {"conditions": pixels_png(pixels, 1000)})


def chain_section(run: Run) -> Section | None:
    """Successive states of the model's Markov chain, a row per starting example."""
    test = run.experiment.test
    sequence = run.experiment.model.sequence
    if sequence is None or sequence.chain is None or not is_image(test.shape):
        return None
    if not has_data(test):
        return Section("Chain", without_data(run))
    starts = subset(test, some_of_each_class(test)[0][:CHAINS])
    states, x = run.apply("chain", starts, STATES), take(starts, np.arange(starts.size))["x"]
    pixels = tiles(coarse(states.reshape(-1, *test.shape), SHARPEST), STATES, *data_range(x))
    caption = f"Each row starts at a test example, at the left, and shows the next {STATES - 1} states of the chain."
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "States of the chain", "pixels")
    return Section("Chain", image, {"chain": pixels_png(pixels, 1000)})
