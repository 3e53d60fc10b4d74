"""The commands: aejax train | resume | evaluate | report | encode | reconstruct | sample | verify | data.

Each is a function whose typed arguments are its flags. What a user can cause is printed as one line, with exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from aejax.checkpoint import digest
from aejax.data import available, cache_folder, open_split, prepare
from aejax.errors import UsageError
from aejax.experiment import Source, build, load_file, sha256
from aejax.flags import parse, plain
from aejax.run import Run, environment, open_run, read_config, read_json, rebuild
from aejax.train import Interrupted, NonFinite, Settings
from aejax.train import resume as resume_run
from aejax.train import train as train_run

# aejax.evaluate and aejax.report are imported where they are used: matplotlib would add a second to the first step.

USAGE = """usage: aejax COMMAND ...

  train FILE.py [--flag value ...]   train an experiment, evaluate it, write its report; --help lists its hyperparameters
  resume RUN                         continue an interrupted run to the bits it would have had
  evaluate RUN                       judge a run on its test split, beside baselines; writes eval.json
  report RUN [RUN ...]               one self-contained HTML page of a run, or of several compared
  encode RUN IN OUT.npy              codes of IN: a .npy or .npz file, a folder of images, or NAME:SPLIT
  reconstruct RUN IN OUT.npy         reconstructions of IN
  sample RUN OUT.npy                 samples of a generative model
  verify RUN                         replay a run from its configuration and compare digests
  data list | data prepare NAME      the data sets at hand; download and prepare one

