"""The record of data in a run: how it is made, read back, and printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aejax.data.kinds import kind
from aejax.data.loading import Recorded
from aejax.data.reading import ReadAs
from aejax.data.splits import divide, is_of_files, parse
from aejax.data.units import units
from aejax.errors import UsageError, printable
from aejax.types import Dataset, Found, Scaling


def describe(datasets: tuple[Dataset, ...]) -> dict[str, Any]:
    """The record of Datasets from one `load` for config.json, JSON-able; `recorded` reads it back."""
    divided = [divide(dataset.name) for dataset in datasets]
    names = sorted({name for name, _ in divided})
    if len(names) != 1:
        raise UsageError(f"an experiment reads one data set, not {' and '.join(names)}; join them in one .npz")
    return {
        "name": names[0],
        "streamed": any(is_of_files(dataset.fingerprint) for dataset in datasets),
        "reading": dict(datasets[0].reading),
        "scaling": None if datasets[0].scaling is None else datasets[0].scaling._asdict(),
        "splits": {
            spec or "all": {
                "shape": list(dataset.shape),
                "size": dataset.size,
                "classes": None if dataset.classes is None else list(dataset.classes),
                **({} if dataset.target is None else {"target": list(dataset.target)}),
                "fingerprint": dataset.fingerprint,
                "found": None
                if dataset.found is None
                else {**dataset.found._asdict(), "columns": list(dataset.found.columns)},
            }
            for (_, spec), dataset in zip(divided, datasets)
        },
    }


def recorded(record: Mapping[str, Any]) -> Recorded:
    """The inverse of `describe`, without the arrays."""
    scaling = record.get("scaling")
    return Recorded(
        record["name"],
        {
            spec: Dataset(
                name=f"{record['name']}:{spec}",
                shape=tuple(split["shape"]),
                size=split["size"],
                classes=None if split["classes"] is None else tuple(split["classes"]),
                fingerprint=split["fingerprint"],
                arrays=None,
                found=None
                if split.get("found") is None
                else Found(**split["found"]),  # earlier versions did not record it
                reading=record.get("reading", {}),
                scaling=None if scaling is None else Scaling(tuple(scaling["shift"]), tuple(scaling["scale"])),
                target=None if split.get("target") is None else tuple(split["target"]),
            )
            for spec, split in record["splits"].items()
        },
    )


def as_recorded_source(record: Mapping[str, Any], data: str) -> str | ReadAs:
    """The argument with which a run reads its data in the same way as when it recorded them."""
    of_files = any(is_of_files(split["fingerprint"]) for split in record["splits"].values())
    options = record.get("reading", {})
    return ReadAs(data, stream=of_files, **options) if of_files or options else data


def found_line(record: Mapping[str, Any]) -> str:
    """One line for a person: how many examples of what kind, in which splits and units, and what was ignored.

    Args:
        record: As `describe` returns it.

    Returns:
        The line.
    """
    splits = record["splits"]
    first = next(iter(splits.values()))
    counts = _listed([f"{split['size']} {spec}" for spec, split in splits.items()])
    said = [f"{kind(tuple(first['shape']))} of {'×'.join(map(str, first['shape']))}"]
    found = [Found(**split["found"]) for split in splits.values() if split.get("found")]
    if found:
        low, high = min(part.low for part in found), max(part.high for part in found)
        said.append(units(found[0]._replace(low=low, high=high)))
    # Slices of one split were found as a whole.
    missing = sum(
        {
            parse(spec).split: split["found"].get("missing", 0) for spec, split in splits.items() if split.get("found")
        }.values()
    )
    if missing:
        said.append(f"{missing} missing values")
    if record.get("reading", {}).get("standardize"):
        said.append(f"standardized ({record['reading']['standardize']})")
    if first["classes"] is not None:
        said.append(f"{len(first['classes'])} classes")
    origins = {part.origin: None for part in found if part.origin}
    said += origins
    line = f"{record['name']}: {counts} examples; {', '.join(said)}"
    passed_over = {what: n for part in found for what, n in part.passed_over.items()}
    if passed_over:
        line += "; passed over: " + _listed([f"{n} {what}" for what, n in passed_over.items()])
    doubts = {part.doubt: None for part in found if part.doubt}
    return printable("; ".join([line, *doubts]))


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
