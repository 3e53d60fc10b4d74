"""Searches over hyperparameters with Optuna: trials that its tree-structured Parzen estimator proposes, one after the other.

A trial is a group (`aejax.training.groups`), of one seed or several; its value is the mean over the seeds of the monitored term
on the validation split. The directory of a search is that of a sweep, whose groups are `trial0000`, `trial0001`, …, and holds
Optuna's journal, `study.log`. The proposal of a trial depends on the first seed, its number and the earlier trials only, so a
search that was interrupted continues with the trials that it would have had.

The extra `sweep` installs Optuna.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from aejax.errors import UsageError
from aejax.files import write_json
from aejax.runs.directory import SWEEP, is_sweep, read_json, read_sweep
from aejax.runs.experiment import Source, build, listed, written
from aejax.runs.run import Run
from aejax.training.grids import Resumed, apart_and_together, resumed_sweep, sweep_record, train_group
from aejax.training.groups import Function
from aejax.training.recorder import NonFinite
from aejax.training.settings import Settings
from aejax.training.trainer import held_directory, new_directory

JOURNAL = "study.log"


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included; integers if both are."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, "Range | Sequence[Any]"]
"""Name of an argument -> its range, or its values."""


def search(
    function: Function,
    arguments: Mapping[str, Any],
    space: Space,
    directory: Path,
    trials: int,
    seeds: Sequence[int] = (0,),
    settings: Settings = Settings(),
    source: Source | None = None,
    overwrite: bool = False,
) -> list[Run]:
    """Trains `trials` groups whose arguments Optuna proposes, lower values of the monitored term being better.

    Args:
        function: Function of an experiment file, keyword arguments -> Experiment.
        arguments: All of its arguments; those of the space are replaced.
        space: Name of an argument -> `Range`, or a sequence of values.
        directory: Directory of the search.
        trials: Number of trials, those that diverge included; they count as infinitely bad.
        seeds: Seeds that each trial trains in one program.
        settings: As in `train`.
        source: The experiment's file and arguments, if it came from a file.
        overwrite: Whether to replace the directory if it holds runs.

    Returns:
        The runs of the best trial, one per seed.

    Raises:
        UsageError: The space is empty or impossible, there is no validation split, or Optuna is missing.
        NonFinite: All trials diverged.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; `resume_search` continues.
    """
    _optuna()
    if trials < 1:
        raise UsageError(f"--trials {trials}: it must be at least 1")
    if not space:
        raise UsageError("a search needs arguments to vary; write for example --space lr=1e-4..1e-2:log latent=8,16,32")
    _refuse_impossible(space)
    first = build(function, {**arguments, "seed": seeds[0]})
    for name, values in space.items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            build(function, {**arguments, "seed": seeds[0], name: value})
    if first.validation is None:
        raise UsageError(f"{first.train.name} has no validation split, and the test split must not choose; make one")
    record = {
        **sweep_record({}, {"seed": seeds}, arguments, settings, source),
        "space": {n: v._asdict() if isinstance(v, Range) else list(v) for n, v in space.items()},
        "monitor": first.monitor,
        "trials": trials,
    }
    with new_directory(directory, overwrite):
        write_json(directory / SWEEP, record)
        return _search(directory, *resumed_sweep(directory, function=function))


def resume_search(directory: Path, trials: int | None = None, **given: Any) -> list[Run]:
    """Continues a search, to `trials` trials if given; further arguments as in `aejax.training.groups.resume_members`."""
    with held_directory(directory):
        record = read_sweep(directory)
        if trials is not None:
            if trials < len(record["groups"]):
                raise UsageError(
                    f"{directory} has {len(record['groups'])} trials already; give --trials more than that"
                )
            write_json(directory / SWEEP, {**record, "trials": trials})
        return _search(directory, *resumed_sweep(directory, **given))


def is_search(directory: Path) -> bool:
    """Whether the directory is that of a search."""
    return is_sweep(directory) and "space" in read_sweep(directory)


def _search(
    directory: Path,
    function: Function,
    arguments: Mapping[str, Any],
    settings: Settings,
    source: Source | None,
    resumed: Resumed,
) -> list[Run]:
    optuna = _optuna()
    record = read_sweep(directory)
    space = {
        name: Range(**values) if isinstance(values, Mapping) else values for name, values in record["space"].items()
    }
    seeds = record["together"]["seed"]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(directory / JOURNAL)))
    study = optuna.create_study(study_name="search", storage=storage, load_if_exists=True)
    for number in range(record["trials"]):
        trials = study.get_trials(deepcopy=False)
        if number < len(trials) and trials[number].state.is_finished():
            continue
        # Each trial has a sampler of its own, so that its proposal does not depend on where the search was interrupted.
        seed = int(np.random.SeedSequence([seeds[0], number]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = optuna.trial.Trial(study, trials[number]._trial_id) if number < len(trials) else study.ask()
        chosen = {name: _suggested(trial, name, values) for name, values in space.items()}
        # Floats are inputs of the program, not parts of it: trials of the same shapes find it compiled.
        fixed, varied = apart_and_together(arguments, {**{n: [v] for n, v in chosen.items()}, "seed": seeds})
        folder = directory / f"trial{number:04d}"
        if settings.verbose:
            print(f"trial {number + 1} of {record['trials']}: {listed(chosen)}", file=sys.stderr, flush=True)
        if folder.name not in record["groups"]:
            record["groups"].append(folder.name)
            write_json(directory / SWEEP, record)
        try:
            runs = resumed(folder)
            if runs is None:
                apart = {name: values[0] for name, values in fixed.items()}
                runs = train_group(function, arguments, apart, varied, folder, settings, source)
        except NonFinite as error:
            print(f"trial {number + 1} diverged: {error}", file=sys.stderr, flush=True)
            study.tell(number, float("inf"))
            continue
        study.tell(number, float(np.mean([_value(run.directory, record["monitor"]) for run in runs])))
    best = study.best_trial
    if np.isinf(best.value):
        raise NonFinite(f"all {record['trials']} trials of {directory} diverged; search smaller learning rates")
    return resumed(directory / record["groups"][best.number]) or []


def _value(run: Path, monitor: str) -> float:
    return read_json(run / "result.json", f"{run} is not complete")["metrics"][monitor]


def _suggested(trial: Any, name: str, values: Range | Sequence[Any]) -> Any:
    """What Optuna proposes for an argument. A choice is named by its text, since Optuna stores neither tuples nor lists."""
    if isinstance(values, Range):
        suggest = trial.suggest_int if isinstance(values.low, int) else trial.suggest_float
        return suggest(name, values.low, values.high, log=values.log)
    by_text = {written(value): value for value in values}
    return by_text[trial.suggest_categorical(name, list(by_text))]


def _refuse_impossible(space: Space) -> None:
    for name, values in space.items():
        if isinstance(values, Range):
            if not values.low < values.high or (values.log and values.low <= 0):
                raise UsageError(
                    f"--space {name}: a range goes from a lower to a higher number, and with log from above 0"
                )
        elif len({written(value) for value in values}) < max(2, len(values)):
            raise UsageError(f"--space {name}: give a range, or at least two different values")


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise UsageError("a search needs Optuna; pip install 'aejax[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
