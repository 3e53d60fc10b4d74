"""No code runs that was not asked for when a run is opened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.runs import trusted
from aejax.runs.experiment import load_file, sha256, shipped
from tiny import refusal

SMALL = ["--steps", "2", "--hidden", "4", "--latent", "2", "--batch-size", "8", "--no-evaluate", "--no-verbose"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A machine on which nothing has been trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def mine(path, mark):
    """An experiment file that leaves a mark when it is executed."""
    text = shipped()["ae"].read_text()
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{text}\nfrom pathlib import Path\nPath({str(mark)!r}).touch()\n")
    return path


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A run directory that somebody sent, trained elsewhere from a file that came with it; nothing was executed here."""
    mark = tmp_path / "executed"
    file = mine(tmp_path / "sent" / "mine.py", mark)
    assert main(["train", str(file), *SMALL, "--run", "sent/run"]) == 0
    mark.unlink()
    shutil.rmtree(tmp_path / "state")
    return file, mark


COMMANDS = [
    ["encode", "sent/run", "digits:test", "codes.npy"],
    ["resume", "sent/run", "--steps", "4"],
    ["verify", "sent/run"],
    ["evaluate", "sent/run"],
    ["report", "sent/run"],
    ["reconstruct", "sent/run", "digits:test", "x.npy"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_file_that_came_with_a_run_is_not_executed(sent, command, capsys):
    file, mark = sent
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"executes {file} (sha256 {sha256(file)[:12]}…), which you have not trained with on this machine" in error
    assert f"pass --file {file}" in error
    assert not mark.exists()


def test_it_is_executed_where_the_user_names_it_and_from_then_on(sent):
    file, mark = sent
    assert main(["encode", "sent/run", "digits:test", "codes.npy", "--file", str(file)]) == 0
    mark.unlink()
    assert main(["encode", "sent/run", "digits:test", "again.npy"]) == 0
    assert mark.exists()
    np.testing.assert_array_equal(np.load("codes.npy"), np.load("again.npy"))


def test_the_same_bytes_elsewhere_are_another_file(sent, tmp_path):
    """Beside a copy there may be other modules, which it imports."""
    file, mark = sent
    trusted.remember(file, sha256(file))
    copy = tmp_path / "elsewhere" / "mine.py"
    copy.parent.mkdir()
    shutil.copy(file, copy)
    config = json.loads(Path("sent/run/config.json").read_text())
    config["source"]["file"] = str(copy)
    Path("sent/run/config.json").write_text(json.dumps(config))
    assert "which you have not trained with" in refusal(aejax.open_run, "sent/run")
    assert not mark.exists()


@pytest.mark.parametrize("command", COMMANDS[:5], ids=lambda words: words[0])
def test_a_file_that_has_changed_is_refused_before_it_is_executed(sent, command, capsys):
    file, mark = sent
    trusted.remember(file, sha256(file))
    file.write_text(file.read_text() + "# changed\n")
    assert main(command) == 2
    assert "has changed since sent/run was started" in capsys.readouterr().err
    assert not mark.exists()


def test_a_relative_path_is_not_taken_from_the_working_directory(sent, tmp_path):
    file, mark = sent
    config = json.loads(Path("sent/run/config.json").read_text())
    config["source"]["file"] = "mine.py"
    Path("sent/run/config.json").write_text(json.dumps(config))
    shutil.copy(file, tmp_path / "mine.py")
    trusted.remember(tmp_path / "mine.py", sha256(file))
    assert "say where it is with --file" in refusal(aejax.open_run, "sent/run")
    assert not mark.exists()


def test_a_file_inside_a_run_a_group_or_a_sweep_is_never_executed(tmp_path):
    mark = tmp_path / "executed"
    for flags, run in (
        ([], "one"),
        (["--seeds", "2"], "group/seed0"),
        (["--sweep", "latent=2,3"], "sweep/latent2/seed0"),
    ):
        directory = run.split("/")[0]
        file = mine(tmp_path / "outside" / "mine.py", mark)
        assert main(["train", str(file), *SMALL, *flags, "--run", directory]) == 0
        mark.unlink()
        inside = tmp_path / directory / "mine.py"
        shutil.copy(file, inside)
        trusted.remember(inside, sha256(inside))
        path = Path(run, "config.json")
        config = json.loads(path.read_text())
        config["source"]["file"] = str(inside)
        path.write_text(json.dumps(config))
        assert "lies in the run directory, from which no code is loaded" in refusal(aejax.open_run, run)
        assert not mark.exists()


def test_a_run_of_a_shipped_experiment_executes_the_installed_file(tmp_path):
    assert main(["train", "ae", *SMALL, "--run", "run"]) == 0
    config = json.loads(Path("run/config.json").read_text())
    assert config["source"]["sha256"] == sha256(shipped()["ae"])
    mark = tmp_path / "executed"
    other = mine(tmp_path / "evil" / "ae.py", mark)
    config["source"]["file"] = str(other)
    Path("run/config.json").write_text(json.dumps(config))
    aejax.open_run("run")
    assert not mark.exists()


def test_what_is_executed_is_what_was_compared(tmp_path, monkeypatch):
    """Even if the file is replaced in between: it is read once."""
    mark = tmp_path / "executed"
    file = mine(tmp_path / "outside" / "mine.py", mark)
    content = file.read_bytes()
    file.write_text("raise SystemExit('another file')")
    module, _ = load_file(file, content)
    assert mark.exists()
    assert module.__aejax_sha256__ == __import__("hashlib").sha256(content).hexdigest()


def test_a_parent_and_a_classifier_follow_the_same_rule(sent, capsys):
    _, mark = sent
    assert main(["train", "vincent2010", "--parent", "sent/run", *SMALL[:2], "--no-evaluate", "--run", "top"]) == 2
    assert "which you have not trained with on this machine" in capsys.readouterr().err
    assert not mark.exists()


def test_where_nothing_can_be_remembered_training_goes_on(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("not a folder")
    file = mine(tmp_path / "outside" / "mine.py", tmp_path / "executed")
    assert main(["train", str(file), *SMALL, "--run", "run"]) == 0
    (tmp_path / "state").unlink()
    (tmp_path / "state" / "aejax").mkdir(parents=True)
    (tmp_path / "state" / "aejax" / "experiments.json").write_text("[1, 2")
    assert "pass --file" in refusal(aejax.open_run, "run")
