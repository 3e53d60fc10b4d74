"""Groups runs that are seeds of one configuration; what distinguishes configurations, and their names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aejax.figures.words import label, value_text
from aejax.reports.records import Record, arguments, short
from aejax.runs.directory import is_group


class Configuration(NamedTuple):
    """Runs that differ in nothing but the seed."""

    name: str
    difference: str
    """Arguments in which it differs from most of the others."""
    records: Sequence[Record]


def differences(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Arguments (and the experiment file, and the data) that differ between runs, by name, one value per run."""
    configs = [r.run.config for r in records]
    columns_of = [arguments(c) for c in configs]
    for c, values in zip(configs, columns_of):
        source = c["source"]
        values["file"] = None if source is None else Path(source["file"]).stem
        values["file sha256"] = None if source is None else short(source["sha256"])
    names = list(dict.fromkeys(n for values in columns_of for n in values))
    columns = {n: [values.get(n) for values in columns_of] for n in names}
    return {n: column for n, column in columns.items() if len({json.dumps(v) for v in column}) > 1}


def by_configuration(records: Sequence[Record]) -> dict[str, list[int]]:
    """Positions of the runs that differ in nothing but the seed, by configuration."""
    groups: dict[str, list[int]] = {}
    for i, r in enumerate(records):
        source = r.run.config["source"]
        what = {n: v for n, v in arguments(r.run.config).items() if n != "seed"}
        key = json.dumps([what, None if source is None else source["sha256"], test_fingerprint(r)], sort_keys=True)
        groups.setdefault(key, []).append(i)
    return groups


def test_fingerprint(record: Record) -> str:
    """Fingerprint of the test split, as recorded by the run."""
    spec = record.run.experiment.test.name.removeprefix(record.run.config["data"]["name"] + ":")
    splits = record.run.config["data"]["splits"]
    return splits[spec]["fingerprint"] if spec in splits else record.run.experiment.test.fingerprint


def configurations(records: Sequence[Record]) -> list[Configuration]:
    """The configurations among runs, in the order of their first run.

    A configuration is named after the folder of its group, if each configuration has a group of its own; else by the arguments
    in which it differs from most of the others.
    """
    groups = [[records[i] for i in members] for members in by_configuration(records).values()]
    differing = unlike_most([group[0] for group in groups])
    folders = [{r.run.directory.resolve().parent for r in group} for group in groups]
    own = all(len(f) == 1 and is_group(*f) for f in folders) and len(set.union(*folders)) == len(groups)
    names = [f.pop().name for f in folders] if own else []
    if len(set(names)) < len(groups):
        names = [t or plain_name(group[0]) for t, group in zip(differing, groups)]
    return [Configuration(*each) for each in zip(names, differing, groups)]


def unlike_most(records: Sequence[Record]) -> list[str]:
    """For each run, the arguments whose value is not the most frequent one; of equally frequent values, the first."""
    parts: list[list[str]] = [[] for _ in records]
    for name, column in differences(records).items():
        values = [json.dumps(v) for v in column]
        most, _ = Counter(values).most_common(1)[0]
        for i, value in enumerate(values):
            if value != most and name != "seed":
                parts[i].append(f"no {label(name)}" if column[i] is None else f"{label(name)} {value_text(column[i])}")
    return [", ".join(each) for each in parts]


def plain_name(record: Record) -> str:
    """Name of the configuration that has the most frequent value of every argument: its experiment's."""
    source = record.run.config["source"]
    return record.name if source is None else label(Path(source["file"]).stem)
