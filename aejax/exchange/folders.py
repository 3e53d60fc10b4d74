"""Runs as folders to share: weights in safetensors, a configuration, and a model card; and back.

    weights.safetensors    params and extras, by path: `params/encoder/dense_0/kernel`
    config.json            the run's own config.json and result.json
    eval.json              the evaluation, if there is one
    README.md, figures/    a model card with the numbers and pictures
    encoder.onnx, decoder.onnx    if asked for, see `aejax.onnx`

Nothing in such a folder is executable, and no pickle is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.errors import UsageError
from aejax.evaluation.parts import PARTS
from aejax.exchange.weights import read_weights, refuse_occupied_folder, write_weights
from aejax.figures.tables import decimals, fixed
from aejax.files import copy, write_json, write_text
from aejax.onnx import write_onnx
from aejax.runs.checkpoint import digest, open_checkpoints, save
from aejax.runs.directory import determined, read_evaluation, read_json, with_fields
from aejax.runs.experiment import command_of
from aejax.runs.fields import CONFIG, FIELDS
from aejax.runs.opening import open_run, rebuild
from aejax.runs.run import Run
from aejax.runs.shapes import abstract_state
from aejax.signals import deferred_signals
from aejax.types import TrainState

WEIGHTS, FORMAT = "weights.safetensors", 1
PICTURES = ("restoration", "reconstruction", "samples", "traversals", "conditions", "chain")
"""Figures of the report that a model card shows, if the run has them."""


def export_run(run: Run, folder: Path, onnx: bool = False) -> None:
    """Writes a finished run to a new folder.

    Args:
        run: The run, opened at its last checkpoint.
        folder: The folder to write; it must not exist, or be empty.
        onnx: Also write the encoder and the decoder as ONNX models, see `aejax.onnx`.

    Raises:
        UsageError: The run is not complete, its parameters are not those of its result, the folder holds files, or the model
            cannot be exported to ONNX. Nothing is left then.
    """
    result = read_json(run.directory / "result.json", f"{run.directory} is not complete; finish it with aejax resume")
    if digest(run.state.params, run.state.extras) != result["digest"]:
        raise UsageError(f"{run.directory} was opened at another checkpoint than its result; export its last one")
    refuse_occupied_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if onnx:
        try:
            write_onnx(run, folder)
        except UsageError:
            shutil.rmtree(folder)
            raise
    state = {"params": run.state.params, "extras": run.state.extras}
    leaves = {path: np.asarray(leaf) for path, leaf in _paths(state).items()}
    write_weights(folder / WEIGHTS, leaves, {"format": "aejax"})
    write_json(folder / "config.json", {"format": FORMAT, "run": run.config, "result": result})
    evaluation = read_evaluation(run.directory) if (run.directory / "eval.json").exists() else None
    if evaluation is not None:
        copy(run.directory / "eval.json", folder / "eval.json")
    pictures = [name for name in PICTURES if (run.directory / "figures" / f"{name}.png").exists()]
    if pictures:
        (folder / "figures").mkdir()
        for name in pictures:
            copy(run.directory / "figures" / f"{name}.png", folder / "figures" / f"{name}.png")
    write_text(folder / "README.md", _card(run, folder.name, result, evaluation, pictures, onnx))


def import_run(folder: Path, directory: Path, file: Path | None = None) -> Run:
    """Makes a run directory of an exported folder.

    Args:
        folder: As `export_run` wrote it.
        directory: The run directory to make; it must not exist.
        file: The experiment file, if it is not where config.json says and did not come with aejax.

    Returns:
        The run. The state of its optimizer starts anew.

    Raises:
        UsageError: Files are missing or damaged, the weights do not fit the experiment, or `directory` exists.
    """
    if directory.exists():
        raise UsageError(f"{directory} exists; choose another run directory")
    exported = read_json(folder / "config.json", f"{folder} is not an exported run")
    if exported.get("format") != FORMAT or not isinstance(exported.get("run"), dict):
        raise UsageError(f"{folder}/config.json is not that of a run exported by aejax")
    where, otherwise = folder / "config.json", f"{folder} is not an exported run"
    config = with_fields(exported["run"], CONFIG, where, otherwise)
    result = with_fields(exported.get("result") or {}, FIELDS["result.json"], where, otherwise)
    leaves = read_weights(folder / WEIGHTS)
    experiment = rebuild(directory, config, file=file, with_data=False)
    like = abstract_state(experiment)
    state = _filled({"params": like.params, "extras": like.extras}, leaves, folder / WEIGHTS)
    if digest(state["params"], state["extras"]) != result["digest"]:
        raise UsageError(f"{folder / WEIGHTS} has other numbers than config.json describes; copy both again")
    opt_state = jax.jit(experiment.optimizer.init)(state["params"])
    whole = TrainState(jnp.int32(result["step"]), state["params"], state["extras"], opt_state)
    directory.mkdir(parents=True)
    write_json(directory / "config.json", config)
    with deferred_signals(), open_checkpoints(directory / "checkpoints", 1, experiment.monitor) as checkpoints:
        save(checkpoints, whole, result["metrics"], config=determined(config))
    write_json(directory / "result.json", result)
    if (folder / "eval.json").exists():
        copy(folder / "eval.json", directory / "eval.json")
    return open_run(directory, experiment=experiment, allow_changed=True)


def _paths(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path): leaf for path, leaf in leaves}


def _filled(like: Any, leaves: Mapping[str, np.ndarray], where: Path) -> Any:
    """The tree `like` with the weights of these paths."""
    wanted = _paths(like)
    for path in [*wanted, *(path for path in leaves if path not in wanted)]:
        if path not in leaves:
            raise UsageError(f"{where} lacks {path}, which the experiment's model has")
        if path not in wanted:
            raise UsageError(f"{where} holds {path}, which the experiment's model does not have")
        if (leaves[path].shape, leaves[path].dtype) != (wanted[path].shape, wanted[path].dtype):
            raise UsageError(
                f"{where} holds {path} as {leaves[path].dtype}{list(leaves[path].shape)}, the experiment's model has "
                f"{wanted[path].dtype}{list(wanted[path].shape)}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaves[path]) for path in wanted])


def _card(
    run: Run,
    name: str,
    result: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    pictures: list[str],
    onnx: bool,
) -> str:
    """A model card in Markdown, with the front matter that model hubs read."""
    config = run.config
    what = "a model" if config["source"] is None else f"`{Path(config['source']['file']).stem}`"
    lines = ["---", "library_name: aejax", "tags: [autoencoder, jax]", "---", "", f"# {name}", ""]
    lines += [f"{what} on {config['data']['name']}, trained for {result['step']} steps with seed {config['seed']}.", ""]
    if config["source"] is not None:
        how = config["data"].get("reading", {})
        command = command_of(config["source"]["file"], {**config["source"]["arguments"], **how}, {})
        lines += ["```", command, "```", ""]
    for picture in pictures:
        lines += [f"![{picture}](figures/{picture}.png)", ""]
    if evaluation is not None:
        lines += [f"Evaluated on {evaluation['data']}, {evaluation['examples']} examples:", "", "| | |", "|---|---|"]
        for part in PARTS:
            found = evaluation.get(part.name)
            for number in [] if found is None else part.numbers(found):
                if number.value is not None:
                    places = decimals([number.value]) if number.decimals is None else number.decimals
                    unit = f", {number.unit}" if number.unit else ""
                    lines.append(f"| {number.name}{unit} | {fixed(number.value, places)} |")
        lines.append("")
    lines += ["## Use", "", "```", f"aejax import {name} RUN", "aejax encode RUN IN OUT.npy", "```", ""]
    if onnx:
        x = "bool" if run.experiment.model.data.observe is not None else "float32"
        shape = ", ".join(map(str, run.experiment.train.shape))
        lines += [f"`encoder.onnx` maps {x} [n, {shape}] to codes, `decoder.onnx` codes to reconstructions:", ""]
        lines += ["```python", "import onnxruntime", "", 'encoder = onnxruntime.InferenceSession("encoder.onnx")']
        lines += ["(codes,) = encoder.run(None, {encoder.get_inputs()[0].name: x})", "```", ""]
    versions = json.dumps({k: v for k, v in config["versions"].items() if k in ("aejax", "jax", "flax")})
    lines += [f"Digest of the weights: `{result['digest']}`. Versions: {versions}.", ""]
    return "\n".join(lines)
