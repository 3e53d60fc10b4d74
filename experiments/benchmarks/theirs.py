"""Contenders in PyTorch: tight loops without a framework, and libraries, each with its own trainer.

Every library is imported by the function that needs it: no two are in one environment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from job import CHANNELS, CODE_WIDTH, CODES, COMMITMENT, LATENT, LEARNING_RATE, MASKED, Job, Trainer, cores, positions


def torch_trainer(job: Job, net: Any, loss: Callable) -> Trainer:
    """As tight a loop as eager PyTorch allows: data in memory as float32, one index a batch, fused Adam, no `item()`.

    `net` takes images [b, c, h, w] to a tuple whose first is the reconstruction; `loss(net, x)` is of clean images.
    """
    import torch

    x, done = float_tensor(job), 0
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)

    def train(n):
        nonlocal done
        net.train()
        for at in torch.from_numpy(positions(job, len(x), done, n)).split(job.batch_size):
            optimizer.zero_grad()
            loss(net, x[at]).backward()
            optimizer.step()
        done += n
        return n

    return Trainer(train, _reconstruct_by_torch(net))


def _torch_mlp(job: Job, rate: float) -> Trainer:
    import torch
    from torch.nn import functional as F

    start_torch(job)
    shape = float_tensor(job).shape[1:]
    encoder, decoder = _torch_halves(job, shape)
    logits = torch.nn.Sequential(encoder, decoder)

    def loss(net, clean):
        seen = clean.masked_fill(torch.rand_like(clean) < rate, 0.0) if rate else clean
        return F.binary_cross_entropy_with_logits(logits(seen), clean, reduction="sum") / len(clean)

    return torch_trainer(job, torch.nn.Sequential(logits, torch.nn.Sigmoid()), loss)


def torch_ae(job: Job) -> Trainer:
    return _torch_mlp(job, 0.0)


def torch_dae(job: Job) -> Trainer:
    return _torch_mlp(job, MASKED)


def _torch_halves(job: Job, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """aejax's encoder and decoder in PyTorch, initialized alike; the decoder gives logits."""
    from torch import nn

    size = int(np.prod(shape))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, job.hidden), nn.ReLU(), nn.Linear(job.hidden, LATENT))
    decoder = nn.Sequential(
        nn.Linear(LATENT, job.hidden), nn.ReLU(), nn.Linear(job.hidden, size), nn.Unflatten(1, tuple(shape))
    )
    for layer in (encoder[1], encoder[3], decoder[0], decoder[2]):
        as_flax(layer, layer.in_features)
    return encoder, decoder


def pythae_ae(job: Job) -> Trainer:
    """Its AE without further arguments has the widths of ours, where the hidden layers have 512."""
    from pythae.models import AE, AEConfig

    return _pythae_trainer(job, lambda shape: AE(AEConfig(input_dim=shape, latent_dim=LATENT)))


def pythae_vae(job: Job) -> Trainer:
    """As `pythae_ae`, with the cross-entropy that is aejax's likelihood."""
    from pythae.models import VAE, VAEConfig

    config = {"latent_dim": LATENT, "reconstruction_loss": "bce"}
    return _pythae_trainer(job, lambda shape: VAE(VAEConfig(input_dim=shape, **config)))


def _pythae_trainer(job: Job, make: Callable[[tuple[int, ...]], Any]) -> Trainer:
    """An epoch of pythae's trainer over as many examples as are asked for, without evaluation or checkpoints.

    `make` gives the model for images of a shape.
    """
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch.utils.data import DataLoader

    start_torch(job)
    x = float_tensor(job)
    data, done = BaseDataset(x, torch.zeros(len(x))), 0
    model = make(tuple(x.shape[1:]))
    config = BaseTrainerConfig(
        output_dir="pythae",
        per_device_train_batch_size=job.batch_size,
        learning_rate=LEARNING_RATE,
        num_epochs=1,
        seed=job.seed,
    )
    trainer = BaseTrainer(model, data, training_config=config)
    trainer.prepare_training()

    def train(n):
        nonlocal done
        order = positions(job, len(x), done, n).tolist()
        trainer.train_loader = DataLoader(data, batch_size=job.batch_size, sampler=order)
        trainer.train_step(1)
        done += n
        return n

    return Trainer(train, _reconstruct_by_torch(lambda x: model.decoder(model.encoder(x).embedding).reconstruction))


