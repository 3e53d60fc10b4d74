"""An experiment file: found where the user says, its function called with the user's arguments.

The function `experiment(...)` has typed keyword arguments, which are the whole configuration, and returns an `Experiment`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from aejax.errors import UsageError
from aejax.types import Experiment

REQUIRED = ("data", "batch_size", "steps", "seed")


class Source(NamedTuple):
    """Where an experiment came from: enough to build it again."""

    file: str
    sha256: str
    arguments: dict[str, Any]


def load_file(file: str | Path) -> tuple[ModuleType, Callable[..., Experiment]]:
    """The module and its `experiment` function. Importing runs the file: it is code that the user names."""
    file = Path(file)
    if not file.is_file():
        raise UsageError(f"no experiment file {file}; give the path of a .py file with a function `experiment`")
    spec = importlib.util.spec_from_file_location(f"aejax_experiment_{file.stem}", file)
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file; give the path of a .py file with a function `experiment`")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}; --debug shows where") from error
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UsageError(f"{file} has no function `experiment`; see experiments/dae.py for the form")
    missing = [name for name in REQUIRED if name not in inspect.signature(function).parameters]
    if missing:
        raise UsageError(f"{file}: `experiment` lacks the arguments {', '.join(missing)}, which every experiment takes")
    return module, function


def sha256(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def build(function: Callable[..., Experiment], arguments: Mapping[str, Any], **changed: Any) -> Experiment:
    """Calls the function with recorded arguments: JSON has no tuples, so lists become tuples again."""
    try:
        return function(**{name: _tupled(value) for name, value in arguments.items()} | changed)
    except UsageError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UsageError(
            f"experiment({given}) fails: {type(error).__name__}: {error}; change the arguments, or see --debug"
        ) from error


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
