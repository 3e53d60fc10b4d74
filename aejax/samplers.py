"""Samplers for trained models: a density fitted to the codes of the training split, whose draws are decoded (Ghosh et al. 2020,
§5), and samples selected by a classifier.

A plain autoencoder thus generates too, and a variational one without the mismatch between its prior and its codes.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from aejax.data import has_data, subset
from aejax.errors import UsageError, at_least_one
from aejax.evaluation.baselines import training_examples
from aejax.keys import each, evaluation_key
from aejax.runs.run import Run
from aejax.types import Dataset

ITERATIONS = 500
"""Maximum number of iterations of expectation maximization."""


class Mixture(NamedTuple):
    """Σ_k π_k N(μ_k, L_k L_kᵀ) of codes."""

    weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]
    """Lower triangular factors of the covariances."""


def gaussian_mixture(codes: np.ndarray, components: int, seed: int = 0) -> Mixture:
    """The mixture of full-covariance Gaussians most likely to give codes [n, d], as found by expectation maximization from
    k-means.

    With one component it is the mean and covariance of the codes. Variances are increased by a millionth of the codes' mean
    variance, so that a constant unit does no harm. Raises UsageError for codes that are not vectors or not finite, and for
    fewer codes than components.
    """
    from sklearn.mixture import GaussianMixture  # takes a second to import
    from threadpoolctl import threadpool_limits

    at_least_one("gaussian_mixture", "components", components)
    if codes.ndim != 2 or codes.dtype.kind != "f":
        raise UsageError(
            f"a mixture of Gaussians is fitted to vector codes [n, d] of floats; these are {codes.dtype} {list(codes.shape)}"
        )
    if not np.isfinite(codes).all():
        raise UsageError("some codes are not finite, so no mixture can be fitted to them")
    if len(codes) < max(2, components):
        raise UsageError(f"{len(codes)} codes are too few for a mixture of {components}; ask for fewer components")
    # In units of the codes' scale, because scikit-learn's floor of the variances is absolute.
    unit = float(np.sqrt(np.mean(np.var(codes, axis=0, dtype=np.float64)))) or 1.0
    # One thread, because the number of threads would change the order of sums and thus the samples.
    with threadpool_limits(1):
        fitted = GaussianMixture(components, max_iter=ITERATIONS, random_state=seed).fit(
            codes.astype(np.float64) / unit
        )
    return Mixture(fitted.weights_, fitted.means_ * unit, np.linalg.cholesky(fitted.covariances_) * unit)


def draw(mixture: Mixture, keys: Key[Array, " n"]) -> Float[Array, "n d"]:
    """One draw per key."""
    weights, means, factors = (jnp.asarray(part, jnp.float32) for part in mixture)

    def one(key: Key[Array, ""]) -> Array:
        k_which, k_noise = jax.random.split(key)
        i = jax.random.categorical(k_which, jnp.log(weights))
        noise = jax.random.normal(k_noise, means.shape[1:])
        return means[i] + jnp.matmul(factors[i], noise, precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(keys)


def sample_fitted(run: Run, components: int, n: int, seed: int = 0) -> np.ndarray:
    """n samples [n, *shape] in data range: decoded draws of a mixture fitted to the codes of the training split.

    `n=10` gives the first ten of `n=100`. The fit depends on the run's seed only: another `seed` gives other draws of the same
    mixture. For a streamed training split, the codes are those of the examples that baselines learn from. If the decoder needs
    more than a code (a label), it receives that of the training examples in turn. Raises UsageError for a run without data, for
    a model without a decoder, and as `gaussian_mixture` does.
    """
    train = run.experiment.train
    if run.experiment.model.decode is None:
        raise UsageError(f"the model of {run.directory} has no `decode`; nothing can be sampled by way of its codes")
    if not has_data(train):
        raise UsageError(
            f"{run.directory} was opened without its data, to whose codes the mixture is fitted; open it with_data=True"
        )
    mixture = gaussian_mixture(run.encode(subset(train, training_examples(train))), components, run.experiment.seed)

    index, key = np.arange(n, dtype=np.int32), evaluation_key(seed, "sample")
    z = np.asarray(jax.jit(partial(draw, mixture))(each(key, jnp.asarray(index))))
    return run.decode(z, subset(train, index % train.size))


def sample_accepted(
    run: Run, classifier: Run, label: int, n: int, seed: int = 0, keep: float = 0.25
) -> tuple[np.ndarray, float]:
    """Rejection sampling (Razavi et al. 2019, §3.4): of n/keep samples of the label, the n with the highest class probability.

    They are returned in the order in which they were drawn, with the classifier's accuracy on all n/keep samples. Raises
    UsageError if `classifier` is not a classifier of such images, and as `Run.sample` does.
    """
    if not 0.0 < keep <= 1.0:
        raise UsageError(f"keep={keep}: the share of the samples that are accepted is above 0 and at most 1")
    drawn = run.sample(-int(-n // keep), seed, label=label)
    shown = Dataset(
        "the samples",
        drawn.shape[1:],
        len(drawn),
        None,
        "",
        {"x": drawn, "label": np.full(len(drawn), label, np.int32)},
    )
    if shown.shape != classifier.experiment.train.shape:
        raise UsageError(
            f"{classifier.directory} was trained on examples of shape {classifier.experiment.train.shape}, not {shown.shape}"
        )
    terms = classifier.evaluate(shown)
    if not {"nll", "error"} <= terms.keys():
        raise UsageError(
            f"{classifier.directory} is no classifier's run; train one, as vincent2010.py --stage supervised"
        )
    surest = np.sort(np.argsort(terms["nll"], kind="stable")[:n])
    return drawn[surest], 1.0 - float(np.mean(terms["error"]))
