"""An autoencoder as a scikit-learn transformer: for pipelines, grid searches, and everything else that takes an estimator.

Nothing is written to disk. For runs that are recorded, resumed and evaluated, use `aejax.train`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aejax.data import batches_at, eval_batches, nats_of_scaling, unscaled
from aejax.data.reading import scaling_of
from aejax.errors import UsageError
from aejax.keys import evaluation_key, run_keys
from aejax.models import autoencoder, vae
from aejax.nets import MLP
from aejax.objective import likelihood_for, masking
from aejax.training.step import Runner, init_state, jit_runner
from aejax.types import Dataset, Found, Model, TrainState

__all__ = ["Autoencoder"]

BATCH = 256
"""One padded batch size outside training, so that each function compiles once."""

DRAWS = 100
"""Number of draws of z for the log density of a variational autoencoder (Burda et al. 2016, eq. 8)."""

CHUNK = 64
"""Number of training steps per call of the compiled program."""


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A plain, denoising or variational autoencoder of the rows of a matrix, with MLPs.

    Its bits are those of the functions of this library: with an int as `random_state`, fitting twice gives the same codes.
    Another fit with the same settings and shape compiles nothing.

    Args:
        latent: Dimensions of the code.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        variational: Whether to train the bound of a variational autoencoder (Kingma & Welling 2013); the codes are the
            posterior means.
        masking_rate: Fraction of the input that is masked in training (Vincent et al. 2008); 0 for none.
        likelihood: p(x|z) by name: `gaussian_learned`, `gaussian`, `squared_error` or `student_t`; with
            `standardize="minmax"` or "none" also `bernoulli` or `continuous_bernoulli`, for data in [0, 1].
        standardize: `zscore`, `minmax` or `none`: scaling of each column by its statistics in the data of the first fit.
        learning_rate: Peak learning rate of Adam; it falls to zero on a cosine, in each fit.
        batch_size: Examples in a step.
        steps: Training steps of `fit`, and of each `partial_fit`.
        random_state: Seed for initialization, data order and noise: an int, a `RandomState`, or None for another one each time.

    Attributes:
        params_: The trained parameters, nested dicts of arrays.
        loss_curve_: The objective at each step, in nats per example.
        n_features_in_: Number of columns.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.linear_model import LogisticRegression
        >>> from aejax.sklearn import Autoencoder
        >>> x = np.random.default_rng(0).normal(size=(100, 6))
        >>> pipeline = make_pipeline(Autoencoder(latent=2, steps=20, random_state=0), LogisticRegression())
        >>> pipeline.fit(x, x[:, 0] > 0).predict(x).shape
        (100,)
    """

    def __init__(
        self,
        latent: Any = 8,
        *,
        hidden: Any = (128,),
        variational: Any = False,
        masking_rate: Any = 0.0,
        likelihood: Any = "gaussian_learned",
        standardize: Any = "zscore",
        learning_rate: Any = 1e-3,
        batch_size: Any = 64,
        steps: Any = 2_000,
        random_state: Any = None,
    ) -> None:
        # Of any type, because scikit-learn demands that arguments are examined by `fit` only.
        self.latent, self.hidden, self.variational = latent, hidden, variational
        self.masking_rate, self.likelihood, self.standardize = masking_rate, likelihood, standardize
        self.learning_rate, self.batch_size, self.steps = learning_rate, batch_size, steps
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Autoencoder:
        """Trains from new parameters on X [n, d]."""
        with _as_value_error():
            return self._fit(validate_data(self, X, dtype=np.float32))

    def _fit(self, rows: np.ndarray) -> Autoencoder:
        self.seed_ = int(check_random_state(self.random_state).randint(2**31))
        self.scaling_ = None if self.standardize == "none" else scaling_of(rows, self.standardize, "X")
        data, programs = self._data(rows), self._programs()
        state = programs.first(run_keys(self.seed_).init, batches_at(data, self.seed_, 0, self.batch_size, 1))
        self.loss_curve_ = np.zeros(0, np.float32)
        return self._train(data, state)

    def partial_fit(self, X: Any, y: Any = None) -> Autoencoder:
        """Trains `steps` further steps on X [n, d]; scaling and optimizer state are those of the first call."""
        if not hasattr(self, "params_"):
            return self.fit(X)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        # On the device again: a copy, because the program takes over the memory of its argument.
        with _as_value_error():
            return self._train(self._data(rows), jax.tree.map(jnp.array, self._state))

    def transform(self, X: Any) -> np.ndarray:
        """Codes [n, latent] of X [n, d]."""
        return self._apply(self._checked(X), "encode")

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Reconstructions [n, d] of codes Z [n, latent], in the units of the data."""
        check_is_fitted(self)
        z = np.asarray(Z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"Z has shape {z.shape}; give codes [n, {self.latent}]")
        return unscaled(self._apply(self._data(z), "decode"), self.scaling_)

    def score_samples(self, X: Any) -> np.ndarray:
        """The log density of each row, [n] in nats: low for unusual rows.

        It is log p(x|z) at the row's code z; if variational, log p(x) estimated with DRAWS draws of z, the same for all rows.
        """
        log_density = self._apply(self._checked(X), "log_density")
        return log_density - nats_of_scaling(self.scaling_, (self.n_features_in_,))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, for searches over settings."""
        return float(np.mean(self.score_samples(X)))

    @property
    def _n_features_out(self) -> int:
        """For the names of the codes: autoencoder0, autoencoder1, …"""
        return self.latent

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _checked(self, X: Any) -> Dataset:
        check_is_fitted(self)
        return self._data(validate_data(self, X, dtype=np.float32, reset=False))

    def _data(self, rows: np.ndarray) -> Dataset:
        low, high = float(rows.min()), float(rows.max())
        found = Found("float32", low, high, "X")
        return Dataset("X", rows.shape[1:], len(rows), None, "", {"x": rows}, found=found, scaling=None)

    def _programs(self) -> Programs:
        settings = (
            self.n_features_in_, self.latent, tuple(self.hidden), self.variational, self.masking_rate, self.likelihood,
            self.learning_rate, self.steps,
        )  # fmt: skip
        return _programs(*settings)

    def _train(self, data: Dataset, state: TrainState) -> Autoencoder:
        programs, losses = self._programs(), [self.loss_curve_]
        model, data = programs.model, data._replace(scaling=self.scaling_)
        if model.data.check is not None:
            for batch, _ in eval_batches(data, BATCH):
                model.data.check(batch["x"], "X")
        start, key = int(state.step), run_keys(self.seed_).run
        for step in range(start, start + self.steps, CHUNK):
            n = min(CHUNK, start + self.steps - step)
            # Always CHUNK batches, of which n are used, so that every call runs one program.
            state, metrics = programs.run(state, key, batches_at(data, self.seed_, step, self.batch_size, CHUNK), n)
            losses.append(np.asarray(metrics["loss"])[:n])
        self._state: TrainState = jax.tree.map(np.asarray, state)
        self.params_ = self._state.params
        self.loss_curve_ = np.concatenate(losses)
        return self

    def _apply(self, data: Dataset, name: str) -> Any:
        f = getattr(self._programs(), name)
        if name != "decode":
            data = data._replace(scaling=self.scaling_)
        key = evaluation_key(self.seed_, "importance" if name == "log_density" else "encode")
        parts = []
        for batch, valid in eval_batches(data, BATCH):
            out = f(self._state.params, self._state.extras, batch, key)
            parts.append(jax.tree.map(lambda leaf, n=valid: np.asarray(leaf)[:n], out))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@contextmanager
