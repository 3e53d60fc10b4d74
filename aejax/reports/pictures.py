"""The parts of a run's page for which the model is applied or its parameters are looked at: images, filters, codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import TypeGuard

import jax
import numpy as np

from aejax.data import chosen, has_data, take
from aejax.evaluation import compresses, judged_part, linear_statistics
from aejax.evaluation.linear import Affine, apply, optimal_linear, pca
from aejax.keys import evaluation_key
from aejax.objective.corruptions import corrupt_batch
from aejax.reports import drawing, figures, page
from aejax.reports.page import Section
from aejax.reports.pixels import coarse, filters, labeled_strips, pixels_png, strip
from aejax.reports.records import Record
from aejax.runs.run import Run
from aejax.types import Dataset

EXAMPLES = 10
CODES = 1000
LOOKED_AT = 500
"""Examples of a streamed data set among which those of each class are looked for."""
SHARPEST = 128
"""Pixels: larger images are shown at every so many pixels."""

Block = tuple[str, dict[str, bytes]]
"""Html, and PNG by name."""


def strips_section(record: Record) -> Section | None:
    """Clean, corrupted and restored test examples below each other; clean and reconstructed ones without corruption."""
    run = record.run
    test, model = run.experiment.test, run.experiment.model
    if not is_image(test.shape) or model.reconstruct is None:
        return None
    name = "Reconstruction" if model.corrupt is None else "Restoration"
    if not has_data(test):
        return Section(name, page.paragraph(without_data(record)))
    positions, how = some_of_each_class(test)
    rows, measured = restored_rows(record, positions)
    low, high = data_range(rows["clean"])
    strips = {label: strip(coarse(images, SHARPEST), low, high) for label, images in rows.items()}
    cells = "".join(
        f"<div>{escape(label)}{aside(label, measured)}</div>"
        f'<img src="{page.png_uri(pixels_png(pixels))}" alt="{escape(label)}: {len(positions)} examples">'
        for label, pixels in strips.items()
    )
    judged = (
        "the whole test split" if judged_part(test) is test else f"the first {judged_part(test).size} test examples"
    )
    caption = f"{how} of {test.name}. The errors at the left are MSE per dimension over {judged}."
    if not measured:
        caption = f"{how} of {test.name}."
    return Section(
        name,
        f'<div class="strips">{cells}</div>' + page.paragraph(escape(caption), "caption"),
        {name.lower(): drawing.png(labeled_strips(strips))},
    )


def aside(label: str, measured: Mapping[str, float | None]) -> str:
    numbers = [v for v in measured.values() if page.is_number(v)]
    if label not in measured or not page.is_number(measured[label]):
        return ""
    return f"<small>MSE {page.fixed(measured[label], page.decimals(numbers))}</small>"


def restored_rows(record: Record, positions: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float | None]]:
    """Label -> images [n, h, w, c], and label -> mean MSE where the run was judged."""
    run = record.run
    corrupt = run.experiment.model.corrupt
    examples = chosen(run.experiment.test, positions)
    x = take(examples, np.arange(examples.size))["x"]
    affine = linear_maps(run)
    if corrupt is None:
        rows = {"clean": x, "reconstructed": run.reconstruct(examples)}
        methods = record.reconstruction
        labels = {"model": "reconstructed", "pca": "PCA"}
        seen = x
    else:
        # The key and the positions of `aejax.evaluate`: the very noise whose restoration was measured.
        key = evaluation_key(run.experiment.seed, "corrupt")
        disturb = jax.jit(lambda x, index: corrupt_batch(corrupt, key, x, index)[0])
        seen = np.asarray(disturb(x, positions.astype(np.int32)))
        restored = run.reconstruct(replaced(examples, seen))
        rows = {"clean": x, "corrupted": seen, "restored": restored}
        methods = record.trained
        labels = {"input": "corrupted", "model": "restored", "optimal_linear": "optimal linear", "pca": "PCA"}
    rows |= {labels[method]: apply(f, seen) for method, f in affine.items()}
    return rows, {labels[m]: values["mse"] for m, values in (methods or {}).items() if m in labels}


def replaced(examples: Dataset, x: np.ndarray) -> Dataset:
    """Examples with another x, and the labels they have."""
    return examples._replace(arrays={**take(examples, np.arange(examples.size)), "x": x}, read=None)


def linear_maps(run: Run) -> dict[str, Affine]:
    """The baselines of `aejax.evaluate` that apply."""
    train, model = run.experiment.train, run.experiment.model
    if not has_data(train):
        return {}
    size = None if model.encode is None else math.prod(run.encode(chosen(train, np.arange(1))).shape[1:])
    moments = linear_statistics(run.experiment, size)
    if moments is None:
        return {}
    maps = {}
    if model.corrupt is not None and hasattr(model.corrupt, "moments"):
        maps["optimal_linear"] = optimal_linear(moments, model.corrupt.moments(train.shape))
    if size is not None and compresses(size, train):
        maps["pca"] = pca(moments, size)
    return maps


def is_image(shape: tuple[int, ...]) -> TypeGuard[tuple[int, int, int]]:
    return len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) >= 2


def data_range(x: np.ndarray) -> tuple[float, float]:
    """[0, 1] for data that lie in it, else the extremes of the data."""
    low, high = float(x.min()), float(x.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def some_of_each_class(data: Dataset) -> tuple[np.ndarray, str]:
    """Positions of a few examples, of few classes in turn, and words for the choice; none is picked by its look."""
    if not has_data(data) or data.classes is None or len(data.classes) > EXAMPLES:
        return np.arange(min(EXAMPLES, data.size)), "The first examples"
    labels = labels_of(data)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - starts  # the how-manieth of its class
    return np.lexsort((labels, rank))[:EXAMPLES], "The first examples of each class"


def labels_of(data: Dataset) -> np.ndarray:
    """All labels; of a streamed data set, where each costs a decoding, those of the first examples."""
    if data.arrays is not None:
        return np.asarray(data.arrays["label"])
    return take(data, np.arange(min(LOOKED_AT, data.size)))["label"]


def without_data(record: Record) -> str:
    return f"The run was opened without its data. {page.code(f'aejax report {record.where}')} opens it with them."


def filters_block(record: Record) -> Block | None:
    """The first layer's weights as images, where the model has a first layer that sees the whole image."""
    shape, params = record.run.experiment.train.shape, record.run.params
    if not is_image(shape) or "encoder" not in params:
        return None
    kernels = (
        k for k in map(np.asarray, jax.tree.leaves(params["encoder"])) if k.ndim == 2 and k.shape[0] == math.prod(shape)
    )
    kernel = next(kernels, None)
    if kernel is None or not np.isfinite(kernel).all():
        return None
    pixels = filters(kernel, shape)
    shown, units = min(64, kernel.shape[1]), kernel.shape[1]
    which = f"The {shown} of {units} units with the largest weights" if shown < units else f"All {units} units"
    return (
        "<h3>First-layer filters</h3>"
        + page.figure(
            page.png_uri(pixels_png(pixels)),
            f"{which}, each scaled by itself: gray is zero, white positive.",
            "Weights of the first layer as images",
            "pixels",
        ),
        {"filters": pixels_png(pixels, 1200)},
    )


