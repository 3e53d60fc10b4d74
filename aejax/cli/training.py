"""The commands that train: train, resume, verify."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

import jax

from aejax.cli.flags import parse, plain
from aejax.cli.start import existing, joined, reading, start
from aejax.cli.varying import varied_by
from aejax.data import located, read_as, refuse_damaged
from aejax.errors import UsageError
from aejax.runs.checkpoint import Damaged
from aejax.runs.directory import (
    datasets,
    environment,
    finished_in,
    holds_runs,
    is_group,
    is_run,
    is_sweep,
    read_config,
    read_group,
    read_json,
    read_sweep,
    refuse_member,
)
from aejax.runs.experiment import DIGEST, Source, build, find, load_file
from aejax.runs.opening import open_run, rebuild
from aejax.runs.run import Run
from aejax.training.callbacks import stop_at
from aejax.training.cost import cost_line
from aejax.training.grids import apart_and_together, resume_grid, train_grid
from aejax.training.groups import open_group, resume_members, train_members
from aejax.training.processes import is_first
from aejax.training.recorder import NonFinite
from aejax.training.search import is_search, resume_search
from aejax.training.settings import Settings, settings_of
from aejax.training.trainer import resume as resume_run
from aejax.training.trainer import start_of
from aejax.training.trainer import train as train_run

# aejax.evaluation and aejax.reports are imported inside functions: matplotlib would delay the first step by a second.


def train(args: list[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        print(
            "usage: aejax train NAME|FILE.py [--flag value ...]\n\n`aejax train dae --help` lists that experiment's flags, "
            "`aejax experiments` the names."
        )
        return 0
    file, module, function = named_experiment("train", args)

    def flags(
        run: Path | None = None,
        evaluate: Literal["full", "quick", "none"] = "full",
        overwrite: bool = False,
        start_from: Path | None = None,
        seeds: int = 1,
        sweep: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            run: The run directory; by default a folder in runs/ named after the experiment, the data, the seed and the time.
            evaluate: Evaluate and write the report at the end; quick computes only the terms, the reconstruction, and how codes
                are used, without restoration, probes and -log p(x).
                --no-evaluate is short for --evaluate none.
            start_from: A run with the same net, from whose parameters the training starts.
            overwrite: Replace the run directory if it exists.
            seeds: Number of seeds, from --seed on, to train in one compiled program; --run then holds one directory per seed.
            sweep: Train one run per combination of values, as in --sweep lr=1e-3,3e-4 latent=8,16 hidden=256,512x256. Seeds and
                floats train in one program, other arguments one after the other. Can be combined with --seeds.
        """

    arguments, wanted, how, chosen, where = parse(
        f"aejax train {args[0]}",
        [function, flags, reading, Settings, joined],
        spelled_out(args[1:]),
        description=module.__doc__ or "",
    )
    settings = Settings(**chosen)
    varied = varied_by(wanted["seeds"], wanted["sweep"], arguments, get_type_hints(function))
    members = math.prod(map(len, varied.values()))
    apart, together = apart_and_together(arguments, varied)
    automatic = 1 if math.prod(map(len, together.values())) == 1 else cores()
    start(automatic if settings.devices is None else settings.devices, settings.deterministic, **where)

    which = f"seed{arguments['seed']}" if members == 1 else f"{members}members"
    directory = wanted["run"] or default_directory(file, arguments, which)
    if jax.process_count() > 1 and wanted["run"] is None:
        raise UsageError("several processes write one run; name it with --run, in a folder that all of them see")
    if not any(word.split("=")[0] == "--data" for word in args):
        arguments, how = with_data_of_parent(arguments, how)
    given, source = given_and_source(file, module, arguments, how)
    if wanted["seeds"] != 1 or wanted["sweep"]:
        if wanted["start_from"] is not None:
            raise UsageError("--start-from starts a single run; leave out --seeds and --sweep")
        train_all = train_grid if apart else train_members
        runs = train_all(function, given, varied, directory, settings, source, overwrite=wanted["overwrite"])
        conclude_group(directory, runs, wanted["evaluate"])
        return 0
    begun = None if wanted["start_from"] is None else open_run(wanted["start_from"])  # before data are drawn
    experiment = build(function, given)
    run = train_run(experiment, directory, settings, source, overwrite=wanted["overwrite"], start=begun)
    _conclude(run, wanted["evaluate"])
    return 0


def spelled_out(args: list[str]) -> list[str]:
    """The arguments with short forms written out."""
    short = {"--no-evaluate": ["--evaluate", "none"], "--tensorboard": ["--track", "tensorboard"]}
    return [word for arg in args for word in short.get(arg, [arg])]


