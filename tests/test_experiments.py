"""The experiments that come with the package: named, listed, copied; every command that is printed anywhere parses."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Literal

import pytest

from aejax.cli import main
from aejax.cli.flags import parse
from aejax.cli.recipes import first_sentence
from aejax.cli.start import reading
from aejax.cli.training import spelled_out
from aejax.errors import UsageError
from aejax.runs.experiment import FAMILIES, command_of, find, load_file, shipped
from aejax.training.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
FILES = sorted(file for family in FAMILIES for file in (ROOT / "experiments" / family).glob("*.py"))
STUDIES = [file for file in sorted((ROOT / "experiments" / "results").glob("*.py")) if "__main__" in file.read_text()]


def command_line(
    run: Path | None = None,
    evaluate: Literal["full", "quick", "none"] = "full",
    overwrite: bool = False,
    start_from: Path | None = None,
    seeds: int = 1,
    sweep: tuple[str, ...] = (),
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """The flags of `aejax train` that are neither the experiment's nor Settings'."""


def commands(text: str) -> list[str]:
    """Every `aejax train` that is printed with a definite experiment."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^(?:.*(?:&&|`|do) *)?(aejax train (?:[\w/.-]+)(?: +--[^`\n]*)?)", joined, re.M)
    return [re.split(r"[`;]| &&|  +#", line)[0].strip() for line in found]


def test_every_printed_command_parses():
    """With the flags of the experiment that it names, which must exist. Nothing is trained."""
    counted = 0
    for file in [*PAGES, *FILES]:
        for command in commands(file.read_text()):
            _, _, name, *flags = shlex.split(command)
            if "--help" in flags or name.isupper() or name.startswith(("FILE", "NAME", "mine")):
                continue
            flags = ["0" if word == "S" else word for word in flags if word != "…"]
            _, function = load_file(find(ROOT / name) if "/" in name else find(name))
            try:
                parse(f"aejax train {name}", [function, command_line, reading, Settings], spelled_out(flags))
            except UsageError as error:
                pytest.fail(f"{file.name}: {command}: {error}")
            counted += 1
    assert counted > 60


def test_a_command_of_recorded_arguments_parses_to_them():
    arguments = {"given": "half", "baseline": True, "alpha": 0.5, "hidden": [8, 4], "data": "./my data.npz"}
    words = shlex.split(command_of("/anywhere/cvae.py", arguments, {"devices": 2}))
    assert words[:3] == ["aejax", "train", "cvae"]
    _, function = load_file(find("cvae"))
    experiment, settings = parse("aejax train", [function, Settings], words[3:])
    assert {name: experiment[name] for name in arguments} == {**arguments, "hidden": (8, 4)}
    assert settings["devices"] == 2
    assert shlex.split(command_of("mine.py", {"k": None, "tied": False}))[2:] == ["mine.py", "--k", "None", "--no-tied"]


def test_names_stand_for_the_files_that_come_with_the_package():
    assert set(shipped()) == {file.stem for file in FILES}
    assert find("dae").samefile(ROOT / "experiments" / "dae.py")
    with pytest.raises(UsageError, match=r"did you mean .*vqvae"):
        find("vqvea")
    with pytest.raises(UsageError, match=r"no experiment file nowhere/dae\.py"):
        find("nowhere/dae.py")


def test_they_are_listed_with_what_they_are_about(capsys):
    assert main(["experiments"]) == 0
    out = capsys.readouterr().out
    for file in FILES:
        sentence = first_sentence(file)
        assert sentence.count("(") == sentence.count(")"), sentence
        assert re.search(rf"^  {file.stem} +{re.escape(sentence)}$", out, re.M)


def test_one_is_copied_to_start_from(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "dae", "mine.py"]) == 0
    assert (tmp_path / "mine.py").read_bytes() == find("dae").read_bytes()
    assert main(["new", "ae", "mine.py"]) == 2
    assert "mine.py exists" in capsys.readouterr().err
    assert main(["train", "mine.py", "--steps", "2", "--hidden", "4", "--no-evaluate", "--run", "run"]) == 0


@pytest.mark.parametrize("study", STUDIES, ids=[file.stem for file in STUDIES])
def test_a_study_explains_its_arguments(study, capsys, monkeypatch):
    """A dry run: it is imported whole, and its command line is made."""
    monkeypatch.setattr(sys, "argv", [str(study), "--help"])
    monkeypatch.syspath_prepend(study.parent)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(study), run_name="__main__")
    assert stopped.value.code == 0
    assert "usage:" in capsys.readouterr().out
