"""Prepares TFDS's Fashion-MNIST without TensorFlow, which TFDS's own builder needs for writing but not for reading.

The data set has TFDS's name, version, features and order, so that `tfds.data_source("fashion_mnist")` opens it.
"""

from __future__ import annotations

import gzip
import math
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from aejax.data.tfds_home import FORMAT, data_dir, prepare_builder, quiet
from aejax.errors import UsageError

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

# Called before registration is skipped: TFDS imports its builders at the first call, and would skip them too.
_Original: Any = tfds.builder_cls("fashion_mnist")

with tfds.core.registered.skip_registration():

    class FashionMNIST(_Original):
        """Files from `<TFDS data dir>/downloads/manual/`, or downloaded; TFDS checks their sums either way."""

        name = "fashion_mnist"

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            _refuse_to_wait_for_nothing(Path(self.data_dir_root) / "downloads", self.URL)
            paths = dl_manager.download({split: [self.URL + file for file in files] for split, files in _FILES.items()})
            return {split: self._generate_examples(*paths[split]) for split in _FILES}

        def _generate_examples(self, image_path: Any, label_path: Any) -> Iterator[tuple[int, dict[str, Any]]]:
            for position, (image, label) in enumerate(zip(_idx(Path(image_path)), _idx(Path(label_path)))):
                # TFDS encodes arrays with TensorFlow, but Pillow's images without it.
                yield position, {"image": Image.fromarray(image), "label": int(label)}


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 28, 28], uint8, and labels [n] of `train` or `test`, which is prepared first if necessary."""
    builder = FashionMNIST(data_dir=data_dir(), file_format=FORMAT)
    with quiet():
        if not builder.is_prepared():
            prepare_builder(builder, "fashion_mnist", data_dir(), checked=True)
        source = builder.as_data_source(split)
        examples = source.__getitems__(range(len(source)))
    return np.stack([e["image"][..., 0] for e in examples]), np.array([e["label"] for e in examples])


def _refuse_to_wait_for_nothing(downloads: Path, url: str) -> None:
    """Without a network TFDS's downloader retries for minutes; one request tells within seconds."""
    names = [name for pair in _FILES.values() for name in pair]
    missing = [name for name in names if not (downloads / "manual" / name).exists()]
    fetched = [path for path in (downloads / "fashion_mnist").glob("*.gz") if path.is_file()]
    if not missing or len(fetched) == len(names):
        return
    try:
        with urllib.request.urlopen(urllib.request.Request(url + missing[0], method="HEAD"), timeout=10):
            pass
    except OSError as error:
        raise UsageError(
            f"fashion_mnist cannot be downloaded ({getattr(error, 'reason', error)}); put its original files "
            f"{', '.join(missing)} into {downloads / 'manual'}"
        ) from error


def _idx(path: Path) -> np.ndarray:
    """The IDX format of the MNIST family: two zeros, 8 for unsigned bytes, the rank, big-endian lengths, the bytes."""
    with gzip.open(path) as file:
        content = file.read()
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    shape = struct.unpack_from(f">{rank}I", content, 4)
    start = 4 + 4 * rank
    if (zeros, kind) != (0, 8) or len(content) != start + math.prod(shape):
        raise UsageError(f"{path} is not a file of unsigned bytes in IDX format; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
