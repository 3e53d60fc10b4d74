"""Flags of the command line, made by tyro from typed functions; and its errors as one line."""

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

SHARED = {
    "data": "Name of a data set (`aejax data list`), or path of a .npy, .npz, .csv, .tsv or .parquet file or folder of images.",
    "hidden": "Widths of the encoder's hidden layers, or channels after each of its convolutions; the decoder mirrors them.",
    "latent": "Dimensions of the code.",
    "blocks": "Number of residual blocks at the smallest size, in the encoder and in the decoder.",
    "levels": "Number of gray values in the data; by default 256 for data stored as bytes, otherwise 17 as in digits.",
    "likelihood": "p(x|z): bernoulli for data in [0, 1]; gaussian, gaussian_learned (with its own standard deviation), "
    "squared_error or student_t (robust to outliers) for real numbers.",
    "rate": "Fraction of the input's components that are masked in training; 0 for none.",
    "dtype": "Precision of the layers' arithmetic; parameters, code and likelihood stay float32. bfloat16 is for accelerators.",
    "remat": "Recompute activations for the gradient instead of storing them, to save memory.",
    "lr": "Peak learning rate of Adam; it decays to zero on a cosine.",
    "batch_size": "Examples per step, over all devices.",
    "steps": "Training steps.",
    "seed": "Seed for initialization, data order and noise.",
}
"""Descriptions of arguments that many experiments share, used if an experiment's docstring has none."""


def parse(
    prog: str, functions: Sequence[Callable[..., Any]], args: Sequence[str], description: str = ""
) -> list[dict[str, Any]]:
    """Parses one command line for several functions at once, and returns the keyword arguments of each.

    A function's positional-only parameters become positional arguments, the rest become flags; their descriptions come from the
    function's docstring. --help prints and exits with 0.

    Raises:
        UsageError: tyro's error, condensed to one line.
    """
    fields: list[Any] = []
    positional: list[str] = []
    for function in functions:
        documented = {p.arg_name: p.description for p in docstring_parser.parse(function.__doc__ or "").params}
        hints = get_type_hints(function, include_extras=True)
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in hints:
                raise UsageError(f"{prog}: the argument {name} has no type; write `{name}: type = default`")
            kind = hints[name]
            help_ = " ".join((documented.get(name) or SHARED.get(name, "")).split())
            shown: dict[str, Any] = {"help": help_, "prefix_name": False}
            if parameter.kind is parameter.POSITIONAL_ONLY:
                kind = tyro.conf.Positional[kind]  # type: ignore[misc, valid-type]
                shown["metavar"] = name.upper()
                positional.append(name.upper())
            kind = Annotated[kind, tyro.conf.arg(**shown)]
            required = parameter.default is parameter.empty
            fields.append((name, kind) if required else (name, kind, dataclasses.field(default=parameter.default)))
    duplicate = {f[0] for f in fields if [g[0] for g in fields].count(f[0]) > 1}
    if duplicate:
        raise UsageError(
            f"{prog}: the experiment's argument {', '.join(duplicate)} is a flag of the command; rename it"
        )
    fields.sort(key=len)  # required fields first, as dataclasses demand
    form = dataclasses.make_dataclass("arguments", fields)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            values: Any = tyro.cli(form, prog=prog, description=description, args=list(args))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        message = _condensed(complaint.getvalue(), " ".join([prog, *positional]))
        elsewhere = next(
            (hint for word, hint in ELSEWHERE.items() if f"--{word}" in message.split("; see")[0].split(", ")[0]), ""
        )
        raise UsageError(f"{message}{elsewhere and f'; {elsewhere}'}") from None
    return [{name: getattr(values, name) for name in inspect.signature(f).parameters} for f in functions]


ELSEWHERE = {
    "epochs": "training is counted in steps, of one batch each: --steps",
    "learning": "the learning rate is --lr",
    "gpu": "JAX takes the accelerator that it finds; --devices is how many",
    "device": "JAX takes the accelerator that it finds; --devices is how many",
    "workers": "data are loaded in the background without a flag",
    "output": "the run directory is --run",
    "save": "the run directory is --run, and checkpoints are written every --save-every steps",
    "wandb": "write --track wandb",
}
"""Beginning of a flag that other programs have -> what it is called here."""


def _condensed(text: str, usage: str) -> str:
    """tyro's boxed error as one line: its first sentence, similar flags, and where to read on."""
    prog = " ".join(word for word in usage.split() if not word.isupper())
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [
        line.strip(" │╭╮╰╯─-").strip() if set(line) <= set(" │╭╮╰╯─-") else line.strip(" │")
        for line in plain.splitlines()
    ]
    lines = [line for line in lines if line]
    complaint = lines[1] if len(lines) > 1 else "arguments not understood"
    if complaint.startswith("Missing from"):
        complaint = f"arguments are missing; usage: {usage}"
    for line, following in zip(lines, lines[1:]):
        if line.startswith("Perhaps you meant"):
            complaint += f"; perhaps {following}"
    return f"{complaint}; see {prog} --help"


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON stores them; others cannot be replayed and are refused."""
    for name, value in values.items():
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise UsageError(f"argument {name} is {value}, which JSON cannot hold; give a finite number")
        if not all(isinstance(part, (str, int, float, bool, type(None))) for part in parts):
            raise UsageError(
                f"argument {name} is a {type(value).__name__}; experiments take numbers, strings, booleans and tuples"
            )
    return dict(values)
