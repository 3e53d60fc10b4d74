"""Makes the autoencoder beside this file with diffusers itself: `pip install diffusers==0.42.1 torch && python make.py`.

`model/` is what diffusers saves, with random weights; `expected.npz` holds images, moments and reconstructions of three sizes.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL


def main(folder: Path = Path(__file__).parent) -> None:
    torch.manual_seed(0)
    net = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=2,
        scaling_factor=0.3,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            spread = 0.8 / np.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
            parameter.add_(spread * torch.randn_like(parameter))
    net.save_pretrained(folder / "model")
    arrays = {}
    for h, w in ((16, 16), (17, 17), (24, 20)):
        x = torch.rand(2, 3, h, w)
        with torch.no_grad():
            posterior = net.encode(2 * x - 1).latent_dist
            arrays |= {
                f"x_{h}_{w}": x.permute(0, 2, 3, 1).numpy(),
                f"moments_{h}_{w}": posterior.parameters.permute(0, 2, 3, 1).numpy(),
                f"x_hat_{h}_{w}": net.decode(posterior.mode()).sample.permute(0, 2, 3, 1).numpy(),
            }
    np.savez(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
