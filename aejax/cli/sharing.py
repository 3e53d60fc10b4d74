"""The commands that share runs: export, import."""

from __future__ import annotations

from pathlib import Path

from aejax.cli.flags import parse
from aejax.cli.start import existing, start
from aejax.runs.opening import open_run


def export(args: list[str]) -> int:
    def flags(folder: Path, /, onnx: bool = False) -> None:
        """
        Args:
            folder: The folder to write; it must not exist, or be empty.
            onnx: Also write encoder.onnx and decoder.onnx, and compare them with JAX.
        """

    about = "Weights (safetensors), configuration and model card of a finished run, as a folder to share."
    opened, wanted = parse("aejax export", [existing, flags], args, about)
    start(1)
    from aejax.exchange import export_run

    export_run(open_run(opened.pop("run"), **opened), wanted["folder"], wanted["onnx"])
    print(wanted["folder"])
    return 0


def import_(args: list[str]) -> int:
    def flags(folder: Path, run: Path, /, file: Path | None = None) -> None:
        """
        Args:
            folder: A folder that `aejax export` wrote.
            run: The run directory to make.
            file: The experiment file, if it is not where the exported configuration says and did not come with aejax.
        """

    (wanted,) = parse("aejax import", [flags], args, "A run directory of an exported folder.")
    start(1)
    from aejax.exchange import import_run

    import_run(wanted["folder"], wanted["run"], wanted["file"])
    print(wanted["run"])
    return 0
