"""Corruptions, penalties, bottlenecks and tied weights are arguments: every combination of them is a model."""

import itertools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from aejax.models import autoencoder
from aejax.models.encoder_decoder import identity
from aejax.nets import MLP
from aejax.objective.bottlenecks import top_k, winner_take_all
from aejax.objective.corruptions import bernoulli_masking, chain, gaussian_noise, masking, salt_and_pepper
from aejax.objective.likelihoods import bernoulli
from aejax.objective.penalties import contractive, contractive_h, hutchinson, kl_sparsity, l1
from aejax.objective.sparsity import nonzero
from aejax.training.step import init_state, make_step

BATCH, SHAPE, UNITS = 8, (3, 4), 10

CORRUPTIONS = {
    "nothing": None,
    "masking": masking(0.3),
    "bernoulli": bernoulli_masking(0.3),
    "coins": salt_and_pepper(0.3),
    "annealed": gaussian_noise(optax.linear_schedule(0.1, 0.3, 10)),
    "chain": chain(masking(0.2), gaussian_noise(0.1)),
}
EACH = {
    "l1": l1(1e-3),
    "kl_sparsity": kl_sparsity(0.1, 1e-2),
    "contractive": contractive(0.1),
    "contractive_h": contractive_h(0.1, 0.1),
    "hutchinson": hutchinson(0.1),
}
PENALTIES = {"none": (), **{name: (penalty,) for name, penalty in EACH.items()}, "all": tuple(EACH.values())}
LOGGED = {"kl_sparsity": {"rho_hat"}, "hutchinson": {"hutchinson_variance"}}
BOTTLENECKS = {
    "identity": identity,
    "top_k": top_k(3, alpha=2.0),
    "annealed": top_k(optax.linear_schedule(9, 3, 10)),
    "winners": winner_take_all(0.25),
}
TIED = (False, True)


def combination(corruption, penalties, bottleneck, tied):
    return autoencoder(
        MLP((), UNITS, out_activation=nn.sigmoid),
        MLP((), SHAPE),
        bernoulli(),
        corrupt=CORRUPTIONS[corruption],
        penalties=PENALTIES[penalties],
        bottleneck=BOTTLENECKS[bottleneck],
        tied=tied,
        active=nonzero,
    )


def batch():
    x = np.random.default_rng(0).uniform(size=(BATCH, *SHAPE)).astype(np.float32)
    return {"x": x, "index": np.arange(BATCH, dtype=np.int32)}


def term_names(penalties):
    names = {penalty.__name__ for penalty in PENALTIES[penalties]}
    return {"nll", "mse", *names}.union(*(LOGGED[name] for name in names & set(LOGGED)))


# Tracing them all takes half a minute; 17 is coprime to the lengths, so that every seventeenth has all kinds of all slots.
@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_every_combination_has_a_loss_its_terms_and_a_gradient(every):
    for choice in [*itertools.product(CORRUPTIONS, PENALTIES, BOTTLENECKS, TIED)][::every]:
        model = combination(*choice)

        def whole(batch, key, step, model=model):
            params, extras = model.init(key, batch)
            grad = jax.value_and_grad(model.loss, has_aux=True)
            return params, grad(params, extras, batch, key, step, None)

        params, ((loss, (_, terms)), gradient) = jax.eval_shape(whole, batch(), jax.random.key(0), np.int32(0))
        assert {"loss": loss.shape} | {name: term.shape for name, term in terms.items()} == dict.fromkeys(
            {"loss", *term_names(choice[1])}, ()
        ), choice
        assert jax.tree.map(lambda p: (p.shape, p.dtype), params) == jax.tree.map(
            lambda g: (g.shape, g.dtype), gradient
        ), choice


CONTRACTIVE_DENOISING_SPARSE = ("masking", "all", "top_k", True)
COVERING = [*zip(itertools.cycle(CORRUPTIONS), PENALTIES, itertools.cycle(BOTTLENECKS), itertools.cycle(TIED))]


@pytest.mark.parametrize(
    "choice",
    [CONTRACTIVE_DENOISING_SPARSE, *(pytest.param(choice, marks=pytest.mark.slow) for choice in COVERING)],
    ids=lambda choice: "-".join(map(str, choice)),
)
def test_a_combination_trains_and_its_loss_is_the_sum_of_its_terms(choice):
    model, optimizer = combination(*choice), optax.sgd(1e-2)
    step, examples = make_step(model, optimizer), batch()

    @jax.jit
    def train(examples):
        first = init_state(model, optimizer, jax.random.key(0), examples)
        return first, *jax.lax.scan(lambda state, _: step(state, jax.random.key(1), examples), first, length=3)

    first, state, terms = train(examples)
    penalties = [penalty.__name__ for penalty in PENALTIES[choice[1]]]
    np.testing.assert_allclose(terms["loss"], sum(np.asarray(terms[name]) for name in ["nll", *penalties]), rtol=1e-5)
    assert set(terms) == {"loss", *term_names(choice[1])}
    assert all(np.all(np.isfinite(values)) for values in terms.values())
    for before, after in zip(jax.tree.leaves(first.params), jax.tree.leaves(state.params)):
        assert np.all(np.isfinite(after))
        assert np.any(before != after)
