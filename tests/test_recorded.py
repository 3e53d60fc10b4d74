"""A run of version 0.1, as it was committed then: this version opens, evaluates, reports and replays it."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from aejax.cli import main
from aejax.runs.directory import environment, read_config, read_evaluation
from aejax.runs.opening import open_run

EXPERIMENT = "experiments/discrete/vqvae.py"


@pytest.fixture
def old(root, tmp_path):
    """Without what this version would write into it."""
    return shutil.copytree(root / "tests" / "recorded" / "version_0_1", tmp_path / "old")


def test_names_of_version_0_1_are_read_under_their_present_names(old):
    assert read_config(old)["source"]["arguments"]["quantizer"] == "cosine"
    evaluation = read_evaluation(old)
    assert "quantiser" not in json.dumps([read_config(old), evaluation])
    assert evaluation["sparsity"] is None
    assert evaluation["probes"]["codes"]["nearest_neighbors"] > 0.2
    assert [book["size"] for book in evaluation["codebook"]["codebooks"]] == [4]


def test_a_run_of_version_0_1_opens_evaluates_and_reports(old, root, capsys):
    was = read_evaluation(old)
    file = ["--file", str(root / EXPERIMENT), "--allow-changed"]
    run = open_run(old, file=root / EXPERIMENT, allow_changed=True)
    assert run.experiment.train.arrays is None
    assert main(["evaluate", str(old), *file]) == 0
    now = read_evaluation(old)
    assert now["digest"] == was["digest"]
    np.testing.assert_allclose(now["terms"]["nelbo"], was["terms"]["nelbo"], rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), now["codebook"], was["codebook"])
    config = json.loads((old / "config.json").read_text())
    config["source"]["file"] = str(root / EXPERIMENT)
    (old / "config.json").write_text(json.dumps(config))
    assert main(["report", str(old), "--allow-changed"]) == 0
    assert "Discrete codes" in (old / "report.html").read_text()


def test_a_run_of_version_0_1_is_replayed_to_its_digest(old, root):
    """In a process of its own, under XLA's ordinary flags, under which it was trained."""
    plain = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-m", "aejax", "verify", str(old), "--file", str(root / EXPERIMENT), "--allow-changed"]
    replay = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=300)
    config, now = json.loads((old / "config.json").read_text()), environment()
    alike = all(
        config[group].get(name) == now[group][name]
        for group, name in [
            ("versions", "jax"),
            ("versions", "jaxlib"),
            ("versions", "flax"),
            ("platform", "processor"),
        ]
    )
    if alike:
        assert (replay.returncode, replay.stderr) == (0, "") or "same digest" in replay.stdout, replay.stderr
    else:  # another processor, or one that was not recorded then: what differs is named
        assert "differs: " in replay.stdout
