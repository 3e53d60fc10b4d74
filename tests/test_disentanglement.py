"""Metrics of disentanglement: oracles, invariances, and each metric computed again by plain loops (those that fit machines in
test_disentanglement_fitted.py)."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import spearmanr

from aejax.data import load, take
from aejax.errors import UsageError
from aejax.evaluation import evaluate
from aejax.evaluation.disentanglement import (
    _Groups,
    beta_vae_score,
    dci,
    disentanglement,
    explicitness,
    factor_vae_score,
    irs,
    sap,
    udr,
)
from aejax.evaluation.factors import PART
from aejax.evaluation.information import mig, mig_sampled, modularity, mutual_information
from aejax.evaluation.part import Context
from aejax.models import vae
from aejax.nets import MLP
from aejax.objective.likelihoods import bernoulli
from aejax.reports import report
from aejax.runs.run import Run
from aejax.training.settings import Settings
from aejax.training.trainer import train
from aejax.types import Experiment, Latent, Model, TrainState

SIZES = (2, 3, 4)


@pytest.fixture(scope="module")
def factors():
    """Every combination, ten times over."""
    grid = np.array(list(itertools.product(*map(range, SIZES))))
    return np.tile(grid, (10, 1))


def entropy(values):
    p = [np.mean([v == w for v in values]) for w in set(values)]
    return -sum(q * np.log(q) for q in p)


def information(a, b):
    a, b = a.tolist(), b.tolist()
    return entropy(a) + entropy(b) - entropy(list(zip(a, b)))


# Oracles


def test_the_perfect_code_of_dsprites_is_held_back_by_twenty_bins():
    sizes = (3, 6, 40, 32, 32)
    found = mig(
        *[
            np.stack(
                [
                    np.resize(np.repeat(np.arange(s), np.prod(sizes[i + 1 :])), np.prod(sizes))
                    for i, s in enumerate(sizes)
                ],
                axis=1,
            )
        ]
        * 2
    )
    np.testing.assert_allclose(found["gaps"], [1, 1, 0.8121, 0.85, 0.85], atol=5e-5)
    assert found["score"] == pytest.approx(0.9024, abs=5e-5)


def test_the_identity_is_perfect_where_its_metric_can_see_it(factors):
    found = disentanglement(factors, factors)
    for name in ("beta_vae", "factor_vae", "mig", "dci", "modularity", "irs"):
        assert found[name]["score"] == pytest.approx(1, abs=1e-6), name
    assert found["dci"]["completeness_score"] == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(found["dci"]["informativeness"], 1)
    # A linear machine tells two values from one number, and a ranking by one number has a value in the middle of others.
    assert found["sap"]["gaps"][0] == pytest.approx(0.5, abs=0.1)
    ranks = [np.mean([max(i, s - 1 - i) / (s - 1) for i in range(s)]) for s in SIZES]
    np.testing.assert_allclose(found["explicitness"]["factors"], ranks, atol=0.1)


def test_order_and_scale_of_the_dimensions_are_worth_nothing(factors):
    noisy = factors + 0.2 * np.random.default_rng(0).standard_normal(factors.shape)
    moved = noisy[:, [2, 0, 1]] * np.array([4.0, -2.0, 8.0])
    before, after = disentanglement(noisy, factors), disentanglement(moved, factors)
    for name in before.keys() - {"irs"}:  # whose mean counts a dimension by its size
        assert after[name]["score"] == pytest.approx(before[name]["score"], abs=0.01), name
    np.testing.assert_allclose(after["irs"]["dimensions"], before["irs"]["dimensions"][[2, 0, 1]])
    np.testing.assert_allclose(after["mig"]["information"], before["mig"]["information"][[2, 0, 1]], atol=0.02)


def test_a_random_code_tells_nothing(factors):
    found = disentanglement(np.random.default_rng(0).standard_normal((len(factors), 4)), factors)
    assert found["mig"]["score"] < 0.05
    assert found["dci"]["score"] < 0.2
    assert found["sap"]["score"] < 0.1
    assert found["explicitness"]["score"] == pytest.approx(0.5, abs=0.1)
    assert found["beta_vae"]["score"] < 0.5
    assert found["irs"]["score"] < 0.4


def test_a_rotated_code_is_worse_and_as_informative(factors):
    z = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    straight, turned = disentanglement(z, factors), disentanglement(z @ q, factors)
    for name in ("mig", "dci", "modularity", "irs"):
        assert turned[name]["score"] < straight[name]["score"] - 0.1, name
    assert turned["explicitness"]["score"] == pytest.approx(straight["explicitness"]["score"], abs=0.02)


def test_a_factor_told_twice_costs_its_gap_and_no_modularity(factors):
    twice = np.concatenate([factors, factors[:, :1]], axis=1)
    np.testing.assert_allclose(mig(twice, factors)["gaps"], [0, 1, 1], atol=1e-6)
    assert sap(twice, factors)["gaps"][0] == 0
    assert modularity(twice, factors)["score"] == pytest.approx(1)
    assert dci(twice, factors)["score"] == pytest.approx(1, abs=1e-6)


def test_trees_and_votes_do_not_see_a_monotone_map(factors):
    z = np.concatenate([factors[:, :2], factors[:, [2]] + factors[:, [0]]], axis=1)
    np.testing.assert_allclose(dci(np.exp(z), factors)["importances"], dci(z, factors)["importances"], atol=1e-9)


# The same by plain loops


@pytest.fixture(scope="module")
def mixed(factors):
    rng = np.random.default_rng(3)
    return factors @ np.array([[1.0, 0, 0, 0.5], [0.3, 1.0, 0, 0], [0, 0.2, 1.0, 0.0]]) + 0.3 * rng.standard_normal(
        (len(factors), 4)
    )


def test_information_gap_and_modularity(mixed, factors):
    table = np.zeros((4, 3))
    for j, k in itertools.product(range(4), range(3)):
        edges = np.histogram(mixed[:, j], 20)[1][:-1]
        table[j, k] = information(np.digitize(mixed[:, j], edges), factors[:, k])
    np.testing.assert_allclose(mutual_information(mixed, factors), table, atol=1e-6)
    gaps = [(sorted(c)[-1] - sorted(c)[-2]) / np.log(s) for c, s in zip(table.T, SIZES)]
    assert mig(mixed, factors)["score"] == pytest.approx(np.mean(gaps), abs=1e-6)
    rows = [1 - sum(i**2 for i in sorted(r)[:-1]) / (max(r) ** 2 * 2) for r in table]
    assert modularity(mixed, factors)["score"] == pytest.approx(np.mean(rows), abs=1e-6)


def test_sampled_gap_by_quadrature(factors):
    """Of q(z_j|x) around the factors themselves: I = H(z_j) − H(z_j|v_k) by integrals over a grid."""
    few, sd = factors[:24], 0.4
    grid = np.linspace(-3, 7, 4001)
    density = lambda m: np.exp(-0.5 * ((grid[:, None] - m) / sd) ** 2).mean(axis=1) / (sd * np.sqrt(2 * np.pi))
    h = lambda p: -np.sum(p * np.log(np.maximum(p, 1e-300))) * (grid[1] - grid[0])
    table = [
        [
            h(density(few[:, j])) - np.mean([h(density(few[few[:, k] == v, j])) for v in range(s)])
            for k, s in enumerate(SIZES)
        ]
        for j in range(3)
    ]
    many = np.tile(few, (300, 1))
    found = mig_sampled(many.astype(float), np.full(many.shape, sd**2), many)
    np.testing.assert_allclose(found["information"], table, atol=0.02)
    gaps = [(sorted(c)[-1] - sorted(c)[-2]) / np.log(s) for c, s in zip(np.transpose(table), SIZES)]
    assert found["score"] == pytest.approx(np.mean(gaps), abs=0.01)


def test_sampled_gap_of_a_factor_that_is_told_by_the_width():
    sds, grid = np.array([1.0, 6.0]), np.linspace(-40, 40, 8001)
    values = np.stack([np.arange(4000) % 2, np.arange(4000) // 2 % 2], axis=1)
    variances = np.stack([sds[values[:, 0]] ** 2, np.ones(4000)], axis=1)
    each = np.exp(-0.5 * (grid[:, None] / sds) ** 2) / (sds * np.sqrt(2 * np.pi))
    h = lambda p: -np.sum(p * np.log(np.maximum(p, 1e-300))) * (grid[1] - grid[0])
    told = h(each.mean(axis=1)) - np.mean([h(p) for p in each.T])
    found = mig_sampled(np.zeros((4000, 2)), variances, values)
    np.testing.assert_allclose(found["information"], [[told, 0], [0, 0]], atol=0.03)


def test_a_dimension_that_is_still_counts_for_nothing(factors):
    still = np.concatenate([factors, np.full((len(factors), 1), 3)], axis=1)
    assert modularity(still, factors)["dimensions"][3] == 0
    moves, trees = irs(still, factors), dci(still, factors)
    assert moves["dimensions"][3] == moves["robustness"][3].max() == 0
    assert trees["disentanglement"][3] == pytest.approx(0, abs=1e-9)
    assert moves["score"] == pytest.approx(irs(factors, factors)["score"])
    assert trees["score"] == pytest.approx(dci(factors, factors)["score"], abs=1e-6)


def test_robustness(mixed, factors):
    rows = []
    for j in range(4):
        z = mixed[:, j]
        largest, row = max(abs(z - z.mean())), []
        for k, s in enumerate(SIZES):
            groups = [z[factors[:, k] == v] for v in range(s)]
            row.append(1 - np.mean([np.percentile(abs(g - g.mean()), 99) for g in groups]) / largest)
        rows.append((max(row), largest))
    score = sum(r * w for r, w in rows) / sum(w for _, w in rows)
    assert irs(mixed, factors)["score"] == pytest.approx(score, abs=1e-9)


def test_dci_of_its_importances(mixed, factors):
    found = dci(mixed, factors)
    table = found["importances"]
    np.testing.assert_allclose(table.sum(axis=0), 1)
    rows = [1 + sum(p * np.log(p) for p in r / r.sum() if p > 0) / np.log(3) for r in table]
    columns = [1 + sum(p * np.log(p) for p in c if p > 0) / np.log(4) for c in table.T]
    assert found["score"] == pytest.approx(np.dot(rows, table.sum(axis=1)) / 3, abs=1e-9)
    assert found["completeness_score"] == pytest.approx(np.mean(columns), abs=1e-9)


def test_votes_by_plain_loops(mixed, factors):
    rng = np.random.default_rng(7)
    votes = np.zeros((4, 3))
    for _ in range(6000):
        k = rng.integers(3)
        same = np.flatnonzero(factors[:, k] == factors[rng.integers(len(factors)), k])
        batch = mixed[rng.choice(same, 64)]
        votes[np.argmin(batch.var(axis=0, ddof=1) / mixed.var(axis=0)), k] += 1
    found = factor_vae_score(mixed, factors)
    assert found["score"] == pytest.approx(votes.max(axis=1).sum() / votes.sum(), abs=0.02)


def test_votes_are_of_variances_in_units_of_the_dimension(mixed, factors):
    found, scaled = (factor_vae_score(mixed * by, factors) for by in (1.0, np.array([0.2, 5.0, 1.0, 30.0])))
    np.testing.assert_array_equal(found["votes"], scaled["votes"])
    # The one that hardly moves would always move least.
    still = np.concatenate([mixed, 1e-3 * mixed[:, :1]], axis=1)
    found = factor_vae_score(still, factors)
    assert found["active"] == 4
    assert not found["votes"][4].any()
    none = factor_vae_score(1e-3 * mixed, factors)
    assert none["score"] == none["active"] == none["votes"].sum() == 0


def test_votes_are_evaluated_by_others(factors, monkeypatch):
    for name in ("VOTES", "TEST_VOTES"):
        monkeypatch.setattr(f"aejax.evaluation.disentanglement.{name}", 40)
    # Few votes for many dimensions agree with themselves, with others by chance.
    noise = np.random.default_rng(0).standard_normal((len(factors), 30))
    assert factor_vae_score(noise, factors)["score"] < 0.55


def test_others_of_the_same_value_come_equally_often():
    values = np.array([3, 7, 3, 3, 5, 7])
    groups, rng = _Groups(values), np.random.default_rng(0)
    positions = np.repeat(np.arange(6), 3000)
    for draw, others in ((groups.members, 0), (groups.partners, 1)):
        pairs = np.zeros((6, 6))
        np.add.at(pairs, (positions, draw(rng, positions)), 1 / 3000)
        alike = (values[:, None] == values) & ~(np.eye(6, dtype=bool) & (others == 1))
        alike[4, 4] = True  # alone
        np.testing.assert_allclose(pairs, alike / alike.sum(axis=1, keepdims=True), atol=0.05)


def test_a_pair_is_of_two_examples():
    """Each value of the first factor has two examples, a number apart; of any two, every other pair is."""
    rng = np.random.default_rng(0)
    pairs = np.stack([np.repeat(np.arange(60), 2), rng.integers(2, size=120)], axis=1)
    z = np.stack([np.tile([0.0, 1.0], 60), np.zeros(120)], axis=1)
    assert beta_vae_score(z, pairs)["score"] > 0.99


def test_pairs_by_plain_loops(mixed, factors):
    from sklearn.linear_model import LogisticRegression

    rng, points, fixed = np.random.default_rng(8), [], []
    for _ in range(1500):
        k = rng.integers(3)
        apart = []
        for i in rng.integers(len(factors), size=64):
            same = np.flatnonzero(factors[:, k] == factors[i, k])
            apart.append(abs(mixed[i] - mixed[rng.choice(same[same != i])]))
        points.append(np.mean(apart, axis=0))
        fixed.append(k)
    points = (np.array(points) - np.mean(points, axis=0)) / np.std(points, axis=0)
    fitted = LogisticRegression(max_iter=1000).fit(points[:1000], fixed[:1000])
    score = fitted.score(points[1000:], fixed[1000:])
    assert beta_vae_score(mixed, factors)["score"] == pytest.approx(score, abs=0.03)


def test_ranking_of_runs():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 3))
    every = np.ones(3, bool)
    alike = [z, np.exp(-z[:, [2, 0, 1]]), z**3]  # order, sign and monotone maps are worth nothing
    found = udr(alike, [every] * 3)
    r = abs(np.corrcoef(z.argsort(axis=0).argsort(axis=0).T))
    np.testing.assert_allclose(found["score"], np.mean(1 / r.sum(axis=0)), atol=1e-9)
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    assert udr([z, z @ q], [every] * 2)["score"] < found["score"] - 0.1
    wider = z @ rng.standard_normal((3, 5)) + 0.3 * rng.standard_normal((400, 5))
    r = [[abs(spearmanr(a, b).statistic) for b in wider.T] for a in z.T]
    parts = [max(line) ** 2 / sum(line) for line in [*r, *zip(*r)]]
    assert udr([z, wider], [every, np.ones(5, bool)])["score"] == pytest.approx(np.mean(parts))
    # One run of four that is unlike the others is outvoted.
    runs = udr([*alike, z @ q], [every] * 4)["runs"]
    np.testing.assert_allclose(runs[:3], found["score"], atol=1e-9)
    assert runs[3] < found["score"] - 0.1
    with_noise = np.concatenate([z, rng.standard_normal((400, 1))], axis=1)
    kept = np.array([True, True, True, False])
    assert udr([z, with_noise], [every, kept])["score"] == pytest.approx(found["score"])


def test_what_cannot_be_evaluated_is_refused(factors):
    with pytest.raises(UsageError, match="two of each"):
        mig(factors[:, :1], factors)
    with pytest.raises(UsageError, match="factor 1 has one value"):
        explicitness(factors, factors * np.array([1, 0, 1]))
    with pytest.raises(UsageError, match="diverged"):
        mig(np.where(factors > 1, np.nan, factors), factors)


def test_what_is_written_names_the_factors_that_vary(monkeypatch):
    monkeypatch.setattr("aejax.evaluation.disentanglement.ROUNDS", 2)
    (test,) = load("sprites_small", ("test[:200]",))
    arrays = {name: np.array(array) for name, array in test.arrays.items()}
    arrays["factors"][:, 1] = 3
    test = test._replace(arrays=arrays)

    def moments(params, extras, batch, key):
        means = jnp.stack([batch["x"].mean((1, 2, 3)), batch["x"][:, :14].mean((1, 2, 3))], axis=1)
        return means, jnp.full_like(means, 1e-3)

    def run(moments):
        experiment = Experiment(Model(None, None, None, latent=Latent(None, None, moments)), None, test, test, 1, 1, 0)
        return Run(Path(), {}, experiment, TrainState(0, {}, {}, None))

    def of_test_split(run, codes, test):
        context = Context(run, draws=0)
        context.test, context.codes = test, codes
        return PART.compute(context) if PART.applies(context) else None

    means, variances = moments(None, None, take(test, np.arange(200)), None)
    found = of_test_split(run(moments), np.asarray(means), test)
    kept = ["shape", "orientation", "x", "y"]
    assert json.loads(json.dumps(found))["factors"] == kept
    by_hand = mig_sampled(means, variances, arrays["factors"][:, [0, 2, 3, 4]])
    np.testing.assert_allclose(found["mig_sampled"]["information"], by_hand["information"], atol=1e-5)
    assert of_test_split(run(None), np.asarray(means), test).keys() == found.keys() - {"mig_sampled"}
    assert of_test_split(run(None), np.asarray(means)[:, :1], test) is None
    assert of_test_split(run(None), np.asarray(means), test._replace(factors=None)) is None


@pytest.mark.slow
def test_a_run_on_data_with_factors_is_evaluated_by_them(tmp_path, monkeypatch):
    monkeypatch.setattr("aejax.evaluation.disentanglement.ROUNDS", 3)
    train_set, test = load("sprites_small", ("train[:500]", "test[:300]"))
    model = vae(MLP((8,), 6), MLP((8,), train_set.shape), bernoulli(), 3, train_set.shape)
    made = Experiment(model, optax.adam(1e-3), train_set, test, 64, 5, seed=0, monitor="nelbo")
    run = train(made, tmp_path / "run", Settings(save_every=5))
    judged = evaluate(run, draws=0)
    found = judged["disentanglement"]
    assert found["factors"] == ["shape", "scale", "orientation", "x", "y"]
    codes = run.encode(test)
    batch = take(test, np.arange(300))
    np.testing.assert_allclose(found["mig"]["information"], mig(codes, batch["factors"])["information"])
    means, variances = jax.jit(model.latent.moments)(run.state.params, {}, batch, jax.random.key(0))
    np.testing.assert_allclose(means, codes, atol=1e-6)
    kl = 0.5 * (means**2 + variances - np.log(variances) - 1)
    np.testing.assert_allclose(kl.mean(axis=0), judged["bound"]["divergences"], atol=1e-5)
    by_hand = mig_sampled(means, variances, batch["factors"])
    np.testing.assert_allclose(found["mig_sampled"]["information"], by_hand["information"], atol=1e-4)
    assert "Factors of variation" in report([run]).read_text()
    drawn = {"factor-information", "factors", *(f"code-along-{name}" for name in found["factors"])}
    assert drawn <= {file.stem for file in (run.directory / "figures").glob("*.png")}
