# SPDX-License-Identifier: Apache-2.0
"""A disk that fills up under a running control plane: grants are refused by name, stops are not, and it heals."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SIZE_MIB = 160
RESERVE_MIB = 64


def find_obstacle() -> str:
    """Why this machine cannot give us a small file system of our own; empty when it can."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "no unshare on this machine"
    done = subprocess.run(
        [unshare, "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    return f"no mount namespace for us: {done.stderr.strip()}" if done.returncode else ""


@pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle() or "a small tmpfs can be mounted")
def test_below_the_reserve_grants_are_refused_by_name_and_granted_again_after_space_returned(site: Any) -> None:
    state = site.directory / "state"
    script = f'mount -t tmpfs -o size={SIZE_MIB}m,mode=0700 none "{state}" && exec "$0" up'
    up = site.start("up", until="control plane is up", prefix=("unshare", "-m", "sh", "-c", script))
    inside = Path(f"/proc/{up.pid}/root{state}")
    for name in ("run.json", "operator.json"):  # the commands run outside and look where `up` usually writes
        shutil.copy(inside / name, state / name)
    site.enrol("host-1")

    filler = inside / "filler"
    free_bytes = os.statvfs(inside).f_bavail * os.statvfs(inside).f_frsize
    filler.write_bytes(bytes(free_bytes - (RESERVE_MIB - 1) * 1024 * 1024))
    refused = site.ask("node", "exclude", "host-9", "--reason", "x", code=1)
    assert refused["code"] == "unknown-node", "what the rules refuse is refused by the rules"
    refused = site.ask("node", "enrol", "host-2", "--service", "smars", "--out", "nodes/host-2", code=1)
    assert refused["code"] == "disk-reserve"
    assert str(state) in refused["text"]
    halted = site.ask("halt", "service:other", "--reason", "drill", code=2)
    assert halted["missing"] == []
    assert halted["stop"] in [stop["id"] for stop in site.ask("status")["stops"]], "the ledger took it too"

    filler.unlink()
    assert site.enrol("host-2").is_file()
