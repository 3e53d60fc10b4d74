"""The parts of a run's page for which the model is applied or its parameters are shown: images, filters, codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import jax
import numpy as np

from aejax.data import evaluated_part, has_data, is_image, subset, take
from aejax.evaluation.baselines import compresses, linear_statistics
from aejax.evaluation.linear import Affine, apply, optimal_linear, pca
from aejax.evaluation.part import corruption_of, observed, without_data
from aejax.figures import charts, drawing, page
from aejax.figures.examples import Block, data_range, some_of_each_class
from aejax.figures.page import Section
from aejax.figures.pixels import coarse, filters, labeled_strips, pixels_png, strip
from aejax.figures.tables import decimals, fixed, is_number
from aejax.reports.interactive import map_with_images
from aejax.runs.run import Run
from aejax.types import Dataset

CODES = 1000
SHARPEST = 128
"""Largest side in pixels; larger images are subsampled."""


def strips_section(run: Run, evaluation: Mapping[str, Any] | None) -> Section | None:
    """Clean, corrupted and restored test examples below each other; without corruption, clean and reconstructed ones."""
    test, model = run.experiment.test, run.experiment.model
    if not is_image(test.shape) or model.reconstruct is None:
        return None
    name = "Reconstruction" if model.data.corrupt is None else "Restoration"
    if not has_data(test):
        return Section(name, without_data(run))
    positions, how = some_of_each_class(test)
    rows, measured = restored_rows(run, evaluation, positions)
    low, high = data_range(rows["clean"])
    strips = {label: strip(coarse(images, SHARPEST), low, high) for label, images in rows.items()}
    cells = "".join(
        f"<div>{escape(label)}{aside(label, measured)}</div>"
        f'<img src="{page.png_uri(pixels_png(pixels))}" alt="{escape(label)}: {len(positions)} examples">'
        for label, pixels in strips.items()
    )
    part = evaluated_part(test)
    evaluated = "the whole test split" if part is test else f"the first {part.size} test examples"
    caption = f"{how} of {test.name}. The errors at the left are MSE per dimension over {evaluated}."
    if not measured:
        caption = f"{how} of {test.name}."
    return Section(
        name,
        f'<div class="strips">{cells}</div>' + page.paragraph(escape(caption), "caption"),
        {name.lower(): drawing.png(labeled_strips(strips))},
    )


def aside(label: str, measured: Mapping[str, float | None]) -> str:
    numbers = [v for v in measured.values() if is_number(v)]
    if label not in measured or not is_number(measured[label]):
        return ""
    return f"<small>MSE {fixed(measured[label], decimals(numbers))}</small>"


def restored_rows(
    run: Run, evaluation: Mapping[str, Any] | None, positions: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, float | None]]:
    """Label -> images [n, h, w, c], and label -> mean MSE if the run was evaluated."""
    corrupt = run.experiment.model.data.corrupt
    examples = subset(run.experiment.test, positions)
    x = take(examples, np.arange(examples.size))["x"]
    if (observe := run.experiment.model.data.observe) is not None:
        x = np.asarray(observe(x))
    affine = linear_maps(run)
    if corrupt is None:
        rows = {"clean": x, "reconstructed": run.reconstruct(examples)}
        methods = None if evaluation is None else evaluation["reconstruction"]
        labels = {"model": "reconstructed", "pca": "PCA"}
        seen = x
    else:
        # The same noise as in the evaluation.
        seen = np.asarray(corruption_of(run, corrupt)(x, positions.astype(np.int32)))
        restored = run.reconstruct(replaced(examples, seen))
        rows = {"clean": x, "corrupted": seen, "restored": restored}
        methods = None if evaluation is None or not evaluation["restoration"] else evaluation["restoration"]["trained"]
        labels = {"input": "corrupted", "model": "restored", "optimal_linear": "optimal linear", "pca": "PCA"}
    rows |= {labels[method]: apply(f, seen) for method, f in affine.items()}
    return rows, {labels[m]: values["mse"] for m, values in (methods or {}).items() if m in labels}


def replaced(examples: Dataset, x: np.ndarray) -> Dataset:
    """Examples with another x and the same labels."""
    return examples._replace(arrays={**take(examples, np.arange(examples.size)), "x": x}, read=None, scaling=None)


def linear_maps(run: Run) -> dict[str, Affine]:
    """The linear baselines that apply to the run."""
    model = run.experiment.model
    train = observed(run.experiment.train, model.data.observe)
    if not has_data(train):
        return {}
    size = None if model.encode is None else math.prod(run.encode(subset(train, np.arange(1))).shape[1:])
    moments = linear_statistics(run.experiment._replace(train=train), size)
    if moments is None:
        return {}
    maps = {}
    if model.data.corrupt is not None and hasattr(model.data.corrupt, "moments"):
        maps["optimal_linear"] = optimal_linear(moments, model.data.corrupt.moments(train.shape))
    if size is not None and compresses(size, train):
        maps["pca"] = pca(moments, size)
    return maps


def filters_block(run: Run) -> Block | None:
    """The weights of the first layer as images, if that layer sees the whole image."""
    shape, params = run.experiment.train.shape, run.params
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


def codes_block(run: Run) -> Block:
    """Test codes in the plane."""
    test = run.experiment.test
    if run.experiment.model.encode is None:
        return "", {}
    heading = "<h3>Codes of the test split</h3>"
    if not has_data(test):
        return heading + without_data(run), {}
    some = subset(test, np.unique(np.linspace(0, test.size - 1, min(CODES, test.size)).round().astype(int)))
    codes = run.encode(some).reshape(some.size, -1).astype(np.float64)
    labels = np.asarray(take(some, np.arange(some.size))["label"]) if test.classes is not None else None
    if why_not := no_map(codes):
        return heading + page.paragraph(why_not), {}
    plane = codes if codes.shape[1] == 2 else tsne(codes)
    drawn = charts.code_map(plane, labels, test.classes, axes_named=codes.shape[1] == 2)
    how = "The two components" if codes.shape[1] == 2 else f"t-SNE of the {codes.shape[1]} components"
    caption = f"{how} of {some.size} codes{', colored by label' if labels is not None else ''}."
    image = map_with_images(drawn, plane, some, labels, escape(caption))
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
    """[n, 2], deterministic (van der Maaten & Hinton 2008)."""
    from sklearn.manifold import TSNE  # takes a second to import
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(codes) - 1) / 3)
    # One thread: with so few points more threads are slower, and their number would change the order of sums and thus the map.
    with threadpool_limits(1):
        return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(codes.astype(np.float32))
