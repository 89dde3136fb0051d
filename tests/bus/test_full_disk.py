# SPDX-License-Identifier: Apache-2.0
"""A full disk: refused by name before the broker breaks, told apart from a lost broker, working again afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "full_disk.py"
UNSHARE = shutil.which("unshare")
DISK_BYTES = 12 * 1024 * 1024
BOUND_S = 60


def run_on_small_disk(mount_point: Path, other: Path) -> subprocess.CompletedProcess[str]:
    """Run the script on a tmpfs that nobody else sees and that goes away with it."""
    root = Path(__file__).resolve().parents[2]
    mount = f"mount -t tmpfs -o size={DISK_BYTES} none {mount_point} || exit 77"
    return subprocess.run(
        [UNSHARE, "--mount", "sh", "-c", f'{mount}; exec "$@"', "sh", sys.executable, SCRIPT, mount_point, other],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}"},
    )


def test_a_full_disk_is_refused_by_name_and_works_again_after_space_returns(tmp_path):
    if UNSHARE is None:
        pytest.skip("no `unshare` on this machine: a small disk of our own cannot be made")
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.mkdir()
    other.mkdir()
    run = run_on_small_disk(disk, other)
    if run.returncode == 77 or "unshare failed" in run.stderr or "Operation not permitted" in run.stderr:
        pytest.skip(f"no mount namespace for us here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    failures = ("bus-store-failed", "bus-record-missing")  # nothing of the record was written, or a part of it
    code, directory, free_bytes, reserve_bytes = found["refused"]
    assert (code, directory, reserve_bytes) == ("disk-reserve", str(disk / "broker" / "store"), 4 * 1024 * 1024)
    assert free_bytes < reserve_bytes
    assert found["stop_recorded"] > 1  # below the reserve a stop is still recorded
    assert found["broken"] in failures
    assert found["after_broken"] in failures
    assert found["revive_without_space"] == "disk-reserve"
    assert found["space_returned"] in failures  # the trap: it does not recover by itself
    assert found["revived"] == "stored"
    assert found["acknowledged"] == found["stored"]