def _as_value_error() -> Iterator[None]:
    """scikit-learn expects ValueError for data that an estimator cannot take."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error


class Programs(NamedTuple):
    """Compiled functions for one choice of settings and one number of columns."""

    model: Model
    first: Callable[[Any, Any], TrainState]
    run: Runner
    encode: Callable[..., Any]
    decode: Callable[..., Any]
    """(params, extras, {"x": codes [b, latent]}, key) -> rows [b, d]."""
    log_density: Callable[..., Any]


@lru_cache(maxsize=64)
def _programs(
    columns: int,
    latent: int,
    hidden: tuple[int, ...],
    variational: bool,
    masking_rate: float,
    likelihood: str,
    learning_rate: float,
    steps: int,
) -> Programs:
    shape, corrupt = (columns,), masking(masking_rate) if masking_rate else None
    nothing = Dataset("X", shape, 0, None, "", None)
    observation = likelihood_for(nothing, likelihood)  # type: ignore[arg-type]
    decoder = MLP(hidden[::-1], (*shape, observation.width), jax.nn.relu)
    if variational:
        encoder = MLP(hidden, 2 * latent, jax.nn.relu)
        model = vae(encoder, decoder, observation, latent, shape, corrupt=corrupt)
    else:
        model = autoencoder(MLP(hidden, latent, jax.nn.relu), decoder, observation, corrupt=corrupt)
    assert model.encode is not None
    assert model.decode is not None
    decode = model.decode
    decay = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adam(lambda count: decay(count % steps))  # each `partial_fit` starts at the peak again

    def rows(params: Any, extras: Any, batch: Any, key: Any) -> Any:
        example = jnp.zeros((len(batch["x"]), *shape))
        return decode(params, extras, batch["x"], {**batch, "x": example})

    def log_density(params: Any, extras: Any, batch: Any, key: Any) -> Any:
        if model.latent is None:
            return -model.evaluate(params, extras, batch, key)["nll"]
        # One key for all rows: the score of a row does not depend on its position.
        alike = {**batch, "index": jnp.zeros_like(batch["index"])}
        weights = model.latent.log_weights(params, extras, alike, key, DRAWS)
        return jax.nn.logsumexp(weights, axis=1) - jnp.log(float(DRAWS))

    def first(key: Any, batches: Any) -> TrainState:
        return init_state(model, optimizer, key, {name: leaf[0] for name, leaf in batches.items()})

    run = jit_runner(model, optimizer)
    return Programs(model, jax.jit(first), run, jax.jit(model.encode), jax.jit(rows), jax.jit(log_density))
