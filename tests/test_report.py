"""The report of whole runs: a page that needs nothing, says what eval.json says, and never fails for what a run lacks."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from aejax.errors import UsageError
from aejax.evaluation import evaluate
from aejax.evaluation.encoder import jacobian
from aejax.evaluation.part import corrupted
from aejax.evaluation.restoration import levels
from aejax.figures import tables
from aejax.figures.examples import some_of_each_class
from aejax.figures.words import label as said
from aejax.files import write_json
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective.corruptions import masking
from aejax.objective.likelihoods import squared_error
from aejax.reports import report
from aejax.reports.pictures import restored_rows
from aejax.runs.directory import make_config
from aejax.runs.experiment import Source
from aejax.runs.run import Run
from aejax.training.settings import Settings
from aejax.types import Dataset, Experiment, Sparse, Temporal, TrainState

HOSTILE = '<script src="http://evil.example/x.js">alert("$x$")</script>'
CHROME = shutil.which("chromium") or shutil.which("google-chrome")


def make_run(
    folder,
    *,
    shape=(6, 6, 1),
    hidden=(16,),
    latent=3,
    noise=0.3,
    classes=("zero", "one"),
    seed=0,
    rate=None,
    name="shapes",
    offers=None,
):
    """A run as `aejax train` leaves it, complete but not judged, of an untrained model on random examples; `offers` are
    functions that the model has besides an autoencoder's."""
    rng = np.random.default_rng(0)

    def split(which, size):
        arrays = {"x": rng.random((size, *shape), np.float32)}
        if classes is not None:
            arrays["label"] = np.arange(size, dtype=np.int32) % len(classes)
        return Dataset(f"{name}:{which}", shape, size, classes, f"sha of {which}", arrays)

    train, validation, test = split("train[:90%]", 90), split("train[90%:]", 10), split("test", 40)
    model = autoencoder(
        MLP(hidden, latent), MLP((16,), shape), squared_error(), corrupt=None if noise is None else masking(noise)
    )._replace(**(offers or {}))
    sweep = {} if noise is None else {0.0: masking(0.0), 0.3: masking(0.3), 0.6: masking(0.6)}
    experiment = Experiment(model, optax.sgd(0.1), train, test, 30, 400, seed, validation, sweep)
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": train.arrays["x"][:2]})  # compiles nothing
    params, extras = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype) / 4, shapes)
    state = TrainState(np.int32(0), params, extras, ())
    folder.mkdir(parents=True)
    arguments = {"data": name, "rate": noise if rate is None else rate, "steps": 400, "batch_size": 30, "seed": seed}
    config = make_config(experiment, Source("experiments/shapes.py", "ab" * 32, arguments), Settings()._asdict())
    config["started"] = "2026-01-31T23:59:59+00:00"
    write_json(folder / "config.json", config)
    metrics = {"nll": 2.5, "mse": 0.07} | ({} if noise is None else {"denoising_nll": 3.5, "denoising_mse": 0.1})
    result = {"step": 0, "digest": "cd" * 32, "metrics": metrics, "seconds": 12.3, "examples_per_second": 99.0}
    write_json(folder / "result.json", result)
    with open(folder / "metrics.jsonl", "w") as log:
        for step in range(20, 401, 20):
            falling = 1 + 10 / step
            print(
                json.dumps({"step": step, "split": "train", "loss": falling, "nll": falling, "mse": falling}), file=log
            )
            if step % 100 == 0:
                values = {term: value * falling for term, value in metrics.items()}
                print(json.dumps({"step": step, "split": "validation", **values}), file=log)
    return Run(folder, config, experiment, state)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "shapes-seed0")
    return run, evaluate(run)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, judged):
    """Two seeds of one configuration and one of another, and the page that compares them."""
    folder = tmp_path_factory.mktemp("compared")
    runs = []
    for i, (seed, rate) in enumerate([(0, 0.3), (1, 0.3), (0, 0.5)]):
        run = make_run(folder / f"run {i}", seed=seed, rate=rate)
        evaluation = json.loads(json.dumps(judged[1]))
        evaluation["restoration"]["trained"]["model"]["mse"] = (0.010, 0.014, 0.020)[i]
        write_json(run.directory / "eval.json", evaluation)
        runs.append(run)
    report(runs[:1])
    (folder / "pages").mkdir()
    return runs, report(runs, folder / "pages" / "seeds.html")


