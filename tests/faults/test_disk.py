# SPDX-License-Identifier: Apache-2.0
"""A disk with not one byte left under a running control plane. What happens below the reserve, before that, is in
tests/cli/test_disk.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.operated import Fleet, Started, wait_until

SIZE_MIB = 48
RESERVE_BYTES = 8 * 1024 * 1024
HALTS_MAX = 8


def find_obstacle() -> str:
    """Why this machine cannot give us a small file system of our own; empty when it can."""
    unshare, nsenter = shutil.which("unshare"), shutil.which("nsenter")
    if unshare is None or nsenter is None:
        return "no unshare or nsenter on this machine"
    done = subprocess.run(
        [unshare, "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    return f"no mount namespace for us: {done.stderr.strip()}" if done.returncode else ""


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Path]:
    """The fleet's state directory on a small tmpfs of its own, as seen from outside; every command runs inside."""
    fleet.init()
    state = fleet.directory / "state"
    with (fleet.directory / "firecurtain.toml").open("a") as file:
        file.write(f"disk_reserve_bytes = {RESERVE_BYTES}\n")
    script = f'mount -t tmpfs -o size={SIZE_MIB}m,mode=0700 none "{state}" && echo mounted && exec cat'
    words = ["unshare", "-m", "sh", "-c", script]
    # It holds the namespace, and with it the disk, for as long as its standard input is open.
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        enter = ("nsenter", "--mount", "--target", str(holder.pid), "sh", "-c", 'cd "$0" && exec "$@"')
        fleet.prefix = (*enter, str(fleet.directory))
        yield Path(f"/proc/{holder.pid}/root{state}")
        fleet.end()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1024 * 1024
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    assert os.statvfs(disk).f_bavail == 0
    return filler


def begin(fleet: Fleet) -> Started:
    up = fleet.up()
    fleet.enrol()
    fleet.release()
    fleet.agent()
    fleet.wait_acting()
    return up


def resume(fleet: Fleet, *stops: str) -> None:
    fleet.ask("resume", *stops, "--reason", "over", "--key", "approver-1", "--key", "approver-2")


@pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle() or "a small tmpfs can be mounted")
def test_on_a_full_disk_stops_still_work_permits_go_on_and_all_heals_when_space_returns(
    fleet: Fleet, small: Path
) -> None:
    """Goal: the order of losses is grants, then records, then permits; never a stop. Nothing acknowledged is lost."""
    up = begin(fleet)
    first = fleet.ask("halt", "service:other", "--reason", "the stop file gets a page of memory", code=2)["stop"]
    wait_until("the record", lambda: fleet.ask("status")["stops_unrecorded"] == 0)
    filler, changes = fill(small), len(fleet.read_heard())

    # Grants are refused by name; what is permitted stays permitted.
    words = ("--service", "smars", "--out", "nodes/host-2")
    refused = fleet.ask("node", "enrol", "host-2", *words, code=1)
    assert (refused["code"], str(RESERVE_BYTES) in refused["text"]) == ("disk-reserve", True)
    fleet.wait_acting()
    assert len(fleet.read_heard()) == changes

    # A stop is in force and durable although the ledger cannot take its record.
    second = fleet.ask("halt", "smars", "--reason", "drill")
    assert (second["nodes"], second["missing"]) == ({"host-1": True}, [])
    fleet.wait_heard("stop-in-force", changes)
    up.wait_for("the ledger takes nothing now")
    status = fleet.ask("status")
    assert status["stops_unrecorded"] == 1
    assert status["grants_refused"]

    # Space returns: the broker is restarted, the record follows, grants are given again, and nobody had to help.
    filler.unlink()
    up.wait_for("the ledger takes records again")
    wait_until("the record", lambda: fleet.ask("status")["stops_unrecorded"] == 0)
    resume(fleet, second["stop"])
    fleet.wait_heard("allowed", changes)
    assert fleet.ask("node", "enrol", "host-2", *words)["ok"]
    assert [stop["id"] for stop in fleet.ask("status")["stops"]] == [first]
    assert fleet.ask("ledger", "verify")["verdict"] == "whole"


@pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle() or "a small tmpfs can be mounted")
def test_a_stop_that_cannot_be_made_durable_is_not_acknowledged_and_silences_the_issuer(
    fleet: Fleet, small: Path
) -> None:
    """The agents hear it all the same, and after space and a restart their memory brings it back until it is lifted."""
    up = begin(fleet)
    filler, changes = fill(small), len(fleet.read_heard())
    lost = halt_until_refused(fleet)
    assert lost["missing"] == ["issuer"]
    fleet.wait_heard("stop-in-force", changes)
    silence = fleet.ask("status")["silence"]
    for text in (lost["stop"], "could not be made durable", "Make room or replace the disk, then restart"):
        assert text in silence
    filler.unlink()
    assert up.end() == 0
    fleet.up()

    def read_stops() -> list[str]:
        return [stop["id"] for stop in fleet.ask("status")["stops"]]

    wait_until("the stop that only the node remembered", lambda: lost["stop"] in read_stops())
    resume(fleet, *read_stops())
    fleet.wait_heard("allowed", changes)
    fleet.wait_acting()


def halt_until_refused(fleet: Fleet) -> dict[str, Any]:
    """The page of memory that the stop file already has takes a few; returns the first that found no room."""
    for _ in range(HALTS_MAX):
        done = fleet.run("halt", "smars", "--reason", "x" * 490, "--wait", "2", "--json")
        if done.returncode:
            return dict(json.loads(done.stdout))
    raise AssertionError(f"{HALTS_MAX} stops of 1400 bytes found room on a full disk")
