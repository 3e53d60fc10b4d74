"""Judging a run on its test split, each number beside baselines computed on the same examples.

    reconstruction   of clean examples: the model, PCA with as many components
    restoration      of corrupted ones, at the trained corruption and over a sweep: the corrupted input itself, the model,
                     PCA, the optimal affine denoiser
    activity         of a sparse code: active and dead units, and their histogram
    jacobian         of the encoder, for codes that are vectors: the mean spectrum of its singular values
    bound            of a variational model: −log p(x) by importance sampling, active units, the divergence's parts
    probes           accuracy of simple classifiers on codes, raw pixels, PCA
    disentanglement  of a code by the factors of variation, where the data set has them: every metric, on the test codes
    sequences        of a model of them: how it goes on from half of one, and what its states tell of the true ones
    robustness       the same at examples masked by 30 %, and how far the codes move

Seeds are the run's, so that judging twice writes the same file. Examples come in batches, and only codes and numbers per
example are kept: a test split may be larger than memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from aejax.data import chosen, in_order, take
from aejax.evaluation import disentanglement, images
from aejax.evaluation.baseline_cache import remembered
from aejax.evaluation.bounds import DRAWS, bound
from aejax.evaluation.codebook import codebook
from aejax.evaluation.jacobian import LARGE, spectrum
from aejax.evaluation.linear import Statistics, apply, optimal_linear, pca, pca_codes, statistics, with_axes
from aejax.evaluation.probes import probe
from aejax.evaluation.robustness import CORRUPTION, robustness
from aejax.evaluation.sequences import sequences
from aejax.evaluation.table import NAMES
from aejax.files import write_json
from aejax.keys import evaluation_key
from aejax.objective.corruptions import Corruption, corrupt_batch
from aejax.objective.sparsity import EDGES, active_terms, activity_histogram
from aejax.runs.checkpoint import digest
from aejax.runs.run import Run, inference_batch, map_examples, means
from aejax.types import Batch, Dataset, Experiment

PROBE_EXAMPLES = 10_000
"""Training examples that a probe sees at most, evenly spaced over the split: raw pixels would take minutes with all."""

LINEAR_DIMENSIONS = 4096
"""Examples with more dimensions have no linear baselines: their d×d matrices take gigabytes and minutes. Where they are
streamed, no probe of raw pixels either."""

STREAMED_EXAMPLES = 10_000
"""Examples of a streamed data set that are judged, the first, and that baselines learn from, evenly spaced: each costs a
decoding at each use."""

JACOBIAN_EXAMPLES, JACOBIAN_WORK = 100, 10**10
"""Examples whose Jacobian is decomposed, evenly spaced, if that takes no more than so many multiplications (some seconds);
of a wide encoder fewer, and none where eight would take more."""


def evaluate(run: Run, checkpoint: str = "last", draws: int = DRAWS) -> dict[str, Any]:
    """Judges an opened run (with its data), writes `eval.json`, returns what it holds.

    `draws` are those of z for each example by which a variational model's −log p(x) is estimated; 0 leaves it out.

    Restoration is None for a model without a corruption and an experiment without a sweep; probes are None without
    labels; a baseline that cannot be computed is absent.
    """
    experiment, test = run.experiment, judged_part(run.experiment.test)
    result: dict[str, Any] = {
        "step": run.step,
        "checkpoint": checkpoint,
        "digest": digest(run.state.params, run.state.extras),
        "data": test.name,
        "examples": test.size,
        "terms": means(run.evaluate(test)),
        "reconstruction": None,
        "restoration": None,
        "probes": None,
        "robustness": None,
        "activity": _activity(run, test),
        "jacobian": None,
        "bound": None,
        "codebook": None,
        "disentanglement": None,
        "sequences": sequences(run, test),
    }
    result["codebook"] = codebook(run, test, result["terms"])
    codes = None if experiment.model.encode is None else run.encode(test)
    components = None if codes is None else int(np.prod(codes.shape[1:]))
    train = linear_statistics(experiment, components)
    if codes is not None:
        assert components is not None
        result["jacobian"] = _jacobian(run, codes, test)
        result["disentanglement"] = disentanglement.of_test_split(run, codes, test)
        result["bound"] = bound(run, test, result["terms"], codes, draws)
        if "label" in take(test, np.arange(1)):
            result["probes"], result["robustness"] = _probes(run, codes, test, train, components)
    if experiment.model.reconstruct is not None:
        result["reconstruction"], result["restoration"] = _restoration(run, test, train, components)
    write_json(run.directory / "eval.json", result)
    return result


def _activity(run: Run, test: Dataset) -> dict[str, Any] | None:
    """How often the units of a sparse code are active; None for a model without one."""
    if run.experiment.model.active is None:
        return None
    active = run.active(test)
    histogram = {"edges": list(EDGES), "units": activity_histogram(active)}
    return {"units": active.shape[1], **active_terms(active), "histogram": histogram}


def _jacobian(run: Run, codes: np.ndarray, test: Dataset) -> dict[str, Any] | None:
    """The spectrum of the encoder's Jacobian, mean over some examples; None where it is too wide or not finite, or the encoder
    no function of x alone."""
    d, (_, *code) = math.prod(test.shape), codes.shape
    if len(code) != 1 or d > LINEAR_DIMENSIONS or run.experiment.model.condition is not None:
        return None
    affordable = JACOBIAN_WORK // (d * code[0] * min(d, code[0]))
    if affordable < 8:
        return None
    x = take(test, _evenly_spaced(test.size, min(JACOBIAN_EXAMPLES, affordable)))["x"]
    try:
        values = spectrum(encoder_of(run), x)
    except np.linalg.LinAlgError:  # of a run that has diverged
        return None
    if not np.isfinite(values).all():
        return None
    return {
        "examples": len(x),
        "squared_norm": float(np.mean(np.sum(np.square(values), axis=1))),
        "large_values": float(np.mean(np.sum(values > LARGE * values[:, :1], axis=1))),
        "singular_values": values.mean(axis=0).tolist(),
    }


def encoder_of(run: Run) -> Callable:
    """The run's encoder as a function of x [b, *shape]."""
    encode, key = run.experiment.model.encode, evaluation_key(run.experiment.seed, "encode")
    assert encode is not None
    return lambda x: encode(
        run.state.params, run.state.extras, {"x": x, "index": np.arange(len(x), dtype=np.int32)}, key
    )


