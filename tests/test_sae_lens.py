"""Dictionaries in SAELens' layout: those that it made are read with the same codes, and ours are the same after the way back.

Where `sae-lens` and `dictionary-learning` are installed, as in the nightly job, both packages are asked themselves.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

import aejax
from aejax.cli import main
from aejax.exchange.sae_lens import _folded, import_sae_lens
from aejax.models import dictionary
from aejax.objective import batch_top_k, gated, jump_relu, matching_pursuit, relu_l1, relu_top_k
from tiny import refusal

MADE = Path(__file__).parent / "recorded" / "sae_lens"
NAMES = sorted(folder.name for folder in MADE.iterdir() if folder.is_dir())
D, UNITS = 6, 10
KINDS = {
    "relu_l1": relu_l1(0.1),
    "relu_top_k": relu_top_k(3),
    "batch_top_k": batch_top_k(3),
    "jump_relu": jump_relu(0.1),
    "gated": gated(0.1),
    "matching_pursuit": matching_pursuit(3),
}


@pytest.fixture(scope="module")
def expected():
    return np.load(MADE / "expected.npz")


@pytest.mark.parametrize("name", NAMES)
def test_what_it_made_has_the_same_codes_here(name, expected, tmp_path):
    run = import_sae_lens(MADE / name, tmp_path / "run", expected["x"])
    z, x_hat = run.encode(expected["x"]), run.reconstruct(expected["x"])
    np.testing.assert_allclose(x_hat, expected[f"{name}_x_hat"], rtol=1e-5, atol=1e-5)
    norms = np.linalg.norm(safetensors.load_file(MADE / name / "sae_weights.safetensors")["W_dec"], axis=1)
    scale = norms if name == "topk_rescaled" else 1.0  # whose codes are relative to rows of norm 1
    np.testing.assert_allclose(
        z / (scale if name != "topk_rescaled" else 1.0), expected[f"{name}_z"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_back_as_it_was(name, expected, tmp_path):
    run = import_sae_lens(MADE / name, tmp_path / "run", expected["x"])
    assert main(["export", str(run.directory), str(tmp_path / "out"), "--sae-lens"]) == 0
    ours, theirs = (safetensors.load_file(f / "sae_weights.safetensors") for f in (tmp_path / "out", MADE / name))
    assert ours.keys() == theirs.keys()
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    made = json.loads((MADE / name / "cfg.json").read_text())
    if name not in ("topk_rescaled", "standard_no_input_bias"):  # which become plain ones
        for leaf, value in theirs.items():
            np.testing.assert_allclose(ours[leaf], value, rtol=1e-6, atol=1e-7)
        same = set(config) - {"metadata", "dtype", "device"}
        assert {key: config[key] for key in same} == {key: made[key] for key in same}


def trained(kind, tmp_path, **options):
    """A short run on numbers that are far from standardized, and its test data."""
    x = np.random.default_rng(1).normal(size=(300, D)).astype(np.float32) * np.float32(4.0) + np.float32(2.0)
    splits = aejax.load(x, aejax.usual_splits(x), **options)
    model = dictionary(UNITS, (D,), KINDS[kind])
    run = aejax.train(aejax.fit(model, splits, steps=30, batch_size=32), tmp_path / kind, aejax.Settings(verbose=False))
    return run, x[:40]


def by_hand(weights, config, x):
    """What a reader of the layout computes (SAELens' definitions)."""
    h = (x - weights["b_dec"]) @ weights.get("W_enc", weights["W_dec"].T)
    match config["architecture"]:
        case "standard":
            z = np.maximum(h + weights["b_enc"], 0)
        case "jumprelu":
            a = h + weights["b_enc"]
            z = np.where(a > weights["threshold"], np.maximum(a, 0), 0)
        case "gated":
            z = (h + weights["b_gate"] > 0) * np.maximum(np.exp(weights["r_mag"]) * h + weights["b_mag"], 0)
        case "topk":
            a = np.maximum(h + weights["b_enc"], 0)
            z = np.where(a >= np.sort(a, axis=1)[:, [-config["k"]]], a, 0)
        case "matching_pursuit":
            left, z = x - weights["b_dec"], np.zeros((len(x), len(weights["W_dec"])))
            for _ in range(config["max_iterations"]):
                best = (left @ weights["W_dec"].T).argmax(axis=1)
                taken = np.maximum(np.sum(left * weights["W_dec"][best], axis=1), 0)
                z[np.arange(len(x)), best] += taken
                left = left - taken[:, None] * weights["W_dec"][best]
    return z, z @ weights["W_dec"] + weights["b_dec"]


@pytest.mark.parametrize("standardize", ["none", "norm", "zscore"])
@pytest.mark.parametrize("kind", KINDS)
def test_standardization_is_folded_exactly(kind, standardize, tmp_path):
    run, x = trained(kind, tmp_path, standardize=standardize)
    if kind == "matching_pursuit" and standardize == "zscore":
        assert "standardized columns" in refusal(_folded, run)
        return
    z, x_hat = by_hand(*_folded(run), x.astype(np.float64))
    np.testing.assert_allclose(x_hat, run.reconstruct(x), rtol=2e-4, atol=2e-4)
    if kind != "matching_pursuit":  # whose codes are in the data's units
        np.testing.assert_allclose(z, run.encode(x), rtol=2e-4, atol=2e-4)


def test_a_transcoder_has_its_input_in_the_bias(tmp_path):
    x, target = np.random.default_rng(0).normal(size=(2, 200, D)).astype(np.float32) + np.float32(1.0)
    splits = aejax.load({"x": x, "target": target[:, :4]}, ("train", "test"))
    model = dictionary(UNITS, (D,), jump_relu(0.1), target=(4,))
    run = aejax.train(
        aejax.fit(model, splits, steps=20, batch_size=32), tmp_path / "run", aejax.Settings(verbose=False)
    )
    weights, config = _folded(run)
    a = x @ weights["W_enc"] + weights["b_enc"]
    z = np.where(a > weights["threshold"], np.maximum(a, 0), 0)
    np.testing.assert_allclose(z, run.encode(x), rtol=1e-4, atol=1e-4)
    assert (config["architecture"], config["d_out"]) == ("jumprelu_transcoder", 4)
    np.testing.assert_allclose(z @ weights["W_dec"] + weights["b_dec"], run.decode(z), rtol=1e-4, atol=1e-4)


def broken(folder, how):
    path, config = folder / "sae_weights.safetensors", folder / "cfg.json"
    weights, said = safetensors.load_file(path), json.loads(config.read_text())
    match how:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-9])
        case "not finite":
            weights["b_enc"][2] = np.nan
            path.write_bytes(safetensors.save(weights))
        case "missing":
            del weights["b_enc"]
            path.write_bytes(safetensors.save(weights))
        case "shape":
            weights["b_enc"] = weights["b_enc"][:4].copy()
            path.write_bytes(safetensors.save(weights))
        case "normalized":
            config.write_text(json.dumps({**said, "normalize_activations": "layer_norm"}))
        case "temporal":
            config.write_text(json.dumps({**said, "architecture": "temporal"}))
        case "k":
            config.write_text(json.dumps({**said, "k": 0}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "cannot be read"),
        ("not finite", "b_enc that are not finite"),
        ("missing", "lacks b_enc"),
        ("shape", "b_enc of shape [4], not [10]"),
        ("normalized", "normalize_activations is layer_norm"),
        ("temporal", "architecture temporal is none of"),
        ("k", "k is 0"),
    ],
)
def test_what_cannot_be_read_is_one_line(how, said, tmp_path, capsys):
    shutil.copytree(MADE / "topk", tmp_path / "given")
    broken(tmp_path / "given", how)
    np.save(tmp_path / "x.npy", np.load(MADE / "expected.npz")["x"])
    command = ["import", str(tmp_path / "given"), str(tmp_path / "run"), "--data", str(tmp_path / "x.npy")]
    assert main(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_width_and_other_models_are_refused(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((20, 5), np.float32))
    assert main(["import", str(MADE / "topk"), str(tmp_path / "run"), "--data", str(tmp_path / "x.npy")]) == 2
    assert "5 numbers for an example" in capsys.readouterr().err
    assert main(["import", str(MADE / "topk"), str(tmp_path / "run")]) == 2
    assert "--data names the data" in capsys.readouterr().err
    assert (
        main(["train", "ae", "--steps", "2", "--run", str(tmp_path / "ae"), "--no-verbose", "--evaluate", "none"]) == 0
    )
    assert main(["export", str(tmp_path / "ae"), str(tmp_path / "out"), "--sae-lens"]) == 2
    assert "no run of a sparse dictionary" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_imported_dictionary_is_evaluated_like_any_run(expected, tmp_path, capsys):
    np.save(tmp_path / "x.npy", expected["x"])
    run = tmp_path / "run"
    assert main(["import", str(MADE / "jumprelu"), str(run), "--data", str(tmp_path / "x.npy")]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert json.loads((run / "eval.json").read_text())["dictionary"]["k"] >= 1
    assert main(["verify", str(run)]) == 2
    assert "no training that could be replayed" in capsys.readouterr().err


# --- the packages themselves


@pytest.mark.parametrize("standardize", ["none", "norm"])
@pytest.mark.parametrize("kind", KINDS)
def test_sae_lens_reads_what_is_exported(kind, standardize, tmp_path):
    torch = pytest.importorskip("torch")
    SAE = pytest.importorskip("sae_lens").SAE
    run, x = trained(kind, tmp_path, standardize=standardize)
    assert main(["export", str(run.directory), str(tmp_path / "out"), "--sae-lens"]) == 0
    sae = SAE.load_from_disk(tmp_path / "out")
    with torch.no_grad():
        x_hat = sae.decode(sae.encode(torch.tensor(x))).numpy()
    error = np.abs(x_hat - run.reconstruct(x)).max() / np.abs(x).max()
    assert error < 1e-5


@pytest.mark.parametrize("kind", ["relu_l1", "relu_top_k", "batch_top_k", "jump_relu", "gated"])
def test_dictionary_learning_computes_the_same(kind):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("dictionary_learning.dictionary")
    top_k = pytest.importorskip("dictionary_learning.trainers.top_k")
    batch = pytest.importorskip("dictionary_learning.trainers.batch_top_k")
    model = dictionary(UNITS, (D,), KINDS[kind])
    x = np.random.default_rng(0).normal(size=(30, D)).astype(np.float32)
    params, extras = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(x), "index": jnp.arange(30)})
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    t = lambda leaf: torch.nn.Parameter(torch.tensor(np.asarray(leaf).copy()))
    encoder, own, decoder = t(params["encoder"]["kernel"].T), params["activation"], params["decoder"]
    if kind in ("relu_top_k", "batch_top_k"):
        theirs = (top_k.AutoEncoderTopK if kind == "relu_top_k" else batch.BatchTopKSAE)(D, UNITS, 3)
        theirs.encoder.weight, theirs.encoder.bias = encoder, t(own["bias"])
        theirs.decoder.weight, theirs.b_dec = t(decoder["kernel"].T), t(decoder["bias"])
        if kind == "batch_top_k":
            extras = {"activation": {"least": jnp.asarray(0.4), "weight": jnp.asarray(1.0)}}
            theirs.threshold.fill_(0.4)
    elif kind == "jump_relu":
        theirs = package.JumpReluAutoEncoder(D, UNITS)
        theirs.W_enc, theirs.W_dec = t(params["encoder"]["kernel"]), t(decoder["kernel"])
        theirs.b_dec, theirs.threshold = t(decoder["bias"]), t(own["threshold"])
        # It has b_dec subtracted only if asked to; the bias takes it.
        theirs.b_enc = t(own["bias"] - decoder["bias"] @ params["encoder"]["kernel"])
    else:
        theirs = package.GatedAutoEncoder(D, UNITS) if kind == "gated" else package.AutoEncoder(D, UNITS)
        theirs.encoder.weight, theirs.decoder.weight = encoder, t(decoder["kernel"].T)
        bias = "decoder_bias" if kind == "gated" else "bias"
        setattr(theirs, bias, t(decoder["bias"]))
        if kind == "gated":
            theirs.gate_bias, theirs.mag_bias, theirs.r_mag = t(own["gate"]), t(own["bias"]), t(own["log_scale"])
        else:
            theirs.encoder.bias = t(own["bias"])
    with torch.no_grad():
        x_hat = theirs(torch.tensor(x)).numpy()
    ours = jax.jit(model.reconstruct)(params, extras, {"x": jnp.asarray(x), "index": jnp.arange(30)}, jax.random.key(1))
    np.testing.assert_allclose(ours, x_hat, rtol=1e-5, atol=1e-5)
