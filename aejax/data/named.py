"""Data sets by name, through `tfds.data_source`: ours, and every other one that TFDS knows or that is prepared.

TFDS is imported inside functions, so that nobody waits for it with a warm cache.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aejax.data.cache import cache_folder
from aejax.data.sets import sprites, synthetic_features
from aejax.data.splits import Reader, Readers, checked, divide, with_all
from aejax.data.tfds_home import FORMAT, data_dir, made_here, one_line, prepare_builder, quiet
from aejax.errors import UsageError

_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?")  # NAME, NAME/CONFIG, NAME/CONFIG:1.0.0; other forms need a network


class Available(NamedTuple):
    """One line of `aejax data list`."""

    name: str
    shape: tuple[int, ...]
    sizes: dict[str, int]
    """Number of examples per split."""
    prepared: bool
    note: str


_DRAWN = "drawn on this machine; NAME/0 to NAME/9 are ten seeds, NAME alone is the first"


@functools.cache
def _ours() -> dict[str, Available]:
    """Our data sets, as far as they are known before they are prepared."""
    from aejax.data.sets.generated import RECIPES

    made = [
        Available(
            "digits", (8, 8, 1), {"train": 1438, "test": 359}, False, "made from scikit-learn's wheel, no download"
        ),
        Available(
            "fashion_mnist",
            (28, 28, 1),
            {"train": 60000, "test": 10000},
            False,
            "31 MB, downloaded or taken from downloads/manual in the TFDS data dir",
        ),
    ]
    for recipe in RECIPES:
        note = f"{_DRAWN}; {recipe.note}" if recipe.note else _DRAWN
        made.append(Available(recipe.name, recipe.shape, dict(recipe.sizes), False, note))
    return {line.name: line for line in made}


_RENDERED = [
    Available(
        name,
        (kind.side, kind.side, 1),
        {"train": kind.images - kind.images // 10, "test": kind.images // 10},
        True,
        "drawn as it is read, from its factors",
    )
    for name, kind in sprites.KINDS.items()
]
_SYNTHETIC = Available(
    synthetic_features.NAME,
    (synthetic_features.DIMENSIONS,),
    {"train": synthetic_features.TRAIN, "test": synthetic_features.TEST},
    True,
    "sums of known sparse features, drawn as they are read; NAME/1024x256 for other numbers of features and dimensions",
)


def available() -> list[Available]:
    """The data sets that can be loaded by name: ours, prepared or not, and those that are prepared in the TFDS data dir.

    A data set with configs is listed once for each prepared config, and by its bare name if none is.

    Returns:
        One `Available` per data set.
    """
    tfds = _tfds()
    lines = {}
    with quiet():
        for root in (cache_folder() / "data_sets", Path(data_dir())):
            # name/version, or name/config/version
            for path in sorted([*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]):
                line = _listed(tfds.builder_from_directory(path.parent))
                lines[line.name] = line
    of_ours = {base: [line for name, line in lines.items() if name.split("/")[0] == base] for base in _ours()}
    others = [line for name, line in lines.items() if name.split("/")[0] not in _ours()]
    return (
        [line for base, ours in _ours().items() for line in of_ours[base] or [ours]] + [*_RENDERED, _SYNTHETIC] + others
    )


def own_splits(name: str) -> Collection[str]:
    """Names of the splits of one of our data sets; none for other data sets, whose splits are known once prepared."""
    ours = _ours().get(re.split("[/:]", name)[0])
    return () if ours is None else ours.sizes


def is_known(name: str) -> bool:
    """Whether it is the name of a data set: ours, of TFDS, or one that is prepared."""
    if name in _ours() or name in sprites.KINDS or synthetic_features.named(name) is not None:
        return True
    if any(Path(_folder(name), name).glob("**/dataset_info.json")):
        return True
    return name in _tfds().list_builders(with_community_datasets=False)


def identity(name: str) -> list[str]:
    """What distinguishes this data set from another one of its name."""
    return ["tfds", name, importlib.metadata.version("tensorflow-datasets"), _folder(name)]


def _folder(name: str) -> str:
    """The folder in which a data set is prepared: TFDS's, or aejax's cache if it is made on this machine."""
    base = re.split("[/:]", name)[0]
    return made_here(base) if _is_drawn(base) else data_dir()


DRAWN = (
    "bouncing",
    "convex",
    "curves",
    "digits",
    "linear_gaussian",
    "maze",
    "mosaics",
    "moving_digits",
    "moving_fashion",
    "oscillator",
    "rectangles",
    "waveforms",
)
"""Our data sets that are made on this machine: known without importing TFDS, which a warm cache does not need."""


def _is_drawn(base: str) -> bool:
    return base in DRAWN


def named_readers(name: str) -> Readers:
    """The splits of a TFDS data set, which is prepared first if necessary.

    `x` is the feature `image`, or else the only array among the features; `label` is the `ClassLabel` of that name, or else the
    only one. A feature `state` is the state of a sequence if the data set's metadata names its components. Raises UsageError
    for unknown names and for data sets that cannot be prepared or read here.
    """
    tfds = _tfds()
    with quiet():
        _prepare(tfds, name)
        folder = _folder(name)
        sources = tfds.data_source(name, data_dir=folder, download=False, builder_kwargs={"file_format": FORMAT})
    if not sources:
        raise UsageError(f"{name} has no splits in {folder}; remove its folder there and prepare it again")
    info = next(iter(sources.values())).dataset_info
    features, states = info.features, _states_of(info)
    x_key, label_key = _feature_of_x(tfds, features, states, name), _feature_of_label(tfds, features)
    classes = tuple(features[label_key].names) if label_key else None
    factors = _factors_of(tfds, features)
    read = {x_key, label_key, *(f"{_FACTOR}{factor}" for factor in factors or ()), _STATE if states else None}
    passed_over = {f"feature {key}": 1 for key in features if key not in read}
    return with_all(
        {
            split: _reader(source, x_key, label_key, classes, factors, f"{name}:{split}", states)._replace(
                passed_over=passed_over
            )
            for split, source in sources.items()
        }
    )


def named_streams(name: str, readers: Readers) -> Readers:
    """The same splits, with each example decoded on demand."""
    splits = {split: checked(reader, f"{name}:{split}") for split, reader in readers.items() if split != "all"}
    with quiet():  # once for all: at the first image TFDS recommends another decoder
        next(iter(splits.values())).read(np.arange(1))
    return with_all(splits)


def named_files(name: str) -> Iterator[str]:
    """What identifies a prepared data set without reading it: version, shards, names and sizes of its files."""
    with quiet():
        info = _builder(_tfds(), name).info
        yield f"{info.full_name}"
        for split, part in info.splits.items():
            yield f"{split} {part.shard_lengths} {part.num_bytes}"
            yield from (f"{file.name} {file.stat().length}" for file in part.filepaths)


def _prepare(tfds: Any, name: str) -> None:
    """Prepares the data set in the data dir, in the format that can be read by position."""
    base = re.split("[/:]", name)[0]
    builder = _builder(tfds, name)
    if builder.is_prepared():
        if builder.info.file_format.value != FORMAT:
            raise UsageError(
                f"{builder.data_path} is in the format {builder.info.file_format.value}, not read by position; "
                f"remove it and prepare it as {FORMAT}"
            )
        return
    if base == "fashion_mnist":
        from aejax.data.sets.fashion_mnist import FashionMNIST

        builder = FashionMNIST(data_dir=data_dir(), file_format=FORMAT)
    elif base not in _ours() and importlib.util.find_spec("tensorflow") is None:
        raise UsageError(f"{name} is not prepared in {data_dir()}, which takes TensorFlow: pip install 'aejax[tf]'")
    prepare_builder(builder, name, _folder(name), checked=base in _ours(), drawn=_is_drawn(base))


def _builder(tfds: Any, name: str) -> Any:
    base = re.split("[/:]", name)[0]
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is neither a path nor the name of a data set; {_mend(name, base, [])}")
    try:
        return tfds.builder(name, data_dir=_folder(name), file_format=FORMAT)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise UsageError(
            f"{name!r} is neither a path nor the name of a data set; {_mend(name, base, known)}"
        ) from error
    except Exception as error:  # TFDS raises various exceptions for a wrong config or version
        configs = [f"{base}/{config}" for config in tfds.builder_cls(base).builder_configs]
        raise UsageError(f"{name!r} cannot be opened: {one_line(error)}; {_mend(name, name, configs)}") from error


def _mend(name: str, wrong: str, known: list[str]) -> str:
    if divide(name)[1]:
        return "give the name and its split apart"
    close = difflib.get_close_matches(wrong, known, 3)
    return f"did you mean {' or '.join(close)}?" if close else "`aejax data list` shows what is there"


def _reader(
    source: Any,
    x_key: str,
    label_key: str | None,
    classes: tuple[str, ...] | None,
    factors: tuple[str, ...] | None,
    where: str,
    states: tuple[str, ...] | None = None,
) -> Reader:
    def read(positions: np.ndarray) -> dict[str, np.ndarray]:
        examples = source.__getitems__(positions.tolist())
        shapes = {example[x_key].shape for example in examples}
        if len(shapes) > 1:
            raise UsageError(
                f"{where} has examples of shapes {' and '.join(map(str, sorted(shapes)[:2]))}; use data of one shape"
            )
        batch = {"x": np.stack([example[x_key] for example in examples])}
        if binary:
            batch["x"] = batch["x"].astype(np.bool_)
        if label_key:
            batch["label"] = np.stack([example[label_key] for example in examples])
        if factors:
            batch["factors"] = np.array([[example[_FACTOR + name] for name in factors] for example in examples])
        if states:
            batch[_STATE] = np.stack([example[_STATE] for example in examples])
        return batch

    binary = where.split("/")[0].split(":")[0] in _BINARY
    return Reader(len(source), classes, read, factors, states)


_FACTOR = "label_"
_STATE = "state"

_BINARY = ("dsprites",)
"""Data sets with bytes 0 and 1 as pixels, instead of 0 to 255."""


def _factors_of(tfds: Any, features: Any) -> tuple[str, ...] | None:
    """Names of the features `label_NAME`, if there are two or more: TFDS's convention for factors, in dsprites, shapes3d and
    smallnorb.
    """
    names = [
        key.removeprefix(_FACTOR)
        for key, feature in features.items()
        if key.startswith(_FACTOR) and isinstance(feature, tfds.features.ClassLabel)
    ]
    return tuple(names) if len(names) > 1 else None


def _states_of(info: Any) -> tuple[str, ...] | None:
    """Names of the components of the feature `state`, which our builders of sequences put into the metadata."""
    names = (info.metadata or {}).get("states")
    return None if names is None else tuple(names)


def _feature_of_x(tfds: Any, features: Any, states: tuple[str, ...] | None, name: str) -> str:
    arrays = [
        key
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Tensor | tfds.features.Image)
        and not (states and key == _STATE)
        and len(feature.shape) > 0
        and np.dtype(feature.np_dtype).kind in "uifb"
    ]
    if "image" in arrays:
        return "image"
    if len(arrays) != 1:
        raise UsageError(
            f"{name} has no feature `image` and {len(arrays)} others that are arrays, among {', '.join(features)}; "
            "save the one you mean as .npy"
        )
    return arrays[0]


def _feature_of_label(tfds: Any, features: Any) -> str | None:
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel) and value.names]
    return "label" if "label" in labels else labels[0] if len(labels) == 1 else None


def _listed(builder: Any) -> Available:
    info = builder.info
    name = f"{info.name}/{info.config_name}" if info.config_name else info.name
    sizes = {split: part.num_examples for split, part in info.splits.items()}
    try:
        shape = info.features[_feature_of_x(_tfds(), info.features, _states_of(info), name)].shape
    except UsageError as error:
        return Available(name, (), sizes, True, str(error))
    note = "" if info.file_format.value == FORMAT else f"prepared as {info.file_format.value}, not read by position"
    return Available(name, shape, sizes, True, note)


def _tfds() -> Any:
    import tensorflow_datasets as tfds

    import aejax.data.sets.digits
    import aejax.data.sets.generated  # noqa: F401  registers them

    return tfds
