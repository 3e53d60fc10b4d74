"""The part of the report about discrete codes: every code is counted once, and what the pictures show are the codes."""

import json

import jax
import numpy as np
import optax

from aejax.data import subset
from aejax.evaluation import code_maps
from aejax.evaluation.codebook import codebook, codes_by_level
from aejax.figures import drawing
from aejax.models import vqvae, vqvae2
from aejax.nets import ConvDecoder, ConvEncoder
from aejax.objective import finite_scalar, nearest
from aejax.objective.likelihoods import bernoulli
from aejax.runs.batched import means
from aejax.runs.run import Run
from aejax.training.step import init_state
from aejax.types import Dataset, Experiment
from tiny import batch_of

SHAPE = (6, 6, 1)


def evaluated(folder, model, shape):
    """An untrained run, and its evaluation."""
    x = np.random.default_rng(0).random((12, *shape), np.float32)
    test = Dataset("noise:test", shape, 12, None, "", {"x": x})
    batch = batch_of(x)
    experiment = Experiment(model, optax.sgd(1.0), test, test, 4, 1, 0)
    run = Run(folder, {"seed": 0}, experiment, init_state(model, optax.sgd(1.0), jax.random.key(0), batch))
    terms = means(run.evaluate(test))
    return run, json.loads(json.dumps({"terms": terms, "codebook": codebook(run, test, terms)}))


def test_a_hierarchy_is_told_by_book_and_drawn_by_level(tmp_path, monkeypatch):
    encoders = ConvEncoder((4,), 3, spatial=True, blocks=0), ConvEncoder((4,), 2, spatial=True, blocks=0)
    decoders = ConvDecoder((4,), SHAPE, blocks=0), ConvDecoder((4,), (3, 3, 3), blocks=0)
    model = vqvae2(encoders, decoders, bernoulli(), (nearest(16, 4), finite_scalar((3, 3))), SHAPE)
    (run, evaluation), drawn, strips = evaluated(tmp_path, model, SHAPE), {}, code_maps._strips_block

    def noted(name, title, rows, told):
        drawn[name] = rows
        return strips(name, title, rows, told)

    monkeypatch.setattr(code_maps, "_strips_block", noted)
    with drawing.style():
        section = code_maps.code_maps_section(run, evaluation)
    assert set(section.pngs) == {"use-0", "use-1", "code-maps", "levels"}
    assert f"level 0: {evaluation['codebook']['codebooks'][0]['used']} of 16 used" in section.html
    maps, levels = drawn["code-maps"], drawn["levels"]
    assert list(maps) == ["clean", "reconstructed", "level 0", "level 1"]
    assert list(levels) == ["clean", "level 1", "all levels"]
    np.testing.assert_allclose(levels["all levels"].astype(int), maps["reconstructed"].astype(int), atol=1)
    # The first example alone: the mean over others' lower codes, and a square of color for each position.
    bottom, top = codes_by_level(run, run.experiment.test)
    others = np.random.default_rng(0).choice(12, code_maps.OTHERS)
    some = subset(run.experiment.test, np.zeros(len(others), int))
    top_alone = run.decode((bottom[others], np.repeat(top[:1], len(others), axis=0)), some)
    expected = np.rint(255 * np.clip(top_alone.mean(axis=0)[..., 0], 0, 1))
    np.testing.assert_allclose(levels["level 1"][:, :6, 0], expected, atol=1)
    shown = np.rint(255 * code_maps.colors(bottom[0, ..., 0])).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_allclose(maps["level 0"][:, :6, :3], shown, atol=1)


def test_signals_are_drawn_above_their_codes(tmp_path):
    encoder = ConvEncoder((4,), 2, spatial=True, blocks=0, signal=True)
    decoder = ConvDecoder((4,), (10, 1), blocks=0, signal=True)
    model = vqvae(encoder, decoder, bernoulli(), finite_scalar((3, 3)), (10, 1))
    with drawing.style():
        section = code_maps.code_maps_section(*evaluated(tmp_path, model, (10, 1)))
    assert set(section.pngs) == {"use-0", "signals"}
    assert "its 5 codes along time" in section.html


def test_every_code_is_in_one_bar():
    codes = np.repeat([3, 5, 6], [50, 1, 449])
    unused, counts = code_maps.uses(codes, 8)
    assert unused == 5
    # 3 has .8 of a fair share, 5 a sixtieth, 6 seven times as much.
    assert counts == [1, 0, 1, 0, 1]
    assert code_maps.uses(np.arange(2), 2) == (0, [0, 0, 0, 2])


def test_a_code_has_one_color_and_its_neighbors_others():
    wheel = code_maps.colors(np.arange(512))
    assert wheel.min() >= 0
    assert wheel.max() <= 1
    assert len(np.unique(wheel.round(4), axis=0)) == 512
    assert np.abs(wheel[1:] - wheel[:-1]).max(axis=1).min() > 0.1
    np.testing.assert_array_equal(code_maps.colors(np.array([[7]])), [[wheel[7]]])
