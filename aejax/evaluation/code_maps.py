"""The section of a page about discrete codes: use of the codebooks, maps of codes, and the contribution of each level."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aejax.data import evaluated_part, has_data, is_image, subset, take
from aejax.evaluation.codebook import codebook_names, codes_by_level, sizes_by_level
from aejax.evaluation.part import without_data
from aejax.figures import charts, drawing, page
from aejax.figures.examples import Block, data_range, some_of_each_class
from aejax.figures.page import Section
from aejax.figures.pixels import coarse, labeled_strips, pixels_png, strip
from aejax.figures.tables import Column, Table
from aejax.runs.run import Run
from aejax.types import Discrete

EDGES = 0.0, 0.1, 0.3, 1.0, 3.0, 10.0
"""Edges of the histogram of use, in multiples of a fair share; the last bin extends to a single code that is always used."""

CODEBOOKS = 4
"""Number of codebooks, the first ones, for which a histogram and maps are drawn."""

OTHERS = 16
"""Number of examples whose lower codes replace those that are left out."""

SIGNALS = 4
SHARPEST = 64
"""Largest side in pixels; larger images are subsampled."""


def code_maps_section(run: Run, evaluation: Mapping[str, Any]) -> Section:
    """Use of the codes, maps of them, and for a hierarchy images decoded without its lower levels."""
    test, discrete, result = run.experiment.test, run.experiment.model.discrete, evaluation["codebook"]
    assert discrete is not None
    if not has_data(test):
        return Section("Discrete codes", without_data(run))
    codes, names = codes_by_level(run, evaluated_part(test)), codebook_names(discrete)
    blocks = [_use_block(codes, discrete, names)]
    positions, how = some_of_each_class(test)
    positions = positions[positions < len(codes[0])]
    if is_image(test.shape):
        blocks.append(_maps_block(run, codes, positions, how, names))
    elif len(test.shape) == 2 and codes[0].ndim == 3:
        blocks.append(_signals_block(run, codes[0], positions[:SIGNALS]))
    if len(codes) > 1 and is_image(test.shape):
        blocks.append(_levels_block(run, codes, positions, how))
    html = page.paragraph(escape(_summary(result, names)))
    if result["levels"]:
        html += _worth_table(result["levels"], evaluation["terms"]["mse"])
    pngs = {name: png for _, more in blocks for name, png in more.items()}
    return Section("Discrete codes", html + "".join(block for block, _ in blocks), pngs)


def _summary(result: Mapping[str, Any], names: list[str]) -> str:
    """The content of eval.json in words."""
    used = "; ".join(
        f"{name}: {b['used']} of {b['size']} used, perplexity {b['perplexity']:.1f}"
        for name, b in zip(names, result["codebooks"])
    )
    bits = result["bits_per_dimension"]
    whole = "" if bits is None else f" With a uniform prior over the codes the bound is {bits:.4f} bits per dimension."
    return f"An example has codes at {result['positions']} positions. Over the test split, {used}.{whole}"


def _worth_table(levels: list[dict[str, Any]], intact: float) -> str:
    errors = [intact, *(level["mse_shuffled"] for level in levels)]
    rows = ["the example's own", *(f"level {i} another example's" for i in range(len(levels)))]
    return page.number_table(Table("Decoded from codes", rows, [Column("MSE", "per dimension", errors, "low", None)]))


def _use_block(by_level: tuple[np.ndarray, ...], discrete: Discrete, names: list[str]) -> Block:
    """A histogram per codebook: how often codes are used."""
    images, pngs, every = [], {}, [codes[..., k] for codes in by_level for k in range(codes.shape[-1])]
    sizes = [size for level in sizes_by_level(discrete) for size in level]
    for i, (name, codes, size) in enumerate(list(zip(names, every, sizes))[:CODEBOOKS]):
        unused, counts = uses(codes, size)
        edges = [*EDGES, float(size)][: len(counts) + 1]
        title = "use of the codes" if name == "codes" else f"use, {name}"
        drawn = charts.histogram(title, "codes", ("unused", unused), edges, counts, "times a fair share")
        images.append(page.figure(page.svg_uri(drawing.svg(drawn)), "", f"Histogram: {title}"))
        pngs[f"use-{i}"] = drawing.png(drawn)
    return page.panels(images), pngs


def uses(codes: np.ndarray, size: int) -> tuple[int, list[int]]:
    """The number of codes that never occur, and the numbers of codes in each range of EDGES, in multiples of 1/size."""
    share = np.bincount(codes.reshape(-1), minlength=size) * size / codes.size
    edges = [edge for edge in EDGES if edge < size]
    counts, _ = np.histogram(share[share > 0], [*edges, size])
    return int(np.sum(share == 0)), counts.tolist()


def _maps_block(run: Run, by_level: tuple[np.ndarray, ...], chosen: np.ndarray, how: str, names: list[str]) -> Block:
    """Examples, their reconstructions, and below each the codes at its positions as colors."""
    test = run.experiment.test
    x = take(test, chosen)["x"]
    low, high = data_range(x)
    rows = {"clean": strip(coarse(x, SHARPEST), low, high)}
    if run.experiment.model.reconstruct is not None:
        rows["reconstructed"] = strip(coarse(run.reconstruct(x), SHARPEST), low, high)
    spatial = [codes[chosen] for codes in by_level if codes.ndim == 4]
    if len(spatial) < len(by_level):
        return "", {}
    maps = [codes[..., k] for codes in spatial for k in range(codes.shape[-1])]
    for name, codes in list(zip(names, maps))[:CODEBOOKS]:
        rows[name] = strip(_enlarged(colors(codes), rows["clean"].shape[0]), 0.0, 1.0)
    caption = f"{how} of {test.name}. Each color is a code. Colors are not comparable between rows."
    return _strips_block("code-maps", "Code maps", rows, caption)


def colors(codes: np.ndarray) -> np.ndarray:
    """[..., 3] in [0, 1]: hues a golden section apart, so that neighboring codes are easy to distinguish."""
    wheel = np.array(
        [colorsys.hsv_to_rgb(0.618034 * k % 1.0, 0.45 + 0.1 * (k % 5), 0.95 - 0.15 * (k % 3)) for k in range(1021)]
    )
    return wheel[codes % len(wheel)]


def _enlarged(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps [n, h, w, 3] with every position drawn as a square, about `side` pixels high."""
    factor = max(1, round(side / maps.shape[1]))
    return maps.repeat(factor, axis=1).repeat(factor, axis=2)


