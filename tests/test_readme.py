"""What the README shows must run."""

import json
import re

import numpy as np

from aejax.cli import main


def test_the_python_examples_run(root, tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(compile(re.sub(r"steps=\d+", "steps=20", block), "README.md", "exec"), scope)
    assert scope["z"].shape == (359, 32)
    assert scope["x_hat"].shape == (359, 8, 8, 1)
    assert np.all(np.isfinite(scope["z"]))
    assert (tmp_path / "runs" / "mine" / "result.json").exists()


def test_the_family_in_the_contributors_guide_trains_is_evaluated_and_replays(root, tmp_path):
    (family,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "pages" / "contributing.md").read_text(), re.S)
    (tmp_path / "mine.py").write_text(family)
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "mine.py"), "--decay", "0.01", "--steps", "20", "--run", str(run)]) == 0
    assert json.loads((run / "eval.json").read_text())["reconstruction"]["model"]["mse"] < 0.2
    assert (run / "report.html").exists()
    assert main(["verify", str(run)]) == 0


def test_the_readme_is_read_in_one_sitting(root):
    assert len((root / "README.md").read_text().splitlines()) <= 150


def test_continuous_integration_runs_the_test_command(root):
    install, suite = re.search(
        r"^(pip install) -e '\.\[test\]' && (pytest .*)$", (root / "README.md").read_text(), re.M
    ).groups()
    lines = (root / ".ci" / "run").read_text().splitlines()
    assert f"{install} -q -e '.[test]'" in lines
    assert lines[-1] == suite
