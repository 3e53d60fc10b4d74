"""Weights of latent diffusion's image autoencoder: from and to the layout of diffusers' `AutoencoderKL`.

Three dialects are read: diffusers' own, its older one, in which attention has `query`, `key`, `value` and `proj_attn`, and the
original one of Rombach et al., with keys such as `first_stage_model.decoder.up.3.block.0.conv1.weight`, whose decoder counts its
levels from the last and whose attention consists of 1×1 convolutions. One is written: diffusers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from aejax.errors import UsageError
from aejax.types import Params

POINTWISE = ("conv_shortcut", "quant_conv", "post_quant_conv")
"""Dense layers of ours that are 1×1 convolutions there."""

OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

ORIGINAL = {
    "norm_out": "conv_norm_out",
    "nin_shortcut": "conv_shortcut",
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1.norm": "mid_block.attentions.0.group_norm",
    "mid.attn_1.q": "mid_block.attentions.0.to_q",
    "mid.attn_1.k": "mid_block.attentions.0.to_k",
    "mid.attn_1.v": "mid_block.attentions.0.to_v",
    "mid.attn_1.proj_out": "mid_block.attentions.0.to_out.0",
}
"""A part of a key of the original dialect -> the part in diffusers' own."""


def in_one_dialect(weights: Mapping[str, np.ndarray], levels: int) -> dict[str, np.ndarray]:
    """The weights under diffusers' own keys.

    Args:
        weights: Of any of the three dialects; of a whole Stable Diffusion model the autoencoder's part is taken.
        levels: Number of levels, by which the original dialect's decoder is counted.
    """
    first_stage = {
        k.removeprefix("first_stage_model."): v for k, v in weights.items() if k.startswith("first_stage_model.")
    }
    weights = first_stage or {key.removeprefix("vae."): leaf for key, leaf in weights.items()}
    original = any(re.match(r"(encoder\.down|decoder\.up)\.\d", key) for key in weights)
    renamed = {}
    for key, leaf in weights.items():
        if original and not key.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")):
            continue  # the discriminator of the loss
        renamed[_own(key, levels) if original else _newer(key)] = leaf
    return renamed


def _newer(key: str) -> str:
    for old, new in OLDER.items():
        key = re.sub(rf"(\.attentions\.\d+)\.{old}\.", rf"\1.{new}.", key)
    return key


def _own(key: str, levels: int) -> str:
    for old, new in ORIGINAL.items():
        key = re.sub(rf"\.{re.escape(old)}\.", f".{new}.", key)
    key = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", key)
    key = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", key)
    from_the_last = lambda match: f".up_blocks.{levels - 1 - int(match[1])}."
    key = re.sub(r"\.up\.(\d+)\.(?=block\.)", from_the_last, key).replace(".block.", ".resnets.")
    key = re.sub(r"\.up\.(\d+)\.(?=upsample\.)", from_the_last, key)
    return key.replace(".upsample.", ".upsamplers.0.")


def filled(like: Params, weights: Mapping[str, np.ndarray], where: str) -> Params:
    """Parameters of the shapes of `like`, {encoder: …, decoder: …}, with the weights under diffusers' keys.

    Raises:
        UsageError: A weight is missing, superfluous, or of another shape; it is named.
    """
    left = dict(weights)

    def fill(tree: Any, path: tuple[str, ...]) -> Any:
        if isinstance(tree, Mapping):
            return {name: fill(branch, (*path, name)) for name, branch in tree.items()}
        key = key_of(path)
        if key not in left:
            raise UsageError(f"{where} lacks {key}, which a net of this configuration has")
        given = left.pop(key)
        leaf = _ours(path, np.asarray(given, np.float32))
        if leaf.shape != tuple(tree.shape):
            wanted = _theirs(path, np.zeros(tree.shape, np.int8)).shape
            raise UsageError(
                f"{where} holds {key} of shape {list(given.shape)}, and its configuration says {list(wanted)}"
            )
        return leaf

    params: Params = fill(like, ())
    if left:
        raise UsageError(f"{where} holds {next(iter(left))}, which a net of this configuration does not have")
    return params


def in_diffusers_layout(params: Params) -> dict[str, np.ndarray]:
    """The inverse of `filled`."""
    weights = {}

    def write(tree: Any, path: tuple[str, ...]) -> None:
        if isinstance(tree, Mapping):
            for name, branch in tree.items():
                write(branch, (*path, name))
        else:
            weights[key_of(path)] = np.ascontiguousarray(_theirs(path, np.asarray(tree, np.float32)))

    write(params, ())
    return weights


def key_of(path: tuple[str, ...]) -> str:
    """`(encoder, down_blocks_0, resnets_1, conv1, kernel)` -> `encoder.down_blocks.0.resnets.1.conv1.weight`."""
    *modules, leaf = path[1:] if path[1] in ("quant_conv", "post_quant_conv") else path
    named = [re.sub(r"_(\d+)$", r".\1", name) for name in modules]
    return ".".join([*named, "bias" if leaf == "bias" else "weight"])


def _ours(path: tuple[str, ...], leaf: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return leaf
    # 1×1 convolutions, also those of attention in the original dialect, are matrices here.
    if leaf.ndim == 4 and (path[-2] in POINTWISE or path[-2].startswith("to_")) and leaf.shape[2:] == (1, 1):
        leaf = leaf[:, :, 0, 0]
    return leaf.transpose(2, 3, 1, 0) if leaf.ndim == 4 else leaf.T


def _theirs(path: tuple[str, ...], leaf: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return leaf
    if leaf.ndim == 4:
        return leaf.transpose(3, 2, 0, 1)
    return leaf.T[:, :, None, None] if path[-2] in POINTWISE else leaf.T
