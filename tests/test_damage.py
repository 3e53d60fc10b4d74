"""Damaged checkpoints: every flipped bit is noticed, and a run goes on from the checkpoint before."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import aejax
from aejax.cli import main
from aejax.errors import UsageError
from aejax.runs.checkpoint import digest
from tiny import refusal

# Orbax leaves coroutines behind that nobody asks for their errors.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SMALL = ["--steps", "12", "--save-every", "4", "--hidden", "8", "--latent", "2", "--no-evaluate", "--no-verbose"]


@pytest.fixture(autouse=True)
def collected():
    """What Orbax leaves behind is collected before the next test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    assert main(["train", "ae", *SMALL, "--run", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files_of(run, step):
    return sorted(p for p in (run / "checkpoints" / str(step)).rglob("*") if p.is_file() and p.stat().st_size)


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[(bit // 8) % len(content)] ^= 1 << (bit % 8)
    file.write_bytes(content)


def test_no_flipped_bit_goes_unnoticed(run):
    """In any file of a checkpoint: it is refused in one line, or the state is the same to the bit."""
    whole = digest(aejax.open_run(run).state)
    rng, noticed = np.random.default_rng(0), 0
    files = files_of(run, 12)
    large = [file for file in files if file.stat().st_size > 2000]
    for trial in range(40):
        file = (large if trial % 2 else files)[int(rng.integers(len(large if trial % 2 else files)))]
        before, bit = file.read_bytes(), int(rng.integers(8 * file.stat().st_size))
        flip(file, bit)
        try:
            found = digest(aejax.open_run(run).state)
        except UsageError as error:
            noticed += "\n" not in str(error)
        else:
            assert found == whole, (file, bit)
        file.write_bytes(before)
    assert noticed >= 15
    assert digest(aejax.open_run(run).state) == whole


def test_a_checkpoint_that_cannot_be_opened_is_named_and_passed_over(run, finished, capsys):
    metadata = run / "checkpoints" / "12" / "_CHECKPOINT_METADATA"
    metadata.write_text(metadata.read_text().replace("commit_timestamp", "commit_ti-estamp"))
    assert "/12 is damaged" in refusal(aejax.open_run, run)
    assert main(["resume", str(run), "--no-evaluate"]) == 0
    assert "/12 is damaged" in capsys.readouterr().err
    assert digest(aejax.open_run(run).state) == digest(aejax.open_run(finished).state)


def corrupt(run, step):
    for file in files_of(run, step):
        if file.stat().st_size > 2000:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(content)


def test_a_damaged_run_is_resumed_from_the_checkpoint_before_to_the_same_bits(run, finished, capsys):
    corrupt(run, 12)
    assert "the checkpoint" in refusal(aejax.open_run, run)
    assert main(["encode", str(run), "digits:test", str(run.parent / "z.npy")]) == 2
    assert "/12 is damaged" in capsys.readouterr().err
    assert main(["resume", str(run), "--no-evaluate"]) == 0
    assert "/12 is damaged" in capsys.readouterr().err
    assert digest(aejax.open_run(run).state) == digest(aejax.open_run(finished).state)
    assert (run / "damaged" / "12").is_dir()  # nothing is thrown away
    result = lambda folder: json.loads((folder / "result.json").read_text())["digest"]
    assert result(run) == result(finished)


def test_all_checkpoints_damaged_means_from_the_start(run, finished):
    for step in (4, 8, 12):
        corrupt(run, step)
    assert main(["resume", str(run), "--no-evaluate"]) == 0
    assert digest(aejax.open_run(run).state) == digest(aejax.open_run(finished).state)


def test_an_older_checkpoint_under_a_newer_name_is_refused(run):
    shutil.rmtree(run / "checkpoints" / "12")
    shutil.copytree(run / "checkpoints" / "8", run / "checkpoints" / "12")
    assert "damaged: it holds step 8" in refusal(aejax.open_run, run)


def test_other_parameters_than_those_of_the_result_are_refused(run, tmp_path):
    assert main(["train", "ae", *SMALL, "--seed", "1", "--run", str(tmp_path / "other")]) == 0
    shutil.rmtree(run / "checkpoints" / "12")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "12", run / "checkpoints" / "12")
    assert "config.json is not the one with which the run was trained" in refusal(aejax.open_run, run)
    assert "result.json describes other parameters" in refusal(aejax.open_run, run, allow_changed=True)


def test_a_changed_argument_that_changes_no_shape_is_noticed(run):
    config = json.loads((run / "config.json").read_text())
    config["source"]["arguments"]["batch_size"] = 64
    (run / "config.json").write_text(json.dumps(config))
    assert "config.json is not the one" in refusal(aejax.open_run, run)
    assert main(["resume", str(run), "--no-evaluate"]) == 2


def test_a_group_goes_on_from_the_last_step_that_is_intact_in_all(tmp_path, capsys):
    group = tmp_path / "group"
    assert main(["train", "ae", *SMALL, "--seeds", "2", "--run", str(group)]) == 0
    whole = [digest(aejax.open_run(group / f"seed{i}").state) for i in range(2)]
    corrupt(group / "seed1", 12)
    assert main(["resume", str(group), "--no-evaluate"]) == 0
    assert "seed1/checkpoints/12 is damaged" in capsys.readouterr().err
    again = [digest(aejax.open_run(group / f"seed{i}").state) for i in range(2)]
    jax.tree.map(np.testing.assert_equal, again, whole)


@pytest.mark.parametrize("flags", [[], ["--seeds", "2"]], ids=["run", "group"])
def test_the_log_after_a_resume_is_that_of_an_uninterrupted_run(tmp_path, flags):
    """Also where a checkpoint lies between two lines: 4 steps of 7."""
    log = ["--steps", "24", "--log-every", "7", "--save-every", "4", "--hidden", "8", "--latent", "2", "--no-evaluate"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", "dae", *log, *flags, "--run", str(whole)]) == 0
    shutil.copytree(whole, cut)
    runs = ["."] if not flags else ["seed0", "seed1"]
    for run in runs:  # as if it had been killed after step 16
        for step in (20, 24):
            shutil.rmtree(cut / run / "checkpoints" / str(step))
        (cut / run / "result.json").unlink()
    assert main(["resume", str(cut), "--no-evaluate"]) == 0

    def lines(run):
        found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in found]

    for run in runs:
        assert lines(cut / run) == lines(whole / run)
        assert [line["step"] for line in lines(cut / run) if line["split"] == "train"] == [7, 14, 21, 24]


# Files of a run as JSON

VALUES = (5, [], "x", None, {}, True, -1, 1e300, [[]])
TEXTS = ("5", "[]", "null", "{}", '{"a":', "[" * 100_000, b"\xff\xfe")


def places(value, path=()):
    """The paths of all values in JSON, of lists those of the first."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from places(part, (*path, key))


def tampered(text):
    """The whole text replaced, and each value replaced by others."""
    yield from TEXTS
    for path in places(json.loads(text)):
        for value in VALUES:
            whole = part = json.loads(text)
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
            yield json.dumps(whole)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tampered")
    flags = [
        "--steps",
        "4",
        "--save-every",
        "2",
        "--hidden",
        "4",
        "--latent",
        "2",
        "--evaluate",
        "quick",
        "--no-verbose",
    ]
    assert main(["train", "ae", *flags, "--run", str(folder / "run")]) == 0
    return folder / "run"


TRIED = """
import json, shutil, sys
from pathlib import Path
from aejax.cli import main

run, name, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
for case in json.loads((folder / "cases.json").read_text()):
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    (copy / name).write_bytes(case.encode("latin-1"))
    for command in (
        ["encode", str(copy), "digits:test", str(folder / "z.npy"), "--overwrite"],
        ["resume", str(copy), "--no-evaluate"],
        ["report", str(copy)],
    ):
        try:
            assert main(command) in (0, 1, 2)
        except BaseException:
            print("TRACEBACK", command[0], case[:2000], file=sys.stderr)
            raise
"""


def survives(run, tmp_path, name, cases):
    """In a process of its own, without the checks of types, which would be met first."""
    texts = [case.decode("latin-1") if isinstance(case, bytes) else case for case in cases]
    (tmp_path / "cases.json").write_text(json.dumps(texts))
    words = [sys.executable, "-c", TRIED, str(run), name, str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr[-4000:]


@pytest.mark.parametrize("name", ["config.json", "result.json", "eval.json"])
def test_a_tampered_file_ends_in_no_traceback(evaluated, tmp_path, name):
    cases = list(tampered((evaluated / name).read_text()))
    chosen = np.random.default_rng(0).choice(len(cases), 12, replace=False)
    survives(evaluated, tmp_path, name, [*TEXTS[:2], *(cases[i] for i in chosen)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "result.json", "eval.json"])
def test_all_tampered_files_end_in_no_traceback(evaluated, tmp_path, name):
    survives(evaluated, tmp_path, name, list(tampered((evaluated / name).read_text()))[::2])


def test_verify_compares_all_bytes_of_cached_data(tmp_path, monkeypatch, capsys):
    """Of a large split only some blocks are compared when it is opened, here none."""
    from aejax.data import cache

    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((50, 4), np.float32))
    train = ["train", "ae", *SMALL, "--data", str(tmp_path / "rows.npy"), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(cache, "SMALL", 0)
    monkeypatch.setattr(cache, "_COMPARED", 0)
    assert main(train) == 0
    for file in (tmp_path / "cache" / "data").rglob("x.npy"):
        flip(file, 8 * 200)
    aejax.open_run(tmp_path / "run", with_data=True)
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "run")]) == 2
    assert "in the cache are not those that were decoded" in capsys.readouterr().err


@pytest.mark.slow
def test_damaged_compiled_programs_are_one_line_and_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("AEJAX_CACHE", str(tmp_path / "cache"))
    train = [sys.executable, "-m", "aejax", "train", "ae", *SMALL, "--overwrite", "--run", str(tmp_path / "run")]
    errors = []
    for damage in (None, b"damaged", None):
        for file in (tmp_path / "cache" / "compiled").glob("*-cache") if damage else ():
            file.write_bytes(damage)
        errors.append(subprocess.run(train, check=True, capture_output=True, text=True).stderr)
    assert "compiled programs" not in errors[0] + errors[2]
    assert errors[1].count("\n") == 1
    assert "they are made again" in errors[1]
