"""What a new user wants, as commands and scripts that are typed as they stand: `tests/journeys/`, one file each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOURNEYS = sorted((Path(__file__).parent / "journeys").glob("*.sh"))


def test_there_are_fifteen():
    assert len(JOURNEYS) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda path: path.stem)
def test_a_journey_ends_where_it_should(journey, tmp_path):
    """Under XLA's ordinary flags, with the `aejax` and the `python` of this environment."""
    own = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    script = f"set -euo pipefail\n{journey.read_text()}"
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, f"{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
