# SPDX-License-Identifier: Apache-2.0
"""kill -9 during fusion, autosave and save, five times each: the last complete map loads."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("crash_trials.py")
EACH = 5


def test_the_last_complete_map_loads_after_each_kill(tmp_path):
    command = [sys.executable, str(SCRIPT), "--fork", "--each", str(EACH)]
    run = subprocess.run(
        [*command, "--folder", str(tmp_path), "--log", str(tmp_path / "log")],
        capture_output=True,
        text=True,
        timeout=600,
    )
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert run.returncode == 0, log + run.stderr
    lines = log.splitlines()
    assert len([line for line in lines if " blocks load" in line]) == 3 * EACH
    # Some save was hit while it wrote, or the trials say nothing.
    assert any("interrupted" in line for line in lines if " killed " in line), log
    # What a killed save left is removed by the next one to that file.
    for kind in ("fusion", "autosave", "save"):
        assert len(list((tmp_path / kind).glob(".*.tmp.npz"))) <= 1