def images_of(text):
    return re.findall(r'src="([^"]*)"', text)


def test_page_needs_nothing_else(judged, generous, comparison):
    for file in (report([judged[0]]), generous[0].directory / "report.html", comparison[1]):
        text = file.read_text()
        # Of scripts only ours runs: its hash is allowed, and the others are data.
        (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
        allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{allowed}'\">" in text
        text = re.sub(r"<script>.*?</script>|<script type=\"application/json\">[^<]*</script>", "", text, flags=re.S)
        assert not re.search(r"<(script|link|iframe|object|embed|base)\b", text)
        assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//|url\(|@import", text)
        assert len(images_of(text)) >= 4
        assert all(source.startswith("data:image/") for source in images_of(text))
        assert len(text) < 3e6


def test_headline_numbers_are_those_of_the_evaluation(judged):
    run, evaluation = judged
    file = report([run])
    text = file.read_text()
    assert file == run.directory / "report.html"
    assert "<h1>shapes on shapes</h1>" in text
    assert "2026-01-31 23:59 UTC" in text
    trained = evaluation["restoration"]["trained"]
    head, rest = text.split("<section>", 1)
    digits = tables.decimals([t["mse"] for t in trained.values()])
    for method in ("model", "input", "pca", "optimal_linear"):
        assert f">{trained[method]['mse']:.{digits}f}<" in head
        assert f">{trained[method]['psnr']:.2f}<" in head
    assert f">{evaluation['probes']['codes']['logistic_regression']:.3f}<" in head
    assert f">{tables.fixed(trained['model']['ssim'], 3)}<" in rest
    under = rest[rest.index("Under masking(0.3)") :]
    for name, numbers in evaluation["robustness"].items():
        if name != "corruption":
            cells = [f"<td[^>]*>{tables.fixed(numbers[of], 3)}</td>" for of in ("logistic_regression", "displacement")]
            assert re.search(rf'<th scope="row">{said(name)}</th>.*?{cells[0]}.*?{cells[1]}</tr>', under)
    assert run.config["versions"]["jax"] in rest
    assert "cd" * 32 in rest


def test_report_is_the_same_bytes_again_and_leaves_only_its_files(judged):
    run = judged[0]
    first = report([run]).read_bytes()
    assert report([run]).read_bytes() == first
    assert sorted(p.name for p in run.directory.iterdir()) == sorted(
        ["config.json", "eval.json", "figures", "metrics.jsonl", "report.html", "result.json"]
    )
    pictures = sorted((run.directory / "figures").iterdir())
    assert {"restoration.png", "filters.png", "codes.png", "restoration-psnr.png", "curve-nll.png"} <= {
        p.name for p in pictures
    }
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 200


def test_strips_show_the_noise_that_was_evaluated(judged):
    run, _ = judged
    chosen = np.array([7, 0, 31])
    rows, measured = restored_rows(run, judged[1], chosen)
    assert np.array_equal(
        rows["corrupted"], corrupted(run, run.experiment.model.data.corrupt, run.experiment.test)[chosen]
    )
    assert np.allclose(rows["restored"], run.reconstruct(rows["corrupted"]))
    assert measured["optimal linear"] == judged[1]["restoration"]["trained"]["optimal_linear"]["mse"]
    assert list(rows) == ["clean", "corrupted", "restored", "optimal linear", "PCA"]


def sections_of(text):
    return re.findall("<h2>(.*?)</h2>", text)


def rectified(params, extras, batch, key):
    """Units of a code of three: active for bright examples, always, never."""
    bright = jnp.mean(batch["x"], axis=(1, 2, 3)) > 0.5
    return jnp.stack([bright, jnp.ones_like(bright), jnp.zeros_like(bright)], axis=1)


def fading(params, extras, batch, key, n):
    """A chain whose i-th state is x, darker by a factor 2⁻ⁱ."""
    return jnp.stack([batch["x"] * 0.5**i for i in range(n)], axis=1)


def ramp(params, extras, batch, key):
    """Samples of even brightness: the i-th is i/255."""
    return jnp.broadcast_to(
        (batch["index"].astype(np.float32) / 255)[:, None, None, None], (len(batch["index"]), 6, 6, 1)
    )


@pytest.fixture(scope="module")
def generous(tmp_path_factory):
    """A run of a model with a sparse code, samples and a chain."""
    offers = {"sparse": Sparse(rectified), "sample": ramp, "sequence": Temporal(chain=fading)}
    run = make_run(tmp_path_factory.mktemp("generous") / "run", offers=offers, hidden=())
    return run, evaluate(run), report([run]).read_text()


def test_sections_appear_for_models_that_have_such_things(judged, generous, tmp_path):
    some = {"Activity of the units", "Samples", "Chain"}
    assert some | {"Jacobian of the encoder"} <= set(sections_of(generous[2]))
    text = report([judged[0]], tmp_path / "page.html").read_text()
    assert not some & set(sections_of(text))
    assert "Jacobian of the encoder" in sections_of(text)


def test_the_activity_is_that_of_the_test_split(generous):
    run, evaluation, text = generous
    bright = np.mean(run.experiment.test.arrays["x"].mean(axis=(1, 2, 3)) > 0.5)
    assert 0 < bright < 1
    activity = evaluation["sparsity"]
    assert activity["units"] == 3
    assert activity["dead_units"] == 1
    assert np.isclose(activity["active_units"], 1 + bright)
    assert f"activates {1 + bright:.3g} on average" in text
    assert "1 units are dead" in text


def test_the_spectrum_of_a_linear_encoder_is_that_of_its_kernel(generous):
    run, evaluation, text = generous
    kernel = run.params["encoder"]["dense_0"]["kernel"].astype(np.float64)
    values = np.linalg.svd(kernel, compute_uv=False)
    jacobian = evaluation["jacobian"]
    np.testing.assert_allclose(jacobian["singular_values"], values, rtol=1e-5)
    assert np.isclose(jacobian["squared_norm"], np.sum(kernel**2))
    assert jacobian["large_values"] == 3
    assert jacobian["examples"] == run.experiment.test.size
    assert f"is {np.sum(kernel**2):.3g}." in text


def test_charts_of_a_linear_encoder_are_the_directions_of_its_kernel(generous):
    run = generous[0]
    left, _, _ = np.linalg.svd(run.params["encoder"]["dense_0"]["kernel"])
    sheet = tiles_in(run.directory / "figures" / "charts.png", rows=6, columns=4)
    shown = run.experiment.test.arrays["x"][some_of_each_class(run.experiment.test)[0][:6]]
    for row, x in zip(sheet, shown):
        np.testing.assert_allclose(row[0], x[..., 0] * 255, atol=0.6)
        for picture, direction in zip(row[1:], left.T[:3]):
            scaled = direction.reshape(6, 6) / np.abs(direction).max()
            sign = np.sign(scaled.reshape(-1)[np.abs(scaled).argmax()])
            np.testing.assert_allclose(picture, 127.5 + 127.5 * sign * scaled, atol=0.6)


def test_samples_and_chain_are_the_models(generous):
    run = generous[0]
    test, figures = run.experiment.test, run.directory / "figures"
    samples = tiles_in(figures / "samples.png", 8, 8).reshape(64, 6, 6)
    assert np.array_equal(samples, np.broadcast_to(np.arange(64)[:, None, None], (64, 6, 6)))
    examples = tiles_in(figures / "examples.png", 5, 8).reshape(40, 6, 6)
    np.testing.assert_allclose(examples, 255 * test.arrays["x"][..., 0], atol=0.6)
    for row, x in zip(tiles_in(figures / "chain.png", 8, 20), test.arrays["x"][some_of_each_class(test)[0][:8]]):
        for i, state in enumerate(row):
            np.testing.assert_allclose(state, 255 * x[..., 0] / 2**i, atol=0.6)


def tiles_in(file, rows, columns, size=6):
    """The gray tiles [rows, columns, size, size] of a sheet with gaps of one pixel, enlarged by a whole factor."""
    with Image.open(file) as image:
        factor = image.size[0] // (columns * (size + 1) - 1)
        pixels = np.asarray(image)[::factor, ::factor, 0].astype(float)
    assert pixels.shape == (rows * (size + 1) - 1, columns * (size + 1) - 1)
    padded = np.pad(pixels, ((0, 1), (0, 1))).reshape(rows, size + 1, columns, size + 1)
    return padded.transpose(0, 2, 1, 3)[:, :, :size, :size]


CASES = {
    "not judged": ({}, ["eval.json"], "aejax evaluate"),
    "not complete": ({}, ["result.json", "eval.json"], "aejax resume"),
    "nothing logged": ({}, ["metrics.jsonl"], "Restoration"),
    "nothing at all": ({}, ["metrics.jsonl", "result.json", "eval.json"], "aejax resume"),
    "not images": ({"shape": (12,)}, [], "Restoration against"),
    "one-dimensional examples of one number": ({"shape": (1,)}, [], "Codes"),
    "no labels": ({"classes": None}, [], "codes."),
    "many classes": ({"classes": tuple("abcdefghijklm")}, [], "The first examples of"),
    "no corruption": ({"noise": None}, [], "reconstructed"),
    "trained at level zero": ({"noise": 0.0}, [], "Restoration against the level"),
    "color": ({"shape": (6, 6, 3)}, [], "First-layer filters"),
    "code of one number": ({"latent": 1}, [], "one component"),
    "code of two numbers": ({"latent": 2}, [], "The two components"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_lacks_is_left_out_or_said(tmp_path, judged, case):
    options, removed, said = CASES[case]
    run = make_run(tmp_path / "run", **options)
    if case in ("no corruption", "not images", "no labels"):  # which change what is in eval.json
        evaluate(run)
    else:
        # As an earlier version judged, which did not know of these.
        unknown = ("sparsity", "jacobian", "robustness", "bound")
        write_json(run.directory / "eval.json", {k: v for k, v in judged[1].items() if k not in unknown})
    for name in removed:
        (run.directory / name).unlink()
    assert said in report([run]).read_text()


def test_numbers_of_another_step_than_the_pictures_are_said_to_be(tmp_path, judged):
    run = make_run(tmp_path / "run")
    write_json(run.directory / "eval.json", {**judged[1], "step": 7, "checkpoint": "best"})
    assert "those of the best checkpoint, step 7; pictures and codes are those of step 0" in report([run]).read_text()


def test_an_untouched_input_has_no_psnr_to_draw(judged):
    sweep = judged[1]["restoration"]["sweep"]
    assert sweep[0]["level"] == 0
    assert sweep[0]["input"]["psnr"] == 100
    at, values = levels(sweep, "input", "psnr")
    assert at == [0.0, 0.3, 0.6]
    assert np.isfinite(values).tolist() == [False, True, True]


def test_a_run_without_data_or_with_broken_parameters_has_a_page(judged):
    run, _ = judged
    bare = [d._replace(arrays=None) for d in (run.experiment.train, run.experiment.test)]
    without = Run(run.directory, run.config, run.experiment._replace(train=bare[0], test=bare[1]), run.state)
    assert "opened without its data" in report([without]).read_text()
    params = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), run.params)
    broken = Run(run.directory, run.config, run.experiment, run.state._replace(params=params))
    text = report([broken]).read_text()
    assert "not finite" in text
    assert "Local charts" not in text
    assert jacobian(broken, np.zeros((40, 3)), run.experiment.test) is None
    params = jax.tree.map(lambda leaf: leaf * np.float32(0), run.params)
    dead = Run(run.directory, run.config, run.experiment, run.state._replace(params=params))
    assert "collapsed" in report([dead]).read_text()


def test_everything_foreign_is_escaped(tmp_path):
    run = make_run(tmp_path / "a$<b>&", classes=(HOSTILE, "two\x00$"), name=HOSTILE)
    run.config["source"]["file"] = f"{HOSTILE}.py"
    run.config["source"]["arguments"]["rate"] = HOSTILE
    with open(run.directory / "metrics.jsonl", "a") as log:
        print(json.dumps({"step": 400, "split": "train", HOSTILE: 1.0}), file=log)
    for text in (report([run]).read_text(), report([run, make_run(tmp_path / "b")], tmp_path / "c.html").read_text()):
        text = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.S)  # ours
        assert re.findall(r"<script[^>]*>", text) == ['<script type="application/json">'] * text.count("<script")
        assert escape("<script") in text
        assert all(source.startswith("data:image/") for source in images_of(text))