`aejax COMMAND --help` tells more. --debug shows tracebacks.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 done, 1 failed, 2 a mistake of the user's, 128 + n on signal n."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]

    try:
        if not args or args[0] in ("-h", "--help", "help"):
            print(USAGE, end="")
            return 0 if args else 2
        command, rest = args[0], args[1:]
        if command == "--version":
            print(f"aejax {version('aejax')}")
            return 0
        if command not in COMMANDS:
            raise UsageError(f"no command {command!r}; choose from {', '.join(COMMANDS)} (aejax --help)")
        return COMMANDS[command](rest)
    except UsageError as error:
        if debug:
            raise
        print(f"aejax: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("aejax: interrupted", file=sys.stderr)
        return 130
    except Interrupted as stopped:
        print(f"aejax: {stopped}", file=sys.stderr)
        return 128 + stopped.signum
    except NonFinite as error:
        print(f"aejax: error: {error}", file=sys.stderr)
        return 1
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        if debug:
            raise
        print(f"aejax: error: {error.strerror}: {error.filename}; choose a path that can be used", file=sys.stderr)
        return 2
    except Exception as error:
        where = _no_space(error)
        if debug or where is None:
            raise
        mend = "free some and try again; a run that had begun goes on with `aejax resume`"
        print(f"aejax: error: no space left on the device{where}; {mend}", file=sys.stderr)
        return 2


def train(args: list[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        print(
            "usage: aejax train FILE.py [--flag value ...]\n\n`aejax train FILE.py --help` lists that experiment's flags."
        )
        return 0
    if not args or args[0].startswith("-"):
        raise UsageError("which experiment? usage: aejax train FILE.py [--flag value ...]; try experiments/dae.py")
    file, rest = args[0], args[1:]
    module, function = load_file(file)

    def flags(
        run: Path | None = None,
        devices: int = 1,
        log_every: int = 100,
        save_every: int = 1000,
        keep: int = 3,
        tensorboard: bool = False,
        evaluate: bool = True,
        overwrite: bool = False,
    ) -> None:
        """
        Args:
            run: The run directory; by default runs/ and a name that says what ran and when.
            devices: Devices that share each batch (on CPU, as many are made).
            log_every: Steps between lines of metrics.jsonl.
            save_every: Steps between checkpoints, each judged on the validation split.
            keep: How many of the last checkpoints to keep, besides the best.
            tensorboard: Also write TensorBoard logs into the run directory.
            evaluate: Evaluate and write the report at the end.
            overwrite: Replace the run directory if it exists.
        """

    arguments, chosen = parse(f"aejax train {file}", [function, flags], rest, description=module.__doc__ or "")
    _start(chosen["devices"])

    experiment = build(function, plain(arguments))
    directory = chosen["run"] or Path("runs") / _name(file, arguments)
    settings = Settings(**{name: chosen[name] for name in Settings._fields})
    source = Source(str(Path(file).resolve()), sha256(file), plain(arguments))
    _conclude(train_run(experiment, directory, settings, source, overwrite=chosen["overwrite"]), chosen["evaluate"])
    return 0


def existing(run: Path, /, file: Path | None = None, allow_changed: bool = False) -> None:
    """The flags of every command on a run.
    Args:
        run: The run directory.
        file: The experiment file, if it has moved.
        allow_changed: Accept an experiment file or data that has changed since the run was started.
    """


def chosen_checkpoint(checkpoint: str = "last") -> None:
    """
    Args:
        checkpoint: last, or best by the monitored validation metric.
    """


def output(out: Path, /, overwrite: bool = False) -> None:
    """
    Args:
        out: The .npy file to write.
        overwrite: Replace the output if it exists.
    """


def resume(args: list[str]) -> int:
    def flags(devices: int | None = None, evaluate: bool = True) -> None:
        """
        Args:
            devices: Devices to continue on; by default as many as before.
            evaluate: Evaluate and write the report at the end.
        """

    opened, chosen = parse("aejax resume", [existing, flags], args, "Continue a run, to the bits it would have had.")

    _start(chosen["devices"] or read_config(opened["run"])["settings"]["devices"])

    _conclude(resume_run(opened.pop("run"), **opened, devices=chosen["devices"]), chosen["evaluate"])
    return 0


def evaluate(args: list[str]) -> int:
    told = "Judge a run on its test split, beside baselines; writes eval.json."
    opened, which = parse("aejax evaluate", [existing, chosen_checkpoint], args, told)
    _start(1)
    from aejax.evaluate import evaluate as evaluate_run
    from aejax.evaluate import print_table

    print_table(evaluate_run(open_run(opened.pop("run"), with_data=True, **opened, **which), **which))
    return 0


def report(args: list[str]) -> int:
    def flags(runs: tuple[Path, ...], /, out: Path | None = None, allow_changed: bool = False) -> None:
        """
        Args:
            runs: Run directories; several are compared.
            out: The page; by default report.html in the run directory, or comparison.html here for several runs.
            allow_changed: Accept an experiment file or data that has changed since the run was started.
        """

    (chosen,) = parse("aejax report", [flags], args, "One self-contained HTML page, and its figures as PNG beside it.")
    _start(1)
    from aejax.report import report as write_report

    if not chosen["runs"]:
        raise UsageError("which run? usage: aejax report RUN [RUN ...]")
    runs = [open_run(d, with_data=True, allow_changed=chosen["allow_changed"]) for d in chosen["runs"]]
    print(write_report(runs, chosen["out"]))
    return 0


def encode(args: list[str]) -> int:
    return _apply("encode", "Codes of a data source, as a .npy file.", args)


def reconstruct(args: list[str]) -> int:
    return _apply("reconstruct", "Reconstructions of a data source in data range, as a .npy file.", args)


def _apply(name: str, told: str, args: list[str]) -> int:
    def flags(source: str, /) -> None:
        """
        Args:
            source: A .npy or .npz file, a folder of images, or NAME:SPLIT (digits:test).
        """

    opened, given, out, which = parse(f"aejax {name}", [existing, flags, output, chosen_checkpoint], args, told)
    _start(1)

    _check_out(**out)
    run = open_run(opened.pop("run"), **opened, **which)
    _write_array(out["out"], getattr(run, name)(open_split(given["source"])))
    return 0


def sample(args: list[str]) -> int:
    def flags(n: int = 64, seed: int = 0) -> None:
        """
        Args:
            n: How many; the first ten of a hundred are the ten.
            seed: Of the samples.
        """

    told = "Samples of a generative model, as a .npy file."
    opened, out, wanted, which = parse("aejax sample", [existing, output, flags, chosen_checkpoint], args, told)
    _start(1)

    if wanted["n"] < 1:
        raise UsageError(f"--n {wanted['n']}: it must be at least 1")
    _check_out(**out)
    _write_array(out["out"], open_run(opened.pop("run"), **opened, **which).sample(**wanted))
    return 0


def verify(args: list[str]) -> int:
    (opened,) = parse("aejax verify", [existing], args, "Replay a finished run from config.json and compare digests.")

    directory = opened.pop("run")
    config = read_config(directory)
    expected = read_json(directory / "result.json", f"{directory} is not complete")
    _start(config["settings"]["devices"])

    experiment = rebuild(directory, config, **opened)
    settings = Settings(**config["settings"])._replace(tensorboard=False)
    differences = [
        f"{name} {config[group].get(name)} then, {value} now"
        for group, values in environment().items()
        for name, value in values.items()
        if config[group].get(name) != value
    ]
    differences += [
        f"resumed at step {session['from_step']} on {session['devices']} devices and other versions or platform"
        for session in config["resumed"]
        if session["devices"] != settings.devices
        or any(session[group] != config[group] for group in ("versions", "platform"))
    ]
    saved = open_run(directory, experiment=experiment).state
    if digest(saved.params, saved.extras) != expected["digest"]:
        print(f"the checkpoint in {directory} is not what result.json tells of", file=sys.stderr)
        return 1
    for difference in differences:
        print(f"differs: {difference}")
    with tempfile.TemporaryDirectory() as folder:
        train_run(experiment, Path(folder) / "replay", settings)
        found = read_json(Path(folder) / "replay" / "result.json", "the replay left no result")
    if found["digest"] == expected["digest"]:
        print(f"same digest after {found['step']} steps: {found['digest']}")
        return 0
    print(f"digest {expected['digest']} then, {found['digest']} now", file=sys.stderr)
    if not differences:
        print("neither versions nor platform differ: the code does, or the run is not deterministic", file=sys.stderr)
    return 1


def data(args: list[str]) -> int:
    if args == ["list"]:
        for name, shape, sizes, prepared, note in available():
            told = "prepared" if prepared else "not prepared"
            counts = ", ".join(f"{split} {size}" for split, size in sizes.items())
            print(f"{name:<20} {'×'.join(map(str, shape)) or '-':<10} {counts:<32} {told:<13} {note}")
        return 0
    if len(args) == 2 and args[0] == "prepare":
        for split in prepare(args[1]):
            print(
                f"{split.name:<28} {split.size} examples of {'×'.join(map(str, split.shape))}  sha256 {split.fingerprint[:16]}"
            )
        return 0
    raise UsageError("usage: aejax data list, or aejax data prepare NAME")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    f.__name__: f for f in (train, resume, evaluate, report, encode, reconstruct, sample, verify, data)
}


def _start(devices: int) -> None:
    """Before JAX's first use: CPU devices, and compiled programs kept between processes in the user's own cache folder."""
    if devices < 1:
        raise UsageError(f"--devices {devices}: it must be at least 1")
    if devices > max(1, jax.config.jax_num_cpu_devices):  # type: ignore[attr-defined]
        try:
            jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError:
            raise UsageError(
                f"--devices {devices}: the experiment file computes with JAX while it is imported, which fixes the number "
                "of CPU devices; move that into its function"
            ) from None
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _name(file: str, arguments: dict) -> str:
    """What ran and when: dae-digits-seed0-20260131-235959."""
    what = Path(str(arguments["data"])).stem
    when = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{Path(file).stem}-{what}-seed{arguments['seed']}-{when}"


def _conclude(run: Run, judged: bool) -> None:
    """After training: the table and the report, or only where the run lies."""
    from aejax.evaluate import evaluate as evaluate_run
    from aejax.evaluate import print_table
    from aejax.report import report as write_report

    if judged:
        print_table(evaluate_run(run))
        print(f"report: {write_report([run])}")
    else:
        print(f"run: {run.directory}")


def _check_out(out: Path, overwrite: bool) -> None:
    """Refused before the work, not after it."""
    if out.suffix != ".npy":
        raise UsageError(f"{out}: the output is a .npy file; name it so")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; pass --overwrite to replace it")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}; make it first")


def _write_array(out: Path, array) -> None:
    beside = out.with_name(out.name + ".tmp")
    with open(beside, "wb") as handle:
        np.save(handle, array, allow_pickle=False)
    os.replace(beside, out)
    print(f"{out}: {array.dtype} {list(array.shape)}")


def _no_space(error: BaseException | None) -> str | None:
    """Where the disk was full, if that is what an error, or what caused it, says; TensorStore tells it in words only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f" ({error.filename})" if error.filename else ""
        if "No space left on device" in str(error) or "RESOURCE_EXHAUSTED: Error writing" in str(error):
            return ""
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    raise SystemExit(main())
