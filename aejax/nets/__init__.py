"""Flax Linen encoders and decoders; each file is one kind of network."""

from aejax.nets.adapter import Adapter
from aejax.nets.causal import PixelCNN
from aejax.nets.code import Code
from aejax.nets.conv import ConvDecoder, ConvEncoder
from aejax.nets.latent_diffusion import KLDecoder, KLEncoder
from aejax.nets.mlp import MLP
from aejax.nets.recurrent import GRU, LSTM, Beliefs, Gated, OscillatorTransition

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "Adapter",
    "Beliefs",
    "Code",
    "ConvDecoder",
    "ConvEncoder",
    "Gated",
    "KLDecoder",
    "KLEncoder",
    "OscillatorTransition",
    "PixelCNN",
]
