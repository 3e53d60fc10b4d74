"""Latent diffusion's autoencoder: diffusers' numbers at equal weights, three dialects of keys, and the way back to the bit."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

import aejax
from aejax.cli import main
from aejax.exchange.diffusers import CONFIG, WEIGHTS, import_diffusers, nets_of
from aejax.exchange.kl_weights import filled, in_diffusers_layout, in_one_dialect
from aejax.models import kl_autoencoder
from aejax.nets import KLDecoder, KLEncoder
from aejax.nets.latent_diffusion import Down
from tiny import batch_of, optimum, refusal, uniform

MADE = Path(__file__).parent / "recorded" / "diffusers"
MODEL = MADE / "model"


@pytest.fixture(scope="module")
def weights():
    return safetensors.load_file(MODEL / WEIGHTS)


@pytest.fixture(scope="module")
def nets():
    encoder, decoder, _ = nets_of(json.loads((MODEL / CONFIG).read_text()), MODEL)
    return encoder, decoder


def params_of(weights, nets):
    encoder, decoder = nets
    shapes = {
        "encoder": jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"],
        "decoder": jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 4, 4, 2)))["params"],
    }
    return filled(shapes, in_one_dialect(weights, len(encoder.widths)), "the fixture")


@pytest.mark.parametrize("size", ["16_16", "17_17", "24_20"])
def test_moments_and_images_are_those_of_diffusers(size, weights, nets):
    expected, params = np.load(MADE / "expected.npz"), params_of(weights, nets)
    apply = lambda net, name, v: jax.jit(net.apply)({"params": params[name]}, v)
    moments = apply(nets[0], "encoder", 2 * expected[f"x_{size}"] - 1)
    np.testing.assert_allclose(moments, expected[f"moments_{size}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        apply(nets[1], "decoder", moments[..., :2]), expected[f"x_hat_{size}"], rtol=1e-4, atol=2e-5
    )


def test_the_weights_come_back_to_the_bit(weights, nets):
    back = in_diffusers_layout(params_of(weights, nets))
    assert back.keys() == weights.keys()
    for key, leaf in weights.items():
        np.testing.assert_array_equal(back[key], leaf)


def older(weights):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, leaf in weights.items():
        for new, old in names.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        renamed[key] = leaf
    return renamed


def original(weights):
    """The keys of the original code, as in a checkpoint of Stable Diffusion; attention as 1×1 convolutions."""
    renamed = {"model.diffusion_model.out.2.bias": np.zeros(3, np.float32)}
    for key, leaf in weights.items():
        if re.search(r"\.to_(q|k|v|out\.0)\.weight", key):
            leaf = leaf[:, :, None, None]
        for old, new in [
            (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
            (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
            (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
            (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
            (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
            (r"\.down_blocks\.(\d)\.resnets\.(\d)\.", r".down.\1.block.\2."),
            (r"\.down_blocks\.(\d)\.downsamplers\.0\.", r".down.\1.downsample."),
            (r"\.conv_norm_out\.", ".norm_out."),
            (r"\.conv_shortcut\.", ".nin_shortcut."),
        ]:
            key = re.sub(old, new, key)
        key = re.sub(r"\.up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f".up.{2 - int(m[1])}.block.{m[2]}.", key)
        key = re.sub(r"\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f".up.{2 - int(m[1])}.upsample.", key)
        renamed[f"first_stage_model.{key}"] = leaf
    return renamed


@pytest.mark.parametrize("dialect", [older, original])
def test_the_dialects_are_one_model(dialect, weights, nets):
    assert dialect(weights).keys() != weights.keys()
    theirs, ours = (params_of(given, nets) for given in (dialect(weights), weights))
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)


def test_a_level_pads_to_the_right_and_below_only():
    x = uniform(1, 6, 9, 4)
    net = Down(4, 2, jnp.float32, 1, True)
    variables = net.init(jax.random.key(0), x)
    inside = Down(4, 2, jnp.float32, 1, False).apply({"params": {"resnets_0": variables["params"]["resnets_0"]}}, x)
    of = variables["params"]["downsamplers_0"]["conv"]
    expected = jax.lax.conv_general_dilated(
        jnp.pad(inside, ((0, 0), (0, 1), (0, 1), (0, 0))),
        of["kernel"],
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(net.apply(variables, x), expected + of["bias"][None, None, None], rtol=1e-4, atol=1e-5)


def tiny(shape=(8, 8, 1), **options):
    return kl_autoencoder(KLEncoder((4, 8), 2, 1, groups=2), KLDecoder((4, 8), shape[2], 1, groups=2), shape, **options)


def test_terms_and_codes_are_as_defined():
    x = uniform(5, 8, 8, 1)
    model = tiny(kl_weight=0.1, scaling=0.5, shift=0.25)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    encoder, decoder = KLEncoder((4, 8), 2, 1, groups=2), KLDecoder((4, 8), 1, 1, groups=2)
    mean, log_variance = jnp.split(encoder.apply({"params": params["encoder"]}, 2 * x - 1), 2, axis=-1)
    z = jax.jit(model.encode)(params, extras, batch_of(x), jax.random.key(1))
    np.testing.assert_allclose(z, (mean - 0.25) * 0.5, rtol=1e-4, atol=1e-6)
    x_hat = decoder.apply({"params": params["decoder"]}, mean)
    terms = jax.jit(model.evaluate)(params, extras, batch_of(x), jax.random.key(1))
    np.testing.assert_allclose(terms["nll"], jnp.sum(jnp.abs(2 * x - 1 - x_hat), axis=(1, 2, 3)), rtol=1e-4)
    kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - log_variance - 1, axis=(1, 2, 3))
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    restored = jax.jit(model.reconstruct)(params, extras, batch_of(x), jax.random.key(1))
    np.testing.assert_allclose(restored, (x_hat + 1) / 2, rtol=1e-4, atol=1e-5)
    scalar, (_, logged) = model.loss(params, extras, batch_of(x), jax.random.key(1), 0, None)
    assert float(scalar) == pytest.approx(float(logged["nll"] + 0.1 * logged["kl"]), rel=1e-5)


def test_it_learns_and_the_draws_do_not_depend_on_the_batch():
    import optax

    x = jnp.round(uniform(16, 8, 8, 1))
    model = tiny(kl_weight=1e-6)
    params, extras = jax.jit(model.init)(jax.random.key(0), batch_of(x))
    before = jax.jit(model.evaluate)(params, extras, batch_of(x), jax.random.key(1))["mse"].mean()
    params = optimum(model, lambda step: batch_of(x), 150, optax.adam(1e-2))
    assert jax.jit(model.evaluate)(params, extras, batch_of(x), jax.random.key(1))["mse"].mean() < 0.5 * before


def test_the_commands_take_it_in_and_give_it_back(tmp_path, weights):
    images = np.load(MADE / "expected.npz")["x_16_16"]
    np.save(tmp_path / "images.npy", np.concatenate([images] * 4))
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["import", str(MODEL), str(run), "--data", str(tmp_path / "images.npy")]) == 0
    opened = aejax.open_run(run)
    moments = np.load(MADE / "expected.npz")["moments_16_16"]
    np.testing.assert_allclose(opened.encode(images), 0.3 * moments[..., :2], rtol=1e-4, atol=1e-5)
    x_hat = np.load(MADE / "expected.npz")["x_hat_16_16"]
    np.testing.assert_allclose(opened.reconstruct(images), (x_hat + 1) / 2, rtol=1e-4, atol=1e-5)
    assert main(["export", str(run), str(out), "--diffusers"]) == 0
    assert (out / WEIGHTS).read_bytes() != b""
    for key, leaf in safetensors.load_file(out / WEIGHTS).items():
        np.testing.assert_array_equal(leaf, weights[key])
    made, theirs = (json.loads((folder / CONFIG).read_text()) for folder in (out, MODEL))
    assert {key: made[key] for key in made if key != "sample_size"} == {
        key: theirs.get(key) for key in made if key != "sample_size"
    }


def broken(folder, how):
    weights, config = safetensors.load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())
    match how:
        case "truncated":
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-5])
            return
        case "missing":
            del weights["decoder.conv_in.bias"]
        case "more":
            weights["decoder.conv_in.gain"] = np.zeros(3, np.float32)
        case "shape":
            weights["encoder.conv_in.weight"] = np.zeros((4, 1, 3, 3), np.float32)
        case "class":
            config["_class_name"] = "VQModel"
        case "per channel":
            config["latents_mean"] = [0.0, 0.0]
    safetensors.save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "cannot be read"),
        ("missing", "lacks decoder.conv_in.bias"),
        ("more", "holds decoder.conv_in.gain"),
        ("shape", "encoder.conv_in.weight of shape [4, 1, 3, 3]"),
        ("class", "a VQModel"),
        ("per channel", "one scaling for all channels"),
    ],
)
def test_what_cannot_be_read_is_one_line(how, said, tmp_path):
    shutil.copytree(MODEL, tmp_path / "given")
    broken(tmp_path / "given", how)
    x = np.random.default_rng(0).random((20, 16, 16, 3), np.float32)
    assert said in refusal(import_diffusers, tmp_path / "given", tmp_path / "run", x)
    assert not (tmp_path / "run").exists()


def test_other_images_and_other_models_are_refused(tmp_path, capsys):
    gray, odd = np.zeros((20, 16, 16, 1), np.float32), np.zeros((20, 18, 18, 3), np.float32)
    assert "images of 3 channels" in refusal(import_diffusers, MODEL, tmp_path / "run", gray)
    assert "divisible by 2" in refusal(import_diffusers, MODEL, tmp_path / "run", odd)
    assert (
        main(["train", "ae", "--steps", "2", "--run", str(tmp_path / "ae"), "--no-verbose", "--evaluate", "none"]) == 0
    )
    assert main(["export", str(tmp_path / "ae"), str(tmp_path / "out"), "--diffusers"]) == 2
    assert "no run of latent diffusion's autoencoder" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (96, 80)])
def test_diffusers_itself_computes_the_same(size, tmp_path, weights, nets):
    torch = pytest.importorskip("torch")
    AutoencoderKL = pytest.importorskip("diffusers").AutoencoderKL
    net, params = AutoencoderKL.from_pretrained(MODEL).eval(), params_of(weights, nets)
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    with torch.no_grad():
        posterior = net.encode(torch.tensor(x.transpose(0, 3, 1, 2))).latent_dist
        x_hat = net.decode(posterior.mode()).sample.permute(0, 2, 3, 1).numpy()
    moments = jax.jit(nets[0].apply)({"params": params["encoder"]}, x)
    np.testing.assert_allclose(moments, posterior.parameters.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-4)
    ours = jax.jit(nets[1].apply)({"params": params["decoder"]}, moments[..., :2])
    np.testing.assert_allclose(ours, x_hat, rtol=1e-4, atol=1e-4)
