"""Experiment files: found at a path or among those that come with the package, and called with the user's arguments.

The function `experiment(...)` in the file has typed keyword arguments, which are the whole configuration, and returns an
`Experiment`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import Array

from aejax.data import ReadAs, load, usual_splits
from aejax.described import NotDescribed, described, description
from aejax.errors import UsageError
from aejax.types import Corrupt, Dataset, Experiment, Model, Parent

REQUIRED = ("data", "batch_size", "steps", "seed")

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Corruption levels at which restoration is measured if an experiment names a corruption as its sweep."""

FAMILIES = ("autoencoders", "variational", "discrete", "sequences")
"""Folders of the experiments that come with the package."""


@described
def fit(
    model: Model,
    splits: Any,
    lr: float | Array = 1e-3,
    batch_size: int = 128,
    steps: int = 5_000,
    seed: Any = 0,
    *,
    monitor: str | None = None,
    sweep: Mapping[float, Corrupt] | Callable[[float], Corrupt] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    parent: Parent | None = None,
) -> Experiment:
    """The experiment that fits a model to data with Adam, whose learning rate falls to zero on a cosine.

    Args:
        model: A model, see `aejax.models`.
        splits: (train, test), or (train, validation, test), as `aejax.load` returns them; or anything that `load` accepts,
            which is then split by `usual_splits`.
        lr: Peak learning rate of Adam.
        batch_size: Examples in a step, over all devices.
        steps: Training steps.
        seed: Seed for initialization, data order and noise, an int; in a group it is a traced number.
        monitor: Term of `model.evaluate` whose validation mean selects the best checkpoint; lower is better. By default `nelbo`
            for models with a latent variable or discrete codes, and `nll` for others. Without a corruption, `denoising_nll` means
            `nll`.
        sweep: A corruption such as `masking`, whose restoration is measured at LEVELS; or a mapping level -> corruption.
        optimizer: Optax optimizer to use instead of Adam.
        parent: The run that this one builds on.

    Returns:
        An `Experiment`, for `aejax.train`.

    Raises:
        UsageError: `splits` are neither data sets nor data that `load` accepts.

    Example:
        >>> from aejax.models import autoencoder
        >>> from aejax.nets import MLP
        >>> from aejax.objective import bernoulli, masking
        >>> train, test = aejax.load("digits")
        >>> model = autoencoder(MLP((64,), 16), MLP((64,), train.shape), bernoulli(), corrupt=masking(0.3))
        >>> aejax.fit(model, (train, test), steps=2000, sweep=masking).steps
        2000
    """
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise UsageError(f"fit({name}={value!r}): it must be a whole number, at least 1")
    if isinstance(lr, str) or (isinstance(lr, (int, float)) and not 0 < lr < math.inf):
        raise UsageError(f"the learning rate is {lr!r}; it must be a positive number")
    train, *validation, test = _datasets(splits)
    if monitor is None:
        monitor = "nll" if model.latent is None and model.discrete is None else "nelbo"
    return Experiment(
        model=model,
        optimizer=optax.adam(optax.cosine_decay_schedule(lr, steps)) if optimizer is None else optimizer,
        train=train,
        test=test,
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        validation=validation[0] if validation else None,
        sweep={level: sweep(level) for level in LEVELS} if callable(sweep) else sweep or {},
        monitor=monitor.removeprefix("denoising_") if model.data.corrupt is None else monitor,
        parent=parent,
    )


def _datasets(given: Any) -> Sequence[Dataset]:
    several = isinstance(given, (tuple, list)) and not isinstance(given, (Dataset, ReadAs))
    if several and all(isinstance(part, Dataset) for part in given):
        if len(given) not in (2, 3):
            raise UsageError(f"fit() takes (train, test) or (train, validation, test), not {len(given)} data sets")
        return given
    if several:  # it could be (x_train, x_test) or (x, label)
        raise UsageError(
            "fit() takes data sets or one array; write aejax.load({'x_train': …, 'x_test': …}), or aejax.load((x, label)) for "
            "examples with labels"
        )
    return load(given, usual_splits(given))


def recipe_of(experiment: Experiment) -> dict[str, Any]:
    """How an experiment was made, as JSON, without its data: a call of `fit`, or why there is none."""
    made = getattr(experiment, "made_by", None)
    if made is None:
        return {"missing": "the experiment was not made by aejax.fit"}
    name, arguments, _ = made
    try:
        named = {key: description(value) for key, value in arguments.items() if key != "splits"}
    except NotDescribed as error:
        return {"missing": f"it is made with something of your own: {error}"}
    return {"call": name, "positional": [], "named": named}


def with_datasets(experiment: Experiment) -> Experiment:
    """The experiment with its arrays as data sets, where it was made of arrays [n, ...]."""
    parts = {"train": experiment.train, "validation": experiment.validation, "test": experiment.test}
    given = {split: part for split, part in parts.items() if part is not None}
    if all(isinstance(part, Dataset) for part in given.values()):
        return experiment
    if any(isinstance(part, Dataset) for part in given.values()):
        raise UsageError("give train, validation and test all as data sets or all as arrays")
    opened = dict(zip(given, load({f"x_{split}": part for split, part in given.items()}, tuple(given))))
    return experiment._replace(train=opened["train"], validation=opened.get("validation"), test=opened["test"])


