"""The meaning of arrays by their names: examples `x` and what belongs to them, given in a file or in memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aejax.data.splits import Reader, Readers, as_stored, permuted_with_all, with_a_tenth_held_out
from aejax.errors import UsageError

_LABELS = ("label", "y")
_BESIDE_X = ("factors", "state", "length", "target")
_NAMES = {"label": "label_names", "factors": "factor_names", "state": "state_names"}
"""Arrays of strings with the names of classes, factors and components of a state."""
_ROWS = 4096
_Parts = Mapping[str, Mapping[str, np.ndarray]]
"""Split -> role -> array."""

MOST_CLASSES = 10_000
"""Larger labels are taken for codes or years, not class numbers."""


def mapping_readers(
    arrays: Mapping[str, np.ndarray], where: str, passed_over: Mapping[str, int] = {}, missing: bool = False
) -> Readers:
    """The splits of arrays named as in a .npz; `missing` is whether NaN stands for a missing value."""
    splits = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    parts, named = _named({split: _of_split(arrays, split) for split in splits or [""]}, arrays, where)
    _refuse_unlike(where, parts)
    readers = {
        split: _reader(part, named, f"{where} (x_{split})" if split else where, missing)._replace(
            passed_over=passed_over
        )
        for split, part in parts.items()
    }
    return permuted_with_all(readers) if splits else with_a_tenth_held_out(readers[""])


def numbered_names(names: np.ndarray, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Strings [n] as the sorted distinct strings and the int32 number of each.

    If all strings are whole numbers, they are sorted as numbers.
    """
    distinct, numbers = np.unique(names, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        raise _too_many(len(distinct), where)
    with contextlib.suppress(ValueError):
        order = np.argsort([int(name) for name in distinct.tolist()], kind="stable")
        distinct, numbers = distinct[order], np.argsort(order)[numbers]
    return tuple(map(str, distinct.tolist())), numbers.astype(np.int32)


def refuse_factors(factors: np.ndarray, examples: int, where: str) -> None:
    """Refuses factors of variation unless they are whole numbers from 0 on, the same number of them for each example."""
    if factors.ndim != 2 or len(factors) != examples or factors.shape[1] == 0:
        raise UsageError(
            f"{where} has factors of shape {factors.shape}; give [{examples}, factors], a row for each example"
        )
    if factors.dtype.kind not in "iu" or factors.min() < 0 or factors.max() >= 2**31:
        raise UsageError(
            f"{where} has factors that are not whole numbers from 0 on; number the values of each 0, 1, 2, …"
        )


def known_names(names: list[str], where: str) -> set[str]:
    """The names that are read. UsageError for names that look as if they should be: `X_test`, `train_x`, `labels`, `mask`."""
    splits = [name.removeprefix("x_") for name in names if name.startswith("x_")]
    if ("x" in names) == bool(splits):
        raise UsageError(
            f"{where} holds {', '.join(names) or 'nothing'}; name its arrays x (and label), or x_train and x_test "
            "(and label_train, label_test)"
        )
    suffixes = [f"_{split}" for split in splits] or [""]
    known = {f"{name}{suffix}" for name in ("x", *_LABELS, *_BESIDE_X) for suffix in suffixes} | set(_NAMES.values())
    words = {"x", "y", "label", "labels", "target", "targets", "factor", "states", "lengths", "mask", "images", "data"}
    words |= {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
    for name in names:
        if name not in known and words & set(re.split("[^a-z]+", name.lower())):
            raise UsageError(
                f"{where} holds {name}, which is not read under this name; call examples x or x_SPLIT, what belongs to them "
                f"{', '.join(('label', *_BESIDE_X))} (likewise), or remove it"
            )
    return known


def _of_split(arrays: Mapping[str, np.ndarray], split: str) -> Mapping[str, np.ndarray]:
    """The arrays of one split ("" for a file without splits) by their role; of two labels the first in _LABELS."""
    # A label of either name, `label` written last.
    suffix = f"_{split}" if split else ""
    names = {name: "label" if name in _LABELS else name for name in ("x", *_BESIDE_X, *reversed(_LABELS))}
    part = {key: arrays[f"{name}{suffix}"] for name, key in names.items() if f"{name}{suffix}" in arrays}
    if "label" in part and part["label"].ndim == 2 and part["label"].shape[1] == 1:
        part["label"] = part["label"][:, 0]
    return part


class _Named(NamedTuple):
    """Names for the numbers in a file."""

    classes: tuple[str, ...] | None
    factors: tuple[str, ...] | None
    states: tuple[str, ...] | None


def _named(parts: _Parts, arrays: Mapping[str, np.ndarray], where: str) -> tuple[_Parts, _Named]:
    """The arrays of the splits with labels from 0 on, and the names of classes, factors and states.

    Strings are numbered in sorted order. Numbers below MOST_CLASSES are kept, whether or not each occurs; larger ones, such as
    years or codes, are numbered in sorted order. Labels that `_reader` refuses are left to it.
    """
    parts, classes = _numbered(parts, arrays.get(_NAMES["label"]), where)

    def names(of: str) -> tuple[str, ...] | None:
        widths = {part[of].shape[-1] for part in parts.values() if of in part and part[of].ndim > 1}
        own = arrays.get(_NAMES[of])
        if not widths:
            if own is not None:
                raise UsageError(f"{where} has {_NAMES[of]} and no {of}; add what they name, or leave them out")
            return None
        return tuple(map(str, range(max(widths)))) if own is None else _strings(own, max(widths), _NAMES[of], where)

    return parts, _Named(classes, names("factors"), names("state"))


def _numbered(parts: _Parts, own: np.ndarray | None, where: str) -> tuple[_Parts, tuple[str, ...] | None]:
    labels = {split: part["label"] for split, part in parts.items() if "label" in part}
    if own is not None and not labels:
        raise UsageError(f"{where} has label_names and no labels; add what they name, or leave them out")
    if not labels or any(label.ndim != 1 or not label.size for label in labels.values()):
        return parts, None
    every = np.concatenate(list(labels.values()))
    if every.dtype.kind == "U" and all(label.dtype.kind == "U" for label in labels.values()):
        if own is not None:
            raise UsageError(f"{where} has labels that are names already; leave out label_names")
        classes, numbers = numbered_names(every, where)
    elif every.dtype.kind not in "iu" or every.min() < 0:
        return parts, None
    elif own is not None:
        return parts, _strings(own, None, "label_names", where, at_least=int(every.max()) + 1)
    elif every.max() < MOST_CLASSES:
        return parts, tuple(map(str, range(1 + int(every.max()))))
    else:
        distinct, numbers = np.unique(every, return_inverse=True)
        if len(distinct) > MOST_CLASSES:
            raise _too_many(len(distinct), where)
        classes = tuple(map(str, distinct.tolist()))
    ends = np.cumsum([len(label) for label in labels.values()])[:-1]
    by_split = dict(zip(labels, np.split(numbers, ends)))
    return {s: {**part, "label": by_split[s]} if s in by_split else part for s, part in parts.items()}, classes


def _too_many(n: int, where: str) -> UsageError:
    return UsageError(
        f"{where} has labels of {n} different values, as identifiers or times have; leave the labels out, or number up to "
        f"{MOST_CLASSES} classes"
    )


def _strings(names: np.ndarray, exactly: int | None, what: str, where: str, at_least: int = 1) -> tuple[str, ...]:
    needed = at_least if exactly is None else exactly
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < needed or exactly not in (None, len(names)):
        raise UsageError(f"{where} has {what} of dtype {names.dtype} and shape {names.shape}; give {needed} strings")
    return tuple(map(str, names.tolist()))


def _reader(arrays: Mapping[str, np.ndarray], named: _Named, where: str, missing: bool) -> Reader:
    x = arrays["x"]
    refuse_shape(x.shape, where)
    for start in range(0, len(x), _ROWS):  # here, where a position is still the file's
        as_stored(x[start : start + _ROWS], np.arange(start, start + _ROWS), where, missing)
    if "label" in arrays:
        label = arrays["label"]
        if label.ndim == 2 and len(label) == len(x):
            raise UsageError(
                f"{where} has labels of shape {label.shape}; if they are one-hot, give their numbers: label.argmax(1)"
            )
        if label.shape != x.shape[:1]:
            raise UsageError(f"{where} has {len(x)} examples but labels of shape {label.shape}; give one for each")
        if label.dtype.kind not in "iu":
            raise UsageError(
                f"{where} has labels of dtype {label.dtype}; number the classes 0, 1, 2, … (label.astype(int)), or give strings"
            )
        if label.min() < 0:
            raise UsageError(f"{where} has the label {label.min()}; number the classes 0, 1, 2, …")
    if "factors" in arrays:
        refuse_factors(arrays["factors"], len(x), where)
    if "target" in arrays:
        target = arrays["target"]
        if target.ndim < 2 or len(target) != len(x):
            raise UsageError(
                f"{where} has {len(x)} examples and a target of shape {target.shape}; give [{len(x)}, ...]"
            )
        for start in range(0, len(x), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(x)))
            as_stored(target[start : start + _ROWS], rows, f"{where} (target)")
    _refuse_sequences(arrays, where)
    read = lambda positions: {name: array[positions] for name, array in arrays.items()}
    return Reader(len(x), named.classes, read, named.factors, named.states, missing=missing)


def _refuse_sequences(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Refuses states and lengths that do not fit the sequences."""
    n, steps = arrays["x"].shape[:2]
    if "state" in arrays:
        state = arrays["state"]
        if state.ndim != 3 or state.shape[:2] != (n, steps) or state.shape[2] == 0:
            raise UsageError(
                f"{where} has states of shape {state.shape}; give [{n}, {steps}, numbers], as x has its steps"
            )
        if state.dtype.kind not in "fiub":
            raise UsageError(f"{where} has states of dtype {state.dtype}; convert them to float32")
        if not np.isfinite(state.astype(np.float32)).all():
            raise UsageError(f"{where} has states that are not finite (as float32); remove or replace them")
    if "length" in arrays:
        length = arrays["length"]
        if length.shape != (n,) or length.dtype.kind not in "iu" or length.min() < 1 or length.max() > steps:
            why = (
                f"from {length.min()} to {length.max()}" if length.dtype.kind in "iu" and length.size else "no integers"
            )
            raise UsageError(
                f"{where} has lengths of shape {length.shape}, {why}; give [{n}], each from 1 to the {steps} steps of x"
            )


def refuse_shape(shape: tuple[int, ...], where: str) -> None:
    if 0 in shape:
        raise UsageError(f"{where} is empty, of shape {shape}; give at least one example")
    if len(shape) < 2:
        raise UsageError(f"{where} has shape {shape}; the first axis counts examples: reshape numbers to [n, 1]")


def _refuse_unlike(where: str, parts: _Parts) -> None:
    """Refuses splits that differ in range, shape or labels: training and test data would differ."""
    first, *others = parts
    for other in others:
        kinds = [f"{parts[split]['x'].dtype}{list(parts[split]['x'].shape[1:])}" for split in (first, other)]
        if kinds[0] != kinds[1]:
            raise UsageError(f"{where}: x_{first} is {kinds[0]} but x_{other} is {kinds[1]}; make them alike")
    for name in ("label", *_BESIDE_X):
        without = [split for split, part in parts.items() if name not in part]
        if 0 < len(without) < len(parts):
            raise UsageError(f"{where} has no {name} for {', '.join(without)}; give them for every split or for none")
    for name in ("factors", "state", "target"):
        widths = {part[name].shape[-1:] for part in parts.values() if name in part}
        if len(widths) > 1:
            raise UsageError(
                f"{where} has {name} of {' and '.join(f'{w}' for w in sorted(widths))} numbers; make them alike"
            )
