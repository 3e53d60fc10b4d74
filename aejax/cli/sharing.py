"""The commands that share runs: export, import."""

from __future__ import annotations

from pathlib import Path

from aejax.cli.flags import parse
from aejax.cli.start import existing, start
from aejax.errors import UsageError
from aejax.runs.opening import open_run


def export(args: list[str]) -> int:
    def flags(folder: Path, /, onnx: bool = False, sae_lens: bool = False) -> None:
        """
        Args:
            folder: The folder to write; it must not exist, or be empty.
            onnx: Also write encoder.onnx and decoder.onnx, and compare them with JAX.
            sae_lens: Write a sparse dictionary in the layout that SAELens reads, and nothing else.
        """

    about = "Weights (safetensors), configuration and model card of a finished run, as a folder to share."
    opened, wanted = parse("aejax export", [existing, flags], args, about)
    start(1)
    run = open_run(opened.pop("run"), **opened)
    if wanted["sae_lens"]:
        from aejax.sae_lens import export_sae_lens

        export_sae_lens(run, wanted["folder"])
    else:
        from aejax.exchange import export_run

        export_run(run, wanted["folder"], wanted["onnx"])
    print(wanted["folder"])
    return 0


def import_(args: list[str]) -> int:
    def flags(folder: Path, run: Path, /, file: Path | None = None, data: str | None = None) -> None:
        """
        Args:
            folder: A folder that `aejax export` wrote, or a sparse dictionary in SAELens' layout.
            run: The run directory to make.
            file: The experiment file, if it is not where the exported configuration says and did not come with aejax.
            data: The activations that a dictionary in SAELens' layout is for.
        """

    (wanted,) = parse("aejax import", [flags], args, "A run directory of an exported folder.")
    start(1)
    from aejax.sae_lens import import_sae_lens, is_sae_lens

    if is_sae_lens(wanted["folder"]) != (wanted["data"] is not None):
        raise UsageError(
            "--data names the activations for a dictionary in SAELens' layout, and belongs to such a folder only"
        )
    if wanted["data"] is not None:
        import_sae_lens(wanted["folder"], wanted["run"], wanted["data"])
    else:
        from aejax.exchange import import_run

        import_run(wanted["folder"], wanted["run"], wanted["file"])
    print(wanted["run"])
    return 0
