"""The part of a page about a variational model's latent: what each dimension costs, and what it does to an image."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from aejax.reports import drawing, figures, page
from aejax.reports.page import Section
from aejax.reports.pictures import Block
from aejax.reports.records import Record
from aejax.reports.traversals import has_paths, interpolations_block, plane_block, traversals_block

TRAVERSED = 8
"""Dimensions that are traversed, the dearest."""


def latent_section(record: Record) -> Section | None:
    """The divergence dimension by dimension, −log p(x), and pictures of decoded codes."""
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
    if len(found["divergences"]) > 1:
        rates = np.sort(np.asarray(found["divergences"], float))[::-1]
        line = figures.Series("", np.arange(1.0, len(rates) + 1), rates, drawing.BLUE)
        drawn = figures.panel("divergence of each dimension", "nats, mean over examples", [line], "rank")
        images.append(page.figure(page.svg_uri(drawing.svg(drawn)), "", "Divergence by dimension"))
        pngs["divergences"] = drawing.png(drawn)
    for html, more in paths(record, np.asarray(found["divergences"], float), found["units"]):
        images.append(html)
        pngs |= more
    return Section("Latent", page.paragraph(escape(told)) + page.panels(images), pngs)


def paths(record: Record, rates: np.ndarray, units: int) -> Iterator[Block]:
    """Pictures of decoded codes, those that a latent of so many units has."""
    if not has_paths(record):
        return
    if len(rates) == units > 1:
        yield traversals_block(record, np.argsort(rates)[::-1][:TRAVERSED])
    if record.run.experiment.test.size > 1:
        yield interpolations_block(record)
    if units == 2:
        yield plane_block(record)
