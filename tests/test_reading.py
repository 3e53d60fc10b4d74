"""How data are read: images of several sizes, standardized numbers, missing values."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import aejax
from aejax.cli import main
from aejax.data import ReadAs, file_names, load, nats_of_scaling, open_split, take, unscaled, usual_splits
from aejax.models import autoencoder, vae
from aejax.nets import MLP
from aejax.objective import bernoulli, gaussian, gaussian_learned, masking, skip_missing, squared_error, student_t
from aejax.training.settings import Settings
from tiny import refusal

QUIET = Settings(verbose=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path):
    """Images of several sizes and modes, the left half of each black and the right half white; one on its side by EXIF."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, (height, width) in {"a": (20, 20), "b": (30, 40), "c": (41, 27), "d": (16, 16)}.items():
        halves = np.zeros((height, width), np.uint8)
        halves[:, width // 2 :] = 255
        Image.fromarray(halves).convert("L" if name == "a" else "RGB").save(folder / f"{name}.png")
    turned = np.zeros((24, 30), np.uint8)
    turned[12:] = 255
    image, exif = Image.fromarray(turned).convert("RGB"), Image.Exif()
    exif[0x0112] = 6  # turn clockwise: the lower half comes to the left
    image.save(folder / "e.jpg", exif=exif, quality=95)
    return folder


# --- images


def test_images_of_several_sizes_are_fitted(photos):
    assert "--image-size 20 --image-channels 3" in refusal(load, photos, ("all",))
    (data,) = load(photos, ("all",), image_size=12, image_channels=1)
    assert data.shape == (12, 12, 1)
    assert data.size == 5
    x = take(data, np.arange(5))["x"]
    left, right = x[:4, :, :4].mean(axis=(1, 2, 3)), x[:4, :, -4:].mean(axis=(1, 2, 3))
    assert np.all(left < 0.05)
    assert np.all(right > 0.95)
    assert x[4, :, :4].mean() > 0.95
    assert x[4, :, -4:].mean() < 0.05
    assert [data.reading[name] for name in ("image_size", "image_channels")] == [12, 1]


def test_a_random_crop_is_drawn_once_for_each_file(photos, tmp_path):
    crops = [load(photos, ("all",), image_size=12, image_channels=3, image_crop="random")[0] for _ in range(2)]
    assert np.array_equal(*(take(data, np.arange(5))["x"] for data in crops))
    (center,) = load(photos, ("all",), image_size=12, image_channels=3)
    (stretched,) = load(photos, ("all",), image_size=12, image_channels=3, image_crop="stretch")
    assert len({data.fingerprint for data in (*crops, center, stretched)}) == 3
    (photos / "a.png").unlink()
    (fewer,) = load(photos, ("all",), image_size=12, image_channels=3, image_crop="random")
    assert np.array_equal(take(fewer, np.arange(4))["x"], take(crops[0], np.arange(1, 5))["x"])


def test_transparent_parts_are_put_on_white(photos):
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(photos / "d.png")
    (data,) = load(photos, ("all",), image_size=8, image_channels=3)
    assert np.all(take(data, np.array([3]))["x"] == 1.0)


def test_sixteen_bits_are_kept(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    (tmp_path / "gray").mkdir()
    Image.fromarray(values).save(tmp_path / "gray" / "a.png")
    (data,) = load(tmp_path / "gray", ("all",))
    np.testing.assert_allclose(take(data, np.arange(1))["x"][0, :, :, 0], values / 65535, atol=1e-7)
    (small,) = load(tmp_path / "gray" / "a.png", ("all",), image_size=8, image_channels=1)
    np.testing.assert_allclose(take(small, np.arange(1))["x"][0, :, :, 0], values / 65535, atol=1e-7)


def test_a_single_image_is_a_data_set(photos):
    data = open_split(photos / "b.png")
    assert (data.size, data.shape, file_names(photos / "b.png")) == (1, (30, 40, 3), ["b.png"])


def test_a_run_reads_later_images_as_it_read_its_own(photos):
    how = ["--image-size", "8", "--image-channels", "3"]
    train = ["train", "ae", "--data", str(photos), *how, "--hidden", "4", "--latent", "2", "--batch-size", "2"]
    for i in range(5):
        Image.new("RGB", (10 + i, 10), (50 * i, 0, 0)).save(photos / f"more{i}.png")
    assert main([*train, "--steps", "2", "--run", "run", "--no-evaluate"]) == 0
    assert main(["encode", "run", str(photos / "c.png"), "one.csv"]) == 0
    assert Path("one.csv").read_text().startswith('"file","0","1"\n"c.png",')
    assert main(["reconstruct", "run", str(photos), "out"]) == 0
    assert main(["resume", "run", "--no-evaluate"]) == 0
    assert main(["verify", "run"]) == 0


def test_options_that_contradict_each_other_are_refused(photos):
    assert "--image-size 0" in refusal(load, photos, image_size=0)
    assert "--image-channels 2" in refusal(load, photos, image_channels=2)
    assert "needs --image-size" in refusal(load, photos, image_crop="random")
    assert "images, which are read as [0, 1]" in refusal(load, "digits", standardize="zscore")


# --- standardized numbers


def table(n=60, d=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2)).astype(np.float32)
    x = z @ rng.normal(size=(2, d)).astype(np.float32) + 0.1 * rng.normal(size=(n, d)).astype(np.float32)
    return x * np.array([1.0, 10.0, 100.0, 1000.0], np.float32) + np.array([0.0, 5.0, -50.0, 1e4], np.float32)


@pytest.mark.parametrize("how", ["zscore", "minmax"])
def test_standardized_columns_have_the_same_units(how):
    train, test = load(table(), standardize=how)
    x = take(train, np.arange(train.size))["x"]
    if how == "zscore":
        np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(x.std(axis=0), 1.0, atol=1e-4)
    else:
        np.testing.assert_allclose([x.min(axis=0), x.max(axis=0)], [[0.0] * 4, [1.0] * 4], atol=1e-5)
    assert test.scaling == train.scaling  # the statistics of the training split
    raw = train._replace(scaling=None)
    np.testing.assert_allclose(unscaled(x, train.scaling), take(raw, np.arange(train.size))["x"], rtol=1e-4, atol=1e-3)


def test_a_column_that_does_not_vary_stays_as_it_is():
    x = table()
    x[:, 1] = 7.0
    train, _ = load(x, standardize="zscore")
    assert train.scaling.scale[1] == 1.0
    assert np.all(take(train, np.arange(5))["x"][:, 1] == 0.0)


def test_nats_of_standardized_data_differ_by_the_determinant():
    x = np.array([3.0, -2.0, 50.0, 900.0], np.float32)
    train, _ = load(table(), standardize="zscore")
    shift, scale = (np.array(part) for part in train.scaling)
    z = (x - shift) / scale
    own = 0.5 * np.sum(z**2 + np.log(2 * np.pi))  # N(0, I) of what the model sees
    raw = 0.5 * np.sum(((x - shift) / scale) ** 2 + np.log(2 * np.pi * scale**2))
    np.testing.assert_allclose(own + nats_of_scaling(train.scaling, (4,)), raw, rtol=1e-5)


def test_a_run_on_standardized_data_speaks_the_users_units(tmp_path):
    x = table(200)
    splits = load(x, usual_splits(x), standardize="zscore")
    model = autoencoder(MLP((), 2), MLP((), 4), squared_error())
    run = aejax.train(aejax.fit(model, splits, 1e-2, 32, 400), tmp_path / "run", settings=QUIET)
    restored = run.reconstruct(x)
    assert np.all(np.abs(restored - x).mean(axis=0) < 0.2 * x.std(axis=0))
    # An array is standardized like a data set, and the model's own view is the standardized one.
    np.testing.assert_array_equal(run.encode(x), run.encode(load(x, ("all",), standardize="zscore")[0]))
    inner = run.in_model_units()
    z = take(splits[0], np.arange(splits[0].size))["x"]
    np.testing.assert_allclose(
        inner.reconstruct(splits[0]), (run.reconstruct(splits[0]) - splits[0].scaling.shift) / splits[0].scaling.scale,
        atol=1e-3,
    )  # fmt: skip
    np.testing.assert_allclose(inner.encode(z), run.encode(splits[0]), atol=1e-6)
    evaluation = aejax.evaluate(run)
    errors = np.square(inner.reconstruct(splits[2]) - take(splits[2], np.arange(splits[2].size))["x"]).mean()
    np.testing.assert_allclose(evaluation["reconstruction"]["model"]["mse"], errors, rtol=1e-4)
    again = aejax.open_run(run.directory, experiment=run.experiment)
    np.testing.assert_array_equal(again.reconstruct(x), restored)


# --- missing values


@pytest.mark.parametrize("likelihood", [bernoulli(), gaussian(0.5), gaussian_learned(), student_t()])
def test_a_missing_value_contributes_nothing_and_has_no_gradient(likelihood):
    skipping = skip_missing(likelihood)
    theta = jax.random.normal(jax.random.key(0), (5, likelihood.width))
    x = jnp.array([0.2, jnp.nan, 0.7, 1.0, jnp.nan])
    nats = skipping.neg_log_prob(theta, x)
    np.testing.assert_array_equal(nats[jnp.array([1, 4])], 0.0)
    seen = jnp.array([0, 2, 3])
    np.testing.assert_allclose(nats[seen], likelihood.neg_log_prob(theta[seen], x[seen]), rtol=1e-6)
    gradient = jax.grad(lambda theta: skipping.neg_log_prob(theta, x).sum())(theta)
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient[jnp.array([1, 4])] == 0.0)


