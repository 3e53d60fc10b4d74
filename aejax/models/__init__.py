"""The families: one file each, a constructor that returns a `Model`."""

from aejax.models.autoencoder import autoencoder as autoencoder
from aejax.models.classifier import classifier as classifier
from aejax.models.code_prior import code_prior as code_prior
from aejax.models.cvae import cvae as cvae
from aejax.models.factor_vae import factor_vae as factor_vae
from aejax.models.gsn import gdae as gdae
from aejax.models.iwae import iwae as iwae
from aejax.models.state_space import state_space as state_space
from aejax.models.tdvae import tdvae as tdvae
from aejax.models.vae import vae as vae
from aejax.models.vqvae import vqvae as vqvae
from aejax.models.vqvae2 import vqvae2 as vqvae2
