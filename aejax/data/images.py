"""Data from a folder of images, decoded by Pillow: of one size and one mode, or fitted to these."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.data.arrays import numbered_names, refuse_factors
from aejax.data.image_folder import ImageFolder, no_images, table_of
from aejax.data.limits import refuse_many_pixels
from aejax.data.splits import Reader, Readers, checked, permuted_with_all, with_a_tenth_held_out
from aejax.errors import UsageError

# Pillow's modes that are kept; other modes of eight bits become RGB, or RGBA if a palette has a transparent color.
_AS_THEY_ARE = ("1", "L", "RGB", "RGBA")
_TO_RGB = ("P", "CMYK", "YCbCr")
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_EXIF = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and those of its values that swap width and height."""

Kind = tuple[tuple[int, int], str]
"""Width and height as displayed, and the mode in which the image is kept."""

_LOOKED_AT = 500  # files whose headers are read first


class Fit(NamedTuple):
    """The size and the number of channels to which every image is fitted, None for its own; and whether it may be of any size.
    See `aejax.data.ReadAs`.
    """

    size: int | None = None
    channels: int | None = None
    crop: str = "center"
    large: bool = False


def image_readers(folder: Path, held: ImageFolder, fit: Fit = Fit(), streamed: bool = False) -> Readers:
    """Splits of a folder of images: `x` [n, height, width, channels], uint8, or bool for images of mode 1, or float32 in [0, 1]
    for gray images of 16 bits.

    Labels number the sorted class names. A table beside the images gives labels (its column `label`) and factors (its other
    columns, of whole numbers). Without `train/` and `test/` a tenth is the test split. That all images have one size and mode
    is checked on some headers before decoding, and on each image when it is decoded.
    """
    paths = held.listed()
    if not paths:
        raise no_images(folder)
    said, passed_over = _said(held, paths), held.passed_over
    _refuse_unlike(paths[:: 1 + len(paths) // _LOOKED_AT], fit)
    readers, start = {}, 0
    for split, by_class in held.files.items():
        stop = start + sum(map(len, by_class.values()))
        reader = _reader(paths[start:stop], said, slice(start, stop), paths[0], folder, fit)
        reader = reader._replace(passed_over=passed_over)
        readers[split] = checked(reader, str(folder / split)) if streamed else reader
        start = stop
    return with_a_tenth_held_out(readers[""]) if "" in readers else permuted_with_all(readers)


class _Said(NamedTuple):
    """Labels and factors of all images, from class folders or a table."""

    classes: tuple[str, ...] | None = None
    factors: tuple[str, ...] | None = None
    arrays: Mapping[str, np.ndarray] = {}
    """`label` [n] and `factors` [n, f], if any."""


def _said(held: ImageFolder, paths: list[str]) -> _Said:
    named = [name for by_class in held.files.values() for name, of_class in by_class.items() for _ in of_class]
    in_folders = {name for name in named if name is not None}
    if in_folders and None in named:
        raise UsageError(
            f"{os.path.dirname(paths[0])} has class folders and other splits have none; make the splits alike"
        )
    labels: list[str] = [name for name in named if name is not None]
    columns, rows = table_of(held.tables, paths) if held.tables else ([], [])
    if "label" in columns:
        if labels:
            raise UsageError(f"{held.tables[0]} has labels, and the images lie in class folders; leave out one of them")
        labels = [row[columns.index("label")] for row in rows]
    said = _Said()
    if in_folders:
        classes = tuple(sorted(in_folders))
        place = {name: i for i, name in enumerate(classes)}
        said = _Said(classes, None, {"label": np.array([place[name] for name in labels], np.int32)})
    elif labels:
        classes, numbers = numbered_names(np.array(labels), held.tables[0])
        said = _Said(classes, None, {"label": numbers})
    others = [i for i, column in enumerate(columns) if column != "label"]
    if others:
        try:
            factors = np.array([[int(row[i]) for i in others] for row in rows], np.int64)
        except ValueError as error:
            raise UsageError(
                f"{held.tables[0]} has, beside file_name and label, columns that are not whole numbers ({error}); number the "
                "values of each factor from 0, and leave out other columns"
            ) from error
        refuse_factors(factors, len(paths), held.tables[0])
        said = said._replace(factors=tuple(columns[i] for i in others), arrays={**said.arrays, "factors": factors})
    return said


def _reader(paths: list[str], said: _Said, part: slice, first: str, folder: Path, fit: Fit) -> Reader:
    _, kind = _opened(first, fit)
    kind = _fitted_kind(kind, fit)
    arrays = {name: array[part] for name, array in said.arrays.items()}

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        x = np.stack([_decode(paths[i], kind, first, folder, fit) for i in positions])
        return {"x": x, **{name: array[positions] for name, array in arrays.items()}}

    return Reader(len(paths), said.classes, read, said.factors)


def _decode(path: str, kind: Kind, first: str, folder: Path, fit: Fit) -> np.ndarray:
    """[height, width, channels]."""
    image, own_kind = _opened(path, fit)
    if _fitted_kind(own_kind, fit) != kind:
        raise _unlike(first, kind, path, _fitted_kind(own_kind, fit))
    image = _in_mode(image, own_kind[1], kind[1])
    if fit.size is not None:
        image = _cut(image, fit.size, fit.crop, os.path.relpath(path, folder))
    pixels = np.asarray(image)
    if kind[1] in _SIXTEEN_BITS:
        pixels = (np.clip(pixels, 0, 65535) / 65535).astype(np.float32)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _fitted_kind(kind: Kind, fit: Fit) -> Kind:
    """The kind of an image after it was fitted."""
    size, mode = kind
    if fit.channels is not None and not (fit.channels == 1 and mode in _SIXTEEN_BITS):
        mode = _MODES[fit.channels]
    elif fit.size is not None and mode == "1":
        mode = "L"  # scaling makes gray values
    return (size if fit.size is None else (fit.size, fit.size)), mode


def _in_mode(image: Any, own: str, wanted: str) -> Any:
    """The image converted from its kind's mode to another; transparent parts show white where there is no alpha."""
    from PIL import Image

    if wanted in _SIXTEEN_BITS:
        return image.convert("F")  # keeps all 16 bits, also when scaled
    if own in _SIXTEEN_BITS:
        gray = np.clip(np.asarray(image.convert("F")) / 257, 0, 255)
        return Image.fromarray(np.round(gray).astype(np.uint8)).convert(wanted)
    if own == "RGBA" and wanted != "RGBA":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)


def _cut(image: Any, size: int, crop: str, name: str) -> Any:
    """The image scaled with its shorter side to `size`, and a square of it; or stretched to the square."""
    from PIL import Image

    if crop == "stretch":
        return image.resize((size, size), Image.Resampling.LANCZOS)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    if crop == "random":  # from the file's name, so that it does not depend on the other files
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        rng = np.random.default_rng(seed)
        left, top = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    return image.crop((left, top, left + size, top + size))


def _refuse_unlike(paths: list[str], fit: Fit) -> None:
    """Compares the headers of some images before anything is decoded."""
    first, *others = paths
    _, kind = _opened(first, fit)
    kind = _fitted_kind(kind, fit)
    for other in others:
        _, own_kind = _opened(other, fit, pixels=False)
        if _fitted_kind(own_kind, fit) != kind:
            _, own_kind = _opened(other, fit)
        if _fitted_kind(own_kind, fit) != kind:
            raise _unlike(first, kind, other, _fitted_kind(own_kind, fit))


def _unlike(a: str, a_kind: Kind, b: str, b_kind: Kind) -> UsageError:
    kinds = [f"{width}x{height} {mode}" for (width, height), mode in (a_kind, b_kind)]
    sizes = [f"--image-size {min(*a_kind[0], *b_kind[0])}"] if a_kind[0] != b_kind[0] else []
    modes = [f"--image-channels {1 if {a_kind[1], b_kind[1]} <= {'1', 'L', *_SIXTEEN_BITS} else 3}"]
    flags = " ".join(sizes + (modes if a_kind[1] != b_kind[1] else []))
    return UsageError(
        f"images differ: {a} is {kinds[0]}, {b} is {kinds[1]}; give them one size and mode, or pass {flags}"
    )


def _kind(image: Any, path: str, orientation: int) -> Kind:
    """Size and mode of an image. Nothing that Pillow knows of a file is dropped: it is kept, or the file is refused."""
    sixteen = image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PNG")
    if not sixteen and image.mode not in (*_AS_THEY_ARE, *_TO_RGB):
        raise UsageError(f"{path} is an image of mode {image.mode}; save it as gray, RGB or RGBA")
    if ";16" in str(image.tile) and not sixteen:
        raise UsageError(
            f"{path} has 16 bits a channel, of which Pillow drops half; save it with 8, or as a .npy of float32"
        )
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # an MPO from a camera is a photo with its previews
        raise UsageError(f"{path} holds {image.n_frames} images; save each in a file of its own")
    transparent = "transparency" in image.info
    if transparent and image.mode != "P":
        raise UsageError(f"{path} has a transparent color, which mode {image.mode} cannot hold; save it as RGBA")
    mode = image.mode if image.mode in _AS_THEY_ARE else "RGBA" if transparent else "RGB"
    mode = "I;16" if sixteen else mode
    turned = image.format != "TIFF" and orientation in _ON_ITS_SIDE  # Pillow itself rotates a TIFF
    return (image.size[::-1] if turned else image.size), mode


def _orientation(image: Any) -> int:
    """The EXIF orientation. In a PNG it may follow the pixels, and is then not known before they are decoded."""
    said = _EXIF & image.info.keys() or hasattr(image, "tag_v2")
    return image.getexif().get(_ORIENTATION, 1) if said else 1


def _opened(path: str, fit: Fit, pixels: bool = True) -> tuple[Any, Kind]:
    """The image and its kind; without pixels, as far as the header tells."""
    from PIL import Image, ImageOps  # not needed on a warm cache

    try:
        with _unlimited(Image), Image.open(path, formats=_formats()) as image:
            refuse_many_pixels(*image.size, path, fit.large)
            if not pixels:
                return image, _kind(image, path, _orientation(image))
            refused_before = _kind(image, path, 1)  # before a file of any size is decoded
            image.load()
            orientation = _orientation(image)
            if orientation == 1:
                return image, refused_before
            kind = _kind(image, path, orientation)
            return ImageOps.exif_transpose(image), kind
    except UsageError:
        raise
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UsageError(f"{path} cannot be read as an image; replace or remove it") from error


@cache
def _formats() -> list[str]:
    """The formats that are read, whatever the suffix of a file says. Pillow itself would hand PostScript to an interpreter."""
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


@contextmanager
def _unlimited(image: Any) -> Iterator[None]:
    """Pillow without its own limit on pixels, as ours is checked, and without warnings: what it cannot read is refused."""
    most, image.MAX_IMAGE_PIXELS = image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        image.MAX_IMAGE_PIXELS = most
