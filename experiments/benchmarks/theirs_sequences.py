"""A contender for models of sequences in PyTorch: a TD-VAE in a tight loop. As in theirs.py, PyTorch is imported within."""

from __future__ import annotations

import math

from job import BELIEF, GAP, MAPPED, PAIRS, STATE, Job, Trainer
from theirs import as_flax, float_tensor, start_torch, torch_trainer


def torch_tdvae(job: Job) -> Trainer:
    """aejax's TD-VAE of the rows of an image: GRU, gated maps, diagonal Gaussians, the same jumps."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    start_torch(job)
    channels, height, width = float_tensor(job).shape[1:]
    frame = channels * width

    class Gated(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.both, self.out = nn.Linear(size, 2 * BELIEF), nn.Linear(BELIEF, 2 * STATE)

        def forward(self, *rows):
            value, gate = self.both(torch.cat(rows, 1)).chunk(2, 1)
            mu, raw = self.out(torch.tanh(value) * torch.sigmoid(gate)).chunk(2, 1)
            return mu, 12.0 * torch.tanh(raw / 12.0)

    def draw(mu, log_variance):
        epsilon = torch.randn_like(mu)
        log_p = -0.5 * (epsilon.square() + log_variance + math.log(2 * math.pi)).sum(1)
        return mu + torch.exp(0.5 * log_variance) * epsilon, log_p

    def log_prob(z, mu, log_variance):
        squares = (z - mu).square() * torch.exp(-log_variance)
        return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(1)

    class TDVAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.frame = nn.Sequential(nn.Linear(frame, MAPPED), nn.ReLU(), nn.Linear(MAPPED, BELIEF), nn.ReLU())
            self.run = nn.GRU(BELIEF, BELIEF, batch_first=True)
            self.state = Gated(BELIEF)
            self.smoothing = Gated(STATE + 2 * BELIEF + 9)
            self.transition = Gated(STATE + 9)
            self.decoder = nn.Sequential(nn.Linear(STATE, MAPPED), nn.ReLU(), nn.Linear(MAPPED, frame))

        def beliefs(self, rows):
            b, _ = self.run(self.frame(rows))
            return F.pad(b, (0, 0, 1, 0))

        def forward(self, x):
            rows = rows_of(x)
            mu, _ = self.state(self.beliefs(rows)[:, 1:].reshape(-1, BELIEF))
            frames = torch.sigmoid(self.decoder(mu)).view(len(x), height, width, channels)
            return frames.permute(0, 3, 1, 2)

    def rows_of(x):
        return x.permute(0, 2, 3, 1).reshape(len(x), height, frame)

    def loss(net, x):
        rows = rows_of(x)
        b, n = net.beliefs(rows), len(x)
        delta = torch.randint(GAP[0], GAP[1] + 1, (n, PAIRS)).clamp(max=height)
        t2 = delta + (torch.rand(n, PAIRS) * (height + 1 - delta)).long()
        at = torch.arange(n)[:, None]
        b1, b2 = b[at, t2 - delta].view(-1, BELIEF), b[at, t2].view(-1, BELIEF)
        share = delta.view(-1, 1) / GAP[1]
        angle = math.pi * share * torch.tensor([[1.0, 2.0, 4.0, 8.0]])
        told = torch.cat([share, torch.sin(angle), torch.cos(angle)], 1)
        z2, log_b2 = draw(*net.state(b2))
        z1, log_q = draw(*net.smoothing(z2, b1, b2, told))
        log_b1 = log_prob(z1, *net.state(b1))
        log_p = log_prob(z2, *net.transition(z1, told))
        target = rows[at, t2 - 1].view(-1, frame)
        distortion = F.binary_cross_entropy_with_logits(net.decoder(z2), target, reduction="sum")
        return (distortion + (log_b2 + log_q - log_b1 - log_p).sum()) / (n * PAIRS)

    net = TDVAE()
    for layer in (m for m in net.modules() if isinstance(m, nn.Linear)):
        as_flax(layer, layer.in_features)
    return torch_trainer(job, net, loss)
