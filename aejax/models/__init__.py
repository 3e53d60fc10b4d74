"""The families: one file each, a constructor that returns a `Model`."""

from aejax.models.autoencoder import autoencoder as autoencoder
