"""Where TFDS stores prepared data sets, and how one is prepared without output on stdout."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aejax.data.cache import cache_folder
from aejax.errors import UsageError

FORMAT = "array_record"  # the format of TFDS that can be read by position without TensorFlow


def data_dir() -> str:
    """TFDS's folder: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`. Read at each call; TFDS itself reads it once."""
    folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return folder if "://" in folder else os.path.abspath(os.path.expanduser(folder))


def made_here(name: str) -> str:
    """The folder of a data set that is made on this machine: in aejax's cache, or in TFDS's folder if it is there already."""
    if any(Path(data_dir(), name).glob("**/dataset_info.json")):
        return data_dir()
    return str(cache_folder() / "data_sets")


def prepare_builder(builder: Any, name: str, folder: str, checked: bool, drawn: bool = False) -> None:
    """Downloads and prepares a builder's data set in a folder.

    `checked` requires the files' checksums to match. A data set that is `drawn` on this machine downloads nothing, whatever TFDS
    says.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=checked)
    said = contextlib.redirect_stdout(io.StringIO()) if drawn else contextlib.nullcontext()
    if drawn:
        print(f"making {name} in {builder.data_path}, once", file=sys.stderr, flush=True)
    try:
        with said:
            builder.download_and_prepare(download_config=config)
    except UsageError:
        raise
    except Exception as error:
        if not type(builder)(data_dir=folder, file_format=FORMAT, **_config_of(builder)).is_prepared():
            # otherwise another process was faster
            raise UsageError(
                f"{name} cannot be prepared: {one_line(error)}; remove what is damaged in {folder}, or set "
                f"{'AEJAX_CACHE' if drawn else 'TFDS_DATA_DIR'} to another folder"
            ) from error


def _config_of(builder: Any) -> dict[str, Any]:
    return {} if builder.builder_config is None else {"config": builder.builder_config.name}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS, which prints to stdout, where our command's own output belongs, and logs advice on OpenCV."""
    import tensorflow_datasets as tfds
    from absl import logging

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.set_verbosity(verbosity)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
