"""The commands on trained runs and on data: evaluate, report, encode, reconstruct, sample, data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from aejax.cli.flags import parse
from aejax.cli.outputs import check_output, write_output
from aejax.cli.start import chosen_checkpoint, existing, reading, start
from aejax.data import ReadAs, available, column_names, file_names, load, open_split, prepare, read_as, usual_splits
from aejax.errors import UsageError, printable
from aejax.files import replacing
from aejax.runs.directory import finished_in, holds_runs
from aejax.runs.opening import open_run


def evaluate(args: list[str]) -> int:
    def flags(draws: int = 5000, quick: bool = False) -> None:
        """
        Args:
            quick: Compute only the terms, the reconstruction, and how codes are used.
            draws: Number of draws of z per example (for a sequence, over all its steps) that estimate -log p(x) of a
                latent-variable model; 0 skips the estimate.
        """

    about = "Evaluate a run on its test split, and baselines on the same examples; writes eval.json."
    opened, which, more = parse("aejax evaluate", [existing, chosen_checkpoint, flags], args, about)
    start(1)
    if more["draws"] < 0:
        raise UsageError(f"--draws {more['draws']}: it must be at least 0")
    from aejax.evaluation.evaluator import evaluate as evaluate_run
    from aejax.evaluation.evaluator import print_table
    from aejax.evaluation.summary import print_summary, summarize

    directory = opened.pop("run")
    if not holds_runs(directory):
        print_table(evaluate_run(open_run(directory, with_data=True, **opened, **which), **which, **more, verbose=True))
        return 0
    for member in finished_in(directory):
        evaluate_run(open_run(member, with_data=True, **opened, **which), **which, **more, verbose=True)
    print_summary(directory, summarize(directory))
    return 0


def report(args: list[str]) -> int:
    def flags(
        runs: tuple[Path, ...], /, out: Path | None = None, allow_changed: bool = False, data: str | None = None
    ) -> None:
        """
        Args:
            runs: Run directories, or groups of them; several are compared.
            out: The page; by default report.html in the run directory, or comparison.html here for several runs.
            allow_changed: Accept an experiment file or data that has changed since the run was started.
            data: The path of the data, if they have moved or were arrays in memory.
        """

    (chosen,) = parse("aejax report", [flags], args, "One self-contained HTML page, and its figures as PNG beside it.")
    start(1)
    from aejax.reports import report as write_report

    if not chosen["runs"]:
        raise UsageError("which run? usage: aejax report RUN [RUN ...]")
    directories = [member for d in chosen["runs"] for member in (finished_in(d) if holds_runs(d) else [d])]
    runs = [
        open_run(d, with_data=True, allow_changed=chosen["allow_changed"], data=chosen["data"]) for d in directories
    ]
    print(write_report(runs, chosen["out"]))
    return 0


def output(out: Path, /, overwrite: bool = False, sample_rate: int = 16_000) -> None:
    """
    Args:
        out: The file to write: .npy, or a table (.csv, .tsv, .parquet) with one row per example; or a folder for images (PNG) or
            signals (WAV).
        overwrite: Replace the output if it exists.
        sample_rate: Samples per second of the .wav files.
    """


def source(source: str, /, large: bool = False) -> None:
    """
    Args:
        source: A .npy, .npz, .csv, .tsv or .parquet file, a folder of images, or NAME:SPLIT (digits:test).
        large: Accept a file that takes more than 8 GiB in memory, and images of more than 179 million pixels.
    """


def as_given(source: Any, large: bool) -> Any:
    """A source of data as the flags say it."""
    return ReadAs(source, large=True) if large and source is not None else source


def encode(args: list[str]) -> int:
    def flags(codes: bool = False) -> None:
        """
        Args:
            codes: Write integer codes instead of their vectors (models with discrete codes).
        """

    about = "Codes of a data source, as a .npy file or a table; the rows of a table of image files have their names."
    opened, given, out, which, more = parse(
        "aejax encode", [existing, source, output, chosen_checkpoint, flags], args, about
    )
    return _apply("codes" if more["codes"] else "encode", opened, given, out, which)


def reconstruct(args: list[str]) -> int:
    about = "Reconstructions of a data source in data range, as a .npy file or a folder of images."
    return _apply(
        "reconstruct", *parse("aejax reconstruct", [existing, source, output, chosen_checkpoint], args, about)
    )


def impute(args: list[str]) -> int:
    def flags(rounds: int = 1) -> None:
        """
        Args:
            rounds: Number of reconstructions, each of the examples that the one before completed.
        """

    about = "Complete examples: missing values (NaN, an empty cell) are replaced by the model's reconstructions."
    opened, given, out, which, more = parse(
        "aejax impute", [existing, source, output, chosen_checkpoint, flags], args, about
    )
    start(1)
    check_output(out["out"], out["overwrite"])
    run, data = open_run(opened.pop("run"), **opened, **which), as_given(**given)
    columns = column_names(data)
    write_output(out, run.impute(data, **more), run.experiment.train.found, file_names(data), columns)
    return 0


def _apply(name: str, opened: dict[str, Any], given: dict[str, Any], out: dict[str, Any], which: dict[str, Any]) -> int:
    start(1)

    check_output(out["out"], out["overwrite"])
    run, data = open_run(opened.pop("run"), **opened, **which), as_given(**given)
    found = run.experiment.train.found if name == "reconstruct" else None
    write_output(out, getattr(run, name)(data), found, file_names(data))
    return 0


def sample(args: list[str]) -> int:
    def flags(
        n: int = 64,
        seed: int = 0,
        given: str | None = None,
        label: int | None = None,
        classifier: Path | None = None,
        keep: float = 0.25,
        fit_mixture: int = 0,
        prefix: int | None = None,
        gaps: tuple[int, ...] = (),
        large: bool = False,
    ) -> None:
        """
        Args:
            n: How many samples; `--n 10` gives the first ten of `--n 100`.
            seed: Seed of the samples.
            given: For a conditional model, the examples whose labels or parts the samples are conditioned on, in turn; for a
                model of sequences, the sequences to continue. A .npy or .npz file, a folder of images, or NAME:SPLIT
                (digits:test).
            label: For a class-conditional model: the number of the class of all samples.
            classifier: Run directory of a classifier: with --label, keep the samples with the highest probability of that class.
            keep: Fraction of the samples that is kept with --classifier.
            fit_mixture: Number of Gaussians of a mixture that is fitted to the codes of the training split, and sampled in
                place of the model's prior; for any model with vector codes and a decoder.
            prefix: For a model of sequences: how many frames of each it sees; by default half of them.
            gaps: Steps from each frame of a sample to the next, the first from the last frame of the prefix; by default steps
                of one up to the length of a whole sequence.
            large: For --given, as in `aejax encode`.
        """

    about = "Samples of a generative model, or of a density fitted to any model's codes, as a .npy file or a folder of images."
    opened, out, wanted, which = parse("aejax sample", [existing, output, flags, chosen_checkpoint], args, about)
    start(1)

    if wanted["n"] < 1:
        raise UsageError(f"--n {wanted['n']}: it must be at least 1")
    check_output(out["out"], out["overwrite"])
    components = wanted.pop("fit_mixture")
    if components < 0:
        raise UsageError(f"--fit-mixture {components}: it must be at least 1, or 0 for the model's own prior")
    label, classifier, keep = (wanted.pop(name) for name in ("label", "classifier", "keep"))
    given = as_given(wanted.pop("given"), wanted.pop("large"))
    prefix, gaps = wanted.pop("prefix"), wanted.pop("gaps")
    if classifier is not None and (label is None or given is not None):
        raise UsageError("--classifier accepts samples of one class; say which with --label, and leave out --given")
    if components and (given is not None or label is not None):
        raise UsageError("--fit-mixture samples codes without a condition; leave out --given and --label")
    run = open_run(opened.pop("run"), with_data=components > 0, **opened, **which)
    if components:
        from aejax.samplers import sample_fitted

        write_output(out, sample_fitted(run, components, **wanted), run.experiment.train.found)
    elif classifier is not None:
        from aejax.samplers import sample_accepted

        accepted, accuracy = sample_accepted(run, open_run(classifier), label, keep=keep, **wanted)
        print(f"{100 * accuracy:.1f} % of the samples that were drawn are classified as {label}")
        write_output(out, accepted, run.experiment.train.found)
    elif (
        run.experiment.model.sequence is not None
        and run.experiment.model.sequence.rollout is not None
        and given is not None
    ):
        if label is not None:
            raise UsageError("--label is for class-conditional models; a model of sequences continues --given")
        sequences, t = open_split(given, run.experiment.train.reading), run.experiment.train.shape[0]
        prefix = max(1, sequences.shape[0] // 2) if prefix is None else prefix
        write_output(
            out, run.rollout(sequences, gaps or (1,) * max(1, t - prefix), prefix, **wanted), run.experiment.train.found
        )
    elif prefix is not None or gaps:
        raise UsageError("--prefix and --gaps are of sequences: give a run of a model of them, and --given")
    else:
        write_output(out, run.sample(**wanted, given=given, label=label), run.experiment.train.found)
    return 0


def data(args: list[str]) -> int:
    subcommands = {"list": _data_list, "prepare": _data_prepare, "inspect": _data_inspect}
    usage = "usage: aejax data list, aejax data prepare NAME, or aejax data inspect SOURCE"
    if args[:1] in (["--help"], ["-h"]):
        print(f"{usage}\n\n`aejax data COMMAND --help` lists the flags of each.")
        return 0
    if not args or args[0] not in subcommands:
        raise UsageError(usage)
    return subcommands[args[0]](args[1:])


def _data_list(args: list[str]) -> int:
    def flags() -> None:
        """No flags."""

    parse("aejax data list", [flags], args, "List the data sets that are built in or prepared.")
    for name, shape, sizes, prepared, note in available():
        state = "prepared" if prepared else "not prepared"
        counts = ", ".join(f"{split} {size}" for split, size in sizes.items())
        print(f"{name:<20} {'×'.join(map(str, shape)) or '-':<10} {counts:<45} {state:<13} {note}".rstrip())
    return 0


def _data_prepare(args: list[str]) -> int:
    def flags(name: str, /) -> None:
        """
        Args:
            name: Of a data set (`aejax data list`).
        """

    (wanted,) = parse("aejax data prepare", [flags], args, "Download and prepare a data set.")
    for split in prepare(wanted["name"]):
        shape = "×".join(map(str, split.shape))
        print(f"{split.name:<28} {split.size} examples of {shape}  sha256 {split.fingerprint[:16]}")
    return 0


def _data_inspect(args: list[str]) -> int:
    def flags(source: str, /, out: Path | None = None, experiments: bool = True, overwrite: bool = False) -> None:
        """
        Args:
            source: Name of a data set, or path of a .npy, .npz, .csv, .tsv or .parquet file or folder of images.
            out: The .png file to write with the first examples; by default inspected-NAME.png here.
            experiments: Try which of the experiments that come with aejax can be trained on the data.
            overwrite: Replace the picture if it exists.
        """

    about = (
        "Show what is in a data source: splits, units, classes, duplicates, examples, and the experiments that take it."
    )
    wanted, how = parse("aejax data inspect", [flags, reading], args, about)
    given = wanted["source"]
    out = wanted["out"] or Path(f"inspected-{Path(given).stem}.png")
    check_output(out, wanted["overwrite"], (".png",))
    from aejax.figures.pixels import pixels_png
    from aejax.reports import inspection

    data = read_as(given, how)
    splits = load(data, usual_splits(data))
    for line in inspection.lines(splits):
        print(printable(line))
    images = inspection.pictures(splits[0])
    print(inspection.in_text(images, sys.stdout.isatty()))
    with replacing(out) as handle:
        handle.write(pixels_png(inspection.grid(images), 640))
    print(f"{out}: the first {len(images)} examples of {splits[0].name}")
    if wanted["experiments"]:
        taking, others = inspection.takers(data)
        print(f"aejax train takes it for: {', '.join(taking) or 'none of its experiments'}")
        for name, why in others.items():
            print(f"  not {name}: {why}")
    return 0
