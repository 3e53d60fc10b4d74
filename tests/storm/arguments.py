"""Every experiment is given odd arguments: it trains, or is refused in one line, whatever the arguments are."""

import inspect
import shutil
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from command import aejax

INTEGERS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "1000000000",
    str(2**31),
    str(2**32),
    str(2**63),
    str(2**64),
    "-" + str(2**63),
    "1.5",
    "nan",
    "",
]
INTEGERS += ["１２", "1_0", "0x10", "1e3", "None", "true", " 2"]
FLOATS = [
    "-1",
    "0",
    "0.5",
    "1",
    "2",
    "1e-300",
    "1e300",
    "nan",
    "inf",
    "-inf",
    "",
    "1e400",
    "-0.0",
    "½",
    "0,5",
    "1e-45",
    "None",
]
STRINGS = [
    "",
    "x",
    "../x",
    "digits",
    "no-such-thing",
    "\u202e",
    "\x1b[31m",
    "a\nb",
    "é" * 300,
    "-",
    "--",
    "'",
    "digits:test",
    "/dev/null",
    ".",
]
SETTINGS = {
    "devices": int,
    "log_every": int,
    "save_every": int,
    "keep": int,
    "accumulate": int,
    "virtual_shards": int,
    "profile": int,
    "patience": int,
    "seeds": int,
    "image_size": int,
    "image_channels": int,
    "run": str,
    "start_from": str,
    "track": str,
    "sweep": str,
    "standardize": str,
    "missing": str,
    "exact_reduce": bool,
    "deterministic": bool,
    "stream": bool,
    "evaluate": str,
}
SWEEPS = [
    "lr=nan",
    "lr=1e-3,0",
    "latent=0,2",
    "latent=",
    "=1",
    "lr",
    "hidden=4,4x0",
    "seed=0,0",
    "seed=-1",
    "rate=2",
    "nothing=1",
    "latent=1e9",
    "lr=1e-3,1e-3",
]


def prepare(folder: Path) -> dict[str, dict[str, Any]]:
    """The experiments and the types of their arguments."""
    from aejax.runs.experiment import load_file, shipped

    found = {}
    for name, file in shipped().items():
        function = load_file(str(file))[1]
        hints = get_type_hints(function)
        found[name] = {argument: hints[argument] for argument in inspect.signature(function).parameters}
    return found


def drawn(rng: np.random.Generator) -> list:
    """An experiment and one to three arguments, as numbers that `play` makes into words."""
    return [float(rng.random()), *(rng.random(4).tolist() for _ in range(rng.choice([1, 1, 2, 3])))]


def play(prepared: dict[str, dict[str, Any]], parts: list) -> dict[str, int]:
    name = list(prepared)[int(parts[0] * len(prepared))]
    flags: list[str] = []
    for which, *value in parts[1:]:
        flags += argument(prepared[name], which, value)
    given = {flag.split("=")[0] for flag in flags}
    for flag, value in {"--steps": "2", "--batch-size": "8", "--run": "run"}.items():
        if flag not in given:
            flags.append(f"{flag}={value}")
    shutil.rmtree("run", ignore_errors=True)
    code, _ = aejax(
        "train", name, *flags, *(["--no-evaluate"] if "--evaluate" not in given else []), "--no-verbose", "--overwrite"
    )
    return {{0: "trained", 1: "not finite", 2: "refused"}[code]: 1}


def argument(types_: dict[str, Any], which: float, value: list[float]) -> list[str]:
    """One argument of an experiment, or a setting."""
    own = {name: kind for name, kind in types_.items() if name != "steps"}
    known = {**own, **SETTINGS} if value[2] < 0.3 else own
    name = list(known)[int(which * len(known))]
    kind = known[name]
    flag = "--" + name.replace("_", "-")
    if name == "sweep":
        return [flag, SWEEPS[int(value[0] * len(SWEEPS))]]
    if name == "batch_size" or name == "seeds":
        few = ["-1", "0", "1", "3", "nan", "", str(2**63), str(2**40)]
        return [f"{flag}={few[int(value[0] * len(few))]}"]
    return written(flag, kind, value)


def written(flag: str, kind: Any, value: list[float]) -> list[str]:
    if kind is bool:
        return [flag if value[0] < 0.5 else f"--no-{flag[2:]}"]
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        choices = [*map(str, args), "other", ""]
        return [f"{flag}={choices[int(value[0] * len(choices))]}"]
    if origin in (Union, types.UnionType):
        return written(flag, args[0], value)
    if origin is typing.Annotated:
        return written(flag, args[0], value)
    if origin is tuple:
        n = int(value[1] * 4)
        rng = np.random.default_rng(int(value[0] * 2**32))
        pool = FLOATS if args[0] is float else INTEGERS
        return [flag, *(pool[int(i)] for i in rng.integers(len(pool), size=n))]
    pool = {int: INTEGERS, float: FLOATS}.get(kind, STRINGS)
    return [f"{flag}={pool[int(value[0] * len(pool))]}"]
