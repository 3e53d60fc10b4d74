"""Files that fail: writing, renaming, or reaching the disk fails at the n-th call, and nothing that was saved is lost."""

import builtins
import errno
import gc
import json
import os
import stat
from pathlib import Path

import pytest

from aejax.cli import main
from aejax.files import copy, replacing, write_bytes, write_json, write_text

# Orbax leaves coroutines behind that nobody asks for their errors.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TRAIN = ["train", "ae", "--steps", "12", "--save-every", "4", "--log-every", "3", "--hidden", "8", "--latent", "2"]
QUIET = ["--no-evaluate", "--no-verbose"]


class Faulty:
    """Counts the calls that write below a folder, and lets one of them fail."""

    def __init__(self, folder, monkeypatch, at=None, code=errno.EIO):
        self.calls, self._folder, self._at, self._code = [], str(folder), at, code
        for name in ("replace", "rename", "mkdir", "fsync", "unlink"):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        opened = builtins.open

        def open_(file, mode="r", *args, **kwargs):
            if set(mode) & set("wax+") and isinstance(file, (str, os.PathLike)):
                self._count("open", file)
            return opened(file, mode, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", open_)

    def _wrapped(self, name, function):
        def call(first, *args, **kwargs):
            self._count(name, first)
            return function(first, *args, **kwargs)

        return call

    def _count(self, name, first):
        of_us = isinstance(first, int) or str(first).startswith(self._folder)
        if of_us:
            self.calls.append(name)
            if len(self.calls) - 1 == self._at:
                raise OSError(self._code, os.strerror(self._code), None if isinstance(first, int) else str(first))


def left_by(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("examples_per_second", None)
    return json.loads((run / "result.json").read_text())["digest"], lines


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    run = tmp_path_factory.mktemp("faults") / "run"
    assert main([*TRAIN, *QUIET, "--run", str(run)]) == 0
    return left_by(run)


@pytest.mark.parametrize("part", [pytest.param(i, marks=() if i == 0 else pytest.mark.slow) for i in range(8)])
def test_whatever_fails_while_a_run_is_written_it_can_be_finished(tmp_path, monkeypatch, capsys, expected, part):
    """One call fails; the command says so in one line, and the next one ends in the same bits and the same log."""
    with monkeypatch.context() as patched:
        calls = Faulty(tmp_path, patched)
        assert main([*TRAIN, *QUIET, "--run", str(tmp_path / "whole")]) == 0
    total = len(calls.calls)
    assert {"open", "replace", "rename", "mkdir", "fsync"} <= set(calls.calls)
    failed = 0
    for n in range(part, total, 8):
        run = tmp_path / f"run{n}"
        with monkeypatch.context() as patched:
            Faulty(tmp_path, patched, n, errno.ENOSPC if n % 2 else errno.EIO)
            # Threads of Orbax wait for a folder that could not be made, and would hold up the end of the tests.
            patched.setattr("orbax.checkpoint._src.multihost.multihost._DEFAULT_BARRIER_TIMEOUT", 2, raising=False)
            capsys.readouterr()
            code = main([*TRAIN, *QUIET, "--run", str(run)])
        said = capsys.readouterr().err
        assert code in (0, 2), (n, calls.calls[n])
        assert said.count("aejax: error") == (1 if code else 0), (n, said)
        failed += code != 0
        if main(["resume", str(run), "--no-evaluate"]) != 0:
            assert main([*TRAIN, *QUIET, "--run", str(run), "--overwrite"]) == 0, (n, calls.calls[n])
        assert left_by(run) == expected, (n, calls.calls[n])
        gc.collect()
    assert failed >= total // 8 // 3


@pytest.mark.parametrize("name", ["open", "fsync", "replace"])
def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch, name):
    file = tmp_path / "file.json"
    write_json(file, {"a": 1})
    with monkeypatch.context() as patched:
        faulty = Faulty(tmp_path, patched)
        write_json(file, {"a": 1})
    with monkeypatch.context() as patched:
        Faulty(tmp_path, patched, faulty.calls.index(name))
        with pytest.raises(OSError, match=r"file\.json"):
            write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_link_at_the_target_is_replaced_and_never_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    for beside in ("out", "out.tmp", ".out.tmp"):
        (tmp_path / beside).symlink_to(other)
    write_text(tmp_path / "out", "new")
    copy(tmp_path / "out", tmp_path / "copied")
    assert other.read_text() == "mine"
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "copied").read_text() == "new"


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_fails_within_is_not_blamed_on_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-there"), replacing(tmp_path / "out"):
        Path(tmp_path / "nothing-there").read_bytes()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda folder: folder / ("x" * 300), "File name too long"),
        (lambda folder: (folder / "loop").symlink_to("loop") or folder / "loop" / "run", "symbolic links"),
        (lambda folder: folder / ("file" if (folder / "file").write_text("x") else "") / "run", "Not a directory"),
        (lambda folder: Path("/proc/nothing"), "No such file"),
        (lambda folder: folder / "run\udcff", "UTF-8"),
        (lambda folder: folder / "a\\b", "backslash"),
    ],
    ids=["long", "loop", "below a file", "read-only", "bytes", "backslash"],
)
def test_a_path_that_cannot_be_used_is_refused_in_one_line(tmp_path, capsys, made, words):
    assert main([*TRAIN, *QUIET, "--run", str(made(tmp_path))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aejax: error: ")
    assert error.count("\n") == 1
    assert words in error