def disent_ae(job: Job) -> Trainer:
    """Disent's AE under Lightning's trainer: one fit, whose epochs are as long as is asked for."""
    _import_torchvision()
    from disent.frameworks.ae import Ae
    from disent.model import AutoEncoder, DisentDecoder, DisentEncoder
    from lightning import Callback, LightningDataModule
    from lightning import Trainer as LightningTrainer
    from torch.utils.data import DataLoader, Dataset

    start_torch(job)
    x = float_tensor(job)
    shape = tuple(x.shape[1:])
    encoder, decoder = _torch_halves(job, shape)

    class Encoder(DisentEncoder):
        def __init__(self):
            super().__init__(x_shape=shape, z_size=LATENT)
            self.net = encoder

        def encode(self, x):
            return self.net(x)

    class Decoder(DisentDecoder):
        def __init__(self):
            super().__init__(x_shape=shape, z_size=LATENT)
            self.net = decoder

        def decode(self, z):
            return self.net(z)

    class Examples(Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, i):
            return {"x_targ": (x[i],)}

    asked: SimpleQueue[int] = SimpleQueue()
    finished: SimpleQueue[BaseException | None] = SimpleQueue()
    done = 0

    class Epochs(LightningDataModule):
        def train_dataloader(self):
            n = asked.get()  # before `done` is read
            order = positions(job, len(x), done, n).tolist()
            return DataLoader(Examples(), batch_size=job.batch_size, sampler=order)

    class Finished(Callback):
        def on_train_epoch_end(self, trainer, module):
            finished.put(None)

    config = Ae.cfg(optimizer_kwargs={"lr": LEARNING_RATE}, recon_loss="bce", loss_reduction="mean_sum")
    module = Ae(AutoEncoder(Encoder(), Decoder()), config)
    trainer = LightningTrainer(
        accelerator="cpu",
        max_epochs=-1,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[Finished()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    def fit():
        try:
            trainer.fit(module, datamodule=Epochs())
        except BaseException as error:
            finished.put(error)

    threading.Thread(target=fit, daemon=True).start()

    def train(n):
        nonlocal done
        asked.put(n)
        if (error := finished.get()) is not None:
            raise error
        done += n
        return n

    return Trainer(train, _reconstruct_by_torch(module))


@lru_cache
def _import_torchvision() -> None:
    """What disent does too; but it fails beside a PyTorch that it was not built for, such as PyPI's beside a CPU build.

    Only its compiled operators are missing then, none of which is used here: declaring these two lets it be imported.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def torch_vqvae(job: Job) -> Trainer:
    """aejax's convolutional VQ-VAE, with a quantizer as short as it can be: nearest code, straight through, moving averages."""
    import torch
    from torch import nn

    class Nearest(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("book", torch.randn(CODES, CODE_WIDTH) / CODE_WIDTH**0.5)
            self.register_buffer("share", torch.ones(CODES))
            self.register_buffer("sums", self.book.clone())

        def forward(self, z):
            rows = z.permute(0, 2, 3, 1).reshape(-1, CODE_WIDTH)
            with torch.no_grad():
                found = torch.addmm(self.book.square().sum(1), rows, self.book.T, alpha=-2.0).argmin(1)
                e = self.book[found]
                if self.training:
                    self.share.lerp_(torch.bincount(found, minlength=CODES).float(), 0.01)
                    self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, found, rows), 0.01)
                    n = self.share.sum()
                    smoothed = (self.share + 1e-5) / (n + CODES * 1e-5) * n
                    self.book.copy_(self.sums / smoothed[:, None])
                e = e.view(len(z), *z.shape[2:], CODE_WIDTH).permute(0, 3, 1, 2)
            return z + (e - z).detach(), COMMITMENT * (z - e).square().sum() / len(z)

    return _torch_vqvae(job, Nearest())


def vector_quantize_vqvae(job: Job) -> Trainer:
    """The same around vector-quantize-pytorch's quantizer with EMA updates, whose commitment is a mean, here a sum again."""
    from torch import nn
    from vector_quantize_pytorch import VectorQuantize

    class Library(nn.Module):
        def __init__(self):
            super().__init__()
            self.quantize = VectorQuantize(
                CODE_WIDTH,
                CODES,
                decay=0.99,
                commitment_weight=COMMITMENT,
                accept_image_fmap=True,
                rotation_trick=False,
            )

        def forward(self, z):
            vectors, _, commitment = self.quantize(z)
            return vectors, commitment.sum() * z[0].numel()

    return _torch_vqvae(job, Library())


def _torch_vqvae(job: Job, quantizer: Any) -> Trainer:
    """aejax's `ConvEncoder` and `ConvDecoder` of CHANNELS around a module z [b, d, h, w] -> (vectors, mean loss)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    start_torch(job)
    first, second = CHANNELS
    channels = float_tensor(job).shape[1]
    halve = {"kernel_size": 4, "stride": 2, "padding": 1}

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(second, second, 3, padding=1), nn.Conv2d(second, second, 1)

        def forward(self, x):
            return x + self.narrow(F.relu(self.wide(F.relu(x))))

    class VQVAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(channels, first, **halve),
                nn.ReLU(),
                nn.Conv2d(first, second, **halve),
                Residual(),
                Residual(),
                nn.ReLU(),
                nn.Conv2d(second, CODE_WIDTH, 1),
            )
            self.quantizer = quantizer
            self.decoder = nn.Sequential(
                nn.Conv2d(CODE_WIDTH, second, 1),
                Residual(),
                Residual(),
                nn.ReLU(),
                nn.ConvTranspose2d(second, first, **halve),
                nn.ReLU(),
                nn.ConvTranspose2d(first, channels, **halve),
            )

        def both(self, x):
            vectors, loss = self.quantizer(self.encoder(x))
            return self.decoder(vectors), loss

        def forward(self, x):
            return torch.sigmoid(self.both(x)[0])

    def loss(net, clean):
        logits, commitment = net.both(clean)
        return F.binary_cross_entropy_with_logits(logits, clean, reduction="sum") / len(clean) + commitment

    net = VQVAE()
    for layer in (m for m in (*net.encoder.modules(), *net.decoder.modules()) if hasattr(m, "kernel_size")):
        # At stride 2 an output of the transposed one meets a quarter of the kernel.
        fan = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
        fan = fan // 4 if isinstance(layer, nn.ConvTranspose2d) else fan
        as_flax(layer, fan)
    return torch_trainer(job, net, loss)


def as_flax(layer: Any, fan: int) -> None:
    """Flax's default: LeCun's variance 1/n, from a normal cut at two standard deviations, which 0.87962566 corrects for."""
    from torch import nn

    sd = fan**-0.5 / 0.87962566
    nn.init.trunc_normal_(layer.weight, std=sd, a=-2 * sd, b=2 * sd)
    nn.init.zeros_(layer.bias)


@lru_cache(maxsize=1)
def _float_tensors(folder: str) -> Any:
    import torch

    x = np.load(Path(folder) / "train.npy")
    return torch.from_numpy(x).permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()


def float_tensor(job: Job) -> Any:
    """The training images as PyTorch takes them: float32 [n, c, h, w] in [0, 1]; read once a process."""
    return _float_tensors(job.folder)[: job.examples]


def start_torch(job: Job) -> None:
    import torch

    torch.set_num_threads(cores())
    torch.manual_seed(job.seed)


def _reconstruct_by_torch(net: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """`net` takes images [b, c, h, w] to images; where it is a module, it is put into evaluation mode."""

    def reconstruct(x):
        import torch

        if isinstance(net, torch.nn.Module):
            net.eval()
        with torch.no_grad():
            return net(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()

    return reconstruct
