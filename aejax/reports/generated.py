"""The parts of a page about what a model generates: samples, and the states of its Markov chain."""

from __future__ import annotations

import jax
import numpy as np

from aejax.data import chosen, has_data, take
from aejax.keys import evaluation_key
from aejax.reports import page
from aejax.reports.page import Section
from aejax.reports.pictures import data_range, is_image, some_of_each_class, without_data
from aejax.reports.pixels import coarse, pixels_png, tiles
from aejax.reports.records import Record

SAMPLES = 64
SHARPEST = 64
"""Pixels: larger images are shown at every so many pixels."""
ALTERNATIVES = 8
"""Samples for one condition."""
CHAINS, STATES = 8, 20
"""Test examples from which a chain starts, and its states that are shown, the first being the example itself."""


def samples_section(record: Record) -> Section | None:
    """Samples of the model, beside as many test examples."""
    run, test = record.run, record.run.experiment.test
    if run.experiment.model.sample is None or not is_image(test.shape):
        return None
    conditional = run.experiment.model.condition is not None
    if conditional and not has_data(test):
        return Section("Samples", page.paragraph(without_data(record)))
    samples = run.sample(SAMPLES, run.experiment.seed, given=test if conditional else None)
    examples = take(test, np.arange(min(SAMPLES, test.size)))["x"] if has_data(test) else None
    low, high = data_range(samples if examples is None else examples)
    pngs, blocks = {}, []
    for name, title, images in (("samples", "Model", samples), ("examples", "Test split", examples)):
        if images is not None:
            pixels = tiles(coarse(images, SHARPEST), 8, low, high)
            caption = f"The first {len(images)}, none chosen."
            if conditional and images is samples:
                caption += " Each is given the condition of the test example at its place."
            blocks.append(f"<h3>{title}</h3>" + page.figure(page.png_uri(pixels_png(pixels)), caption, name, "pixels"))
            pngs[name] = pixels_png(pixels, 1000)
    return Section("Samples", page.columns(blocks), pngs)


def conditions_section(record: Record) -> Section | None:
    """Several samples for each of a few conditions, a row for each."""
    run, test = record.run, record.run.experiment.test
    condition = run.experiment.model.condition
    if condition is None or run.experiment.model.sample is None or not is_image(test.shape) or not has_data(test):
        return None
    positions, how = some_of_each_class(test)
    batch = take(test, positions)
    told = np.asarray(jax.jit(condition)({**batch, "index": positions.astype(np.int32)}))
    rows = chosen(test, np.repeat(positions, ALTERNATIVES))
    samples = run.sample(rows.size, run.experiment.seed, given=rows).reshape(len(positions), ALTERNATIVES, *test.shape)
    columns = [batch["x"][:, None], *([told[:, None]] if told.shape == batch["x"].shape else []), samples]
    images = np.concatenate(columns, axis=1)
    pixels = tiles(coarse(images.reshape(-1, *test.shape), SHARPEST), images.shape[1], *data_range(batch["x"]))
    caption = (
        f"{how} of {test.name}, at the left"
        + (", then what the model is shown of each" if len(columns) == 3 else "")
        + f", then {ALTERNATIVES} samples given it."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Samples by condition", "pixels")
    return Section("Samples by condition", image, {"conditions": pixels_png(pixels, 1000)})


def chain_section(record: Record) -> Section | None:
    """Successive states of the model's Markov chain, a row for each example from which it starts."""
    run, test = record.run, record.run.experiment.test
    chain = run.experiment.model.chain
    if chain is None or not is_image(test.shape):
        return None
    if not has_data(test):
        return Section("Chain", page.paragraph(without_data(record)))
    starts = some_of_each_class(test)[0][:CHAINS]
    batch = {**take(test, starts), "index": starts.astype(np.int32)}
    key = evaluation_key(run.experiment.seed, "chain")
    states = np.asarray(jax.jit(chain, static_argnums=4)(run.state.params, run.state.extras, batch, key, STATES))
    pixels = tiles(coarse(states.reshape(-1, *test.shape), SHARPEST), STATES, *data_range(batch["x"]))
    caption = f"Each row starts at a test example, at the left, and shows the next {STATES - 1} states of the chain."
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "States of the chain", "pixels")
    return Section("Chain", image, {"chain": pixels_png(pixels, 1000)})
