"""The families: one file each, with a function that returns a `Model`."""

from aejax.models.autoencoders import autoencoder
from aejax.models.binarization import binarized
from aejax.models.classifiers import classifier
from aejax.models.code_priors import code_prior
from aejax.models.collections import with_collections
from aejax.models.conditional import cvae
from aejax.models.dictionaries import dictionary
from aejax.models.factor import factor_vae
from aejax.models.importance_weighted import iwae
from aejax.models.kl_autoencoder import kl_autoencoder
from aejax.models.parent_codes import nets_for
from aejax.models.stacked import layers, on_top_of, started_from, unroll
from aejax.models.state_spaces import state_space
from aejax.models.stochastic_network import gsn
from aejax.models.temporal_difference import tdvae
from aejax.models.variational import vae
from aejax.models.vector_quantized import vqvae
from aejax.models.vector_quantized_levels import vqvae2

__all__ = [
    "autoencoder",
    "binarized",
    "classifier",
    "code_prior",
    "cvae",
    "dictionary",
    "factor_vae",
    "gsn",
    "iwae",
    "kl_autoencoder",
    "layers",
    "nets_for",
    "on_top_of",
    "started_from",
    "state_space",
    "tdvae",
    "unroll",
    "vae",
    "vqvae",
    "vqvae2",
    "with_collections",
]
