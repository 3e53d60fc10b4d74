"""What a command says while it works, and when it is called wrongly."""

import json
import re

import pytest

from aejax.cli import main

TINY = ["--steps", "2", "--hidden", "4", "--latent", "2", "--batch-size", "2000"]


def test_training_and_evaluation_say_what_they_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "dae", *TINY, "--run", "run"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "a batch of 2000 is more than the 1294 training examples, so it repeats some of them" in said
    parts = [line for line in said if re.fullmatch(r"evaluating digits:test: .* \(\d of \d\)", line)]
    assert parts[0].endswith(f"(1 of {len(parts)})")
    assert parts[-1].endswith(f"({len(parts)} of {len(parts)})")
    assert main(["train", "dae", *TINY, "--run", "quiet", "--no-verbose"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("args", "usage"),
    [
        (["encode"], "aejax encode RUN SOURCE OUT"),
        (["sample", "run"], "aejax sample RUN OUT"),
        (["data", "prepare"], "aejax data prepare NAME"),
    ],
)
def test_missing_arguments_are_named(args, usage, capsys):
    assert main(args) == 2
    assert f"usage: {usage}; see" in capsys.readouterr().err


def test_data_has_a_help(capsys):
    assert main(["data", "--help"]) == 0
    assert "aejax data inspect SOURCE" in capsys.readouterr().out


def test_a_sweep_is_ranked_on_the_validation_split(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = [
        "--steps",
        "30",
        "--hidden",
        "4",
        "--seeds",
        "2",
        "--sweep",
        "lr=1e-4,1e-1",
        "--no-evaluate",
        "--no-verbose",
    ]
    assert main(["train", "dae", *sweep, "--run", "swept"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("1. ", "2. ")))
    values = {}
    for folder in (tmp_path / "swept").glob("lr0.1-seed*"):
        values[folder.name] = json.loads((folder / "result.json").read_text())["metrics"]["denoising_nll"]
    assert first.startswith("1. lr 0.1: ")
    assert first.endswith(f"swept/{min(values, key=values.get)}")
    assert second.startswith("2. lr 0.0001: ")
