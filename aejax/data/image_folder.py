"""The structure of a folder of images: which sub-folders are splits and which are classes, the content of tables beside the
images, and the files that are ignored. Nothing is decoded.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aejax.errors import UsageError

SUFFIXES = (
    ".avif",
    ".bmp",
    ".dib",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
)
TABLE = "metadata.csv"

Files = Mapping[str, Mapping[str | None, list[str]]]
"""Split ("" for a folder without splits) -> class (None for images outside class folders) -> files, sorted. Strings, because a
million Paths would take most of a gigabyte."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "validate": "validation",
    "valid": "valid",
    "val": "val",
    "dev": "validation",
}
"""Name of a split's folder, in lower case -> the split."""

_LIKE_A_SPLIT = re.compile(
    r"((images?|imgs?|data|x)[ _-]?)?(train(ing)?|test(ing)?|valid(ation|ate)?|val|dev|eval(uation)?|held[ _-]?out|hold[ _-]?out)"
    r"([ _-]?(set|data|images?|imgs?|split|x|[0-9]+))?",
    re.IGNORECASE,
)
"""Names that look like a split and are unlikely to be a class."""


class ImageFolder(NamedTuple):
    """The files of a folder of images."""

    files: Files
    tables: Sequence[str]
    passed_over: Mapping[str, int]
    """Kind of file that was not read -> how many: `.txt files`, `hidden files`."""

    def listed(self) -> list[str]:
        """Every image, in the order of `all`."""
        return [path for by_class in self.files.values() for paths in by_class.values() for path in paths]


def image_folder(folder: Path) -> ImageFolder:
    """Lists a folder of images.

    Sub-folders are splits if one is called train (or training) and the others test, validation, val, valid or dev; otherwise,
    and inside splits, they are classes. A table `metadata.csv` in the folder, or in those of the splits, is read by `table_of`.

    Raises UsageError if the folder is likely to be misread: a class whose name looks like a split, images below the folders of
    classes, or images both in class folders and beside them.
    """
    passed_over: Counter[str] = Counter()
    root = _listed(folder, passed_over)
    # A folder without any image, such as annotations/, is neither a split nor a class, but an empty test/ is an error.
    full = [name for name, node in root.folders.items() if node.images_below or name.lower() in _SPLITS]
    if not any(map(_LIKE_A_SPLIT.fullmatch, full)):
        return ImageFolder({"": _by_class(folder, root, passed_over)}, _table_in(root), passed_over)
    splits = {name: _SPLITS[name.lower()] for name in full if name.lower() in _SPLITS}
    twice = len(set(splits.values())) < len(splits)
    if "train" not in splits.values() or twice or len(splits) < len(full) or root.images:
        there = [f"{name}{os.sep}" for name in full] + (["images beside them"] if root.images else [])
        raise UsageError(
            f"{folder} has {', '.join(there)}: a folder of splits has train/ and, as far as there are such, one test/ and one "
            "validation/, and no other images; give class folders other names"
        )
    # train, then test, then the others: the order of `all`
    ordered = sorted(splits, key=lambda name: (splits[name] != "train", splits[name] != "test", splits[name]))
    files = {splits[name]: _by_class(folder / name, root.folders[name], passed_over) for name in ordered}
    for name in ordered:
        if not files[splits[name]]:
            raise no_images(folder / name)
    tables = [*_table_in(root), *(table for name in ordered for table in _table_in(root.folders[name]))]
    return ImageFolder(files, tables, passed_over)


def no_images(folder: Path) -> UsageError:
    return UsageError(f"{folder} has no images; put .png, .jpg or other images there")


