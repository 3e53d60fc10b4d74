"""A process that is killed while it makes or clears a directory leaves one that the commands can deal with."""

import shutil
from pathlib import Path

import pytest

import aejax
from aejax.cli import main
from aejax.runs.checkpoint import digest
from aejax.training import groups, trainer

SMALL = ["--steps", "4", "--save-every", "2", "--hidden", "4", "--latent", "2", "--no-evaluate", "--no-verbose"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def killed_at(function, n):
    """The function, which is interrupted at its n-th call, from 0."""
    calls = iter(range(1000))

    def call(*args, **kwargs):
        if next(calls) == n:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return call


def counted(act, own, calls, n):
    """Removes entries of a folder `own`, and is interrupted at the n-th; `calls` may be shared."""

    def call(path, *args, **kwargs):
        if Path(path).parent.name == own and next(calls) == n:
            raise KeyboardInterrupt
        return act(path, *args, **kwargs)

    return call


@pytest.mark.parametrize("flags", [[], ["--seeds", "2"]], ids=["run", "group"])
def test_an_overwrite_that_is_killed_can_be_given_again(flags, monkeypatch):
    assert main(["train", "ae", *SMALL, *flags, "--run", "first"]) == 0
    entries = [entry for entry in Path("first").iterdir() if entry.name != ".lock"]
    for n in range(len(entries)):
        shutil.copytree("first", f"run{n}")
        remove, unlink = shutil.rmtree, Path.unlink
        calls = iter(range(1000))
        monkeypatch.setattr(trainer.shutil, "rmtree", counted(remove, f"run{n}", calls, n))
        monkeypatch.setattr(Path, "unlink", counted(unlink, f"run{n}", calls, n))
        assert main(["train", "ae", *SMALL, *flags, "--run", f"run{n}", "--overwrite"]) == 130
        monkeypatch.setattr(trainer.shutil, "rmtree", remove)
        monkeypatch.setattr(Path, "unlink", unlink)
        assert main(["train", "ae", *SMALL, *flags, "--run", f"run{n}", "--overwrite"]) == 0, n
    one = "." if not flags else "seed1"
    assert digest(aejax.open_run(Path("run0", one)).state) == digest(aejax.open_run(Path("first", one)).state)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_group_that_is_killed_while_it_is_recorded_can_be_started_again(n, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(groups, "write_json", killed_at(groups.write_json, n))
        assert main(["train", "ae", *SMALL, "--seeds", "2", "--run", "group"]) == 130
    capsys.readouterr()
    code = main(["resume", "group", "--no-evaluate"])
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["train", "ae", *SMALL, "--seeds", "2", "--run", "group", "--overwrite"]) == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_sweep_goes_on_after_a_kill_while_a_group_is_recorded(n, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(groups, "write_json", killed_at(groups.write_json, n))
        assert main(["train", "ae", *SMALL, "--sweep", "latent=2,3", "--seeds", "2", "--run", "sweep"]) == 130
    assert main(["resume", "sweep", "--no-evaluate"]) == 0
    assert aejax.open_run("sweep/latent3/seed1").step == 4
