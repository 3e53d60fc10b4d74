"""How data are read, beside where they come from: streamed, as images of one size, standardized, with missing values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from aejax.data.kinds import is_image
from aejax.errors import UsageError
from aejax.types import Scaling

Crop = Literal["center", "random", "stretch"]
Standardize = Literal["none", "minmax", "zscore", "norm"]
Missing = Literal["refuse", "mask"]


class ReadAs(NamedTuple):
    """Data and how they are read; `aejax.load` accepts it in place of a name, a path or an array.

    A run records it, and reads all data that it is given later in the same way.

    Example:
        >>> x = np.array([[1.0, 30.0], [2.0, np.nan], [3.0, 10.0], [4.0, 20.0]])
        >>> train, test = aejax.load(ReadAs(x, standardize="zscore", missing="mask"))
        >>> train.found.missing
        1
    """

    data: Any
    """A name, a path, or data in memory, as in `load`."""
    stream: bool = False
    """Whether each example is read from disk at each use, whatever the size of the data."""
    image_size: int | None = None
    """Images of a folder are scaled and cropped to this many pixels in height and width."""
    image_channels: int | None = None
    """Images of a folder are converted to 1 (gray), 3 (RGB) or 4 (RGBA) channels. Without alpha they are put on white."""
    image_crop: Crop = "center"
    """With `image_size`: the middle of the image, a part drawn once for each file, or the whole image stretched."""
    standardize: Standardize = "none"
    """`zscore`: subtract the mean and divide by the standard deviation; `minmax`: map the range to [0, 1]. For each number of a
    row, or each channel of a signal, by the statistics of the first split that is opened. `norm`: divide all numbers by one, so
    that the mean norm of a row of d numbers is √d, as it is done with the activations of networks."""
    missing: Missing = "refuse"
    """`mask`: NaN is a missing value, which the likelihood does not score; `refuse`: it is an error."""
    large: bool = False
    """Whether files may take any amount of memory (`aejax.data.limits`)."""

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, without `stream`, which the fingerprint tells."""
        defaults = type(self)._field_defaults
        return {
            name: value
            for name, value in self._asdict().items()
            if name not in ("data", "stream") and value != defaults[name]
        }

    def checked(self) -> ReadAs:
        """Itself; UsageError for options that contradict each other."""
        if self.image_size is not None and self.image_size < 1:
            raise UsageError(f"--image-size {self.image_size}: it must be at least 1")
        if self.image_channels not in (None, 1, 3, 4):
            raise UsageError(f"--image-channels {self.image_channels}: images have 1, 3 or 4")
        if self.image_crop != "center" and self.image_size is None:
            raise UsageError(f"--image-crop {self.image_crop} needs --image-size")
        return self


def read_as(data: Any, options: Mapping[str, Any] = {}) -> ReadAs:
    """Data as a `ReadAs`; options of a `ReadAs` that is given go before the others."""
    given = data if isinstance(data, ReadAs) else ReadAs(data)
    return given._replace(**{**options, **given.options()}).checked()


def scaling_of(x: np.ndarray, how: Standardize, where: str) -> Scaling:
    """The scaling of examples x [n, *shape] in data range, which may have NaN: one for each number of a row or each channel."""
    shape = x.shape[1:]
    if is_image(shape):
        raise UsageError(f"{where} holds images, which are read as [0, 1] already; leave out --standardize")
    axes = tuple(range(x.ndim - 1))
    seen = np.isfinite(x).any(axis=axes)
    if not seen.all():
        raise UsageError(f"{where} has no value in column {int(np.argmin(seen))}; remove the column")
    if how == "norm":
        norms = np.sqrt(np.nansum(np.square(x, dtype=np.float64), axis=-1))
        shift, scale = np.zeros(shape[-1]), np.full(shape[-1], norms.mean() / np.sqrt(shape[-1]))
    elif how == "minmax":
        low, high = np.nanmin(x, axis=axes).astype(np.float64), np.nanmax(x, axis=axes).astype(np.float64)
        shift, scale = low, high - low
    else:
        shift, scale = np.nanmean(x, axis=axes, dtype=np.float64), np.nanstd(x, axis=axes, dtype=np.float64)
    # A number that does not vary up to rounding stays as it is, instead of becoming noise.
    scale = np.where(scale > 1e-6 * np.maximum(1.0, np.abs(shift)), scale, 1.0)
    return Scaling(tuple(map(float, np.ravel(shift))), tuple(map(float, np.ravel(scale))))


def scaled(x: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """Numbers in data range [..., c] as the model sees them."""
    if scaling is None:
        return x
    return ((x - np.array(scaling.shift)) / np.array(scaling.scale)).astype(np.float32)


def unscaled(x: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """The inverse of `scaled`."""
    if scaling is None:
        return x
    return (x * np.array(scaling.scale) + np.array(scaling.shift)).astype(np.float32)


def nats_of_scaling(scaling: Scaling | None, shape: tuple[int, ...]) -> float:
    """log |det| of the scaling of an example: −log p in the data's units is that in the model's units plus this number."""
    if scaling is None:
        return 0.0
    return float(np.sum(np.log(scaling.scale))) * math.prod(shape) / len(scaling.scale)
