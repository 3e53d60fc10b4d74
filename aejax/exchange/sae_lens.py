"""Sparse dictionaries in the layout that SAELens reads and writes, and back.

    sae_weights.safetensors    W_enc [d, n], W_dec [n, d], b_enc [n], b_dec [d], and what the kind adds
    cfg.json                   the kind, called architecture, the sizes, and what else it takes

Standardization of the data (`--standardize`) is folded into the weights: the exported dictionary takes data as they are. With
data (x − m) / s, the products ((x − m)/s − b) W are (x − b′) W/s with b′ = m + s b, and z W_d s + b′ is the reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.data import load, usual_splits
from aejax.errors import UsageError
from aejax.exchange.weights import read_weights, refuse_occupied_folder, run_of_weights, write_weights
from aejax.files import write_json
from aejax.models import dictionary
from aejax.objective import gated, jump_relu, matching_pursuit, relu_l1, relu_top_k
from aejax.objective.activations import Activation, threshold
from aejax.runs.directory import read_json
from aejax.runs.experiment import fit
from aejax.runs.run import Run
from aejax.types import Extras, Params

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"

ARCHITECTURES = {
    "relu_l1": "standard",
    "relu_top_k": "topk",
    "batch_top_k": "jumprelu",
    "jump_relu": "jumprelu",
    "gated": "gated",
    "matching_pursuit": "matching_pursuit",
}
"""Kind -> architecture. Outside training `batch_top_k` is a threshold, the same for all units."""

TRANSCODERS = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}


def is_sae_lens(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def export_sae_lens(run: Run, folder: Path) -> None:
    """Writes a dictionary to a new folder that SAELens' `SAE.load_from_disk` reads.

    Args:
        run: A run of `aejax.models.dictionary`.
        folder: The folder to write; it must not exist, or be empty.

    Raises:
        UsageError: The run is of another model, or of a kind that SAELens lacks; or the folder holds files.
    """
    weights, config = _folded(run)
    refuse_occupied_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def _folded(run: Run) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    model = run.experiment.model
    made: Any = getattr(model, "made_by", None)
    name, arguments = ("", {}) if made is None else made[:2]
    if not name.endswith("dictionary"):
        raise UsageError(f"{run.directory} is no run of a sparse dictionary, the model that SAELens can read")
    kind, target = arguments["activation"].name, arguments["target"]
    architecture = ARCHITECTURES[kind]
    if target is not None and architecture not in TRANSCODERS:
        raise UsageError(
            f"SAELens has no transcoder of the kind {kind}; export one of batch_top_k, jump_relu or relu_l1"
        )
    params = jax.tree.map(np.asarray, run.state.params)
    extras, activation = run.state.extras, params["activation"]
    d, d_out = math.prod(arguments["shape"]), params["decoder"]["kernel"].shape[1]
    shift, scale = _scaling(run, d)
    out_shift, out_scale = (shift, scale) if target is None else (np.zeros(d_out), np.ones(d_out))
    center = params["decoder"]["bias"] if target is None else np.asarray(extras["center"])
    weights = {
        "W_dec": params["decoder"]["kernel"] * out_scale,
        "b_dec": out_shift + out_scale * params["decoder"]["bias"],
    }
    config: dict[str, Any] = {
        "architecture": architecture if target is None else TRANSCODERS[architecture],
        "d_in": d,
        "d_sae": arguments["units"],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": target is None,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {},
        **({} if target is None else {"d_out": d_out}),
    }
    if kind == "matching_pursuit":
        if np.ptp(scale) > 0:
            raise UsageError(
                f"{run.directory}: matching pursuit in standardized columns is none in the data's own units"
            )
        # The pursuit is that of the rows as they are; only the code is in the data's units then.
        k = arguments["activation"].pursuit
        config |= {"max_iterations": k, "residual_threshold": 0.0, "stop_on_duplicate_support": False}
        return _float32({**weights, "W_dec": params["decoder"]["kernel"]}), config
    kernel = params["encoder"]["kernel"] / scale[:, None]
    weights["W_enc"] = kernel
    # Without b′ subtracted from its input, a transcoder has (x − m)/s − c in its bias.
    moved = 0.0 if target is None else -(shift + scale * center) @ kernel
    if kind == "gated":
        weights |= {"b_gate": activation["gate"], "b_mag": activation["bias"], "r_mag": activation["log_scale"]}
    else:
        weights["b_enc"] = activation["bias"] + moved
    if kind == "jump_relu":
        weights["threshold"] = np.maximum(activation["threshold"], 0.0)
    if kind == "batch_top_k":
        weights["threshold"] = np.full(arguments["units"], threshold(jax.tree.map(jnp.asarray, extras["activation"])))
    if kind == "relu_top_k":
        _, of_activation, _ = arguments["activation"].made_by
        config |= {"k": int(of_activation["k"]), "rescale_acts_by_decoder_norm": False}
    return _float32(weights), config


def _scaling(run: Run, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale of each of the d numbers of an example."""
    scaling = run.experiment.train.scaling
    if scaling is None:
        return np.zeros(d), np.ones(d)
    repeat = lambda values: np.tile(np.asarray(values, np.float64), d // len(values))
    return repeat(scaling.shift), repeat(scaling.scale)


def _float32(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf, np.float32) for name, leaf in weights.items()}


