"""What studies of many runs share: runs that are trained and evaluated only if missing, intervals of means, and tables.

A study is a script in `experiments/results/` that trains what a table needs and prints the table. If it is killed and started
again, it continues where it stopped.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax.errors import UsageError
from aejax.evaluation import evaluate
from aejax.evaluation.bounds import DRAWS
from aejax.figures.tables import mean_sd
from aejax.files import write_text
from aejax.runs.directory import finished_in, is_group, read_config, read_evaluation, read_group, read_json
from aejax.runs.experiment import Source, build, load_file, sha256
from aejax.runs.opening import open_run
from aejax.runs.run import Run
from aejax.training.groups import resume_members, train_members
from aejax.training.settings import Settings
from aejax.training.trainer import resume, train


def finished(file: str | Path, directory: str | Path, settings: Settings = Settings(), /, **arguments: Any) -> Run:
    """The complete run of an experiment file with these arguments in this directory; trained if missing, resumed if
    interrupted.

    Raises UsageError if the directory holds a run with other arguments or of another version of the file.
    """
    directory = Path(directory)
    function, source = _source(file, arguments)
    if not (directory / "config.json").exists():
        return train(build(function, source.arguments), directory, settings, source)
    _refuse_other(directory, read_config(directory)["source"], source)
    return open_run(directory, file=file) if (directory / "result.json").exists() else resume(directory, file=file)


def finished_members(
    file: str | Path,
    directory: str | Path,
    varied: Mapping[str, Sequence[Any]],
    settings: Settings = Settings(),
    /,
    **arguments: Any,
) -> list[Run]:
    """Like `finished`, for a group of members (`aejax train --seeds`); returns the complete ones."""
    directory = Path(directory)
    function, source = _source(file, arguments)
    if not is_group(directory):
        return train_members(function, source.arguments, varied, directory, settings, source)
    group = read_group(directory)
    _refuse_other(directory, {**group["source"], "arguments": group["arguments"]}, source)
    missing = [name for name in group["members"] if not (directory / name / "result.json").exists()]
    return (
        resume_members(directory, file=file)
        if missing
        else [open_run(run, file=file) for run in finished_in(directory)]
    )


def evaluated(run: Run, draws: int = DRAWS) -> dict[str, Any]:
    """The content of eval.json for a complete run's parameters; `evaluate` writes it if it is missing."""
    file = run.directory / "eval.json"
    digest = read_json(run.directory / "result.json", "")["digest"]
    stored = read_evaluation(run.directory) if file.exists() else None
    if stored is None or stored["digest"] != digest:
        return evaluate(open_run(run.directory, with_data=True), draws=draws)
    return stored


def put_between(file: Path, begin: str, end: str, heading: str, text: str) -> None:
    """Writes text between two markers of a Markdown file; at its end, under the heading, if it lacks the markers."""
    text_ = file.read_text()
    if begin not in text_:
        text_ = f"{text_.rstrip()}\n\n## {heading}\n\n{begin}\n{end}\n"
    before, rest = text_.split(begin)
    write_text(file, f"{before}{begin}\n\n{text}\n{end}{rest.split(end)[1]}")


def markdown(corner: str, headings: Iterable[str], rows: Mapping[str, Iterable[str]]) -> list[str]:
    """The lines of a table: its headings, and cells by the name of their row."""
    headings = list(headings)
    lines = [f"| {corner} | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


def cell(value: Mapping[str, float | None], digits: int, times: float | int = 1) -> str:
    """A mean and its sd (from `mean_sd`) as text with this many decimals; without the sd if it rounds to zero."""
    mean = f"{times * (value['mean'] or 0.0):.{digits}f}"
    sd = f"{times * (value['sd'] or 0.0):.{digits}f}"
    return mean if float(sd) == 0.0 else f"{mean} ± {sd}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % confidence interval by Student's t."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        raise UsageError(f"an interval needs at least two values, not {n}; run more seeds")
    mean, sd = mean_sd(values)
    return mean, float(t.ppf(0.975, n - 1)) * (sd or 0.0) / math.sqrt(n)


def proportion_interval(p: float, n: int) -> float:
    """Half the width of the 95 % interval of an error rate p measured on n examples: 1.96 √(p(1-p)/n)."""
    return 1.96 * math.sqrt(p * (1 - p) / n)


def _source(file: str | Path, arguments: Mapping[str, Any]) -> tuple[Any, Source]:
    _, function = load_file(file)
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    unknown = sorted(set(arguments) - set(defaults))
    if unknown:
        raise UsageError(f"{file}: `experiment` has no argument {', '.join(unknown)}; it has {', '.join(defaults)}")
    return function, Source(str(Path(file).resolve()), sha256(file), {**defaults, **arguments})


def _refuse_other(directory: Path, recorded: Mapping[str, Any] | None, source: Source) -> None:
    if recorded is None or recorded["sha256"] != source.sha256:
        raise UsageError(
            f"{directory} was trained from another version of {source.file}; remove it, or restore the file"
        )
    differing = [n for n, v in source.arguments.items() if _listed(v) != _listed(recorded["arguments"].get(n))]
    if differing:
        raise UsageError(
            f"{directory} was trained with other {', '.join(differing)}; remove it, or choose another folder"
        )


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, (list, tuple)) else value
