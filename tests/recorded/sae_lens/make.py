"""Makes the dictionaries beside this file with SAELens itself: `pip install sae-lens==6.54.12 && python make.py`.

Each folder is what SAELens saves, with random weights; `expected.npz` holds inputs, codes and reconstructions.
"""

from pathlib import Path

import numpy as np
import torch
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE, MatchingPursuitSAEConfig
from sae_lens.saes.sae import SAE
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

SIZES = {"d_in": 6, "d_sae": 10}
PURSUIT = {"max_iterations": 3, "residual_threshold": 0.0, "stop_on_duplicate_support": False}
KINDS = {
    "standard": lambda: StandardSAE(StandardSAEConfig(**SIZES)),
    "standard_no_input_bias": lambda: StandardSAE(StandardSAEConfig(**SIZES, apply_b_dec_to_input=False)),
    "topk": lambda: TopKSAE(TopKSAEConfig(**SIZES, k=3)),
    "topk_rescaled": lambda: TopKSAE(TopKSAEConfig(**SIZES, k=3, rescale_acts_by_decoder_norm=True)),
    "jumprelu": lambda: JumpReLUSAE(JumpReLUSAEConfig(**SIZES)),
    "gated": lambda: GatedSAE(GatedSAEConfig(**SIZES)),
    "matching_pursuit": lambda: MatchingPursuitSAE(MatchingPursuitSAEConfig(**SIZES, **PURSUIT)),
    "batchtopk": lambda: BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**SIZES, k=3)),
}


def main(folder: Path = Path(__file__).parent) -> None:
    torch.manual_seed(0)
    x, expected = torch.randn(20, 6) + 0.5, {}
    for name, make in KINDS.items():
        sae = make()
        with torch.no_grad():
            for parameter in sae.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.6)
            if name == "matching_pursuit":
                sae.W_dec.copy_(sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True))
            if hasattr(sae, "topk_threshold"):
                sae.topk_threshold.fill_(0.7)
            if name == "jumprelu":
                sae.threshold.copy_(sae.threshold.abs())
        save = sae.save_inference_model if hasattr(sae, "save_inference_model") else sae.save_model
        save(folder / name)
        with torch.no_grad():
            loaded = SAE.load_from_disk(folder / name)
            z = loaded.encode(x)
            expected |= {f"{name}_z": z.numpy(), f"{name}_x_hat": loaded.decode(z).numpy()}
    np.savez(folder / "expected.npz", x=x.numpy(), **expected)


if __name__ == "__main__":
    main()