@pytest.mark.parametrize("family", ["dae", "vae"])
def test_a_model_never_sees_what_is_missing(family):
    likelihood = skip_missing(gaussian())
    model = (
        autoencoder(MLP((8,), 3), MLP((8,), 6), likelihood, corrupt=masking(0.3))
        if family == "dae"
        else vae(MLP((8,), 6), MLP((8,), 6), likelihood, 3, (6,), corrupt=masking(0.3))
    )
    x = jax.random.normal(jax.random.key(1), (4, 6))
    missing = jax.random.bernoulli(jax.random.key(2), 0.4, x.shape)
    batch = {"x": jnp.where(missing, jnp.nan, x), "index": jnp.arange(4)}
    params, extras = jax.jit(model.init)(jax.random.key(0), batch)
    loss = lambda params, batch: model.loss(params, extras, batch, jax.random.key(3), 0, None)
    value, (_, terms) = loss(params, batch)
    assert np.isfinite(value)
    assert all(np.isfinite(v) for v in terms.values())
    gradients = jax.tree.leaves(jax.grad(lambda params: loss(params, batch)[0])(params))
    assert all(np.all(np.isfinite(leaf)) for leaf in gradients)
    evaluated = model.evaluate(params, extras, batch, jax.random.key(4))
    assert all(np.all(np.isfinite(v)) for v in evaluated.values())
    # A model of the observed part of complete data is the same model: 0 in the encoder's input, those elements not scored.
    code = model.encode(params, extras, batch, jax.random.key(5))
    filled = model.encode(params, extras, {**batch, "x": jnp.where(missing, 0.0, x)}, jax.random.key(5))
    np.testing.assert_array_equal(code, filled)


