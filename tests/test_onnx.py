"""Runs as ONNX models, computed by onnxruntime. They need the extra `onnx`, whose converter pins an older Orbax."""

import warnings

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.exchange import export_run
from tiny import refusal

SMALL = ["--steps", "6", "--no-evaluate", "--no-verbose"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def computed(file, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dae", "conv_dae", "sparse", "vae", "vqvae", "fsq", "tabular"])
def test_onnxruntime_computes_what_jax_does(name):
    pytest.importorskip("jax2onnx")
    data = [] if name != "tabular" else ["--data", "x.npy", "--standardize", "zscore"]
    np.save("x.npy", np.random.default_rng(0).normal(5.0, 3.0, (60, 4)).astype(np.float32))
    assert main(["train", name, *SMALL, *data, "--run", "run"]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own
        assert main(["export", "run", "folder", "--onnx"]) == 0
    run = aejax.open_run("run", with_data=True)
    for n in (3, 7):  # the number of examples is free
        x = np.asarray(run.experiment.test.arrays["x"][:n], np.float32)
        if name == "vae":
            x = x > 0.5
            codes = computed("folder/encoder.onnx", x)
            np.testing.assert_allclose(codes, run.encode(x.astype(np.float32)), atol=1e-4)
        else:
            if name == "tabular":  # in the data's own units, like everything that goes into a run
                x = np.load("x.npy")[:n]
            codes = computed("folder/encoder.onnx", x)
            np.testing.assert_allclose(codes, run.encode(x), atol=1e-4)
        np.testing.assert_allclose(computed("folder/decoder.onnx", codes), run.decode(codes), atol=2e-4)


@pytest.mark.slow
def test_a_model_with_a_condition_is_refused_and_leaves_nothing(tmp_path):
    pytest.importorskip("jax2onnx")
    assert main(["train", "cvae", *SMALL, "--run", "run"]) == 0
    message = refusal(export_run, aejax.open_run("run"), tmp_path / "folder", onnx=True)
    assert "a model with a condition or a parent cannot be exported" in message
    assert not (tmp_path / "folder").exists()


def test_without_the_converter_the_extra_is_named(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert main(["train", "ae", *SMALL, "--run", "run"]) == 0
    assert main(["export", "run", "folder", "--onnx"]) == 2
    assert "pip install 'aejax[onnx]'" in capsys.readouterr().err