def judged_part(test: Dataset) -> Dataset:
    """What is judged of a test split: all of it, or the first STREAMED_EXAMPLES of a streamed one, and its name says so."""
    if test.read is None or test.size <= STREAMED_EXAMPLES:
        return test
    return test._replace(name=f"{test.name}, the first {STREAMED_EXAMPLES}", size=STREAMED_EXAMPLES)


def learnt_from(train: Dataset) -> np.ndarray:
    """Positions of the examples that linear baselines learn from: all, or STREAMED_EXAMPLES of a streamed data set."""
    return np.arange(train.size) if train.read is None else _evenly_spaced(train.size, STREAMED_EXAMPLES)


def compresses(components: int, train: Dataset) -> bool:
    """Whether PCA with so many components leaves out any direction in which its training examples vary. Otherwise it is the data,
    and no baseline."""
    return components < min(math.prod(train.shape), len(learnt_from(train)) - 1)


def _evenly_spaced(size: int, most: int) -> np.ndarray:
    return np.linspace(0, size - 1, min(most, size)).astype(np.int64)


def corrupted(run: Run, corrupt: Callable, data: Dataset) -> np.ndarray:
    """Every example of the data set under a corruption, with the run's key: the same noise at every call."""
    f = _corruption(run, corrupt)
    return map_examples(lambda batch: f(batch["x"], batch["index"]), data)


def _corruption(run: Run, corrupt: Callable) -> Callable:
    key = evaluation_key(run.experiment.seed, "corrupt")
    return jax.jit(lambda x, index: corrupt_batch(corrupt, key, x, index)[0])


