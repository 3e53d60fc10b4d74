"""Data in other units than those a run was trained on are refused alike by every entrance, whatever they come as."""

import json
import shutil

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.data import ReadAs, describe, found_line, is_image, load, recorded, splits, take, usual_splits
from aejax.data.units import found_in, refuse_other_units, units
from aejax.errors import UsageError
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli, masking
from aejax.runs.directory import datasets
from aejax.runs.experiment import build, fit, load_file
from aejax.runs.opening import open_run
from aejax.training.checks import checked
from aejax.training.settings import Settings
from tiny import refusal

RNG = np.random.default_rng(0)
SHAPE = (8, 8, 1)
BYTES = RNG.integers(0, 256, (40, *SHAPE)).astype(np.uint8)
UNIT = (BYTES / 255).astype(np.float32)
SIGNED = 2 * UNIT - 1
NORMAL = RNG.standard_normal((40, *SHAPE)).astype(np.float32)


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))


def found(x):
    return found_in(np.asarray(x), "", "x")


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        (BYTES, 255 * UNIT),  # floats 0 to 255 after uint8
        (BYTES, SIGNED),
        (BYTES, UNIT / 255),
        (BYTES, UNIT / 256),
        (UNIT, SIGNED),  # -1 to 1 after 0 to 1
        (UNIT, 255 * UNIT),
        (UNIT, BYTES),  # uint8 after floats
        (255 * UNIT, BYTES),
        (255 * UNIT, UNIT),
        (SIGNED, UNIT),  # 0 to 1 after -1 to 1
        (SIGNED, BYTES),
        (SIGNED, 255 * UNIT),
        (NORMAL, 100 + NORMAL),
        (NORMAL, 1000 * NORMAL),
        (NORMAL, NORMAL / 1000),
        (BYTES > 127, 255 * UNIT),
        (BYTES > 127, SIGNED),
    ],
)
def test_other_units_are_refused_and_both_are_named(trained, given):
    message = refusal(refuse_other_units, found(trained), found(given), given.size, "mine.npy")
    assert "mine.npy" in message
    assert units(found(trained)) in message
    assert units(found(given)) in message
    assert "--allow-changed" in message


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        (BYTES, BYTES[:1]),
        (BYTES, np.zeros_like(BYTES)),
        (BYTES, UNIT),
        (BYTES, BYTES > 127),
        (BYTES, np.clip(UNIT + 0.1 * NORMAL, -0.4, 1.4)),  # with noise
        (UNIT, 0.2 * UNIT),
        (UNIT, np.zeros_like(UNIT)),
        (UNIT, BYTES > 127),
        (SIGNED, SIGNED[:1]),
        (SIGNED, -SIGNED),
        (NORMAL, RNG.standard_normal((1000, *SHAPE)).astype(np.float32)),
        (NORMAL, np.abs(NORMAL.reshape(-1)[:20])),
        (BYTES > 127, BYTES),
    ],
)
def test_the_same_units_are_taken(trained, given):
    refuse_other_units(found(trained), found(given), given.size, "mine.npy")


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_that_are_0_and_1_are_not_read_as_black(tmp_path, stream):
    np.save(tmp_path / "a.npy", (BYTES > 127).astype(np.uint8))
    message = refusal(load, ReadAs(stream=True, data=tmp_path / "a.npy") if stream else tmp_path / "a.npy")
    assert "0 and 1 as uint8" in message
    np.save(tmp_path / "b.npy", BYTES > 127)
    assert load(tmp_path / "b.npy")[0].found.high == 1.0


# The same at every entrance


