"""Where a command writes arrays: one .npy file, a table, or a folder of images or signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import wavfile

from aejax.data.kinds import is_image
from aejax.errors import UsageError
from aejax.files import replacing
from aejax.types import Found

TABLES = (".csv", ".tsv", ".parquet")


def check_output(out: Path, overwrite: bool, suffixes: Sequence[str] = (".npy", *TABLES, "")) -> None:
    """Refuses an output path before the work, not after it. The suffix "" stands for a folder."""
    if out.suffix not in suffixes:
        files = ", ".join(suffix for suffix in suffixes if suffix)
        also = " file, or a folder" if "" in suffixes else " file"
        raise UsageError(f"{out}: the output is a {files}{also}; name it so")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; pass --overwrite to replace it")
    if overwrite and out.is_dir() and any(entry.suffix not in (".png", ".wav") for entry in out.iterdir()):
        raise UsageError(f"{out} holds more than .png or .wav files; choose another folder")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}; make it first")


def write_output(
    output: Mapping[str, Any],
    array: np.ndarray,
    found: Found | None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Writes an array [n, ...] as the flags of `output` say: to the path `out`, according to its suffix.

    A table has one row per example; `names` [n], such as those of image files, are its first column, and `columns` [d] the names
    of the others, by default their numbers. A folder gets a PNG for each image, or a WAV file for each signal, under its name or
    its number; if `found` is that of the training data, what exceeds their range is clipped.
    """
    out: Path = output["out"]
    if out.suffix == "":
        _write_each(out, array, found, names, output["sample_rate"])
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


def _write_each(
    out: Path, examples: np.ndarray, found: Found | None, names: Sequence[str] | None, sample_rate: int
) -> None:
    shape = examples.shape[1:]
    low, high = (examples.min(), examples.max()) if found is None else (found.low, found.high)
    suffix = ".png" if is_image(shape) else ".wav" if len(shape) == 2 and shape[1] <= 2 else None
    if suffix is None:
        raise UsageError(
            f"{out}: a folder holds images [h, w, c] or signals [t, 1] or [t, 2], and these are of shape {list(shape)}; write "
            "a .npy"
        )
    if suffix == ".png" and (low < -0.01 or high > 1.01):
        raise UsageError(f"{out}: images span [{low:g}, {high:g}], a .png only [0, 1]; write a .npy")
    if suffix == ".wav" and (low < -1.01 or high > 1.01):
        raise UsageError(f"{out}: signals span [{low:g}, {high:g}], a .wav only [-1, 1]; write a .npy")
    if suffix == ".png" or low >= 0.0:  # signals of bytes have 128 as silence, as in .wav files of 8 bits
        stored = np.round(255 * np.clip(examples, 0.0, 1.0)).astype(np.uint8)
    else:
        stored = np.clip(examples, -1.0, 1.0).astype(np.float32)
    digits = len(str(len(stored) - 1))
    out.mkdir(exist_ok=True)
    for old in [*out.glob("*.png"), *out.glob("*.wav")]:
        old.unlink()
    for i, example in enumerate(stored):
        name = f"{i:0{digits}}" if names is None else names[i].replace("/", "-").rsplit(".", 1)[0]
        with replacing(out / f"{name}{suffix}") as handle:
            if suffix == ".png":
                Image.fromarray(example[:, :, 0] if example.shape[2] == 1 else example).save(handle, "PNG")
            else:
                wavfile.write(handle, sample_rate, example[:, 0] if example.shape[1] == 1 else example)
