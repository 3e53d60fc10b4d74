"""What the benchmark times: each function makes contenders, which run a round and say what they measured.

    PYTHON contenders.py KIND JOB

is a worker process: it makes the contenders of one kind, greets when they are warm, and then runs one round of one of
them for every line of its standard input. Only the standard library and NumPy are imported above, because PyTorch's
worker runs where aejax is not installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from typing import NamedTuple

import numpy as np

WIDTHS = (784, 512, 64, 512, 784)
LEARNING_RATE = 1e-3
MASKED = 0.3

MATMUL = 2048
STRETCHES = [(batch_size, n) for batch_size in (128, 512) for n in (1, 5, 20, 100)]


class Job(NamedTuple):
    """What every worker is told."""

    data: str
    """A .npy of the examples, uint8 [n, 28, 28, 1]."""
    batch_size: int
    steps: int
    """In a round."""


Round = Callable[[], dict[str, float]]
"""Runs one round and returns what it measured, by name."""


def work(kind: str, job: Job) -> None:
    """The worker's side: greets when everything is warm, then a round for every line."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print too

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    makers = {"aejax": _aejax, "stretches": _stretches, "torch": _torch, "pythae": _pythae}
    try:
        versions, contenders = makers[kind](job)
    except ModuleNotFoundError as error:
        answer({"absent": str(error)})
        return
    for run in contenders.values():
        run()
    answer({"versions": versions, "contenders": list(contenders)})
    for line in sys.stdin:
        answer(contenders[line.strip()]())


