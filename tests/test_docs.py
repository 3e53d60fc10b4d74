"""What the documentation shows must run, every command it shows must parse, and its links must lead somewhere."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

import aejax
import aejax.data
import aejax.models
import aejax.nets
import aejax.objective
import aejax.sklearn
from aejax.cli import COMMANDS, main
from aejax.cli.flags import parse
from aejax.cli.start import reading
from aejax.keys import RunKeys
from aejax.runs.experiment import load_file, shipped
from aejax.training.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "experiments" / "README.md"]
NAME = {path: str(path.relative_to(ROOT)) for path in TEXTS}


def blocks(path, language):
    every = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [text for of, text in every if of == language]


@pytest.mark.parametrize(
    "page", [path for path in PAGES if blocks(path, "python") and path.name != "contributing.md"], ids=NAME.get
)
def test_every_python_block_of_a_page_runs_in_turn(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks(page, "python"):
        exec(compile(re.sub(r"\bsteps=\d+", "steps=2", block), NAME[page], "exec"), scope)


def commands(path):
    for block in blocks(path, ""):
        for line in block.splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words[:1] == ["aejax"]:
                    yield words[1:]


@pytest.mark.parametrize("path", [path for path in TEXTS if any(commands(path))], ids=NAME.get)
def test_every_command_that_is_shown_parses(path, monkeypatch):
    """Up to where it would begin to work."""
    for words in commands(path):
        assert words[0] in COMMANDS, words
        if words[0] == "train":
            file = shipped().get(words[1].removesuffix(".py").rpartition("/")[2])
            assert file is not None, words
            _, function = load_file(file)
            flags = [
                "--run",
                "--seeds",
                "--sweep",
                "--start-from",
                "--evaluate",
                "--no-evaluate",
                "--coordinator",
                "--processes",
                "--process",
            ]
            known = {
                f"--{name.replace('_', '-')}"
                for name in (
                    *inspect.signature(function).parameters,
                    *inspect.signature(reading).parameters,
                    *Settings._fields,
                )
            }
            unknown = [word for word in words if word.startswith("--") and word not in known | set(flags)]
            assert not unknown, words
            continue
        if words[0] in ("data", "experiments", "new"):
            continue
        monkeypatch.setattr("aejax.cli.using.parse", stop_after_parsing)
        monkeypatch.setattr("aejax.cli.training.parse", stop_after_parsing)
        monkeypatch.setattr("aejax.cli.sharing.parse", stop_after_parsing)
        monkeypatch.setattr("aejax.cli.searching.parse", stop_after_parsing)
        with pytest.raises(Parsed):
            main(["--debug", *words])


class Parsed(Exception):
    """Raised where a command line was understood."""


def stop_after_parsing(*arguments, **more):
    parse(*arguments, **more)
    raise Parsed


@pytest.mark.parametrize("path", TEXTS, ids=NAME.get)
def test_every_link_to_a_file_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


RETIRED = """
as most|what of it passes|how-manieth|judged? (on|by|with)|those that it is surest|the judg(e|ed|ement)|is right of [0-9]|
costs nothing|in the eyes of|by the how|is told (the|its) class|what a bound's divergence costs
"""


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=NAME.get)
def test_retired_words_do_not_come_back(path):
    found = re.search(RETIRED.replace("\n", ""), " ".join(path.read_text().split()))
    assert found is None, found


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "docs" / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    assert (tmp_path / "site" / "families" / "vae.html").exists()


def test_every_public_name_is_in_the_reference():
    text = "\n".join(path.read_text() for path in (ROOT / "docs" / "pages" / "api").glob("*.md"))
    for module in (aejax, aejax.models, aejax.objective, aejax.nets, aejax.sklearn):
        for name in module.__all__:
            assert f"::: {module.__name__}.{name}\n" in text


RETIRED_NAMES = r"\b(judged?|judgement|judging|couplings|feeds|in_order|one_varied|gdae|Turned|LLOYD)\b"


def test_retired_names_do_not_come_back_in_the_package():
    for file in [*(ROOT / "aejax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        if "benchmarks" not in file.parts:
            found = re.search(RETIRED_NAMES, file.read_text())
            assert found is None, f"{file}: {found}"


def test_the_page_on_keys_names_the_keys_that_a_run_has():
    text = (ROOT / "docs" / "pages" / "concepts" / "keys.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(RunKeys._fields)
