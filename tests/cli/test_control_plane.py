# SPDX-License-Identifier: Apache-2.0
"""A control plane as a process: killed, started twice, robbed of its stop file or of its broker."""

from __future__ import annotations

import os
import signal
from typing import Any


def test_a_stop_survives_the_control_planes_violent_end(site: Any) -> None:
    up = site.up()
    stop = site.ask("halt", "fleet", "--reason", "drill")["stop"]
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    site.up()
    assert [entry["id"] for entry in site.ask("status")["stops"]] == [stop]


def test_without_its_stop_file_a_founded_control_plane_does_not_start(site: Any) -> None:
    """The mutant `issuer restarted without its latch`, planted as a missing file."""
    up = site.up()
    site.ask("halt", "fleet", "--reason", "drill")
    up.terminate()
    assert up.wait(timeout=20) == 0
    (site.directory / "state" / "stops").unlink()
    done = site.run("up")
    assert done.returncode == 2
    assert "latch: the stop file" in done.stderr


def test_a_second_control_plane_on_one_store_is_refused_by_name(site: Any) -> None:
    up = site.up()
    done = site.run("up")
    assert done.returncode == 2
    assert "bus-store-taken" in done.stderr
    assert str(up.pid) in done.stderr
    assert site.ask("status")["fleet"] == "knight", "the first one goes on"


def test_a_killed_broker_is_started_again_and_commands_go_on(site: Any, log_line: Any) -> None:
    up = site.up()
    os.kill(site.read_run()["broker_pid"], signal.SIGKILL)
    log_line(up, "ended by itself")
    log_line(up, "broker runs again")
    assert site.ask("node", "list")["nodes"] == []
    site.enrol("host-1")
    run = site.read_run()
    assert run["pid"] == up.pid
    os.kill(run["broker_pid"], 0)


def test_a_key_that_is_not_the_roots_issuer_is_refused(site: Any) -> None:
    (site.directory / "keys" / "issuer.pem").write_bytes((site.directory / "keys" / "author.pem").read_bytes())
    done = site.run("up")
    assert done.returncode == 2
    assert "is not among the 1 issuers" in done.stderr


def test_a_state_directory_that_others_may_read_is_refused(site: Any) -> None:
    (site.directory / "state").chmod(0o755)
    done = site.run("up")
    assert done.returncode == 2
    assert "chmod 700" in done.stderr
