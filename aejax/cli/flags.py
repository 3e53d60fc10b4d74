"""Flags of the command line, made by tyro from typed functions; and its complaints as one line."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import docstring_parser
import tyro

from aejax.errors import UsageError


def parse(prog: str, functions: Sequence[Callable], args: Sequence[str], description: str = "") -> list[dict[str, Any]]:
    """Parses one command line for several functions at once; gives each its keyword arguments.

    A function's positional-only parameters become positional arguments, the rest flags; the sentence of each comes from
    the function's docstring. --help prints and exits with 0.

    Raises:
        UsageError: with tyro's complaint condensed to one line.
    """
    fields: list[Any] = []
    for function in functions:
        told = {p.arg_name: p.description for p in docstring_parser.parse(function.__doc__ or "").params}
        hints = get_type_hints(function, include_extras=True)
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in hints:
                raise UsageError(f"{prog}: the argument {name} has no type; write `{name}: type = default`")
            kind = hints[name]
            if parameter.kind is parameter.POSITIONAL_ONLY:
                kind = tyro.conf.Positional[kind]  # type: ignore[misc]
            kind = Annotated[kind, tyro.conf.arg(help=" ".join((told.get(name) or "").split()), prefix_name=False)]
            required = parameter.default is parameter.empty
            fields.append((name, kind) if required else (name, kind, dataclasses.field(default=parameter.default)))
    duplicate = {f[0] for f in fields if [g[0] for g in fields].count(f[0]) > 1}
    if duplicate:
        raise UsageError(
            f"{prog}: the experiment's argument {', '.join(duplicate)} is a flag of the command; rename it"
        )
    fields.sort(key=len)  # what is required stands first, as dataclasses demand
    form = dataclasses.make_dataclass("arguments", fields)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            values: Any = tyro.cli(form, prog=prog, description=description, args=list(args))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_condensed(complaint.getvalue(), prog)) from None
    return [{name: getattr(values, name) for name in inspect.signature(f).parameters} for f in functions]


def _condensed(text: str, prog: str) -> str:
    """tyro's boxed complaint as one line: its first sentence, the flags it would have expected, and where to read on."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [
        line.strip(" │╭╮╰╯─-").strip() if set(line) <= set(" │╭╮╰╯─-") else line.strip(" │")
        for line in plain.splitlines()
    ]
    lines = [line for line in lines if line]
    told = lines[1] if len(lines) > 1 else "arguments not understood"
    for line, following in zip(lines, lines[1:]):
        if line.startswith("Perhaps you meant"):
            told += f"; perhaps {following}"
    return f"{told}; see {prog} --help"


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON holds them; what it cannot hold cannot be replayed, and is refused."""
    for name, value in values.items():
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise UsageError(f"argument {name} is {value}, which JSON cannot hold; give a finite number")
        if not all(isinstance(part, (str, int, float, bool, type(None))) for part in parts):
            raise UsageError(
                f"argument {name} is a {type(value).__name__}; experiments take numbers, strings, booleans and tuples"
            )
    return dict(values)
