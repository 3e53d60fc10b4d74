"""The output of `aejax data inspect`: lines, pictures of examples, and the experiments that can be trained on the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from aejax.data import describe, found_line, is_image, take
from aejax.data.inspection import Inspection, inspect
from aejax.errors import UsageError
from aejax.figures.examples import data_range
from aejax.figures.pixels import coarse, tiles
from aejax.runs.experiment import build, load_file, shipped
from aejax.training.checks import checked
from aejax.training.settings import Settings
from aejax.types import Dataset

ROWS, COLUMNS = 4, 10
BARS = " ▁▂▃▄▅▆▇█"
SHADES = " .:-=+*#%@"
LOOKED_AT = 100_000
"""Number of rows of each split from which the lines of a table's columns are made."""
SHOWN = 20
"""Number of classes, columns, or constant components, that are listed."""


def lines(datasets: Sequence[Dataset]) -> Iterator[str]:
    """One line per property of the data."""
    found = inspect(datasets)
    specs = list(describe(tuple(datasets))["splits"])
    yield found_line(describe(tuple(datasets)))
    if any(n < data.size for n, data in zip(found.examples, datasets)):
        yield f"the following is about the first {max(found.examples)} examples of each split"
    yield f"numbers: {histogram(found)} from {found.low:.4g} to {found.high:.4g}, mean {found.mean:.4g}, sd {found.sd:.4g}"
    yield from by_column(datasets)
    yield constant(found)
    if found.balance is not None:
        for spec, counts in zip(specs, found.balance):
            yield f"classes of {spec}: {balance(datasets[0].classes or (), counts)}"
    for spec, n in zip(specs, found.repeated):
        if n:
            yield f"repeated: {n} examples of {spec} are equal to an earlier one"
    for i, j, n in found.shared:
        if n:
            yield f"shared: {n} of {found.examples[j]} examples of {specs[j]} are also in {specs[i]}"
    if not any(n for _, _, n in found.shared):
        yield "shared: no example is in two splits"


def by_column(datasets: Sequence[Dataset]) -> Iterator[str]:
    """A line per named column of a table, of all splits."""
    first = datasets[0]
    named = () if first.found is None else first.found.columns
    if len(first.shape) != 1 or len(named) != first.shape[0]:
        return
    x = np.concatenate([take(data, np.arange(min(data.size, LOOKED_AT)))["x"] for data in datasets])
    for i, name in enumerate(named[:SHOWN]):
        there = x[np.isfinite(x[:, i]), i]
        gone = f", {len(x) - len(there)} missing" if len(there) < len(x) else ""
        span = f"{there.min():.4g} to {there.max():.4g}, mean {there.mean():.4g}" if len(there) else "no value"
        yield f"column {name}: {span}{gone}"
    if len(named) > SHOWN:
        yield f"and {len(named) - SHOWN} more columns"


def histogram(found: Inspection) -> str:
    most = max(1, int(found.counts.max()))
    return "".join(BARS[-(-(len(BARS) - 1) * int(count) // most)] for count in found.counts)


def constant(found: Inspection) -> str:
    k = len(found.constant)
    if k == 0:
        return f"constant: none of the {found.components} components"
    places = ", ".join(
        str(position[0] if len(position) == 1 else tuple(position.tolist())) for position in found.constant[:SHOWN]
    )
    return f"constant: {k} of the {found.components} components: {places}{', …' if k > SHOWN else ''}"


def balance(classes: Sequence[str], counts: np.ndarray) -> str:
    if len(classes) <= SHOWN:
        return ", ".join(f"{name} {count}" for name, count in zip(classes, counts))
    empty = int((counts == 0).sum())
    return f"{len(classes)}, of {counts.min()} to {counts.max()} examples (median {np.median(counts):g}), {empty} without any"


def pictures(data: Dataset, n: int = ROWS * COLUMNS) -> np.ndarray:
    """The first examples as images [n, h, w, c]: the first frame of sequences of images, and the numbers of signals and rows as
    gray levels.
    """
    x = take(data, np.arange(min(n, data.size)))["x"]
    if np.isnan(x).any():
        x = np.where(np.isnan(x), np.nanmin(x), x)  # a missing value is black
    if is_image(data.shape):
        return x
    if len(data.shape) >= 3 and is_image(data.shape[1:]):
        return x[:, 0]
    if len(data.shape) == 1:
        side = int(np.ceil(np.sqrt(data.shape[0])))
        padded = np.full((len(x), side * side), x.min(), x.dtype)
        padded[:, : data.shape[0]] = x
        return padded.reshape(len(x), side, side, 1)
    return x.reshape(len(x), data.shape[0], -1, 1)


def grid(images: np.ndarray) -> np.ndarray:
    """Pixels of a sheet of images."""
    return tiles(coarse(images, 128), COLUMNS, *data_range(images))


def in_text(images: np.ndarray, colors: bool, columns: int = 5, width: int = 14) -> str:
    """Images as characters: in color with two pixels per character, else in shades."""
    low, high = data_range(images)
    scaled = np.clip((coarse(images, width)[: 2 * columns] - low) / ((high - low) or 1.0), 0, 1)
    rows = []
    for start in range(0, len(scaled), columns):
        some = scaled[start : start + columns]
        some = some if some.shape[1] % 2 == 0 else np.concatenate([some, np.zeros_like(some[:, :1])], axis=1)
        for upper, lower in zip(some[:, 0::2].transpose(1, 0, 2, 3), some[:, 1::2].transpose(1, 0, 2, 3)):
            rows.append("  ".join(map(_in_colors if colors else _in_shades, upper, lower)))
        rows.append("")
    return "\n".join(rows)


def _in_colors(upper: np.ndarray, lower: np.ndarray) -> str:
    def rgb(pixel: np.ndarray) -> str:
        levels = np.round(255 * (np.repeat(pixel, 3) if len(pixel) < 3 else pixel[:3])).astype(int)
        return ";".join(map(str, levels))

    return "".join(f"\x1b[38;2;{rgb(u)};48;2;{rgb(v)}m▀" for u, v in zip(upper, lower)) + "\x1b[0m"


def _in_shades(upper: np.ndarray, lower: np.ndarray) -> str:
    gray = (upper[:, :3].mean(axis=1) + lower[:, :3].mean(axis=1)) / 2
    return "".join(SHADES[round(float(level) * (len(SHADES) - 1))] for level in gray)


def takers(data: Any) -> tuple[list[str], dict[str, str]]:
    """The shipped experiments that can be trained on the data with their defaults, and for the others the reason why not."""
    taking, others = [], {}
    for name, file in shipped().items():
        try:
            _, function = load_file(file)
            checked(build(function, {}, data=data), Settings(devices=1))
            taking.append(name)
        except UsageError as error:
            others[name] = " ".join(str(error).split())
    return taking, others