def source(kind, x, folder):
    """The examples as a user may hold them: what `load` takes, and how all of them are named."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "array":
        return x
    if kind == "npz":
        np.savez(folder / "x.npz", x=x)
        return folder / "x.npz"
    np.save(folder / "x.npy", x)
    return ReadAs(stream=True, data=folder / "x.npy") if kind == "streamed" else folder / "x.npy"


def with_nan(x):
    x = x.copy()
    x[7, 3, 2] = np.nan
    return x


FAULTS = {
    "none": lambda x: x,
    "0 to 255": lambda x: 255 * x,
    "-1 to 1": lambda x: 2 * x - 1,
    "shape": lambda x: x[:, :7],
    "channels first": lambda x: np.moveaxis(x, -1, 1),
    "NaN": with_nan,
    "infinite": lambda x: np.where(x == x.max(), np.inf, x).astype(np.float32),
    "one row in other units": lambda x: np.concatenate([x[:5], 255 * x[5:6], x[6:]]),
}
"""What is wrong with data that are given to a run which was trained on floats in [0, 1]."""


SEQUENCES = RNG.random((40, 6, 4, 4, 1)).astype(np.float32)
TRAINED = {
    "ae": (UNIT, ["ae", "--hidden", "4", "--latent", "3"]),
    "cvae": (UNIT, ["cvae", "--hidden", "4", "--latent", "2"]),
    "tdvae": (SEQUENCES, ["tdvae_digits", *["--hidden", "4", "--channels", "4", "--maps", "4", "--latent", "2"]]),
}
QUICK = ["--steps", "1", "--batch-size", "4", "--no-evaluate"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The directories of an autoencoder, a conditional model and one of sequences, hardly trained."""
    folder, directories = tmp_path_factory.mktemp("runs"), {}
    for name, (x, command) in TRAINED.items():
        np.save(folder / f"{name}.npy", x)
        directories[name] = folder / name
        data = ["--data", str(folder / f"{name}.npy"), "--run", str(directories[name])]
        assert main(["train", *command, *data, *QUICK]) == 0
    return directories


def is_refused(call, *arguments):
    """Whether by a UsageError of one line."""
    try:
        call(*arguments)
    except UsageError as error:
        return "\n" not in str(error)
    return False


def trains(name, data):
    """What training does before its first step, and then reads; it has to end."""
    _, function = load_file(TRAINED[name][1][0])
    arguments = dict(zip(("hidden", "latent"), ((4,), 2)))
    experiment = checked(build(function, arguments, data=data, steps=1, batch_size=4), Settings(devices=1))
    for part in datasets(experiment):
        take(part, np.arange(part.size))


def entrances(name, run):
    """Name -> a function of the data."""
    if name == "cvae":
        return {"sample --given": lambda data: run.sample(4, given=every(data))}
    if name == "tdvae":
        return {"rollout": lambda data: run.rollout(every(data), [1], 3)}
    return {
        "encode": lambda data: run.encode(every(data)),
        "reconstruct": lambda data: run.reconstruct(every(data)),
        "evaluate": lambda data: run.evaluate(every(data)),
    }


def every(data):
    """All examples, as commands and as users of Python give them."""
    return load(data, ("all",))[0] if isinstance(data, ReadAs) else data


