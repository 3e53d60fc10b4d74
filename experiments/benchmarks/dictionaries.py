"""Sparse dictionaries beside SAELens' and dictionary_learning's own trainers: milliseconds of a training step.

    python experiments/benchmarks/dictionaries.py --peers VENV/bin/python

`VENV` has sae-lens and dictionary-learning; without `--peers` only aejax is measured. Every trainer has a process of its own and
does whole training steps on one batch in memory: 768 dimensions, 4096 units, 1024 examples, 25 of which are kept, in float32.
Rounds alternate between the processes, and only one computes at a time; the table has the median of the rounds, and their range.

    aejax     the step of `aejax train`, in chunks as the trainer runs them: terms for the log, the decoder's rows kept at norm 1
    SAELens   `SAETrainer._train_step`
    dictionary_learning    `Trainer.update`
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

D, UNITS, BATCH, K = 768, 4096, 1024, 25
PREFIXES = (128, 512, 2048)

KINDS = ("L1", "TopK", "BatchTopK", "JumpReLU", "Matryoshka")
WHO = ("aejax", "sae_lens", "dictionary_learning")


def ours(kind: str) -> Callable[[int], None]:
    import jax
    import jax.numpy as jnp
    import optax

    from aejax.models import dictionary
    from aejax.objective import AuxiliaryLoss, batch_top_k, jump_relu, relu_l1, relu_top_k
    from aejax.optimizers import unit_rows
    from aejax.training.step import init_state, jit_runner

    activation = {
        "L1": relu_l1(1.0),
        "TopK": relu_top_k(K),
        "BatchTopK": batch_top_k(K),
        "JumpReLU": jump_relu(1.0, target=float(K)),
        "Matryoshka": batch_top_k(K),
    }[kind]
    revived = kind in ("TopK", "BatchTopK", "Matryoshka")
    model = dictionary(
        UNITS,
        (D,),
        activation,
        PREFIXES if kind == "Matryoshka" else (),
        AuxiliaryLoss() if revived else None,
    )
    optimizer = unit_rows(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-4)))
    batch = {"x": jnp.asarray(examples()), "index": jnp.arange(BATCH)}
    state, chunk = init_state(model, optimizer, jax.random.key(0), batch), 8
    batches = {name: jnp.stack([leaf] * chunk) for name, leaf in batch.items()}
    runner = jit_runner(model, optimizer)

    def steps(n: int) -> None:
        nonlocal state
        for start in range(0, n, chunk):
            state, terms = runner(state, jax.random.key(1), batches, np.int32(min(chunk, n - start)))
            jax.block_until_ready(terms)

    return steps


def sae_lens(kind: str) -> Callable[[int], None]:
    import torch
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    size = {"d_in": D, "d_sae": UNITS}
    sae = {
        "L1": lambda: StandardTrainingSAE(StandardTrainingSAEConfig(**size, l1_coefficient=1.0)),
        "TopK": lambda: TopKTrainingSAE(TopKTrainingSAEConfig(**size, k=K)),
        "BatchTopK": lambda: BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size, k=K)),
        "JumpReLU": lambda: JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**size, l0_coefficient=1.0)),
        "Matryoshka": lambda: MatryoshkaBatchTopKTrainingSAE(
            MatryoshkaBatchTopKTrainingSAEConfig(**size, k=K, matryoshka_widths=[*PREFIXES])
        ),
    }[kind]()
    config = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=10**8,
        device="cpu",
        autocast=False,
        lr=3e-4,
        lr_end=3e-4,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=BATCH,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer, x = SAETrainer(config, sae, iter([])), torch.from_numpy(examples())

    def steps(n: int) -> None:
        for _ in range(n):
            trainer._train_step(sae, x)

    return steps


def dictionary_learning(kind: str) -> Callable[[int], None] | None:
    import torch
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    common = {"steps": 10**6, "activation_dim": D, "dict_size": UNITS, "layer": 0, "lm_name": "none", "device": "cpu"}
    sizes = np.diff([0, *PREFIXES, UNITS]) / UNITS
    trainer = {
        "L1": lambda: StandardTrainer(**common),
        "TopK": lambda: TopKTrainer(**common, k=K),
        "BatchTopK": lambda: BatchTopKTrainer(**common, k=K),
        "JumpReLU": lambda: JumpReluTrainer(**common),
        "Matryoshka": lambda: MatryoshkaBatchTopKTrainer(**common, k=K, group_fractions=sizes.tolist()),
    }[kind]()
    x, done = torch.from_numpy(examples()), 0

    def steps(n: int) -> None:
        nonlocal done
        for _ in range(n):
            trainer.update(done, x)
            done += 1

    return steps


def examples() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((BATCH, D), np.float32)


def work(who: str, kind: str) -> None:
    """In a process of its own: a number of steps a line from standard input, their seconds to standard output."""
    try:
        steps = {"aejax": ours, "sae_lens": sae_lens, "dictionary_learning": dictionary_learning}[who](kind)
    except Exception as error:  # a peer without this kind
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
        return
    assert steps is not None
    steps(8)
    print("null", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        steps(int(line))
        print(time.perf_counter() - start, flush=True)


class Worker:
    """A process that does steps."""

    def __init__(self, python: str, who: str, kind: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--work", who, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def answer(self) -> float | str | None:
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if line[0] in '"n0123456789'), '"it ended"')
        found: float | str | None = json.loads(line)
        return found

    def steps(self, n: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return float(self.answer() or 0.0)


def benchmark(
    peers: str | None = None, rounds: int = 7, steps: int = 8, kinds: tuple[str, ...] = KINDS, out: Path | None = None
) -> None:
    """Measures and prints the table.

    Args:
        peers: Python of an environment with sae-lens and dictionary-learning.
        rounds: Rounds of each trainer.
        steps: Steps in a round.
        kinds: Kinds to measure.
        out: File for the times of all rounds, as JSON.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for kind in kinds:
        workers = {
            who: Worker(sys.executable if who == "aejax" else peers, who, kind)
            for who in WHO
            if who == "aejax" or peers
        }
        ready = {who: worker.answer() for who, worker in workers.items()}
        for who, problem in ready.items():
            if problem is not None:
                print(f"{who}, {kind}: {problem}", file=sys.stderr)
        going = {who: worker for who, worker in workers.items() if ready[who] is None}
        times: dict[str, list[float]] = {who: [] for who in going}
        for i in range(rounds):
            for who in going if i % 2 == 0 else reversed(going):
                times[who].append(1e3 * going[who].steps(steps) / steps)
        for worker in workers.values():
            worker.process.kill()
        found[kind] = times
        print(line(kind, times), flush=True)
    if out is not None:
        out.write_text(json.dumps(found, indent=1))


def line(kind: str, times: dict[str, list[float]]) -> str:
    """A row of the table: medians and ranges in ms, and the ratio of the faster peer to aejax, by rounds."""
    cells = [f"{np.median(t):.0f} ({min(t):.0f}–{max(t):.0f})" if (t := times.get(who)) else "–" for who in WHO]
    others = [times[who] for who in WHO[1:] if who in times]
    if others:
        ratios = np.min(others, axis=0) / np.array(times["aejax"])
        cells.append(f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})")
    return f"| {kind} | {' | '.join(cells)} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        import tyro

        tyro.cli(benchmark, description=__doc__)
