"""Flax Linen encoders and decoders; each file is one kind of network."""

from aejax.nets.mlp import MLP as MLP