def codes_section(record: Record) -> Block:
    """Test codes in the plane."""
    run, test = record.run, record.run.experiment.test
    if run.experiment.model.encode is None:
        return "", {}
    heading = "<h3>Codes of the test split</h3>"
    if not has_data(test):
        return heading + page.paragraph(without_data(record)), {}
    some = chosen(test, np.unique(np.linspace(0, test.size - 1, min(CODES, test.size)).round().astype(int)))
    codes = run.encode(some).reshape(some.size, -1).astype(np.float64)
    labels = np.asarray(take(some, np.arange(some.size))["label"]) if test.classes is not None else None
    if why_not := no_map(codes):
        return heading + page.paragraph(why_not), {}
    plane = codes if codes.shape[1] == 2 else tsne(codes)
    drawn = figures.code_map(plane, labels, test.classes, axes_named=codes.shape[1] == 2)
    how = "The two components" if codes.shape[1] == 2 else f"t-SNE of the {codes.shape[1]} components"
    caption = f"{how} of {some.size} codes{', colored by label' if labels is not None else ''}."
    image = page.figure(page.svg_uri(drawing.svg(drawn)), escape(caption), "Map of the codes")
    return heading + image, {"codes": drawing.png(drawn)}


def no_map(codes: np.ndarray) -> str | None:
    """Why these codes have no map, in one sentence."""
    if not np.isfinite(codes).all():
        return "Some codes are not finite, so there is no map of them."
    if codes.shape[1] == 1:
        return "The code has one component, so there is no map of it."
    if len(codes) < 8:
        return "There are too few test examples for a map of their codes."
    if np.ptp(codes, axis=0).max() <= 1e-6 * np.abs(codes).max():
        return "All codes are alike: the encoder has collapsed."
    return None


def tsne(codes: np.ndarray) -> np.ndarray:
    """[n, 2], the same for the same codes (van der Maaten & Hinton 2008)."""
    from sklearn.manifold import TSNE  # takes a second to import
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(codes) - 1) / 3)
    # One thread: for so few points more cost time, and their number would change the sums' order and with it the map.
    with threadpool_limits(1):
        return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(codes.astype(np.float32))
