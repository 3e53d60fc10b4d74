"""The commands on the shipped experiments: experiments lists them, new copies one as a starting point."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from aejax.cli.flags import parse
from aejax.errors import UsageError
from aejax.files import copy
from aejax.runs.experiment import FAMILIES, find, shipped


def experiments(args: list[str]) -> int:
    def flags() -> None:
        """No flags."""

    parse("aejax experiments", [flags], args, "List the experiments that come with aejax, each with what it is about.")
    for family in FAMILIES:
        print(f"{family}:")
        for name, file in shipped().items():
            if file.parent.name == family:
                print(f"  {name:<20} {first_sentence(file)}")
    print(
        "\n`aejax train NAME` trains one, `aejax train NAME --help` lists its flags, `aejax new NAME FILE.py` copies it."
    )
    return 0


def new(args: list[str]) -> int:
    def flags(name: str, file: Path, /) -> None:
        """
        Args:
            name: Of an experiment that comes with aejax (`aejax experiments`), or a path.
            file: The .py file to write.
        """

    (wanted,) = parse("aejax new", [flags], args, "Copy an experiment to start from.")
    source, file = find(wanted["name"]), wanted["file"]
    if file.suffix != ".py":
        raise UsageError(f"{file}: an experiment is a .py file; name it so")
    if file.exists():
        raise UsageError(f"{file} exists; choose another name, or remove it first")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}; make it first")
    copy(source, file)
    print(f"{file}: a copy of {wanted['name']}; edit it, then: aejax train {file}")
    return 0


def first_sentence(file: Path) -> str:
    """The first sentence of the file's docstring, read without running the file."""
    text = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].split())
    return re.split(r"(?<! al)(?<! eq)\. ", text)[0].rstrip(".") + "."  # does not end at "et al. 2011"
