"""The conditional autoencoder: exact where everything is linear and Gaussian, in its limits, and as a run that is told labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from aejax.cli import main
from aejax.data import subset
from aejax.errors import UsageError
from aejax.evaluation import evaluate
from aejax.evaluation.part import Context
from aejax.evaluation.probing import PROBES, is_given_labels
from aejax.models import cvae, vae
from aejax.nets import MLP
from aejax.objective.corruptions import fixed_mask
from aejax.objective.likelihoods import bernoulli, gaussian, restrict
from aejax.objective.priors import conditional
from aejax.reports import report
from aejax.reports.generated import conditions_section
from aejax.runs.opening import open_run
from tiny import batch_of

D, K, N = 6, 2, 12
OBSERVED = np.array([True, True, False, False, False, False])
KEY = jax.random.key(5)


def small(**more):
    more = {"observed": OBSERVED} | more
    return cvae(MLP((4,), 2 * K), MLP((3,), 2 * K), MLP((4,), (D,)), bernoulli(), K, (D,), **more)


def batch(seed=0):
    x = np.random.default_rng(seed).uniform(size=(N, D)) < 0.5
    return batch_of(jnp.float32(x), label=jnp.arange(N, dtype=jnp.int32) % 3)


def init(model):
    return jax.jit(model.init)(jax.random.key(1), batch())[0]


def linear(kernel, bias):
    return {"dense_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}


def raw(variance):
    """What `bounded` takes to the logarithm of this variance."""
    return 12 * np.arctanh(np.log(variance) / 12)


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_the_rest_of_a_gaussian_given_a_part_is_exact(alpha):
    """x = (c, a·c + b z + noise), z ~ N(m·c, s²): log p(rest | c) is a Gaussian's. With the exact posterior every single draw
    weighs exactly it, and with the prior instead the draws' mean does."""
    rng = np.random.default_rng(0)
    a, b, m, s, noise = rng.normal(size=D - 1), rng.normal(size=D - 1), 0.7, 0.6, 0.8
    c = rng.normal(size=N)
    y = c[:, None] * a + rng.normal(m * c, s)[:, None] * b + noise * rng.normal(size=(N, D - 1))
    x = np.concatenate([c[:, None], y], axis=1)
    cov = s**2 * np.outer(b, b) + noise**2 * np.eye(D - 1)
    exact = multivariate_normal(np.zeros(D - 1), cov).logpdf(y - c[:, None] * (a + m * b))

    # N(μ, v) with 1/v = 1/s² + b·b/noise² and μ = v (m c/s² + b·(y − a c)/noise²); encoder and decoder see c as [c, 0, …].
    v = 1.0 / (1.0 / s**2 + b @ b / noise**2)
    into, out, ahead = np.zeros((2 * D, 2)), np.zeros((1 + D, D)), np.zeros((D, 2))
    into[1:D, 0], into[D, 0] = v * b / noise**2, v * (m / s**2 - a @ b / noise**2)
    out[0, 1:], out[1, 1:], ahead[0, 0] = b, a, m
    params = {
        "encoder": linear(into, [0.0, raw(v)]),
        "decoder": linear(out, np.zeros(D)),
        "posterior": {},
        "prior": linear(ahead, [0.0, raw(s**2)]),
    }
    observed = np.arange(D) == 0
    model = cvae(MLP((), 2), MLP((), 2), MLP((), (D,)), gaussian(noise), 1, (D,), observed=observed, alpha=alpha)
    seen = batch_of(jnp.float32(x))
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(model.init, KEY, seen)[0])
    assert shapes == jax.tree.map(jnp.shape, {name: params[name] for name in shapes})
    log_weights = jax.jit(model.latent.log_weights, static_argnums=4)
    if alpha == 1.0:
        np.testing.assert_allclose(log_weights(params, {}, seen, KEY, 1)[:, 0], exact, rtol=1e-4, atol=1e-3)
        return
    draws = 50_000
    log_w = np.asarray(log_weights(params, {}, seen, KEY, draws), np.float64)
    w = np.exp(log_w - exact[:, None])
    assert np.all(np.abs(w.mean(axis=1) - 1.0) < 5.0 * w.std(axis=1) / np.sqrt(draws))


def test_only_what_is_not_observed_is_scored_and_comes_back_changed():
    model, seen = small(), batch()
    params = init(model)
    worse = jax.tree.map(jnp.copy, params)
    worse["decoder"]["dense_1"]["bias"] = params["decoder"]["dense_1"]["bias"].at[:2].add(100.0)
    evaluate = jax.jit(model.evaluate)
    for name, value in evaluate(params, {}, seen, KEY).items():
        np.testing.assert_array_equal(evaluate(worse, {}, seen, KEY)[name], value, err_msg=name)
    z = jnp.zeros((N, K))
    for images in (
        model.reconstruct(worse, {}, seen, KEY),
        model.decode(worse, {}, z, seen),
        model.sample(worse, {}, seen, KEY),
    ):
        np.testing.assert_array_equal(images[:, :2], seen["x"][:, :2])
        assert np.all((images[:, 2:] > 0.0) & (images[:, 2:] < 1.0))
    np.testing.assert_array_equal(model.data.condition(seen), np.where(OBSERVED, seen["x"], 0.0))
    # Bits of the pixels that are modeled
    assert model.data.num_discrete_dims(np.asarray(seen["x"])) == D - 2


