"""Contenders in JAX: the models of aejax, and the matrix multiplication that their rate is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from job import (
    BELIEF,
    CHANNELS,
    CODE_WIDTH,
    CODES,
    COMMITMENT,
    GAP,
    LATENT,
    LEARNING_RATE,
    MAPPED,
    MASKED,
    MATMUL,
    PAIRS,
    STATE,
    Job,
    Trainer,
    images,
)


def aejax_trainer(job: Job, model: Any) -> Trainer:
    """Any model of aejax, under the loop of `aejax train` with its default settings."""
    import jax
    import optax

    from aejax.types import Dataset, Experiment

    seconds = _compiling_seconds()
    x = images(job)
    data = Dataset("benchmark", x.shape[1:], len(x), None, "", {"x": x})
    experiment = Experiment(model, optax.adam(LEARNING_RATE), data, data, job.batch_size, steps=2**30, seed=job.seed)
    loop, reached, state = _training_loop(experiment), 0, None
    reconstruction = jax.jit(model.reconstruct)

    def train(n):
        nonlocal reached, state
        begun = reached
        while reached - begun < n:
            state, reached, _ = next(loop)
        return reached - begun

    def reconstruct(x):
        batch = {"x": x, "index": np.arange(len(x), dtype=np.int32)}
        return np.asarray(reconstruction(state.params, state.extras, batch, jax.random.key(0)))

    return Trainer(train, reconstruct, lambda: seconds[0])


def _training_loop(experiment: Any) -> Iterator[tuple]:
    """(state, step reached, terms) after each chunk, without the files, the validation and the progress bar of a run."""
    from pathlib import Path

    from aejax.training.loop import Clock, chunks
    from aejax.training.recorder import Member
    from aejax.training.settings import Settings
    from aejax.training.trainer import first_state, program_of

    settings, members = Settings(), [Member(Path(), {}, experiment)]
    return chunks(program_of(experiment, settings)(0), members, settings, first_state(experiment), Clock(), None)


@lru_cache
def _compiling_seconds() -> list[float]:
    """One number, which grows by the time that JAX spends lowering and compiling, or reading compiled programs."""
    import jax

    seconds = [0.0]

    def listen(event, duration, **_):
        if event.endswith(("jaxpr_to_mlir_module_duration", "backend_compile_duration")):
            seconds[0] += duration

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seconds


def _aejax_mlp(job: Job, corrupt: Callable | None) -> Trainer:
    from aejax.models import autoencoder
    from aejax.nets import MLP
    from aejax.objective.likelihoods import bernoulli

    encoder, decoder = MLP((job.hidden,), LATENT), MLP((job.hidden,), images(job).shape[1:])
    return aejax_trainer(job, autoencoder(encoder, decoder, bernoulli(), corrupt=corrupt))


def aejax_ae(job: Job) -> Trainer:
    return _aejax_mlp(job, None)


def aejax_dae_exact(job: Job) -> Trainer:
    from aejax.objective.corruptions import masking

    return _aejax_mlp(job, masking(MASKED))


def aejax_dae_bernoulli(job: Job) -> Trainer:
    from aejax.objective.corruptions import bernoulli_masking

    return _aejax_mlp(job, bernoulli_masking(MASKED))


def aejax_vae(job: Job) -> Trainer:
    from aejax.models import vae
    from aejax.nets import MLP
    from aejax.objective.likelihoods import bernoulli

    shape = images(job).shape[1:]
    encoder, decoder = MLP((job.hidden,), 2 * LATENT), MLP((job.hidden,), shape)
    return aejax_trainer(job, vae(encoder, decoder, bernoulli(), LATENT, shape))


def aejax_vqvae(job: Job) -> Trainer:
    from aejax.models import vqvae
    from aejax.nets import ConvDecoder, ConvEncoder
    from aejax.objective.likelihoods import bernoulli
    from aejax.objective.quantizers import nearest

    shape = images(job).shape[1:]
    encoder, decoder = ConvEncoder(CHANNELS, CODE_WIDTH, spatial=True), ConvDecoder(CHANNELS[::-1], shape)
    return aejax_trainer(job, vqvae(encoder, decoder, bernoulli(), nearest(CODES, CODE_WIDTH, COMMITMENT), shape))


def aejax_tdvae(job: Job) -> Trainer:
    from aejax.models import tdvae
    from aejax.nets import GRU, MLP, Beliefs, Gated
    from aejax.objective.likelihoods import bernoulli
    from aejax.objective.time_gaps import uniform

    shape = images(job).shape[1:]
    beliefs = Beliefs(MLP((MAPPED, BELIEF), 3 * BELIEF), GRU(BELIEF))
    maps = [Gated(BELIEF, 2 * STATE)] * 3
    decoder = MLP((MAPPED,), shape[1:])
    model = tdvae(beliefs, *maps, decoder, bernoulli(), STATE, shape, gap=uniform(*GAP), pairs=PAIRS)
    return aejax_trainer(job, model)


def matmul(job: Job) -> Trainer:
    """What utilization is measured against; a step is a product of two float32 matrices."""
    import jax

    product = jax.jit(lambda a, b: a @ b)
    a, b = jax.random.normal(jax.random.key(0), (2, MATMUL, MATMUL))

    def train(n):
        for _ in range(n):
            product(a, b).block_until_ready()
        return n

    return Trainer(train, None)