def table_of(tables: Sequence[str], images: Sequence[str]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The content of tables beside the images: the columns other than `file_name`, and their values for each image.

    A table's `file_name` is a path relative to the table's own folder. Every image has one row, and every row has an image.
    """
    columns: Sequence[str] | None = None
    rows: dict[str, Sequence[str]] = {}
    for table in tables:
        own, read = _rows(table)
        if columns not in (None, own):
            raise UsageError(f"{tables[0]} and {table} have other columns; give them the same, in one order")
        columns, rows = own, rows | read
    without = next((path for path in images if os.path.normpath(path) not in rows), None)
    if without is not None:
        raise UsageError(f"{without} has no line in {' or '.join(tables)}; add one, or remove the image")
    if len(rows) > len(images):
        extra = next(iter(rows.keys() - set(map(os.path.normpath, images))))
        raise UsageError(f"{' or '.join(tables)} has a line for {extra}, which is not an image there; remove the line")
    return columns or [], [rows[os.path.normpath(path)] for path in images]


def _rows(table: str) -> tuple[Sequence[str], dict[str, Sequence[str]]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            header, *lines = [[value.strip() for value in row] for row in csv.reader(file) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table} cannot be read as a table of comma-separated values; save it again") from error
    if header.count("file_name") != 1 or len(set(header)) < len(header) or "" in header:
        raise UsageError(
            f"{table} has the columns {', '.join(header) or '(none)'}; name each once in its first line, file_name among them"
        )
    at = header.index("file_name")
    rows: dict[str, Sequence[str]] = {}
    for i, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise UsageError(f"{table} has {len(line)} values in row {i} and {len(header)} columns; make them alike")
        path = os.path.normpath(os.path.join(os.path.dirname(table), line[at]))
        if path in rows:
            raise UsageError(f"{table} names {line[at]} twice; give each file one row")
        rows[path] = line[:at] + line[at + 1 :]
    return header[:at] + header[at + 1 :], rows


class _Node(NamedTuple):
    """A folder as listed."""

    images: list[str]
    folders: Mapping[str, _Node]
    table: str | None
    images_below: int
    """Number of images in it and below it."""


def _listed(folder: Path | str, passed_over: Counter[str], depth: int = 0) -> _Node:
    """Lists a folder. Links to folders are followed down to the classes only: deeper ones could lead in a circle."""
    images, folders, table = [], {}, None
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            passed_over["hidden files"] += (
                sum(1 for _ in _files_in(entry)) if entry.is_dir(follow_symlinks=False) else 1
            )
        elif _leads_nowhere(entry):
            passed_over["broken links and other entries that are not files"] += 1
        elif entry.is_dir(follow_symlinks=depth < 2):
            folders[entry.name] = _listed(entry.path, passed_over, depth + 1)
        elif not entry.is_file():
            passed_over["broken links and other entries that are not files"] += 1
        elif entry.name.lower().endswith(SUFFIXES):
            images.append(entry.path)
        elif entry.name == TABLE and depth < 2:
            table = entry.path
        else:
            passed_over[f"{os.path.splitext(entry.name)[1].lower() or 'unnamed'} files"] += 1
    return _Node(images, folders, table, len(images) + sum(node.images_below for node in folders.values()))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to nothing, to itself or in a circle."""
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError:
        return True
    return False


def _files_in(entry: os.DirEntry[str]) -> Iterator[str]:
    return (name for _, _, names in os.walk(entry.path) for name in names)


def _by_class(folder: Path, node: _Node, passed_over: Counter[str]) -> dict[str | None, list[str]]:
    for name, inner in node.folders.items():
        if inner.images_below and _LIKE_A_SPLIT.fullmatch(name):
            raise UsageError(
                f"{folder / name} has the name of a split but lies where class folders are; splits must be top-level folders"
            )
        deeper = [below for below in inner.folders.values() if below.images_below]
        if deeper:
            raise UsageError(
                f"{_first(deeper[0])} lies below the class folder {folder / name}; move such images into class folders, or open "
                f"{folder / name} itself"
            )
        if inner.table is not None:
            passed_over[".csv files"] += 1
    by_class: dict[str | None, list[str]] = {
        None: node.images,
        **{name: inner.images for name, inner in node.folders.items()},
    }
    by_class = {name: paths for name, paths in by_class.items() if paths}
    if len(by_class) > 1 and None in by_class:
        raise UsageError(f"{folder} has images in class folders and beside them; move them into class folders")
    return by_class


def _table_in(node: _Node) -> list[str]:
    return [] if node.table is None else [node.table]


def _first(node: _Node) -> str:
    return (
        node.images[0] if node.images else next(_first(inner) for inner in node.folders.values() if inner.images_below)
    )