def _restoration(
    run: Run, test: Dataset, train: Statistics | None, components: int | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Scores of clean examples, and those at the trained corruption and at each level of the experiment's sweep."""
    experiment = run.experiment
    trained = experiment.model.corrupt
    low, high = _extremes(test)
    model = {"model": _of_batch(run, "reconstruct")}

    def projection() -> dict[str, Callable[[Batch], Any]]:
        if train is None or components is None or not compresses(components, experiment.train):
            return {}
        return {"pca": _clipped(pca(train, components), low, high)}

    def baselines(corrupt: Callable, seen: Callable) -> dict[str, Any]:
        contenders: dict[str, Callable[[Batch], Any]] = {"input": lambda batch: batch["x"], **projection()}
        if train is not None and isinstance(corrupt, Corruption):  # a user's own function tells no moments
            optimal = optimal_linear(train, corrupt.moments(experiment.test.shape))
            contenders["optimal_linear"] = _clipped(optimal, low, high)
        return _scores(test, seen, contenders, low, high)

    def known(what: str, noise: str, make: Callable) -> dict[str, Any]:
        return remembered((what, components, noise), [experiment.train, test], make)

    def at(corrupt: Callable) -> dict[str, Any]:
        seen = _corruption(run, corrupt)
        kind = "restoration" if isinstance(corrupt, Corruption) else "restoration without moments"
        found = known(kind, _noise(seen, test), lambda: baselines(corrupt, seen))
        found = {**found, **_scores(test, seen, model, low, high)}
        return {name: found[name] for name in NAMES if name in found}

    untouched = lambda x, index: x
    clean = _scores(test, untouched, model, low, high)
    clean |= known("reconstruction", "", lambda: _scores(test, untouched, projection(), low, high))
    if trained is None and not experiment.sweep:
        return clean, None
    return clean, {
        "corruption": None
        if trained is None
        else trained.name
        if isinstance(trained, Corruption)
        else trained.__name__,
        "trained": None if trained is None else at(trained),
        "sweep": [{"level": level, **at(corrupt)} for level, corrupt in sorted(experiment.sweep.items())],
    }


def _scores(
    test: Dataset, corrupt: Callable, contenders: Mapping[str, Callable], low: float, high: float
) -> dict[str, dict[str, float | None]]:
    """Contender -> means over examples: squared error per dimension, PSNR in dB, structural similarity (None where not an
    image). `corrupt` maps (x, index) to what the contenders restore, the `x` of their batch.

    The data range of PSNR and similarity is 1 for data in [0, 1], else that of the clean test examples, `low` to `high`.
    """
    data_range = 1.0 if low >= 0.0 and high <= 1.0 else high - low

    def scores(x, y):
        similarity = images.ssim(x, y, data_range)
        measured = {"mse": images.mse(x, y), "psnr": images.psnr(x, y, data_range)}
        return measured if similarity is None else {**measured, "ssim": similarity}

    def of_batch(batch):
        x = batch["x"]
        seen = {**batch, "x": np.asarray(corrupt(x, batch["index"]))}
        return {name: scores(x, np.asarray(restore(seen))) for name, restore in contenders.items()}

    return {name: {"ssim": None, **means(found)} for name, found in map_examples(of_batch, test).items()}


def _noise(corrupt: Callable, test: Dataset) -> str:
    """Tells corruptions of the test examples apart: sha256 of what they make of them."""
    told = hashlib.sha256()
    for batch, valid in in_order(test, inference_batch(test)):
        told.update(np.ascontiguousarray(corrupt(batch["x"], batch["index"])[:valid]).data)
    return told.hexdigest()


def _extremes(test: Dataset) -> tuple[float, float]:
    """The range of the clean test examples."""
    found = [(batch["x"].min(), batch["x"].max()) for batch, _ in in_order(test, inference_batch(test))]
    return float(min(low for low, _ in found)), float(max(high for _, high in found))


def _of_batch(run: Run, name: str) -> Callable[[Batch], Any]:
    """As `run.reconstruct` or `run.encode`, of a batch: what a model draws for an example depends on its place in the whole
    split."""
    f, key = jax.jit(getattr(run.experiment.model, name)), evaluation_key(run.experiment.seed, name)
    return lambda batch: f(run.state.params, run.state.extras, batch, key)


def _clipped(affine: Any, low: float, high: float) -> Callable[[Batch], np.ndarray]:
    """A linear baseline clipped to the range of the clean data, which never raises its error."""
    return lambda batch: np.clip(apply(affine, batch["x"]), low, high)


def linear_statistics(experiment: Experiment, components: int | None) -> Statistics | None:
    """What the linear baselines need to know; None where there are none."""
    train = experiment.train
    projects = components is not None and compresses(components, train)
    if math.prod(train.shape) > LINEAR_DIMENSIONS or not (
        projects or experiment.model.corrupt is not None or experiment.sweep
    ):
        return None
    found = remembered("statistics", [train], lambda: statistics(np.asarray(take(train, learnt_from(train))["x"])))
    return remembered("statistics with axes", [train], lambda: with_axes(found)) if projects else found


def _probes(
    run: Run, codes: np.ndarray, test: Dataset, train: Statistics | None, components: int
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The probes, and their robustness; None where the labels allow no probe: fewer than two classes, or none of five
    examples to hold one out of."""
    train_split = run.experiment.train
    data = chosen(train_split, _evenly_spaced(train_split.size, PROBE_EXAMPLES))
    data = data._replace(fingerprint=train_split.fingerprint)  # of which, with the size, the chosen ones are a function
    raw = data.read is None or math.prod(data.shape) <= LINEAR_DIMENSIONS
    seen, judged = (
        map_examples(lambda b: {name: b[name] for name in b if raw or name == "label"}, d) for d in (data, test)
    )
    counts = np.bincount(seen["label"])
    if np.count_nonzero(counts) < 2 or counts.max() < 5:
        return None, None
    corrupt, encode = _corruption(run, CORRUPTION.draw), _of_batch(run, "encode")

    def under_corruption(batch):
        x = corrupt(batch["x"], batch["index"])
        return {"codes": encode({**batch, "x": x}), **({"x": x} if raw else {})}

    moved = map_examples(under_corruption, test)
    labels = seen["label"], judged["label"]
    probed = probe("codes", run.encode(data), codes, *labels)
    found = {"codes": (probed.accuracy, robustness("codes", probed, codes, moved["codes"], judged["label"]))}

    def baseline(name: str, of: Callable, *what: int):
        probed = remembered((name, *what), [data, test], lambda: probe(name, of(seen["x"]), of(judged["x"]), *labels))
        robust = lambda: robustness(name, probed, of(judged["x"]), of(moved["x"]), judged["label"])
        noise = hashlib.sha256(np.ascontiguousarray(moved["x"]).data).hexdigest()
        return probed.accuracy, remembered((name, *what, noise), [data, test], robust)

    if raw:
        found["raw"] = baseline("raw", np.asarray)
    if train is not None and compresses(components, run.experiment.train):
        found["pca"] = baseline("pca", partial(pca_codes, train, components), components)
    probes, robust = ({name: each[i] for name, each in found.items()} for i in (0, 1))
    return {"train_examples": data.size, "components": components, **probes}, {"corruption": CORRUPTION.name, **robust}
