"""Where a command writes arrays: one .npy file, a table, or a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aejax.data.kinds import is_image
from aejax.errors import UsageError
from aejax.files import replacing

TABLES = (".csv", ".tsv", ".parquet")


def check_output(out: Path, overwrite: bool, suffixes: Sequence[str] = (".npy", *TABLES, "")) -> None:
    """Refuses an output path before the work, not after it. The suffix "" stands for a folder."""
    if out.suffix not in suffixes:
        files = ", ".join(suffix for suffix in suffixes if suffix)
        also = " file, or a folder" if "" in suffixes else " file"
        raise UsageError(f"{out}: the output is a {files}{also}; name it so")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; pass --overwrite to replace it")
    if overwrite and out.is_dir() and any(entry.suffix != ".png" for entry in out.iterdir()):
        raise UsageError(f"{out} holds more than .png files; choose another folder")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}; make it first")


def write_output(
    out: Path, array: np.ndarray, names: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> None:
    """Writes an array [n, ...] as the suffix of `out` says.

    A table has one row per example; `names` [n], such as those of image files, are its first column, and `columns` [d] the names
    of the others, by default their numbers. A folder gets one PNG per
    image, under its name or its number.
    """
    if out.suffix == "":
        _write_images(out, array, names)
    elif out.suffix in TABLES:
        _write_table(out, array, names, columns)
    else:
        with replacing(out) as handle:
            np.save(handle, array, allow_pickle=False)
    print(f"{out}: {array.dtype} {list(array.shape)}")


def _write_table(out: Path, array: np.ndarray, names: Sequence[str] | None, columns: Sequence[str] | None) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    if array.ndim < 2:
        array = array[:, None]
    rows = array.reshape(len(array), -1)
    titles = [f"{i}" for i in range(rows.shape[1])] if columns is None else columns
    numbers = {title: rows[:, i] for i, title in enumerate(titles)}
    table = pa.table({**({} if names is None else {"file": list(names)}), **numbers})
    with replacing(out) as handle:
        if out.suffix == ".parquet":
            parquet.write_table(table, handle)
        else:
            csv.write_csv(table, handle, csv.WriteOptions(delimiter="\t" if out.suffix == ".tsv" else ","))


def _write_images(out: Path, images: np.ndarray, names: Sequence[str] | None) -> None:
    from PIL import Image

    if not is_image(images.shape[1:]):
        raise UsageError(f"{out}: a folder holds images, and these are of shape {list(images.shape[1:])}; write a .npy")
    if images.min() < -0.01 or images.max() > 1.01:
        raise UsageError(f"{out}: images span [{images.min():g}, {images.max():g}], a .png only [0, 1]; write a .npy")
    pixels = np.round(255 * np.clip(images, 0.0, 1.0)).astype(np.uint8)
    digits = len(str(len(pixels) - 1))
    out.mkdir(exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    for i, image in enumerate(pixels):
        name = f"{i:0{digits}}" if names is None else names[i].replace("/", "-").rsplit(".", 1)[0]
        with replacing(out / f"{name}.png") as handle:
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(handle, "PNG")
