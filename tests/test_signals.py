"""Signals end a command at any moment with 128 + n and at most one line; and nothing that is printed steers the terminal."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import aejax
from aejax.cli import COMMANDS, main
from aejax.errors import UsageError, printable
from aejax.signals import Stopped, deferred_signals, noted_signals, raised_signals


def run(*args, signum, seconds, cwd):
    process = subprocess.Popen(
        [sys.executable, "-m", "aejax", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd
    )
    time.sleep(seconds)
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize(
    ("signum", "seconds"),
    [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.8), (signal.SIGHUP, 1.6)],
    ids=["interrupt", "terminate", "hang up"],
)
def test_a_signal_in_the_first_seconds_is_one_line(tmp_path, signum, seconds):
    code, said = run("train", "ae", "--run", "run", "--no-verbose", signum=signum, seconds=seconds, cwd=tmp_path)
    assert code == 128 + signum
    said = [line for line in said.splitlines() if not line.startswith("making digits")]
    assert len(said) == 1
    assert said[0].startswith("aejax: ")


@pytest.fixture
def kept():
    """Handlers are as they were before."""
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_or_noted(kept, signum):
    with pytest.raises(Stopped) as stopped, raised_signals():  # noqa: PT012 (the signal arrives in the sleep)
        os.kill(os.getpid(), signum)
        time.sleep(1)
    assert stopped.value.signum == signum
    with noted_signals() as noted:
        assert noted() == 0
        os.kill(os.getpid(), signum)
        time.sleep(0.01)
        assert noted() == signum


def test_a_signal_that_python_turns_into_another_exception_is_one(monkeypatch, capsys):
    """As while a class is made, in an import."""

    def turned(args):
        try:
            raise Stopped(signal.SIGTERM)
        except Stopped as stopped:
            raise RuntimeError("Error calling __set_name__") from stopped

    monkeypatch.setitem(COMMANDS, "experiments", turned)
    assert main(["experiments"]) == 143
    assert capsys.readouterr().err == "aejax: interrupted\n"


def test_a_signal_can_wait(kept):
    """While a checkpoint is read, whose library would take it for damage."""
    done = []
    with pytest.raises(Stopped), raised_signals(), deferred_signals():  # noqa: PT012 (it is raised at the end of the block)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append(True)
    assert done


def test_what_is_ignored_stays_ignored(kept):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with raised_signals(), noted_signals() as noted:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert noted() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_last_step_stops_before_the_evaluation(tmp_path, monkeypatch, capsys):
    from aejax.training import loop

    written = loop.write_result

    def and_stopped(*args):
        written(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "write_result", and_stopped)
    train = [
        "train",
        "ae",
        "--steps",
        "3",
        "--hidden",
        "4",
        "--latent",
        "2",
        "--no-verbose",
        "--run",
        str(tmp_path / "run"),
    ]
    assert main(train) == 143
    assert "aejax resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "eval.json").exists()


ESCAPE = "\x1b]0;owned\x07\x1b[31m"


def test_a_message_is_one_line_of_printable_characters():
    assert printable(f"a\nb {ESCAPE}é") == "a b \\x1b]0;owned\\x07\\x1b[31mé"
    assert str(UsageError(f"no {ESCAPE}\nfile")).isprintable()
    assert printable("\udcff\u202e") == "\\udcff\\u202e"


def test_names_from_a_strangers_files_are_quoted(tmp_path, monkeypatch, capsys):
    """In what inspect, train and evaluate print, on a terminal too."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in (f"a{ESCAPE}", "b[red]"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(20):
            Image.fromarray(rng.integers(0, 255, (4, 4), np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "table.csv").write_text(f"x,y{ESCAPE},[red]z\n" + "".join(f"{i},{2 * i},{i / 7}\n" for i in range(30)))
    assert main(["data", "inspect", "photos/", "--no-experiments"]) == 0
    assert main(["data", "inspect", "table.csv", "--no-experiments"]) == 0
    small = ["--steps", "2", "--hidden", "4", "--latent", "2", "--evaluate", "quick"]
    assert main(["train", "tabular", *small, "--data", "table.csv", "--run", "run"]) == 0
    assert main(["encode", "run", f"photos/a{ESCAPE}", "out.npy"]) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "y\\x1b]0;owned" in out
    assert "[red]z" in out


def test_importing_the_package_is_quick_and_gives_every_name():
    code = "import sys, aejax; assert 'jax' not in sys.modules; aejax.models.vae; print(*sorted(aejax.__all__))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert out == sorted(aejax.__all__)
    for name in aejax.__all__:
        assert getattr(aejax, name) is not None
        assert name in dir(aejax)
    with pytest.raises(AttributeError, match="nonsense"):
        aejax.nonsense  # noqa: B018