def import_sae_lens(folder: Path, directory: Path, data: Any) -> Run:
    """Makes a run directory of a dictionary in this layout.

    Args:
        folder: With `cfg.json` and `sae_weights.safetensors`.
        directory: The run directory to make; it must not exist.
        data: The activations that the dictionary is for, as in `aejax.load`; it is evaluated on their test split.

    Returns:
        The run, at step 0.

    Raises:
        UsageError: Files are missing or damaged, the data have another width, or the dictionary is of a kind that aejax lacks.
    """
    if directory.exists():
        raise UsageError(f"{directory} exists; choose another run directory")
    config, weights = _read(folder)
    splits = load(data, usual_splits(data))
    d, units = weights["W_dec"].shape[1], weights["W_dec"].shape[0]
    if math.prod(splits[0].shape) != d:
        raise UsageError(
            f"{splits[0].name} holds {math.prod(splits[0].shape)} numbers for an example, and {folder} is a dictionary of {d}; "
            "give the activations that it was trained on"
        )
    activation, own, extras = _activation(folder, config, weights, units)
    experiment = fit(dictionary(units, splits[0].shape, activation), splits, steps=1)
    encoder = {} if activation.pursuit else {"encoder": {"kernel": weights["W_enc"]}}
    params = {**encoder, "activation": own, "decoder": {"kernel": weights["W_dec"], "bias": weights["b_dec"]}}
    return run_of_weights(experiment, params, {"activation": extras}, directory, folder)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    config = read_json(folder / CONFIG, f"{folder} is not a dictionary in SAELens' layout")
    weights = _float32(read_weights(folder / WEIGHTS))
    wanted = {"W_dec", "b_dec"} | ({"W_enc"} if config.get("architecture") != "matching_pursuit" else set())
    if missing := sorted(wanted - weights.keys()):
        raise UsageError(f"{folder / WEIGHTS} lacks {missing[0]}")
    for name, leaf in weights.items():
        if not np.isfinite(leaf).all():
            raise UsageError(f"{folder / WEIGHTS} holds numbers in {name} that are not finite")
    for option, plain in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if config.get(option, plain) != plain:
            raise UsageError(
                f"{folder / CONFIG}: {option} is {config[option]}; fold it into the weights in SAELens first"
            )
    n, d = weights["W_dec"].shape if weights["W_dec"].ndim == 2 else (0, 0)
    shapes = {"W_enc": (d, n), "b_dec": (d,), **dict.fromkeys(("b_enc", "threshold", "b_gate", "b_mag", "r_mag"), (n,))}
    for name, shape in shapes.items():
        if name in weights and weights[name].shape != shape:
            raise UsageError(f"{folder / WEIGHTS} holds {name} of shape {list(weights[name].shape)}, not {list(shape)}")
    return config, weights


def _activation(
    folder: Path, config: Mapping[str, Any], weights: dict[str, np.ndarray], units: int
) -> tuple[Activation, Params, Extras]:
    """The activation, its parameters and its extras; `weights` are changed where the layout says otherwise than ours."""
    architecture, norms = config.get("architecture"), np.linalg.norm(weights["W_dec"], axis=1)
    if architecture == "matching_pursuit":
        k = config.get("max_iterations")
        if not isinstance(k, int) or config.get("residual_threshold") or config.get("stop_on_duplicate_support"):
            raise UsageError(f"{folder / CONFIG}: a pursuit that ends by its residual is none of a number of steps")
        return matching_pursuit(k), {}, {}
    known = {"standard", "topk", "jumprelu", "gated"}
    if architecture not in known:
        raise UsageError(f"{folder / CONFIG}: the architecture {architecture} is none of {', '.join(sorted(known))}")
    # Ours subtracts b_dec from its input; where theirs does not, the bias takes it back.
    back = 0.0 if config.get("apply_b_dec_to_input", True) else weights["b_dec"] @ weights["W_enc"]
    bias = lambda name: _of(folder, weights, name) + back
    if architecture == "gated":
        scale = _of(folder, weights, "r_mag")
        own = {"gate": bias("b_gate"), "bias": _of(folder, weights, "b_mag") + np.exp(scale) * back, "log_scale": scale}
        return gated(0.0), own, {}
    own = {"bias": bias("b_enc")}
    if architecture == "jumprelu":
        return jump_relu(0.0), {**own, "threshold": _of(folder, weights, "threshold")}, {}
    if architecture == "standard":
        return relu_l1(0.0), own, {}
    if config.get("rescale_acts_by_decoder_norm"):
        weights["W_enc"], own["bias"] = weights["W_enc"] * norms, own["bias"] * norms
        weights["W_dec"] = weights["W_dec"] / norms[:, None]
    if not isinstance(config.get("k"), int) or not 1 <= config["k"] <= units:
        raise UsageError(f"{folder / CONFIG}: k is {config.get('k')}, not a number of the {units} units")
    return relu_top_k(config["k"]), own, {}


def _of(folder: Path, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in weights:
        raise UsageError(f"{folder / WEIGHTS} lacks {name}")
    return weights[name]
