"""Two processes with two devices each, on this machine, against one process with one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from aejax.errors import UsageError
from aejax.runs.checkpoint import digest
from aejax.runs.experiment import Source, build, load_file, sha256
from aejax.runs.opening import open_run
from aejax.supervision import LOST
from aejax.training.processes import first_alone, join, most
from aejax.training.settings import Settings
from aejax.training.trainer import resume, train

ARGUMENTS = {"data": "digits", "batch_size": 32, "steps": 12, "seed": 1, "hidden": (12,), "latent": 4}
EXACT = Settings(log_every=4, save_every=4, exact_reduce=True)


def made(root, **changes):
    file = root / "experiments" / "dae.py"
    _, function = load_file(file)
    arguments = ARGUMENTS | changes
    return build(function, arguments), Source(str(file), sha256(file), arguments)


def start(command, *flags, number=2, each=([], [])):
    """The command in processes with two devices each, with the flags of `each`; they share the port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    where = ["--coordinator", coordinator, "--processes", str(number), "--devices", "2"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "aejax", *command, *flags, *where, "--process", str(i), *own],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for i, own in enumerate(each)
    ]


def finish(processes, code=0):
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), told
    return [err for _, err in told]


def training(root, **changes):
    given = ARGUMENTS | changes
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in given.items() if k != "hidden"]
    return ["train", str(root / "experiments" / "dae.py"), *flags, "--hidden", "12", "--no-evaluate"]


@pytest.mark.slow
def test_two_processes_equal_one(root, tmp_path):
    experiment, source = made(root)
    alone = train(experiment, tmp_path / "alone", Settings(log_every=4, save_every=4), source)
    finish(start(training(root), "--run", str(tmp_path / "pair"), "--log-every", "4", "--save-every", "4"))
    paired = open_run(tmp_path / "pair", experiment=experiment)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), paired.state, alone.state)
    lines = [json.loads(line) for line in (tmp_path / "pair" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 4, 8, 8, 12, 12]  # one process writes


@pytest.mark.optimized
def test_exact_reduction_survives_a_change_of_devices_and_processes_and_a_signal(root, tmp_path):
    """Saved on four devices, continued by two processes with two devices each until a signal to one of them stops both."""
    experiment, source = made(root, steps=100_000)
    run, exact = tmp_path / "run", EXACT._replace(log_every=10)
    train(experiment._replace(steps=4), run, exact._replace(devices=4), source)
    log = run / "metrics.jsonl"
    size = log.stat().st_size
    pair = start(["resume"], str(run), "--no-evaluate")
    while log.stat().st_size <= size and all(p.poll() is None for p in pair):
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGTERM)
    errors = finish(pair, code=128 + signal.SIGTERM)
    assert all("aejax resume" in error for error in errors)
    stopped = open_run(run, experiment=experiment)
    assert 4 < stopped.step < 100_000
    # the same steps on one device, in this process
    same = train(experiment._replace(steps=stopped.step), tmp_path / "same", exact, source)
    assert digest(same.state) == digest(stopped.state)


@pytest.mark.slow
def test_a_run_of_four_devices_resumes_on_one(root, tmp_path):
    experiment, source = made(root)
    whole = train(experiment, tmp_path / "whole", EXACT._replace(devices=8), source)
    train(experiment._replace(steps=4), tmp_path / "cut", EXACT._replace(devices=4), source)
    assert digest(resume(tmp_path / "cut", devices=1).state) == digest(whole.state)


def test_what_the_first_refuses_ends_all(root, tmp_path):
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.tex").write_text("\\documentclass{book}")
    errors = finish(start(training(root), "--run", str(tmp_path / "occupied")), code=2)
    assert "is not a run directory" in errors[0]
    assert "the first process stopped" in errors[1]
    assert [line for line in errors[0].splitlines() if "Traceback" in line] == []


def test_wrong_numbers_are_refused_before_anything_waits():
    with pytest.raises(UsageError, match="need --coordinator"):
        join(None, 2, 0)
    with pytest.raises(UsageError, match="needs --processes N and --process I"):
        join("localhost:1234", None, 0)
    with pytest.raises(UsageError, match="its own number from 0 to N - 1"):
        join("localhost:1234", 2, 2)
    with pytest.raises(UsageError, match="write HOST:PORT"):
        join("localhost", 2, 1)


def test_alone_there_is_nothing_to_agree_on():
    assert most([1.0, 2.0]) == [1.0, 2.0]
    with pytest.raises(KeyError, match="mine"):
        first_alone(lambda: {}["mine"])


@pytest.mark.parametrize(("flags", "named"), [(["--lr", "0.01"], "argument.lr"), (["--keep", "7"], "settings.keep")])
def test_processes_that_disagree_stop_before_the_first_step(root, tmp_path, flags, named):
    errors = finish(start(training(root), "--run", str(tmp_path / "run"), each=[[], flags]), code=2)
    for error in errors:
        assert error.startswith(f"aejax: error: the processes differ: {named} is ")
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_in_one_line_and_the_run_goes_on(root, tmp_path, lost):
    experiment, source = made(root, steps=100_000)
    run = tmp_path / "run"
    train(experiment._replace(steps=4), run, EXACT._replace(devices=4), source)
    log = run / "metrics.jsonl"
    size = log.stat().st_size
    pair = start(["resume"], str(run), "--no-evaluate")
    while log.stat().st_size <= size and all(p.poll() is None for p in pair):
        time.sleep(0.01)
    began = time.monotonic()
    pair[lost].kill()
    _, error = pair[1 - lost].communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert pair[1 - lost].returncode == 1
    assert error.splitlines()[-1] == f"aejax: error: {LOST}"
    assert "Traceback" not in error
    pair[lost].communicate()
    assert resume(run, experiment=experiment._replace(steps=open_run(run, experiment=experiment).step + 2)).step > 4


@pytest.mark.slow
def test_a_process_that_is_alone_ends_in_one_line(root, tmp_path):
    began = time.monotonic()
    (alone,) = start(training(root), "--run", str(tmp_path / "run"), each=[[]], number=2)
    _, error = alone.communicate(timeout=60)
    assert time.monotonic() - began < 35
    assert (alone.returncode, error.count("\n")) == (1, 1)
    assert "not all processes came to the --coordinator" in error