def _levels_block(run: Run, by_level: tuple[np.ndarray, ...], chosen: np.ndarray, how: str) -> Block:
    """Images decoded from the levels above, averaged over other examples' codes below."""
    test = run.experiment.test
    x, some = take(test, chosen)["x"], subset(test, chosen)
    low, high = data_range(x)
    others = np.random.default_rng(0).choice(len(by_level[0]), OTHERS)
    rows = {"clean": x}
    for least in reversed(range(len(by_level))):
        total = np.zeros(x.shape, np.float64)
        for other in others:
            at = np.full(len(chosen), other)
            codes = tuple(part[chosen if i >= least else at] for i, part in enumerate(by_level))
            total += run.decode(codes, some) / len(others)
        rows["all levels" if least == 0 else f"level {least}" + " and up" * (least < len(by_level) - 1)] = total
    caption = (
        f"{how} of {test.name}. Where a level is left out, the picture is the mean over decodings with that level's codes "
        f"taken from {OTHERS} other examples."
    )
    strips = {label: strip(coarse(images, SHARPEST), low, high) for label, images in rows.items()}
    return _strips_block("levels", "Level by level", strips, caption)


def _strips_block(name: str, title: str, rows: dict[str, np.ndarray], caption: str) -> Block:
    cells = "".join(
        f'<div>{escape(label)}</div><img src="{page.png_uri(pixels_png(pixels))}" alt="{escape(label)}">'
        for label, pixels in rows.items()
    )
    html = f'<h3>{title}</h3><div class="strips">{cells}</div>' + page.paragraph(escape(caption), "caption")
    return html, {name: drawing.png(labeled_strips(rows))}


def _signals_block(run: Run, codes: np.ndarray, chosen: np.ndarray) -> Block:
    """Signals and their reconstructions, with the codes of the positions as colors below."""
    x = take(run.experiment.test, chosen)["x"]
    drawn = signals(x[..., 0], run.reconstruct(x)[..., 0], colors(codes[chosen][..., 0]))
    caption = (
        "The first test signals of each class (gray) and their reconstructions (blue). Below each signal are its "
        f"{codes.shape[1]} codes along time, as colors."
    )
    image = page.figure(page.svg_uri(drawing.svg(drawn)), escape(caption), "Signals, reconstructed, and their codes")
    return f"<h3>Signals and their codes</h3>{image}", {"signals": drawing.png(drawn)}


def signals(x: np.ndarray, x_hat: np.ndarray, maps: np.ndarray) -> Figure:
    """Signals [n, t] with their reconstructions, and strips of colors [n, t', 3] below each."""
    row, left, width = 96.0, 4.0, 720.0
    height = row * len(x)
    figure = drawing.canvas((width, height))
    for i, (clean, seen, strip_) in enumerate(zip(x, x_hat, maps)):
        bottom = (height - row * (i + 1)) / height
        across = left / width, 1 - 2 * left / width
        axes = figure.add_axes((across[0], bottom + 20 / height, across[1], (row - 26) / height))
        axes.plot(clean, color=drawing.GRAY, linewidth=1.0)
        axes.plot(seen, color=drawing.BLUE, linewidth=0.8)
        axes.set_xlim(0, len(clean) - 1)
        axes.set_axis_off()
        axes = figure.add_axes((across[0], bottom + 6 / height, across[1], 10 / height))
        axes.imshow(strip_[None], aspect="auto", interpolation="nearest")
        axes.set_axis_off()
    return figure
