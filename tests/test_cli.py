"""The commands as a user gives them; every mistake is one line and exit code 2, and loses nothing."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aejax
from aejax.cli import main
from aejax.cli.flags import SHARED
from aejax.runs.directory import locked

ROOT = Path(__file__).parent.parent
AE, DAE = (str(ROOT / "experiments" / "autoencoders" / name) for name in ("ae.py", "dae.py"))
TINY = ["--steps", "6", "--batch-size", "16", "--hidden", "8", "--latent", "4"]
QUICK = ["--log-every", "3", "--save-every", "3"]


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Runs a command in this process, in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main([str(a) for a in args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(command):
    """Expects one line that matches, and exit code 2."""

    def run(match, *args):
        code, _, err = command(*args)
        lines = [line for line in err.splitlines() if line.startswith("aejax: error: ")]
        assert (code, len(lines)) == (2, 1), err
        assert err.splitlines()[-1] == lines[0]
        assert "Traceback" not in err
        assert re.search(match, lines[0]), lines[0]

    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """`aejax train` as a beginner gives it: (the one run directory, standard output)."""
    told = io.StringIO()
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(told):
        patched.chdir(folder)
        assert main(["train", DAE, *TINY, *QUICK]) == 0
    (run,) = (folder / "runs").iterdir()
    return run, told.getvalue()


@pytest.fixture
def finished(first):
    """A small finished run."""
    return first[0]


def test_train_evaluates_and_reports(command, first):
    run, out = first
    assert re.fullmatch(r"dae-digits-seed0-\d{8}-\d{6}", run.name)
    assert {"config.json", "metrics.jsonl", "result.json", "eval.json", "report.html", "checkpoints"} <= {
        p.name for p in run.iterdir()
    }
    assert "optimal linear" in out
    assert "report.html" in out
    before = (run / "eval.json").read_bytes()
    assert command("evaluate", run)[0] == 0
    assert (run / "eval.json").read_bytes() == before  # twice the same file


def test_help_teaches(command, capsys):
    assert "train NAME|FILE.py" in command("--help")[1]
    with pytest.raises(SystemExit) as stop:
        main(["train", DAE, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--rate", "--hidden", "--lr", "--batch-size", "--run", "--devices"):
        assert flag in text
    assert SHARED["rate"] in text
    assert "default: 0.3" in text
    assert "Vincent" in text


def test_encode_reconstruct_and_the_run_in_python_agree(command, finished, tmp_path):
    assert command("encode", finished, "digits:test", "z.npy")[0] == 0
    assert command("reconstruct", finished, "digits:test", "x.npy")[0] == 0
    run = aejax.open_run(finished)
    z, x = np.load(tmp_path / "z.npy"), np.load(tmp_path / "x.npy")
    assert z.shape == (359, 4)
    assert x.shape == (359, 8, 8, 1)
    np.save(tmp_path / "some.npy", x[:5])
    assert command("encode", finished, "some.npy", "again.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), run.encode(x[:5]))


def test_best_checkpoint_can_be_chosen(command, finished, tmp_path):
    assert command("encode", finished, "digits:test", "best.npy", "--checkpoint", "best")[0] == 0
    metrics = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    best = min((m for m in metrics if m["split"] == "validation"), key=lambda m: m["denoising_nll"])["step"]
    run = aejax.open_run(finished, checkpoint="best")
    assert run.step == best


def test_verify_replays(command, finished, tmp_path):
    code, out, _ = command("verify", finished)
    assert code == 0
    assert "same digest" in out
    shutil.copytree(finished, tmp_path / "forged")
    result = json.loads((tmp_path / "forged" / "result.json").read_text())
    (tmp_path / "forged" / "result.json").write_text(json.dumps(result | {"digest": "0" * 64}))
    code, _, err = command("verify", "forged")
    assert code == 1
    assert "result.json describes other parameters" in err

    shutil.copytree(finished, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["versions"]["jax"] = "0.1"
    config["source"]["arguments"]["lr"] = 0.5
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    assert "config.json is not the one with which the run was trained" in command("verify", "other")[2]
    code, out, err = command("verify", "other", "--allow-changed")
    assert code == 1
    assert "differs: jax 0.1 then" in out
    assert "then," in err


def test_data_commands(command):
    code, out, _ = command("data", "prepare", "digits")
    assert code == 0
    assert "359 examples of 8×8×1" in out
    code, out, _ = command("data", "list")
    assert code == 0
    assert "fashion_mnist" in out


def test_a_killed_run_resumes_to_the_same_digest(tmp_path):
    """SIGKILL at any moment: what is lost is computed again, to the same bits."""
    steps = ["--steps", "1000", "--batch-size", "32", "--hidden", "16", "--log-every", "10", "--save-every", "200"]
    flags = [DAE, *steps, "--no-evaluate", "--run"]
    assert main(["train", *flags, str(tmp_path / "whole")]) == 0
    killed = subprocess.Popen(
        [sys.executable, "-m", "aejax", "train", *flags, str(tmp_path / "killed")],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    log = tmp_path / "killed" / "metrics.jsonl"
    while time.monotonic() < deadline and (not log.exists() or len(log.read_text().splitlines()) < 24):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "result.json").exists()
    assert main(["resume", str(tmp_path / "killed"), "--no-evaluate"]) == 0
    digests = [json.loads((tmp_path / name / "result.json").read_text())["digest"] for name in ("whole", "killed")]
    assert digests[0] == digests[1]


# ---- mistakes: what, where, how to mend ----


def test_unknown_words(refused):
    refused("no command 'trian'.*train", "trian")
    refused("no experiment file nowhere.py", "train", "nowhere.py")
    refused("which experiment", "train")
    refused(r"--ratee.*perhaps --rate.*--help", "train", DAE, "--ratee", "0.1")
    refused("no run|no config.json", "evaluate", "nowhere")
    refused("data list", "data", "lst")


def test_wrong_types_and_values(refused):
    refused("--rate.*'much'", "train", DAE, "--rate", "much")
    refused(r"masking\(rate=1.5\).*\[0, 1\]", "train", DAE, "--rate", "1.5")
    refused("rate is nan", "train", DAE, "--rate", "nan")
    refused("batch size 10 is not divisible by 4 devices", "train", DAE, "--batch-size", "10", "--devices", "4")
    refused("--devices 0", "train", DAE, "--devices", "0")
    refused("steps=0.*at least 1", "train", DAE, "--steps", "0")
    refused("--seed -1", "train", DAE, "--seed", "-1", "--run", "out")
    refused(r"lr is inf", "train", DAE, "--lr", "inf")
    assert not Path("out").exists()
    Path("afile").write_text("precious")
    refused("afile", "train", DAE, *TINY, "--run", "afile/run")


def test_bad_data(refused, tmp_path):
    def of(match, name, *more):
        refused(match, "train", DAE, *TINY, "--data", name, "--run", "out", *more)
        assert not (tmp_path / "out").exists()

    x = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)
    bad = x.copy()
    bad[3, 2] = np.nan
    np.save("nan.npy", bad)
    of(r"nan.npy.*nan at position \[3, 2\]", "nan.npy")
    bad[3, 2] = np.inf
    np.save("inf.npy", bad)
    of(r"inf.npy.*inf at position \[3, 2\]", "inf.npy")
    np.save("outside.npy", x * 3)
    of(r"bernoulli.*outside.npy", "outside.npy")
    np.save("empty.npy", x[:0])
    of("empty", "empty.npy")
    np.save("object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    of("object", "object.npy")
    np.savez("labels.npz", x=x, label=np.zeros(39, np.int64))
    of("labels.npz", "labels.npz")
    of("nowhere.npy", "nowhere.npy")
    of("no_such_data_set", "no_such_data_set")


def test_bad_images(refused, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / f"{i:02}.png")
    (folder / "07.png").write_bytes(b"not a picture")
    refused(r"07\.png", "train", DAE, *TINY, "--data", "./photos")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "07.png")
    refused(r"07\.png.*4.*5|5.*4.*07\.png", "train", DAE, *TINY, "--data", "./photos")


def test_a_run_directory_that_exists_or_is_none(refused, finished, tmp_path):
    before = (finished / "result.json").read_bytes()
    refused("exists.*--overwrite", "train", DAE, *TINY, "--run", finished)
    assert (finished / "result.json").read_bytes() == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    for name in ("resume", "evaluate", "report", "verify"):
        refused("is not a run directory", name, "notes")
    refused("exists", "train", DAE, *TINY, "--run", "notes")
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "precious"
    shutil.copytree(finished, tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text('{"source"')
    refused("damaged", "evaluate", "damaged")


def test_a_run_that_another_process_writes(refused, finished):
    with locked(finished):
        refused("being written by another process", "resume", finished)
        refused("being written by another process", "train", DAE, *TINY, "--run", finished, "--overwrite")
    assert (finished / "result.json").exists()


def test_a_changed_experiment_file(refused, command, finished, tmp_path):
    shutil.copy(DAE, tmp_path / "mine.py")
    shutil.copytree(finished, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["source"]["file"] = str(tmp_path / "mine.py")  # as if it had been trained from there
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "\n# a second thought\n")
    refused("mine.py has changed.*--allow-changed", "resume", "run")
    refused("mine.py has changed", "verify", "run")
    # It was changed by somebody: only where the user names it, it is executed.
    refused("which you have not trained with on this machine", "resume", "run", "--allow-changed")
    assert command("resume", "run", "--allow-changed", "--file", "mine.py", "--no-evaluate")[0] == 0
    assert command("resume", "run", "--allow-changed", "--no-evaluate")[0] == 0
    (tmp_path / "mine.py").rename(tmp_path / "run" / "mine.py")
    refused("no code is loaded", "evaluate", "run", "--file", "run/mine.py")
    refused("mine.py, which is not there; .*--file", "evaluate", "run")


def test_changed_data(refused, command, tmp_path):
    x = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)
    np.save("x.npy", x)
    assert command("train", DAE, *TINY, "--data", "x.npy", "--run", "run", "--no-evaluate")[0] == 0
    np.save("x.npy", x[::-1])
    refused("fingerprint", "resume", "run")
    assert command("encode", "run", "x.npy", "z.npy")[0] == 0  # codes need no training data


def test_broken_experiment_files(refused, tmp_path):
    for name, text, match in [
        ("syntax.py", "def (", "cannot be imported: SyntaxError"),
        ("nothing.py", "x = 1", "no function `experiment`"),
        ("short.py", "def experiment(data: str = 'digits'): ...", "lacks the arguments batch_size, steps, seed"),
        ("text.txt", "", "not a Python file"),
    ]:
        (tmp_path / name).write_text(text)
        refused(match, "train", name)


def test_outputs_are_not_overwritten(refused, command, finished, tmp_path):
    (tmp_path / "z.npy").write_text("precious")
    refused("z.npy exists; pass --overwrite", "encode", finished, "digits:test", "z.npy")
    assert (tmp_path / "z.npy").read_text() == "precious"
    refused("name it so", "encode", finished, "digits:test", "z.txt")
    refused("no folder", "encode", finished, "digits:test", "a/z.npy")
    refused("no `sample`", "sample", finished, "s.npy")
    np.save(tmp_path / "other.npy", np.zeros((3, 5), np.float32))
    refused(r"shape \(5,\).*\(8, 8, 1\)", "encode", finished, "other.npy", "w.npy")


def test_no_space_left(refused, finished, tmp_path):
    """On a file system of its own, of the size of a stamp; where mounting is not allowed the test is skipped."""
    disk = tmp_path / "stamp"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        refused("no space left", "train", DAE, "--steps", "6", "--hidden", "512", "--run", disk / "run")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_debug_shows_where(command):
    with pytest.raises(aejax.errors.UsageError):
        main(["evaluate", "nowhere", "--debug"])


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "aejax", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("aejax 0.")


def digests(directory):
    return {path.parent.name: json.loads(path.read_text())["digest"] for path in directory.glob("**/result.json")}


def test_members_are_trained_reported_and_used(command, refused, tmp_path):
    varied = ["--seeds", "2", "--sweep", "lr=1e-3,1e-2"]
    code, out, _ = command("train", AE, *TINY, *QUICK, *varied, "--run", "group", "--no-evaluate")
    assert code == 0
    assert re.search(r"validation nll\s+│ [\d.]+ ± [\d.e-]+", out)
    assert re.search(r"FLOP and .*B a step", out)
    before = digests(tmp_path / "group")
    assert set(before) == {"lr0.001-seed0", "lr0.001-seed1", "lr0.01-seed0", "lr0.01-seed1"}
    assert command("report", "group", "--out", "page.html")[0] == 0
    assert (tmp_path / "page.html").exists()
    assert command("resume", "group", "--no-evaluate")[0] == 0
    assert digests(tmp_path / "group") == before
    refused("is a group of runs; give one of lr0.001-seed0", "encode", "group", "digits:test", "codes.npy")
    refused("verify all of them: aejax verify", "verify", "group/lr0.001-seed0")
    refused("exists; resume it", "train", AE, *TINY, *varied, "--run", "group")
    assert command("encode", "group/lr0.001-seed0", "digits:test", "codes.npy")[0] == 0
    assert aejax.open_run(tmp_path / "group" / "lr0.001-seed1").experiment.seed == 1


def test_members_that_diverge_are_left_behind_and_the_others_evaluated_and_replayed(command, tmp_path):
    diverging = ["--seeds", "2", "--sweep", "lr=1e-3,1e38", "--run", "group"]
    code, _, err = command("train", AE, *TINY, *QUICK, *diverging)
    assert code == 1
    assert re.search(r"lr1e\+38-seed0: non-finite .*; 2 of 4 members finished", err)
    assert set(digests(tmp_path / "group")) == {"lr0.001-seed0", "lr0.001-seed1"}
    code, out, _ = command("evaluate", "group")
    assert code == 0
    assert "not complete: lr1e+38-seed0" in out
    assert (tmp_path / "group" / "lr0.001-seed0" / "eval.json").exists()
    summary = json.loads((tmp_path / "group" / "summary.json").read_text())
    assert summary["unfinished"] == ["lr1e+38-seed0", "lr1e+38-seed1"]
    assert len(summary["settings"][0]["metrics"]["terms/nll"]["values"]) == 2
    code, out, _ = command("verify", "group")
    assert (code, out.count("same digest after 6 steps")) == (0, 2)


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--seeds", "0"], "--seeds 0: it must be from 1 to 10000"),
        (["--sweep", "lr"], "write NAME=VALUE,VALUE"),
        (["--sweep", "lr=fast"], "'fast' is not one of its values"),
        (["--sweep", "seed=1,2"], "write --seeds N"),
        (["--sweep", "rate=0.1,1.5"], r"masking\(rate=1.5\)"),
        (["--accumulate", "3"], "--accumulate 3 does not divide the 16 examples"),
        (["--accumulate", "2", "--exact-reduce"], "leave --accumulate out"),
        (["--exact-reduce", "--virtual-shards", "12"], "it must be a power of two.* use --virtual-shards 16"),
        (["--profile", "-1"], "--profile -1"),
        (["--processes", "2", "--process", "0"], "need --coordinator"),
        (["--coordinator", "localhost", "--processes", "2", "--process", "0"], "write HOST:PORT"),
    ],
)
def test_a_wrong_layout_is_refused_before_anything_is_written(refused, tmp_path, flags, match):
    refused(match, "train", DAE, *TINY, "--run", "run", *flags)
    assert not (tmp_path / "run").exists()


def test_streaming_and_tracing_change_no_bit(command, tmp_path, finished):
    flags = ["--stream", "--profile", "2", "--no-evaluate", "--run", "streamed"]
    code, out, _ = command("train", DAE, *TINY, *QUICK, *flags)
    assert code == 0
    assert digests(tmp_path / "streamed")["streamed"] == digests(finished)[finished.name]
    assert list((tmp_path / "streamed").glob("profile/plugins/profile/*/*.xplane.pb"))
    assert list((tmp_path / "streamed").glob("profile/plugins/profile/*/perfetto_trace.json.gz"))
    told = json.loads((tmp_path / "streamed" / "result.json").read_text())["cost"]
    assert told["flops_per_step"] > 6 * 16 * (64 * 8 + 8 * 4 + 4 * 8 + 8 * 64) * 0.7
    code, out, _ = command("verify", "streamed")
    assert code == 0
    assert "same digest" in out


# A run is not bound to the folder it was started from, nor to where its data lay


@pytest.fixture(scope="module")
def abroad(tmp_path_factory):
    """A run and a group, started with relative paths: their folder, with `x.npy`, `run`, `group` and a child of the run."""
    folder = tmp_path_factory.mktemp("abroad")
    np.save(folder / "x.npy", np.random.default_rng(0).random((40, 6)).astype(np.float32))
    stage = [*QUICK, "--steps", "3", "--batch-size", "8", "--no-evaluate"]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["train", "ae", "--data", "x.npy", "--run", "run", "--hidden", "4", *stage]) == 0
        assert main(["train", "ae", "--data", "x.npy", "--run", "group", "--hidden", "4", "--seeds", "2", *stage]) == 0
        below = ["train", "vincent2010", "--data", "x.npy", "--hidden", "4", "3", *stage]
        assert main([*below, "--run", "below"]) == 0
        assert main([*below, "--parent", "below", "--run", "above"]) == 0
    return folder


def test_a_run_is_opened_from_any_folder(abroad, command, tmp_path):
    for run in ("group", "above"):
        code, out, err = command("verify", abroad / run)
        assert (code, "same digest" in out) == (0, True), err


def test_a_run_on_a_named_data_set_is_opened_beside_a_folder_of_that_name(finished, command, tmp_path):
    (tmp_path / "digits").mkdir()
    assert command("evaluate", finished)[0] == 0


def test_what_has_moved_is_found_where_the_user_says(abroad, command, refused, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(abroad, home)
    for name in ("run", "group"):  # their records name the old place
        for config in [*(home / name).rglob("config.json"), *(home / name).glob("group.json")]:
            config.write_text(config.read_text().replace(str(abroad), str(tmp_path / "gone")))
    moved = home / "y.npy"
    (home / "x.npy").rename(moved)
    other = tmp_path / "other.npy"
    np.save(other, np.random.default_rng(1).random((40, 6)).astype(np.float32))
    for name in ("run", "group"):
        refused(
            f"{name} was trained on .*gone/x.npy, which is not there; say where it is with --data",
            "resume",
            home / name,
        )
        refused(r"other fingerprint\)", "resume", home / name, "--data", other)
        assert command("resume", home / name, "--data", moved, "--no-evaluate")[0] == 0
    assert command("verify", home / "run", "--data", moved)[0] == 0
    assert command("evaluate", home / "run", "--data", moved)[0] == 0
    config = home / "above" / "config.json"
    config.write_text(config.read_text().replace(str(abroad / "below"), str(tmp_path / "gone" / "below")))
    assert command("encode", home / "above", moved, "beside.npy")[0] == 0
    (home / "below").rename(tmp_path / "elsewhere")
    refused("on top of a run below, which is not there.*--parent", "encode", home / "above", moved, "z.npy")
    assert command("encode", home / "above", moved, "z.npy", "--parent", tmp_path / "elsewhere")[0] == 0
    refused("another state", "encode", home / "above", moved, "y.npy", "--parent", home / "run")


def test_an_experiment_imports_the_modules_beside_it(command, refused, tmp_path):
    for name, width in (("mine", 4), ("yours", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"WIDTH = {width}\n")
        text = Path(AE).read_text().replace("hidden: tuple[int, ...] = (512,)", "hidden: tuple[int, ...] = (WIDTH,)")
        text = text.replace("\nimport ", "\nfrom helper import WIDTH\nimport ", 1)
        assert text.count("WIDTH") == 2
        (tmp_path / name / "net.py").write_text(text)
    for name, width in (("mine", 4), ("yours", 6), ("mine", 4)):
        quick = [*QUICK, "--steps", "1", "--batch-size", "8", "--no-evaluate", "--overwrite"]
        assert command("train", f"{name}/net.py", "--run", f"runs/{name}", *quick)[0] == 0
        config = json.loads((tmp_path / "runs" / name / "config.json").read_text())
        assert config["source"]["arguments"]["hidden"] == [width]
