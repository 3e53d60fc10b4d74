"""Latent diffusion's image autoencoder in diffusers' layout, `AutoencoderKL`, and back.

    diffusion_pytorch_model.safetensors    the weights, see `aejax.exchange.kl_weights`
    config.json                            channels, layers, scaling

Of a single .safetensors file without config.json the configuration is that of Stable Diffusion 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax.data import load, usual_splits
from aejax.errors import UsageError
from aejax.exchange.kl_weights import filled, in_diffusers_layout, in_one_dialect
from aejax.exchange.weights import read_weights, refuse_occupied_folder, run_of_weights, write_weights
from aejax.files import write_json
from aejax.models import kl_autoencoder
from aejax.nets import KLDecoder, KLEncoder
from aejax.runs.directory import read_json
from aejax.runs.experiment import fit
from aejax.runs.run import Run

WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
KIND = "AutoencoderKL"

STABLE_DIFFUSION: dict[str, Any] = {
    "_class_name": KIND,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}

DEFAULTS: dict[str, Any] = {
    "act_fn": "silu",
    "layers_per_block": 1,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
"""What a config.json that lacks a field means."""


def is_diffusers(path: Path) -> bool:
    """Whether it is a folder in this layout, or a single file of weights."""
    if path.is_file():
        return path.suffix == ".safetensors"
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def import_diffusers(path: Path, directory: Path, data: Any) -> Run:
    """Makes a run directory of an autoencoder in this layout.

    Args:
        path: A folder with config.json and weights, or a .safetensors file of Stable Diffusion.
        directory: The run directory to make; it must not exist.
        data: Images, as in `aejax.load`; it is evaluated on their test split.

    Returns:
        The run, at step 0.

    Raises:
        UsageError: Files are missing or damaged, or of another architecture; or the images have other channels.
    """
    if directory.exists():
        raise UsageError(f"{directory} exists; choose another run directory")
    file = path if path.is_file() else path / WEIGHTS
    config = STABLE_DIFFUSION if path.is_file() else read_json(path / CONFIG, f"{path} is not in diffusers' layout")
    encoder, decoder, scaled = nets_of(config, path)
    splits = load(data, usual_splits(data))
    if len(splits[0].shape) != 3 or splits[0].shape[2] != config["in_channels"]:
        raise UsageError(
            f"{splits[0].name} holds examples of shape {splits[0].shape}, and {path} takes images of {config['in_channels']} "
            "channels (--image-channels)"
        )
    model = kl_autoencoder(encoder, decoder, splits[0].shape, **scaled)
    experiment = fit(model, splits, steps=1, batch_size=1)
    weights = in_one_dialect(read_weights(file), len(encoder.widths))
    batch = {
        "x": jax.ShapeDtypeStruct((1, *splits[0].shape), np.float32),
        "index": jax.ShapeDtypeStruct((1,), np.int32),
    }
    like = jax.eval_shape(model.init, jax.random.key(0), batch)[0]
    return run_of_weights(experiment, filled(like, weights, str(file)), {}, directory, path)


def nets_of(config: Mapping[str, Any], path: Path) -> tuple[KLEncoder, KLDecoder, dict[str, float]]:
    """The nets of a config.json, and the scaling of their latents."""
    config = {**DEFAULTS, **config}
    where = path if path.is_file() else path / CONFIG
    if config.get("_class_name") != KIND:
        raise UsageError(f"{where} describes a {config.get('_class_name')}, not an {KIND}")
    for name in ("block_out_channels", "latent_channels", "in_channels", "out_channels"):
        if name not in config:
            raise UsageError(f"{where} lacks {name}")
    if config["act_fn"] != "silu" or config["latents_mean"] is not None or config["latents_std"] is not None:
        raise UsageError(f"{where}: only SiLU, and one scaling for all channels of the latents, are known here")
    widths = tuple(config["block_out_channels"])
    shared = {
        "layers": config["layers_per_block"],
        "groups": config["norm_num_groups"],
        "attention": config["mid_block_add_attention"],
    }
    encoder = KLEncoder(widths, config["latent_channels"], quant_conv=config["use_quant_conv"], **shared)
    decoder = KLDecoder(widths, config["out_channels"], quant_conv=config["use_post_quant_conv"], **shared)
    return encoder, decoder, {"scaling": config["scaling_factor"], "shift": config["shift_factor"] or 0.0}


def export_diffusers(run: Run, folder: Path) -> None:
    """Writes an autoencoder to a new folder that diffusers' `AutoencoderKL.from_pretrained` reads.

    Args:
        run: A run of `aejax.models.kl_autoencoder` with `KLEncoder` and `KLDecoder`.
        folder: The folder to write; it must not exist, or be empty.

    Raises:
        UsageError: The run is of another model, or the folder holds files.
    """
    made: Any = getattr(run.experiment.model, "made_by", None)
    name, arguments = ("", {}) if made is None else made[:2]
    encoder, decoder = arguments.get("encoder"), arguments.get("decoder")
    if not (name.endswith("kl_autoencoder") and isinstance(encoder, KLEncoder) and isinstance(decoder, KLDecoder)):
        raise UsageError(f"{run.directory} is no run of latent diffusion's autoencoder, which diffusers can read")
    if (encoder.widths, encoder.layers, encoder.groups) != (decoder.widths, decoder.layers, decoder.groups):
        raise UsageError(f"{run.directory}: diffusers has one configuration for encoder and decoder, and these differ")
    refuse_occupied_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    levels, shape = len(encoder.widths), arguments["shape"]
    write_weights(folder / WEIGHTS, in_diffusers_layout(jax.tree.map(np.asarray, run.state.params)), {"format": "pt"})
    write_json(
        folder / CONFIG,
        {
            "_class_name": KIND,
            "act_fn": "silu",
            "block_out_channels": list(encoder.widths),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "in_channels": shape[2],
            "out_channels": decoder.channels,
            "latent_channels": encoder.latent,
            "layers_per_block": encoder.layers,
            "norm_num_groups": encoder.groups,
            "mid_block_add_attention": encoder.attention,
            "use_quant_conv": encoder.quant_conv,
            "use_post_quant_conv": decoder.quant_conv,
            "sample_size": max(shape[:2]),
            "scaling_factor": arguments["scaling"],
            "shift_factor": arguments["shift"] or None,
        },
    )