def _aejax(job: Job) -> tuple[dict, dict[str, Round]]:
    """The training loop of `aejax train` itself, and the matmul."""
    from aejax.corrupt import bernoulli_masking, masking
    from aejax.progress import Progress
    from aejax.step import init_state, make_runner
    from aejax.train import Clock, Settings
    from aejax.train import stretches as training_loop

    def training(name, corrupt):
        experiment, first, key = _experiment(job, job.batch_size, corrupt)
        runner = make_runner(experiment.model, experiment.optimizer, 1, job.batch_size)
        state = init_state(experiment.model, experiment.optimizer, key, first)
        silent = Progress(lambda *_: None, lambda *_: None)
        loop = training_loop(experiment, Settings(), runner, state, Clock(), silent)
        reached = 0

        def run():
            nonlocal reached
            begun, start = reached, time.perf_counter()
            while reached - begun < job.steps:
                _, reached, _ = next(loop)
            return {name: (reached - begun) * job.batch_size / (time.perf_counter() - start)}

        run()  # compiles and finds its length of a stretch; the worker's first round is then a warm one
        return run

    noises = {
        "AE": None,
        "DAE, exact-count masking": masking(MASKED),
        "DAE, Bernoulli masking": bernoulli_masking(MASKED),
    }
    contenders = {f"aejax {name}": training(f"aejax {name}", corrupt) for name, corrupt in noises.items()}
    packages = ("aejax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {package: version(package) for package in packages}, contenders | {"matmul": _matmul()}


def _experiment(job: Job, batch_size: int, corrupt: Callable | None):
    """The experiment, its first batch, and its key of initialisation."""
    import optax

    from aejax.data import batch_at
    from aejax.keys import run_keys
    from aejax.likelihoods import bernoulli
    from aejax.models import autoencoder
    from aejax.nets import MLP
    from aejax.types import Dataset, Experiment

    x = np.asarray(np.load(job.data, mmap_mode="r"))
    data = Dataset("benchmark", x.shape[1:], len(x), None, "", {"x": x})
    (_, hidden, latent, _, _) = WIDTHS
    model = autoencoder(MLP((hidden,), latent), MLP((hidden,), data.shape), bernoulli(), corrupt=corrupt)
    experiment = Experiment(model, optax.adam(LEARNING_RATE), data, data, batch_size, steps=2**30, seed=0)
    return experiment, batch_at(data, 0, 0, batch_size), run_keys(0).init


def _matmul() -> Round:
    import jax

    @jax.jit
    def product(a, b):
        return a @ b

    a, b = jax.random.normal(jax.random.key(0), (2, MATMUL, MATMUL))

    def run():
        rates = []
        for _ in range(10):
            start = time.perf_counter()
            product(a, b).block_until_ready()
            rates.append(2e-9 * MATMUL**3 / (time.perf_counter() - start))
        return {"matmul, median of 10": float(np.median(rates)), "matmul, best of 10": max(rates)}

    return run


def _stretches(job: Job) -> tuple[dict, dict[str, Round]]:
    """The runner with a fixed number of steps in each call; every contender sees as many examples."""
    from aejax.data import batches_at
    from aejax.keys import run_keys
    from aejax.step import init_state, make_runner

    def stretched(name, batch_size, n):
        experiment, first, key = _experiment(job, batch_size, None)
        runner = make_runner(experiment.model, experiment.optimizer, 1, batch_size)
        state, step = init_state(experiment.model, experiment.optimizer, key, first), 0
        ahead = batches_at(experiment.train, 0, 0, batch_size, n)
        calls = max(1, round(job.steps * job.batch_size / batch_size / n))

        def run():
            nonlocal state, step, ahead
            start = time.perf_counter()
            for _ in range(calls):
                state, terms = runner(state, run_key, ahead, np.int32(n))
                step += n
                ahead = batches_at(experiment.train, 0, step, batch_size, n)
                np.asarray(terms["loss"])  # waits for the device
            return {name: calls * n * batch_size / (time.perf_counter() - start)}

        return run

    run_key = run_keys(0).run
    names = {f"aejax AE, batch {b}, {n} steps a call": (b, n) for b, n in STRETCHES}
    versions = {package: version(package) for package in ("aejax", "jax", "jaxlib")}
    return versions, {name: stretched(name, *pair) for name, pair in names.items()}


def _torch(job: Job) -> tuple[dict, dict[str, Round]]:
    """As tight a loop as eager PyTorch allows: data in memory as float32, fused Adam, no `item()`."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(cores())
    x = torch.from_numpy(np.load(job.data).reshape(-1, WIDTHS[0])).to(torch.float32) / 255

    def training(name, rate):
        layers = [layer for pair in pairwise(WIDTHS) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
        del layers[3], layers[-1]  # the code and the logits are linear
        net = torch.nn.Sequential(*layers)
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
        order, at = torch.randperm(len(x)), 0

        def run():
            nonlocal order, at
            start = time.perf_counter()
            for _ in range(job.steps):
                if at + job.batch_size > len(x):
                    order, at = torch.randperm(len(x)), 0
                clean = x[order[at : at + job.batch_size]]
                at += job.batch_size
                seen = clean if rate is None else clean.masked_fill(torch.rand_like(clean) < rate, 0.0)
                loss = F.binary_cross_entropy_with_logits(net(seen), clean, reduction="sum") / job.batch_size
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return {name: job.steps * job.batch_size / (time.perf_counter() - start)}

        return run

    names = {"PyTorch AE": None, "PyTorch DAE, Bernoulli masking": MASKED}
    return {"torch": torch.__version__}, {name: training(name, rate) for name, rate in names.items()}


def _pythae(job: Job) -> tuple[dict, dict[str, Round]]:
    """An epoch of pythae's own trainer over as many examples as a round has, without evaluation or checkpoints.

    Its AE without further arguments has the widths of ours, where the code has 64 components.
    """
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.set_num_threads(cores())
    n = job.steps * job.batch_size
    x = torch.from_numpy(np.load(job.data)[:n].reshape(-1, 1, 28, 28)).to(torch.float32) / 255
    if len(x) < n:
        raise SystemExit(f"a round of {job.steps} steps needs {n} examples for pythae's epoch; the data have {len(x)}")
    model = AE(AEConfig(input_dim=(1, 28, 28), latent_dim=WIDTHS[2]))
    config = BaseTrainerConfig(
        output_dir="pythae", per_device_train_batch_size=job.batch_size, learning_rate=LEARNING_RATE, num_epochs=1
    )
    trainer = BaseTrainer(model, BaseDataset(x, torch.zeros(n)), training_config=config)
    trainer.prepare_training()

    def run():
        start = time.perf_counter()
        trainer.train_step(1)
        return {"pythae AE": n / (time.perf_counter() - start)}

    return {"torch": torch.__version__, "pythae": version("pythae")}, {"pythae AE": run}


def cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    work(sys.argv[1], Job(*json.loads(sys.argv[2])))