def test_nan_is_refused_unless_it_is_declared(tmp_path):
    x = table()
    x[3, 1] = np.nan
    assert "--missing mask" in refusal(load, x)
    np.savez(tmp_path / "x.npz", x=x)
    train, test = load(tmp_path / "x.npz", missing="mask", standardize="zscore")
    assert train.found.missing + test.found.missing == 1
    model = autoencoder(MLP((), 2), MLP((), 4), gaussian())
    message = refusal(aejax.train, aejax.fit(model, (train, test), steps=1), tmp_path / "run", settings=QUIET)
    assert "skip_missing(gaussian())" in message
    x[3, 1] = np.inf
    assert "inf" in refusal(load, x, missing="mask")


def test_imputation_of_an_almost_linear_table_beats_the_mean_and_neighbors(tmp_path):
    from sklearn.impute import KNNImputer

    x = table(600)
    rng = np.random.default_rng(1)
    removed = rng.random(x.shape) < 0.2
    seen = np.where(removed, np.nan, x)
    np.savetxt("seen.csv", seen, delimiter=",", header="a,b,c,d", comments="", fmt="%.6g")
    train = ["train", "tabular", "--data", "seen.csv", "--standardize", "zscore", "--missing", "mask"]
    assert main([*train, "--hidden", "64", "--latent", "8", "--steps", "1500", "--run", "run"]) == 0
    assert main(["impute", "run", "seen.csv", "complete.csv"]) == 0
    lines = Path("complete.csv").read_text().splitlines()
    assert lines[0] == '"a","b","c","d"'
    complete = np.genfromtxt(lines[1:], delimiter=",")
    spread = x.std(axis=0)
    np.testing.assert_allclose((complete / spread)[~removed], (x / spread)[~removed], atol=1e-3)

    def error(filled):
        return float(np.sqrt(np.mean(np.square((filled - x) / spread)[removed])))

    mean = np.where(removed, np.nanmean(seen, axis=0), x)
    neighbors = KNNImputer().fit_transform(seen / spread) * spread
    assert error(complete) < min(0.6 * error(mean), error(neighbors))
    (tmp_path / "plain.csv").write_text("\n".join(["a,b,c,d", *(",".join(map(str, row)) for row in x)]))
    assert main(["train", "tabular", "--data", "plain.csv", "--steps", "1", "--run", "plain", "--no-evaluate"]) == 0
    assert main(["impute", "plain", "seen.csv", "no.csv"]) == 2
    assert main(["encode", "plain", "seen.csv", "no.csv"]) == 2


def test_student_t_is_scipys():
    from scipy import stats

    theta = np.array([[0.3, -0.5], [1.0, 2.0], [-2.0, 0.1]], np.float32)
    x = np.array([1.0, -4.0, 2.5], np.float32)
    scale = 0.01 + np.log1p(np.exp(theta[:, 1]))
    expected = -stats.t.logpdf(x, 4.0, theta[:, 0], scale)
    np.testing.assert_allclose(student_t().neg_log_prob(theta, x), expected, rtol=1e-5)


def test_an_option_is_part_of_the_recorded_command(tmp_path):
    np.save(tmp_path / "x.npy", table())
    train = ["train", "tabular", "--data", "x.npy", "--standardize", "minmax", "--steps", "1", "--run", "run"]
    assert main([*train, "--no-evaluate"]) == 0
    from aejax.reports.records import again

    assert "--standardize minmax" in again(aejax.open_run("run").config)
    assert ReadAs("x.npy", standardize="minmax").options() == {"standardize": "minmax"}