def test_comparison_shows_what_differs_and_links_where_a_page_is(comparison):
    runs, file = comparison
    text = file.read_text()
    head = [re.sub("<small>.*?</small>", "", cell) for cell in re.findall(r"<th(?: [^>]*)?>(.*?)</th>", text)]
    assert head[0] == "run"
    assert head[head.index("digest") - 3 : head.index("digest")] == ["rate", "seed", "step"]  # after the numbers
    assert "batch size" not in head
    links = re.findall(r'href="([^"]*)"', text)
    assert [(file.parent / links[0].replace("%20", " ")).resolve()] == [(runs[0].directory / "report.html").resolve()]
    assert len(links) == 1
    for name in ("restoration-mse.png", "jacobian-spectrum.png"):
        assert (file.parent / "seeds-figures" / name).exists()


def test_comparison_gives_mean_and_deviation_over_seeds(comparison):
    text = comparison[1].read_text()
    assert "0.0120 ± 0.0028" in text  # of .010 and .014
    assert "0.020 ±" not in text  # a single run has no deviation


def test_refuses_before_the_work(tmp_path, judged):
    run = judged[0]
    foreign = tmp_path / "thesis.html"
    foreign.write_text("<html>years of work</html>")
    for runs, out, complaint in [
        ([], None, "at least one"),
        ([run, run], tmp_path / "x.html", "given twice"),
        ([run], foreign, "not a report of aejax"),
        ([run], tmp_path / "table.csv", "name it so"),
        ([run], tmp_path / "nowhere" / "x.html", "make it first"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            report(runs, out)
    assert foreign.read_text() == "<html>years of work</html>"
    assert list(tmp_path.iterdir()) == [foreign]
    assert report([run], tmp_path / "x.html") == report([run], tmp_path / "x.html")  # over a page of ours


@pytest.mark.skipif(CHROME is None, reason="needs chromium or google-chrome")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_everything_is_drawn_and_nothing_overflows(tmp_path, generous, comparison, width):
    for file in (generous[0].directory / "report.html", comparison[1]):
        seen = measured(file, width, tmp_path)
        assert seen["title"] in file.read_text()
        assert seen["scroll"] <= width
        assert len(seen["images"]) == len(images_of(file.read_text()))
        assert min(seen["images"]) > 0
        assert seen["shown"] >= 300
        assert not seen["outside"]


def measured(file: Path, width: int, folder: Path) -> dict:
    """What the browser makes of the page in a frame of this width: the page itself carries no script."""
    wrapper = folder / f"{file.stem}-{width}.html"
    script = """
      const frame = document.querySelector("iframe"), inner = frame.contentDocument, root = inner.documentElement
      const images = [...inner.images]
      await Promise.all(images.map(i => i.decode().catch(() => 0)))
      const scrolled = e => e.closest(".scroll") !== null
      const outside = [...inner.body.querySelectorAll("*")].filter(
        e => !scrolled(e) && e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))
      const seen = {title: inner.title, scroll: root.scrollWidth, images: images.map(i => i.naturalWidth),
                    shown: Math.max(...images.map(i => i.getBoundingClientRect().width)), outside}
      document.querySelector("pre").textContent = JSON.stringify(seen)
    """
    wrapper.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body><pre></pre><iframe style="border:0;width:{width}px;height:900px" '
        f'srcdoc="{escape(file.read_text())}"></iframe>'
        f'<script>document.querySelector("iframe").onload = async () => {{{script}}}</script>'
    )
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --virtual-time-budget=10000 --dump-dom"
    profile = folder / f"profile-{file.stem}-{width}"
    command = [CHROME, *switches.split(), f"--user-data-dir={profile}", wrapper.as_uri()]
    for _ in range(3):  # on a busy machine the virtual time may run out before the script has
        out = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        if told := re.search("<pre>(.+?)</pre>", out, re.S):
            return json.loads(unescape(told[1]))
    pytest.fail(f"the browser told nothing of {file}")