def test_told_a_label_it_is_the_vae_with_a_conditional_prior():
    condition = lambda batch: jax.nn.one_hot(batch["label"], 3)
    ours = small(observed=None, condition=condition)
    nets = MLP((4,), 2 * K), MLP((4,), (D,)), bernoulli(), K, (D,)
    theirs = vae(*nets, prior=conditional(MLP((3,), 2 * K)), condition=condition)
    params, seen = init(ours), batch()
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, init(theirs))
    found = jax.jit(ours.evaluate)(params, {}, seen, KEY)
    expected = jax.jit(theirs.evaluate)(params, {}, seen, jax.random.split(KEY)[0])
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    parts = jax.jit(ours.latent.divergences)(params, {}, seen, KEY)
    np.testing.assert_allclose(parts.sum(axis=1), found["kl"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_a_hybrid_is_the_weighted_mean_of_its_two_terms(alpha):
    model, seen = small(alpha=alpha), batch()
    params = init(model)
    assert ("encoder" in params) == (alpha > 0.0)
    f = jax.jit(jax.value_and_grad(lambda p: model.loss(p, {}, seen, KEY, 0, None), has_aux=True))
    (value, (_, terms)), slope = f(params)
    np.testing.assert_allclose(
        value, (alpha * terms["nelbo"] if alpha else 0.0) + (1 - alpha) * terms["gsnn"], rtol=1e-6
    )
    assert np.any(slope["prior"]["dense_1"]["kernel"] != 0.0)
    judged = jax.jit(model.evaluate)(params, {}, seen, KEY)
    if alpha == 0.0:  # q is the prior: nothing diverges, and the bound is of its draws
        np.testing.assert_allclose(judged["kl"], 0.0, atol=1e-6)
        assert np.any(judged["gsnn"] != judged["distortion"])  # of other draws, of the same distribution
        np.testing.assert_allclose(judged["gsnn"].mean(), judged["distortion"].mean(), rtol=0.2)


def test_the_elements_of_a_likelihood_that_count():
    x = jnp.ones((2, D))
    theta = jnp.zeros((2, D, 1))
    nats = restrict(bernoulli(), ~OBSERVED).neg_log_prob(theta, x)
    np.testing.assert_allclose(nats, np.where(OBSERVED, 0.0, np.log(2)) * np.ones((2, D)), rtol=1e-6)


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="between 0 and 1"):
        small(alpha=1.5)
    with pytest.raises(UsageError, match="needs condition=, observed="):
        small(observed=None)
    with pytest.raises(UsageError, match="leave some elements to be modeled"):
        small(observed=np.ones(D, bool))
    with pytest.raises(UsageError, match="examples of shape"):
        fixed_mask(OBSERVED)(KEY, jnp.zeros(D + 1))


# --- runs that are told something ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory, root):
    """By what they are told: runs of a few steps, from the command line."""
    found = {}
    for given in ("label", "quarter"):
        found[given] = tmp_path_factory.mktemp("cvae") / given
        script = f"{root}/experiments/variational/cvae.py"
        line = f"train {script} --given {given} --hidden 8 --latent 2 --steps 20 --run {found[given]}"
        assert main([*line.split(), "--no-evaluate"]) == 0
    return found


def test_no_probe_asks_a_code_for_the_label_that_it_was_made_with(runs):
    for given in ("label", "quarter"):
        context = Context(open_run(runs[given], with_data=True), 0)
        assert context.codes is not None
        assert is_given_labels(context) == (given == "label")
        assert PROBES.applies(context) == (given == "quarter")


def test_samples_are_given_a_label(runs, tmp_path):
    out = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, more in zip(out, (["--label", "3"], ["--label", "4"], ["--label", "3", "--n", "4"])):
        assert main(["sample", str(runs["label"]), str(path), "--n", "10", *more]) == 0
    three, four, few = (np.load(path) for path in out)
    assert three.shape == (10, 8, 8, 1)
    assert np.any(three != four)
    np.testing.assert_array_equal(three[:4], few)


def test_samples_are_given_a_part_of_examples(runs, tmp_path):
    assert (
        main(["sample", str(runs["quarter"]), str(tmp_path / "a.npy"), "--given", "digits:test[:3]", "--n", "7"]) == 0
    )
    found = np.load(tmp_path / "a.npy")
    # In turn; what is given is black or white, as the model has seen it.
    np.testing.assert_array_equal(found[:3, 4:, :4], found[3:6, 4:, :4])
    assert np.all(np.isin(found[:, 4:, :4], [0.0, 1.0]))
    assert np.all(found[0, :4] != found[3, :4])


@pytest.mark.parametrize(
    ("which", "more", "message"),
    [
        ("label", [], "one of --given"),
        ("label", ["--label", "10"], "labels from 0 to 9"),
        ("quarter", ["--label", "1"], "needs 'x', which the examples do not have"),
        ("label", ["--label", "1", "--fit-mixture", "2"], "leave out --given and --label"),
    ],
)
def test_what_is_not_given_is_asked_for(runs, which, more, message, tmp_path, capsys):
    assert main(["sample", str(runs[which]), str(tmp_path / "a.npy"), *more]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", [pytest.param("label", marks=pytest.mark.slow), "quarter"])
def test_it_is_evaluated_and_reported(runs, given):
    run = open_run(runs[given], with_data=True)
    run.experiment = run.experiment._replace(test=subset(run.experiment.test, np.arange(32)))
    found = evaluate(run, draws=20)
    assert found["bound"]["importance"]["nll"] < found["terms"]["nelbo"]
    assert found["jacobian"] is None  # of what is no function of x alone
    section = conditions_section(run)
    caption = "the observed part of each"
    assert (caption in section.html) == (given == "quarter")
    assert "Samples by condition" in report([run], None).read_text()
