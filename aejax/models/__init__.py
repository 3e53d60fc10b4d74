"""The families: one file each, a constructor that returns a `Model`."""

from aejax.models.autoencoders import autoencoder as autoencoder
from aejax.models.classifiers import classifier as classifier
from aejax.models.code_priors import code_prior as code_prior
from aejax.models.conditional import cvae as cvae
from aejax.models.factor import factor_vae as factor_vae
from aejax.models.importance_weighted import iwae as iwae
from aejax.models.state_spaces import state_space as state_space
from aejax.models.stochastic_network import gsn as gsn
from aejax.models.temporal_difference import tdvae as tdvae
from aejax.models.variational import vae as vae
from aejax.models.vector_quantized import vqvae as vqvae
from aejax.models.vector_quantized_levels import vqvae2 as vqvae2
