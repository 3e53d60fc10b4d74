"""The storm of tests/storm, some cases of each kind; all of them are played at night."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kills", "signals", "tampering", "arguments", "files"])
def test_some_cases_of_the_storm(root, kind):
    played = subprocess.run(
        [sys.executable, str(root / "tests" / "storm"), kind, "--minutes", "1", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert played.returncode == 0, played.stdout[-3000:]
    assert "0 failures" in played.stdout
