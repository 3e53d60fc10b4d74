"""The commands that share runs: export, import."""

from __future__ import annotations

from pathlib import Path

from aejax.cli.flags import parse
from aejax.cli.start import existing, start
from aejax.errors import UsageError
from aejax.runs.opening import open_run


def export(args: list[str]) -> int:
    def flags(folder: Path, /, onnx: bool = False, sae_lens: bool = False, diffusers: bool = False) -> None:
        """
        Args:
            folder: The folder to write; it must not exist, or be empty.
            onnx: Also write encoder.onnx and decoder.onnx, and compare them with JAX.
            sae_lens: Write a sparse dictionary in the layout that SAELens reads, and nothing else.
            diffusers: Write the autoencoder of latent diffusion in the layout that diffusers reads, and nothing else.
        """

    about = "Weights (safetensors), configuration and model card of a finished run, as a folder to share."
    opened, wanted = parse("aejax export", [existing, flags], args, about)
    start(1)
    run = open_run(opened.pop("run"), **opened)
    if wanted["sae_lens"]:
        from aejax.exchange.sae_lens import export_sae_lens

        export_sae_lens(run, wanted["folder"])
    elif wanted["diffusers"]:
        from aejax.exchange.diffusers import export_diffusers

        export_diffusers(run, wanted["folder"])
    else:
        from aejax.exchange import export_run

        export_run(run, wanted["folder"], wanted["onnx"])
    print(wanted["folder"])
    return 0


def import_(args: list[str]) -> int:
    def flags(folder: Path, run: Path, /, file: Path | None = None, data: str | None = None) -> None:
        """
        Args:
            folder: A folder that `aejax export` wrote; a sparse dictionary in SAELens' layout; an image autoencoder in
                diffusers' layout, or a .safetensors file of Stable Diffusion.
            run: The run directory to make.
            file: The experiment file, if it is not where the exported configuration says and did not come with aejax.
            data: For models of SAELens and diffusers, the data that they are for.
        """

    (wanted,) = parse("aejax import", [flags], args, "A run directory of an exported folder.")
    start(1)
    from aejax.exchange.diffusers import import_diffusers, is_diffusers
    from aejax.exchange.sae_lens import import_sae_lens, is_sae_lens

    folder, run, data = wanted["folder"], wanted["run"], wanted["data"]
    foreign = is_sae_lens(folder) or is_diffusers(folder)
    if foreign != (data is not None):
        raise UsageError("--data names the data that a model of SAELens or diffusers is for, and belongs to these only")
    if is_sae_lens(folder):
        import_sae_lens(folder, run, data)
    elif is_diffusers(folder):
        import_diffusers(folder, run, data)
    else:
        from aejax.exchange import import_run

        import_run(folder, run, wanted["file"])
    print(wanted["run"])
    return 0
