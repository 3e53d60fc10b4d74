"""Data from a folder of images: one size and one mode; sub-folders are splits, or classes, or both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aejax.data.reader import Reader, Readers, permuted_with_all, with_a_tenth_held_out
from aejax.errors import UsageError

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_SPLITS = {"train", "test", "validation", "val"}
# Pillow's modes that are held as they are; the others of eight bits become RGB.
_AS_THEY_ARE = ("1", "L", "RGB", "RGBA")
_TO_RGB = ("P", "CMYK", "YCbCr")

Files = Mapping[str, Mapping[str | None, list[Path]]]
"""Split ("" for a folder without splits) -> class (None for images that lie loose) -> files, sorted."""


def image_files(folder: Path) -> Files:
    """The images of a folder. Hidden files and files of other kinds are passed over.

    Sub-folders are splits if `train` is among them and all are called train, test, validation or val; otherwise, and
    inside the splits, they are classes.
    """
    subfolders = _subfolders(folder)
    names = {path.name for path in subfolders}
    if "train" in names and names <= _SPLITS:
        # train, then test, then the others: the order of `all`
        ordered = sorted(subfolders, key=lambda path: (path.name != "train", path.name != "test", path.name))
        return {path.name: _by_class(path) for path in ordered}
    return {"": _by_class(folder)}


def image_readers(folder: Path, files: Files) -> Readers:
    """`x` [n, height, width, channels]: uint8, bool for images of mode 1; labels number the sorted class names.

    Without `train/` and `test/` a tenth is the test split.
    """
    names = {name for by_class in files.values() for name in by_class}
    if len(names) > 1 and None in names:
        raise UsageError(f"{folder} has images in class folders and beside them; move them into class folders")
    classes = None if names <= {None} else tuple(sorted(filter(None, names)))
    readers = {split: _reader(by_class, classes) for split, by_class in files.items()}
    for split, reader in readers.items():
        if reader.size == 0:
            raise UsageError(f"{folder / split} has no images; put {', '.join(_SUFFIXES)} files there")
    _refuse_unlike([path for by_class in files.values() for paths in by_class.values() for path in paths])
    return with_a_tenth_held_out(readers[""]) if "" in readers else permuted_with_all(readers)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _by_class(folder: Path) -> dict[str | None, list[Path]]:
    found: dict[str | None, list[Path]] = {None: _images(folder)}
    found |= {path.name: _images(path) for path in _subfolders(folder)}
    return {name: paths for name, paths in found.items() if paths}


def _images(folder: Path) -> list[Path]:
    return sorted(
        Path(entry)
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    )


def _reader(by_class: Mapping[str | None, list[Path]], classes: tuple[str, ...] | None) -> Reader:
    paths = [path for paths in by_class.values() for path in paths]
    numbers = [classes.index(name) for name, paths in by_class.items() for _ in paths] if classes else None
    label = None if numbers is None else np.array(numbers, np.int32)

    def read(positions):
        batch = {"x": np.stack([_decode(paths[i]) for i in positions])}
        return batch if label is None else {**batch, "label": label[positions]}

    return Reader(len(paths), classes, read)


def _decode(path: Path) -> np.ndarray:
    """[height, width, channels]."""
    image = _opened(path)
    pixels = np.asarray(image.convert("RGB") if image.mode in _TO_RGB else image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _refuse_unlike(paths: list[Path]) -> None:
    """Before anything is decoded: from the headers, which is quick."""
    first, *others = paths
    kind = _kind(first)
    for other in others:
        if _kind(other) != kind:
            (a_size, a_mode), (b_size, b_mode) = kind, _kind(other)
            raise UsageError(
                f"images differ: {first} is {a_size[0]}x{a_size[1]} {a_mode}, "
                f"{other} is {b_size[0]}x{b_size[1]} {b_mode}; "
                "give them one size and mode"
            )


def _kind(path: Path) -> tuple[tuple[int, int], str]:
    image = _opened(path, pixels=False)
    if image.mode not in (*_AS_THEY_ARE, *_TO_RGB):
        raise UsageError(f"{path} is an image of mode {image.mode}; save it as 8-bit grey, RGB or RGBA")
    return image.size, "RGB" if image.mode in _TO_RGB else image.mode


def _opened(path: Path, pixels: bool = True):
    from PIL import Image  # not needed on a warm cache

    try:
        with Image.open(path) as image:
            if pixels:
                image.load()
            return image
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for broken files are all of these
        raise UsageError(f"{path} cannot be read as an image; replace or remove it") from error
