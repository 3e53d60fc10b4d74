"""The part of a page about a variational model's latent: what each dimension costs, and what it does to an image."""

from __future__ import annotations

from html import escape

import jax
import numpy as np

from aejax.data import has_data, take
from aejax.report import drawing, figures, page
from aejax.report.page import Section
from aejax.report.pictures import Block, data_range, is_image
from aejax.report.pixels import coarse, pixels_png, tiles
from aejax.report.records import Record

TRAVERSED, SPAN, STATES = 8, 3.0, 9
"""Dimensions that are traversed, the dearest, from −SPAN to SPAN in so many states: of a standard normal prior all but .3 %."""

SHARPEST = 64
"""Pixels: larger images are shown at every so many pixels."""


def latent_section(record: Record) -> Section | None:
    """The divergence dimension by dimension, −log p(x), and traversals."""
    found = record.bound
    if found is None or record.evaluation is None:
        return None
    told = f"{found['active_units']} of {found['units']} dimensions are active: their means vary over the test split."
    if (nll := found["importance"]) is not None:
        told += (
            f" -log p(x) by {nll['draws']} draws is {nll['nll']:.2f} nats, of which the draws leave {nll['sampling_error']:.2g} "
            f"uncertain; {nll['effective_draws']:.3g} of an example's draws count (median)."
        )
        if (bits := found["bits_per_dimension"]) is not None:
            told += f" That is {bits['importance']:.4f} bits per dimension."
    images, pngs = [], {}
    if len(found["rates"]) > 1:
        rates = np.sort(np.asarray(found["rates"], float))[::-1]
        line = figures.Series("", np.arange(1.0, len(rates) + 1), rates, drawing.BLUE)
        drawn = figures.panel("divergence of each dimension", "nats, mean over examples", [line], "rank")
        images.append(page.figure(page.svg_uri(drawing.svg(drawn)), "", "Divergence by dimension"))
        pngs["rates"] = drawing.png(drawn)
        if block := traversals_block(record, np.argsort(found["rates"])[::-1][:TRAVERSED]):
            images.append(block[0])
            pngs |= block[1]
    return Section("Latent", page.paragraph(escape(told)) + page.panels(images), pngs)


def traversals_block(record: Record, dimensions: np.ndarray) -> Block | None:
    """A row for each of these dimensions: the first test image's code, decoded with that dimension moved."""
    run, test = record.run, record.run.experiment.test
    decode = run.experiment.model.decode
    if decode is None or not is_image(test.shape) or not has_data(test):
        return None
    x = take(test, np.arange(1))["x"]
    code, states = run.encode(x)[0], np.linspace(-SPAN, SPAN, STATES)
    z = np.tile(code, (len(dimensions) * STATES, 1))
    z[np.arange(len(z)), np.repeat(dimensions, STATES)] = np.tile(states, len(dimensions))
    batch = {"x": np.repeat(x, len(z), axis=0), "index": np.arange(len(z), dtype=np.int32)}
    images = np.asarray(jax.jit(decode)(run.state.params, run.state.extras, z.astype(code.dtype), batch))
    pixels = tiles(coarse(images, SHARPEST), STATES, *data_range(x))
    caption = (
        f"Traversals: the code of the first test image, one dimension of which is set to {-SPAN:g} at the left up to {SPAN:g} at "
        "the right. Dimensions from the dearest down."
    )
    image = page.figure(page.png_uri(pixels_png(pixels)), caption, "Traversals of the latent", "pixels wide")
    return image, {"traversals": pixels_png(pixels, 1000)}
