"""Flax Linen encoders and decoders; each file is one kind of network."""

from aejax.nets.causal import PixelCNN as PixelCNN
from aejax.nets.code import Code as Code
from aejax.nets.conv import ConvDecoder as ConvDecoder
from aejax.nets.conv import ConvEncoder as ConvEncoder
from aejax.nets.mlp import MLP as MLP
from aejax.nets.recurrent import GRU as GRU
from aejax.nets.recurrent import LSTM as LSTM
from aejax.nets.recurrent import Beliefs as Beliefs
from aejax.nets.recurrent import Gated as Gated
from aejax.nets.recurrent import Turned as Turned