@pytest.mark.parametrize("kind", ["npy", "npz", "array", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_entrance_answers_alike(runs, tmp_path, monkeypatch, kind, fault):
    monkeypatch.setattr(splits, "LOOKED_AT", 4)  # or the first look at what is streamed would see all
    answers = {}
    for name, (x, _) in TRAINED.items():
        data = source(kind, FAULTS[fault](x), tmp_path / name)
        # A model of sequences is given prefixes and continuations of any length, but frames of its own shape.
        if name == "tdvae" and fault == "shape":
            data = source(kind, x[:, :, :3], tmp_path / name)
        for what, call in entrances(name, open_run(runs[name])).items():
            answers[what] = is_refused(call, data)
        if fault not in ("shape", "channels first"):  # of which training knows nothing better
            answers[f"train {name}"] = is_refused(trains, name, data)
    assert set(answers.values()) == {fault != "none"}, answers


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "none"])
def test_every_command_refuses_in_one_line(runs, tmp_path, capsys, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    for name, (x, _) in TRAINED.items():
        x = x[:, :, :3] if (name, fault) == ("tdvae", "shape") else FAULTS[fault](x)
        source("npy", x, tmp_path / name)
    for command in (
        ["encode", runs["ae"], "ae/x.npy", "out.npy"],
        ["reconstruct", runs["ae"], "ae/x.npy", "out.npy"],
        ["sample", runs["cvae"], "out.npy", "--given", "cvae/x.npy"],
        ["sample", runs["tdvae"], "out.npy", "--given", "tdvae/x.npy"],
    ):
        assert main([str(word) for word in command]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("aejax: error: ")
        assert "x.npy" in line
    assert not (tmp_path / "out.npy").exists()


def test_what_is_meant_is_taken_all_the_same(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", 0.001 * UNIT)
    assert main(["encode", str(runs["ae"]), "x.npy", "out.npy"]) == 2
    assert main(["encode", str(runs["ae"]), "x.npy", "out.npy", "--allow-changed"]) == 0
    assert open_run(runs["ae"], allow_changed=True).encode(0.001 * UNIT).shape == (40, 3)


def test_a_denoising_model_is_given_noise_beyond_its_range(tmp_path):
    noisy = UNIT + 0.1 * NORMAL
    net = lambda out: MLP((4,), out)
    for corrupt in (None, masking(0.3)):
        model = autoencoder(net(3), net(SHAPE), bernoulli(), corrupt=corrupt)
        run = aejax.train(fit(model, load(UNIT), steps=1, batch_size=4), tmp_path / f"{corrupt is None}")
        assert is_refused(run.reconstruct, noisy) == (corrupt is None)
        assert is_refused(run.evaluate, noisy)
        assert is_refused(run.reconstruct, SIGNED)


def test_a_run_of_an_earlier_version_takes_what_its_likelihood_admits(runs, tmp_path):
    """It recorded neither dtype nor range."""
    config = json.loads((runs["ae"] / "config.json").read_text())
    for split in config["data"]["splits"].values():
        del split["found"]
    shutil.copytree(runs["ae"], tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    for metadata in (tmp_path / "old" / "checkpoints").glob("*/_CHECKPOINT_METADATA"):  # nor what config.json said
        said = json.loads(metadata.read_text())
        metadata.write_text(json.dumps({**said, "custom_metadata": {}}))
    run = open_run(tmp_path / "old")
    assert run.encode(0.001 * UNIT).shape == (40, 3)
    assert is_refused(run.encode, SIGNED)


def test_units_are_recorded_and_come_back():
    data = load((BYTES, np.arange(40) % 3), ("train[:90%]", "train[90%:]", "test"))
    again = recorded(json.loads(json.dumps(describe(data))))
    for spec, part in zip(("train[:90%]", "train[90%:]", "test"), data):
        assert again.splits[spec].found == part.found
        assert part.found.dtype == "uint8"
        assert 0 <= part.found.low < part.found.high <= 1
    assert usual_splits(again) == ("train[:90%]", "train[90%:]", "test")


def test_the_line_before_training_says_what_was_found(runs, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x_train=BYTES, x_test=BYTES[:9], x_extra=BYTES[:3], weights=np.zeros(3))
    run = tmp_path / "run"
    assert main(["train", "ae", "--data", str(tmp_path / "a.npz"), "--run", str(run), "--hidden", "4", *QUICK]) == 0
    line = capsys.readouterr().err.splitlines()[0]
    for words in (
        "36 train[:90%], 4 train[90%:] and 9 test examples",
        "images of 8×8×1",
        "uint8 from 0 to 255",
        "splits of its own",
        "1 array weights",
        "1 split extra",
    ):
        assert words in line
    assert found_line(json.loads((run / "config.json").read_text())["data"]) == line


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 32, 32), "np.moveaxis(x, 1, -1)"),
        ((1, 28, 28), "np.moveaxis(x, 1, -1)"),
        ((28, 28), "x[..., None]"),
        ((2, 100), "np.swapaxes(x, 1, 2)"),
        ((8, 3, 32, 32), "np.moveaxis(x, 2, -1)"),
        ((16, 28, 28), "x[..., None]"),
        ((28, 28, 1), None),
        ((32, 32, 3), None),
        ((32, 32, 4), None),
        ((2, 2, 3), None),
        ((100, 2), None),
        ((10,), None),
        ((8, 32, 32, 3), None),
    ],
)
def test_shapes_that_may_be_something_else_are_said_with_the_remedy(shape, words):
    (data,) = load(np.zeros((12, *shape), np.float32), ("train",))
    assert (words in data.found.doubt) if words else not data.found.doubt
    if words:
        assert words in found_line(describe((data,)))


def test_a_transparent_image_is_an_image_and_a_picture_of_three_rows_is_none():
    assert all(map(is_image, [(8, 8, 1), (8, 8, 3), (8, 8, 4), (3, 3, 3), (4, 4, 4)]))
    assert not any(map(is_image, [(3, 32, 32), (8, 8), (8, 8, 2), (8, 8, 64), (1, 8, 3), (8,), (2, 8, 8, 3)]))
