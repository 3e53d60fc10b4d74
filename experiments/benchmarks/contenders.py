"""Who is timed: CONTENDERS, a row for each; what they learn, and what their environments hold.

A contender is a function `(job) -> Trainer`, of ours.py or theirs.py, which a worker process of its own runs (worker.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from job import Job, Trainer
from ours import aejax_ae, aejax_dae_bernoulli, aejax_dae_exact, aejax_tdvae, aejax_vae, aejax_vqvae, matmul
from theirs import disent_ae, pythae_ae, pythae_vae, torch_ae, torch_dae, torch_vqvae, vector_quantize_vqvae
from theirs_sequences import torch_tdvae


class Contender(NamedTuple):
    """A row of CONTENDERS."""

    environment: str
    """Whose Python runs it; a key of ENVIRONMENTS."""
    make: Callable[[Job], Trainer]
    task: str
    """What it learns; a key of TASKS."""
    beside: tuple[str, ...] = ()
    """The contenders by whose examples/s its own are divided."""


class Task(NamedTuple):
    """What the contenders of one kind learn, and when they have learnt it."""

    shown: str
    """What is reconstructed in evaluation: `test` or `masked`."""
    goal: float
    """The mean squared error, per pixel, of reconstructions of the clean test split at which the clock stops."""


ENVIRONMENTS = {
    "aejax": ("aejax", "jax", "jaxlib", "flax", "optax", "numpy"),
    "torch": ("torch==2.13.0", "numpy"),
    "pythae": ("pythae==0.1.2", "torch==2.13.0"),
    "disent": ("disent==0.8.0", "torch==2.13.0", "lightning"),
    "vector-quantize-pytorch": ("vector-quantize-pytorch==1.32.0", "torch==2.13.0"),
}
"""What pip installs into each environment; the first is the one that runs this benchmark."""

TASKS = {
    "AE": Task("test", 0.008),
    "DAE": Task("masked", 0.0115),
    "VAE": Task("test", 0.016),
    "VQ-VAE": Task("test", 0.012),
    "TD-VAE": Task("test", 0.03),
}

CONTENDERS = {
    "aejax AE": Contender("aejax", aejax_ae, "AE", beside=("PyTorch AE", "pythae AE", "disent AE")),
    "aejax DAE, exact count": Contender(
        "aejax", aejax_dae_exact, "DAE", beside=("PyTorch DAE, Bernoulli", "pythae AE", "disent AE")
    ),
    "aejax DAE, Bernoulli": Contender("aejax", aejax_dae_bernoulli, "DAE", beside=("PyTorch DAE, Bernoulli",)),
    "aejax VAE": Contender("aejax", aejax_vae, "VAE", beside=("pythae VAE",)),
    "PyTorch AE": Contender("torch", torch_ae, "AE"),
    "PyTorch DAE, Bernoulli": Contender("torch", torch_dae, "DAE"),
    "pythae AE": Contender("pythae", pythae_ae, "AE"),
    "pythae VAE": Contender("pythae", pythae_vae, "VAE"),
    "disent AE": Contender("disent", disent_ae, "AE"),
    "aejax VQ-VAE": Contender(
        "aejax", aejax_vqvae, "VQ-VAE", beside=("PyTorch VQ-VAE", "vector-quantize-pytorch VQ-VAE")
    ),
    "PyTorch VQ-VAE": Contender("torch", torch_vqvae, "VQ-VAE"),
    "aejax TD-VAE": Contender("aejax", aejax_tdvae, "TD-VAE", beside=("PyTorch TD-VAE",)),
    "PyTorch TD-VAE": Contender("torch", torch_tdvae, "TD-VAE"),
    "vector-quantize-pytorch VQ-VAE": Contender("vector-quantize-pytorch", vector_quantize_vqvae, "VQ-VAE"),
}

SWEPT = ("aejax AE", "PyTorch AE")
"""Whose cost is measured against width, batch size and number of examples."""

PRODUCT = "matmul"
MEASURES = {PRODUCT: Contender("aejax", matmul, "")}
"""What runs in a worker beside the contenders without being one."""
