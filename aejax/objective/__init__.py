"""The parts of a loss: `from aejax.objective import masking, bernoulli, top_k, …`.

Each function here returns one part, to be passed to a model. Time gaps for TD-VAE are in `aejax.objective.time_gaps`.
"""

from aejax.objective.activations import (
    Activation,
    batch_top_k,
    gated,
    jump_relu,
    matching_pursuit,
    relu_l1,
    relu_top_k,
)
from aejax.objective.bottlenecks import spatial_winner_take_all, top_k, winner_take_all
from aejax.objective.corruptions import (
    Corruption,
    bernoulli_masking,
    chain,
    fixed_mask,
    gaussian_noise,
    masking,
    nothing,
    patches,
    salt_and_pepper,
)
from aejax.objective.discretized import discretized_logistic, discretized_logistic_mixture, gray_levels
from aejax.objective.divergences import capacity, free_bits, weighted
from aejax.objective.likelihoods import (
    Likelihood,
    LikelihoodName,
    bernoulli,
    categorical,
    continuous_bernoulli,
    gaussian,
    gaussian_learned,
    likelihood_for,
    restrict,
    skip_missing,
    squared_error,
    student_t,
)
from aejax.objective.penalties import contractive, contractive_h, hutchinson, kl_sparsity, l1
from aejax.objective.posteriors import Posterior, diagonal, flow, full_rank, inverse_autoregressive, planar, real_nvp
from aejax.objective.priors import Prior, conditional, mixture, standard_normal, vamp
from aejax.objective.quantizers import Quantizer, nearest
from aejax.objective.regularizers import Latents, dip, minibatch_stratified, minibatch_weighted, mmd, total_correlation
from aejax.objective.revival import AuxiliaryLoss
from aejax.objective.scalar_quantizers import finite_scalar, lookup_free
from aejax.objective.schedules import cyclical
from aejax.objective.sparsity import above_half, nonzero
from aejax.objective.stacked_quantizers import grouped, residual

__all__ = [
    "Activation",
    "AuxiliaryLoss",
    "Corruption",
    "Latents",
    "Likelihood",
    "LikelihoodName",
    "Posterior",
    "Prior",
    "Quantizer",
    "above_half",
    "batch_top_k",
    "bernoulli",
    "bernoulli_masking",
    "capacity",
    "categorical",
    "chain",
    "conditional",
    "continuous_bernoulli",
    "contractive",
    "contractive_h",
    "cyclical",
    "diagonal",
    "dip",
    "discretized_logistic",
    "discretized_logistic_mixture",
    "finite_scalar",
    "fixed_mask",
    "flow",
    "free_bits",
    "full_rank",
    "gated",
    "gaussian",
    "gaussian_learned",
    "gaussian_noise",
    "gray_levels",
    "grouped",
    "hutchinson",
    "inverse_autoregressive",
    "jump_relu",
    "kl_sparsity",
    "l1",
    "likelihood_for",
    "lookup_free",
    "masking",
    "matching_pursuit",
    "minibatch_stratified",
    "minibatch_weighted",
    "mixture",
    "mmd",
    "nearest",
    "nonzero",
    "nothing",
    "patches",
    "planar",
    "real_nvp",
    "relu_l1",
    "relu_top_k",
    "residual",
    "restrict",
    "salt_and_pepper",
    "skip_missing",
    "spatial_winner_take_all",
    "squared_error",
    "standard_normal",
    "student_t",
    "top_k",
    "total_correlation",
    "vamp",
    "weighted",
    "winner_take_all",
]