def named_experiment(command: str, args: list[str]) -> tuple[str, ModuleType, Any]:
    """The file that a command names first, its module, and its function."""
    if not args or args[0].startswith("-"):
        raise UsageError(
            f"which experiment? usage: aejax {command} NAME|FILE.py [--flag value ...]; try dae, and `aejax experiments`"
        )
    file = str(find(args[0]))
    return file, *load_file(file)


def with_data_of_parent(arguments: dict[str, Any], how: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments, with the data of the run that this one builds on, read as that run read them, if it builds on one."""
    parent = arguments.get("parent")
    if not parent or not is_run(Path(parent)):
        return arguments, how
    config = read_config(Path(parent))
    if config["source"] is None or "data" not in config["source"]["arguments"]:
        return arguments, how
    return {**arguments, "data": config["source"]["arguments"]["data"]}, {**how, **config["data"].get("reading", {})}


def given_and_source(
    file: str, module: ModuleType, arguments: dict[str, Any], how: dict[str, Any]
) -> tuple[dict[str, Any], Source]:
    """What the experiment's function is called with, and what is recorded; both are valid from any folder."""
    arguments = {**plain(arguments), "data": located(arguments["data"])}
    if arguments.get("parent"):
        arguments["parent"] = os.path.abspath(arguments["parent"])
    data = read_as(arguments["data"], how)
    given = {**arguments, "data": data} if data.stream or data.options() else arguments
    return given, Source(str(Path(file).resolve()), getattr(module, DIGEST), arguments)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_directory(file: str, arguments: dict[str, Any], which: str) -> Path:
    """runs/dae-digits-seed0-20260131-235959, or runs/dae-digits-8members-… for a group."""
    what = Path(str(arguments["data"])).stem
    when = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{Path(file).stem}-{what}-{which}-{when}"


def resume(args: list[str]) -> int:
    def flags(
        devices: int | None = None,
        evaluate: Literal["full", "quick", "none"] = "full",
        steps: int | None = None,
        trials: int | None = None,
    ) -> None:
        """
        Args:
            devices: Devices to continue on; by default as many as before.
            evaluate: Evaluate and write the report at the end, as in `aejax train`.
            steps: Train for more steps than the run was started with: the number of all steps.
            trials: Continue a search to this number of trials.
        """

    about = "Continue a run, a group of runs, or a search, to the bits it would have had."
    opened, chosen, where = parse("aejax resume", [existing, flags, joined], spelled_out(args), about)
    directory = opened.pop("run")
    settings = _settings(directory)
    devices = settings.devices if chosen["devices"] is None else chosen["devices"]
    several = is_sweep(directory) and math.prod(map(len, read_sweep(directory)["together"].values())) > 1
    automatic = cores() if several else 1
    start(automatic if devices is None else devices, settings.deterministic, **where)

    if is_search(directory):
        if chosen["steps"] is not None:
            raise UsageError(f"{directory} is a search; give --trials instead of --steps")
        runs = resume_search(directory, chosen["trials"], **opened, devices=chosen["devices"])
        conclude_group(directory, runs, chosen["evaluate"])
        return 0
    if chosen["trials"] is not None:
        raise UsageError(f"{directory} is not a search; leave out --trials")
    if holds_runs(directory):
        if chosen["steps"] is not None:
            raise UsageError(f"{directory} is a group, which cannot be extended; leave out --steps")
        resume_all = resume_grid if is_sweep(directory) else resume_members
        runs = resume_all(directory, **opened, devices=chosen["devices"])
        conclude_group(directory, runs, chosen["evaluate"])
        return 0
    run = resume_run(directory, **opened, devices=chosen["devices"], steps=chosen["steps"])
    _conclude(run, chosen["evaluate"])
    return 0


def _conclude(run: Run, evaluate: str) -> None:
    """After training: the table and the report, or only the path of the run."""
    from aejax.evaluation.evaluator import evaluate as evaluate_run
    from aejax.evaluation.evaluator import print_table
    from aejax.reports import report as write_report

    if not is_first():
        return
    _print_cost(run)
    if evaluate != "none":
        print_table(evaluate_run(run, verbose=_settings(run.directory).verbose, quick=evaluate == "quick"))
        print(f"report: {write_report([run])}")
    else:
        print(f"run: {run.directory}")


def conclude_group(directory: Path, runs: list[Run], evaluate: str) -> None:
    """After training members: mean ± sd over them, and the report that compares them."""
    from aejax.evaluation.evaluator import evaluate as evaluate_run
    from aejax.evaluation.summary import print_summary, summarize
    from aejax.reports import report as write_report

    _print_cost(runs[0])
    if evaluate != "none":
        for run in runs:
            evaluate_run(run, verbose=_settings(run.directory).verbose, quick=evaluate == "quick")
    print_summary(directory, summarize(directory))
    if evaluate != "none":
        print(f"report: {write_report(runs, directory / 'report.html')}")
    else:
        print(f"runs: {directory}")


def _print_cost(run: Run) -> None:
    """Prints the cost of a step; for members that were trained together, of all of them."""
    cost = read_json(run.directory / "result.json", f"{run.directory} is not complete").get("cost")
    if cost is not None:
        print(cost_line(cost))


def verify(args: list[str]) -> int:
    (opened,) = parse("aejax verify", [existing], args, "Replay a finished run from config.json and compare digests.")

    directory = opened.pop("run")
    settings = _settings(directory)._replace(track="none", profile=0)
    if is_sweep(directory):
        groups = dict.fromkeys(run.parent for run in finished_in(directory))
        return max(_verify_group(group, settings, **opened) for group in groups)
    if is_group(directory):
        return _verify_group(directory, settings, **opened)
    config = read_config(directory)
    refuse_member(directory, config, "verify")
    expected = read_json(directory / "result.json", f"{directory} is not complete")
    if expected["step"] == 0:
        raise UsageError(f"{directory} was made of weights from elsewhere, and has no training that could be replayed")
    start(settings.devices or 1, settings.deterministic)

    experiment = rebuild(directory, config, **opened)
    for data in datasets(experiment):
        refuse_damaged(data)
    extended = config.get("extended", [])
    try:
        open_run(directory, experiment=experiment, allow_changed=opened["allow_changed"])
    except Damaged as damaged:
        print(damaged, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        replay, settings = Path(folder) / "replay", settings._replace(patience=0)
        ends = [stage["from_step"] for stage in extended] + [expected["step"]]
        totals = [stage["from_steps"] for stage in extended] + [experiment.steps]
        for i, (end, total) in enumerate(zip(ends, totals)):
            stage = rebuild(directory, _with_steps(config, total), **opened) if extended else experiment
            ended = [stop_at(end)] if end < total else []
            if i == 0:
                train_run(stage, replay, settings, callbacks=ended, start=start_of(config))
            else:
                resume_run(replay, experiment=stage, callbacks=ended)
        replayed = read_json(replay / "result.json", "the replay left no result")
    return _compared(directory, config, settings, expected, replayed)


def _with_steps(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """The configuration of the run before it was extended."""
    if config["source"] is None:
        return {**config, "steps": steps}
    source = {**config["source"], "arguments": {**config["source"]["arguments"], "steps": steps}}
    return {**config, "source": source, "steps": steps}


def _verify_group(directory: Path, settings: Settings, **opened: Any) -> int:
    members = finished_in(directory)
    expected = {m.name: read_json(m / "result.json", f"{m} is not complete") for m in members}
    start(settings.devices or 1, settings.deterministic)
    group, _ = open_group(directory, **opened)
    for data in datasets(group.variants[0].experiment):
        refuse_damaged(data)
    varied = read_group(directory)["varied"]
    with tempfile.TemporaryDirectory() as folder:
        with suppress(NonFinite):  # including members that diverged then
            train_members(group.function, group.arguments, varied, Path(folder) / "replay", settings)
        replayed = {m: read_json(Path(folder) / "replay" / m / "result.json", "the replay left none") for m in expected}
    return max(_compared(m, read_config(m), settings, expected[m.name], replayed[m.name]) for m in members)


def _compared(
    directory: Path, config: dict[str, Any], settings: Settings, expected: dict[str, Any], replayed: dict[str, Any]
) -> int:
    """Prints how the replay's digest compares, and what else differs."""
    differences = [
        f"{name} {config[group].get(name)} then, {value} now"
        for group, values in environment().items()
        for name, value in values.items()
        if name in config[group] and config[group][name] != value
    ]
    differences += [
        f"resumed at step {session['from_step']} on {session['devices']} devices and other versions or platform"
        for session in config["resumed"]
        if session["devices"] != settings.devices
        or any(session[group] != config[group] for group in ("versions", "platform"))
    ]
    for difference in differences:
        print(f"differs: {difference}")
    if replayed["digest"] == expected["digest"]:
        print(f"{directory}: same digest after {replayed['step']} steps: {replayed['digest']}")
        return 0
    print(f"{directory}: digest {expected['digest']} then, {replayed['digest']} now", file=sys.stderr)
    if not differences:
        print("neither versions nor platform differ: the code does, or the run is not deterministic", file=sys.stderr)
    return 1


def _settings(directory: Path) -> Settings:
    """Settings of a run or of a group."""
    read = read_sweep if is_sweep(directory) else read_group if is_group(directory) else read_config
    recorded = read(directory)
    return settings_of(recorded["settings"], directory)
