"""The parts of a page about what a model generates: samples, and the states of its Markov chain."""

from __future__ import annotations

import jax
import numpy as np

from aejax.data import has_data, take
from aejax.keys import evaluation_key
from aejax.report import page
from aejax.report.page import Section
from aejax.report.pictures import data_range, is_image, some_of_each_class, without_data
from aejax.report.pixels import coarse, pixels_png, tiles
from aejax.report.records import Record

SAMPLES = 64
SHARPEST = 64
"""Pixels: larger images are shown at every so many pixels."""
CHAINS, STATES = 8, 20
"""Test examples from which a chain starts, and its states that are shown, the first being the example itself."""


def samples_section(record: Record) -> Section | None:
    """Samples of the model, beside as many test examples."""
    run, test = record.run, record.run.experiment.test
    if run.experiment.model.sample is None or not is_image(test.shape):
        return None
    samples = run.sample(SAMPLES, run.experiment.seed)
    examples = take(test, np.arange(min(SAMPLES, test.size)))["x"] if has_data(test) else None
    low, high = data_range(samples if examples is None else examples)
    pngs, blocks = {}, []
    for name, title, images in (("samples", "Model", samples), ("examples", "Test split", examples)):
        if images is not None:
            pixels = tiles(coarse(images, SHARPEST), 8, low, high)
            caption = f"The first {len(images)}, none chosen."
            blocks.append(f"<h3>{title}</h3>" + page.figure(page.png_uri(pixels_png(pixels)), caption, name, "pixels"))
            pngs[name] = pixels_png(pixels, 1000)
    return Section("Samples", page.columns(blocks), pngs)


def chain_section(record: Record) -> Section | None:
    """Successive states of the model's Markov chain, a row for each example from which it starts."""
    run, test = record.run, record.run.experiment.test
    chain = run.experiment.model.chain
    if chain is None or not is_image(test.shape):
        return None
    if not has_data(test):
        return Section("Chain", page.paragraph(without_data(record)))
    chosen = some_of_each_class(test)[0][:CHAINS]
    batch = {"x": take(test, chosen)["x"], "index": chosen.astype(np.int32)}
    key = evaluation_key(run.experiment.seed, "chain")
    states = np.asarray(jax.jit(chain, static_argnums=4)(run.state.params, run.state.extras, batch, key, STATES))
    pixels = tiles(coarse(states.reshape(-1, *test.shape), SHARPEST), STATES, *data_range(batch["x"]))
    caption = f"Each row starts at a test example, at the left, and shows the next {STATES - 1} states of the chain."
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "States of the chain", "pixels")
    return Section("Chain", image, {"chain": pixels_png(pixels, 1000)})
