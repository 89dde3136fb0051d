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


def flip_one_bit(site: Any) -> None:
    """Damage the broker's own block file in the middle of what was acknowledged."""
    (block,) = (site.directory / "state" / "broker" / "store").rglob("*.blk")
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content)


def test_on_a_damaged_ledger_nothing_starts_and_verify_says_where(site: Any) -> None:
    up = site.up()
    for name in ("host-1", "host-2", "host-3"):
        site.enrol(name)
    up.terminate()
    assert up.wait(timeout=20) == 0
    flip_one_bit(site)
    done = site.run("up")
    assert done.returncode == 2
    assert "ledger-damaged" in done.stderr
    verified = site.ask("ledger", "verify", code=1)
    assert verified["verdict"] in ("damaged", "shortened")
    assert verified["copy_last"] == 4


def test_a_running_control_plane_whose_stream_is_damaged_stops_and_affirms_but_grants_nothing(
    site: Any, log_line: Any
) -> None:
    up = site.up()
    agent_config = site.enrol("host-1")
    site.release()
    agent = site.start("agent", "--config", agent_config, until='"event": "permit"')
    flip_one_bit(site)
    os.kill(site.read_run()["broker_pid"], signal.SIGKILL)
    log_line(up, "ledger-damaged")
    words = ("--service", "smars", "--out", "nodes/host-2")
    assert site.ask("node", "enrol", "host-2", *words, code=1)["code"] == "ledger-damaged"
    # The permit ran out or was renewed while the broker restarted; either way the node hears that it is affirmed.
    assert site.ask("node", "list")["nodes"][0]["verdict"] == "answer"
    halted = site.ask("halt", "fleet", "--reason", "drill")
    assert (halted["nodes"], halted["missing"]) == ({"host-1": True}, [])
    assert "stop-in-force" in log_line(agent, "stop-in-force")
