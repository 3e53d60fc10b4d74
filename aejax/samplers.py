"""Samplers after training: a density fitted to the training split's codes, whose draws are decoded (Ghosh et al. 2020, §5), and
samples of which a classifier accepts some.

So a plain autoencoder generates too, and a variational one without the gap between its prior and where its codes lie.
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
"""Of expectation maximization, at most."""


class Mixture(NamedTuple):
    """Σ_k π_k N(μ_k, L_k L_kᵀ) of codes."""

    weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]
    """Lower triangular."""


def gaussian_mixture(codes: np.ndarray, components: int, seed: int = 0) -> Mixture:
    """The mixture of so many full-covariance Gaussians most likely to give codes [n, d], as far as expectation maximization from
    k-means (seeded) finds it; one component is the codes' mean and covariance.

    Variances are a millionth of the codes' mean variance larger, so that a unit which never varies does no harm.

    Raises UsageError for codes that are no vectors or not finite, and for fewer codes than components.
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
    # In the codes' own unit: scikit-learn's floor of the variances is absolute.
    unit = float(np.sqrt(np.mean(np.var(codes, axis=0, dtype=np.float64)))) or 1.0
    # One thread, since their number would change the sums' order and with it the samples.
    with threadpool_limits(1):
        fitted = GaussianMixture(components, max_iter=ITERATIONS, random_state=seed).fit(
            codes.astype(np.float64) / unit
        )
    return Mixture(fitted.weights_, fitted.means_ * unit, np.linalg.cholesky(fitted.covariances_) * unit)


def draw(mixture: Mixture, keys: Key[Array, " n"]) -> Float[Array, "n d"]:
    """One draw for each key."""
    weights, means, factors = (jnp.asarray(part, jnp.float32) for part in mixture)

    def one(key: Key[Array, ""]) -> Array:
        k_which, k_noise = jax.random.split(key)
        i = jax.random.categorical(k_which, jnp.log(weights))
        noise = jax.random.normal(k_noise, means.shape[1:])
        return means[i] + jnp.matmul(factors[i], noise, precision=jax.lax.Precision.HIGHEST)

    return jax.vmap(one)(keys)


def sample_fitted(run: Run, components: int, n: int, seed: int = 0) -> np.ndarray:
    """n samples [n, *shape] in data range: draws of a mixture fitted to the training split's codes, decoded.

    `n=10` gives the first ten of `n=100`.

    The fit knows the run's seed alone: another `seed` gives other draws of the same mixture. Of a streamed training split the
    codes are those of the examples that baselines learn from. What a decoder is given besides a code (a label) is that of the
    training examples in turn.

    Raises UsageError for a run without data, for a model that does not decode, and as `gaussian_mixture` does.
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
    """Rejection sampling (Razavi et al. 2019, §3.4): of n/keep samples of the label, the n with the highest class probability
    under a classifier, in the order in which they were drawn; and the classifier's accuracy on all that were drawn.

    Raises UsageError for a `classifier` that is none, or of other images, and as `Run.sample` does.
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
