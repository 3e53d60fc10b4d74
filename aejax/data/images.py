"""Data from a folder of images: one size and one mode; sub-folders are splits, or classes, or both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aejax.data.splits import Reader, Readers, checked, permuted_with_all, with_a_tenth_held_out
from aejax.errors import UsageError

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "test", "validation", "val", "valid"}
# Pillow's modes that are held as they are; the others of eight bits become RGB, or RGBA where a palette has a transparent color.
_AS_THEY_ARE = ("1", "L", "RGB", "RGBA")
_TO_RGB = ("P", "CMYK", "YCbCr")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)
"""The tag of EXIF, and those of its values with which width and height change places."""

Kind = tuple[tuple[int, int], str]
"""Width and height as they are looked at, and the mode in which the image is held."""

_LOOKED_AT = 500  # files whose headers are read before a folder is streamed

Files = Mapping[str, Mapping[str | None, list[str]]]
"""Split ("" for a folder without splits) -> class (None for images that lie loose) -> files, sorted. Strings, because a
million Paths would take most of a gigabyte."""


def image_files(folder: Path) -> Files:
    """The images of a folder. Hidden files and files of other kinds are passed over.

    Sub-folders are splits if `train` is among them and all are called train, test, validation, val or valid; otherwise, and
    inside the splits, they are classes.
    """
    subfolders = _subfolders(folder)
    names = {path.name for path in subfolders}
    if "train" in names and names <= _SPLITS:
        # train, then test, then the others: the order of `all`
        ordered = sorted(subfolders, key=lambda path: (path.name != "train", path.name != "test", path.name))
        return {path.name: _by_class(path) for path in ordered}
    return {"": _by_class(folder)}


def image_readers(folder: Path, files: Files, streamed: bool = False) -> Readers:
    """`x` [n, height, width, channels]: uint8, bool for images of mode 1; labels number the sorted class names.

    Without `train/` and `test/` a tenth is the test split. That all images are of one size and mode is checked from their
    headers before anything is decoded; where they are streamed, of some, and of the others when they are read.
    """
    names = {name for by_class in files.values() for name in by_class}
    if len(names) > 1 and None in names:
        raise UsageError(f"{folder} has images in class folders and beside them; move them into class folders")
    classes = None if names <= {None} else tuple(sorted(filter(None, names)))
    for split, by_class in files.items():
        if not by_class:
            raise UsageError(f"{folder / split} has no images; put {', '.join(_SUFFIXES)} files there")
    paths = [path for by_class in files.values() for paths in by_class.values() for path in paths]
    _refuse_unlike(paths[:: 1 + len(paths) // _LOOKED_AT] if streamed else paths)
    readers = {split: _reader(by_class, classes, paths[0]) for split, by_class in files.items()}
    if streamed:
        readers = {split: checked(reader, str(folder / split)) for split, reader in readers.items()}
    return with_a_tenth_held_out(readers[""]) if "" in readers else permuted_with_all(readers)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _by_class(folder: Path) -> dict[str | None, list[str]]:
    by_folder: dict[str | None, list[str]] = {None: _images(folder)}
    by_folder |= {path.name: _images(path) for path in _subfolders(folder)}
    return {name: paths for name, paths in by_folder.items() if paths}


def _images(folder: Path) -> list[str]:
    return sorted(
        entry.path
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    )


def _reader(by_class: Mapping[str | None, list[str]], classes: tuple[str, ...] | None, first: str) -> Reader:
    paths = [path for paths in by_class.values() for path in paths]
    numbers = [classes.index(name) for name, paths in by_class.items() for _ in paths] if classes else None
    label = None if numbers is None else np.array(numbers, np.int32)
    _, kind = _opened(first, pixels=False)

    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        batch = {"x": np.stack([_decode(paths[i], kind, first) for i in positions])}
        return batch if label is None else {**batch, "label": label[positions]}

    return Reader(len(paths), classes, read)


def _decode(path: str, kind: Kind, first: str) -> np.ndarray:
    """[height, width, channels]."""
    image, own_kind = _opened(path)
    if own_kind != kind:
        raise _unlike(first, kind, path, own_kind)
    pixels = np.asarray(image if image.mode == kind[1] else image.convert(kind[1]))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _refuse_unlike(paths: list[str]) -> None:
    """Before anything is decoded: from the headers, which is quick."""
    first, *others = paths
    _, kind = _opened(first, pixels=False)
    for other in others:
        _, own_kind = _opened(other, pixels=False)
        if own_kind != kind:
            raise _unlike(first, kind, other, own_kind)


def _unlike(a: str, a_kind: Kind, b: str, b_kind: Kind) -> UsageError:
    kinds = [f"{width}x{height} {mode}" for (width, height), mode in (a_kind, b_kind)]
    return UsageError(f"images differ: {a} is {kinds[0]}, {b} is {kinds[1]}; give them one size and mode")


def _kind(image: Any, path: str) -> Kind:
    """Nothing that Pillow knows of a file is dropped: it is kept, or the file is refused."""
    if image.mode not in (*_AS_THEY_ARE, *_TO_RGB):
        raise UsageError(f"{path} is an image of mode {image.mode}; save it as 8-bit gray, RGB or RGBA")
    if any(";16" in str(part[3]) for part in image.tile):
        raise UsageError(
            f"{path} has 16 bits a channel, of which Pillow drops half; save it with 8, or as a .npy of float32"
        )
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # a camera's MPO is a photo with its previews
        raise UsageError(f"{path} holds {image.n_frames} images; save each in a file of its own")
    transparent = "transparency" in image.info
    if transparent and image.mode != "P":
        raise UsageError(f"{path} has a transparent color, which mode {image.mode} cannot hold; save it as RGBA")
    mode = image.mode if image.mode in _AS_THEY_ARE else "RGBA" if transparent else "RGB"
    # Pillow itself turns a TIFF.
    turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    return (image.size[::-1] if turned else image.size), mode


def _opened(path: str, pixels: bool = True) -> tuple[Any, Kind]:
    """The image, and its kind as its header tells it."""
    from PIL import Image, ImageOps  # not needed on a warm cache

    try:
        with Image.open(path) as image:
            kind = _kind(image, path)
            return (ImageOps.exif_transpose(image) if pixels else image), kind
    except Image.DecompressionBombError as error:
        raise UsageError(f"{path} has more pixels than Pillow decodes; make it smaller") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for broken files are all of these
        raise UsageError(f"{path} cannot be read as an image; replace or remove it") from error