class Source(NamedTuple):
    """Where an experiment came from: enough to build it again."""

    file: str
    sha256: str
    arguments: dict[str, Any]


def find(name: str | Path) -> Path:
    """The file of an experiment, given its path or the name of one that comes with the package (`dae`)."""
    path = Path(name)
    if path.is_file():
        return path
    known = shipped()
    if str(name) in known:
        return known[str(name)]
    if path.suffix == ".py" or len(path.parts) > 1:
        raise UsageError(f"no experiment file {path}; give the path of a .py file with a function `experiment`")
    near = difflib.get_close_matches(str(name), known, 3) or ["dae"]
    raise UsageError(
        f"no experiment is called {name}; did you mean {' or '.join(near)}? `aejax experiments` lists them, "
        "and you can give the path of a .py file with a function `experiment`"
    )


def shipped() -> dict[str, Path]:
    """Name -> file of the experiments that come with the package, either inside it or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    root = package / "experiments" if (package / "experiments").is_dir() else package.parent / "experiments"
    return {file.stem: file for family in FAMILIES for file in sorted((root / family).glob("*.py"))}


def published() -> dict[str, Path]:
    """Name -> file of the results that come with the package, `experiments/results/rows/NAME.json`."""
    package = Path(__file__).resolve().parent.parent
    root = package / "experiments" if (package / "experiments").is_dir() else package.parent / "experiments"
    return {file.stem: file for file in sorted((root / "results" / "rows").glob("*.json"))}


def command_of(file: str, arguments: Mapping[str, Any], settings: Mapping[str, Any] = {}) -> str:
    """The command that trains an experiment with these arguments.

    `settings` are those that differ from their defaults. An experiment that comes with the package is named without its path,
    so that the command works from anywhere.
    """
    name = Path(file).stem
    words = ["aejax", "train", name if Path(file).name.removesuffix(".py") in shipped() else file]
    for key, value in {**arguments, **settings}.items():
        words += _flag(key, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, _flat(value))]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for v in value:
            yield from _flat(v)
    else:
        yield value


def written(value: Any) -> str:
    """A value of an argument as one word: widths as 512x256."""
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def listed(arguments: Mapping[str, Any]) -> str:
    """Arguments for a reader: `lr 0.001, hidden 512x256`."""
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {written(v)}" for k, v in arguments.items())


DIGEST = "__aejax_sha256__"
"""Attribute of an experiment's module: the SHA-256 of the bytes that were executed."""


def load_file(file: str | Path, content: bytes | None = None) -> tuple[ModuleType, Callable[..., Experiment]]:
    """The module and its `experiment` function. This executes the file, which is the user's own code.

    It is read once, or given as `content` by who has compared its digest: what is executed is what was compared.
    """
    file = find(file)
    spec = importlib.util.spec_from_file_location(f"aejax_experiment_{file.stem}", file)
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file; give the path of a .py file with a function `experiment`")
    module = importlib.util.module_from_spec(spec)
    if not is_shipped(file):
        _make_importable(file.resolve().parent)
    try:
        content = file.read_bytes() if content is None else content
        setattr(module, DIGEST, hashlib.sha256(content).hexdigest())
        exec(compile(content, str(file), "exec", dont_inherit=True), module.__dict__)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}; --debug shows where") from error
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UsageError(f"{file} has no function `experiment`; `aejax new dae mine.py` writes one to start from")
    missing = [name for name in REQUIRED if name not in inspect.signature(function).parameters]
    if missing:
        raise UsageError(f"{file}: `experiment` lacks the arguments {', '.join(missing)}, which every experiment takes")
    return module, function


def is_shipped(file: Path) -> bool:
    """Whether it is one of the files that come with the package."""
    return file.resolve() in {shipped_file.resolve() for shipped_file in shipped().values()}


_importable: list[str] = []


def _make_importable(folder: Path) -> None:
    """Makes the modules beside an experiment file importable, as `python file.py` does.

    A module of the same name that another folder's experiment imported is replaced.
    """
    for name, module in list(sys.modules.items()):
        beside = os.path.dirname(getattr(module, "__file__", None) or "")
        if beside in _importable and beside != str(folder):
            del sys.modules[name]
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    if str(folder) not in _importable:
        _importable.append(str(folder))


def sha256(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def build(function: Callable[..., Experiment], arguments: Mapping[str, Any], **changed: Any) -> Experiment:
    """Calls the function with recorded arguments; lists become tuples again, which JSON lacks."""
    try:
        made = function(**{name: _tupled(value) for name, value in arguments.items()} | changed)
    except UsageError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UsageError(
            f"experiment({given}) fails: {type(error).__name__}: {error}; change the arguments, or see --debug"
        ) from error
    if not isinstance(made, Experiment):
        raise UsageError(f"experiment() returns a {type(made).__name__}; end it with `return fit(model, splits, …)`")
    return made


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
