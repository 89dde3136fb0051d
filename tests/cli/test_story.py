# SPDX-License-Identifier: Apache-2.0
"""A fleet's first day, as one person with every key lives it: each command once, on real processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

LogLine = Callable[[subprocess.Popen[str], str], str]


def test_who_approves_and_who_resumes_is_told_what_it_came_to(site: Any) -> None:
    site.up()
    first = site.release()
    source = site.directory / "artifact-1"
    digest = site.ask("seal", source, "--store", "store")["digest"]
    (site.directory / "release.toml").write_text(
        (site.directory / "release.toml").read_text().replace("version = 1", "version = 2")
    )
    words = ("release", "propose", "release.toml", "--artifact", digest, "--store", "store")
    release = site.ask(*words)["release"]
    assert release != first
    assert site.run("release", "approve", release, "--key", "approver-1").stdout.endswith(", 1 more approval needed\n")
    answer = site.ask("release", "approve", release, "--key", "approver-2")
    assert answer["approvals_missing"] == 0
    # Nobody is there to confirm them, so `halt` calls none of them done.
    stops = [json.loads(site.run("halt", "fleet", "--reason", "drill", "--json").stdout)["stop"] for _ in range(3)]
    keys = ("--reason", "over", "--key", "approver-1", "--key", "approver-2")
    assert site.run("resume", stops[0], *keys).stdout.startswith("lifted 1 stop at ")
    assert site.run("resume", *stops[1:], *keys).stdout.startswith("lifted 2 stops at ")


def test_a_fleet_is_made_released_halted_resumed_and_shrunk(site: Any, log_line: LogLine) -> None:
    """Goal: the commands fit together. Method: one node with a real agent; its own log says what it may do."""
    up = site.up()
    agent_config = site.enrol("host-1")
    release = site.release()
    agent = site.start("agent", "--config", agent_config, until='"event": "permit"')
    assert site.ask("release", "show")["releases"][0]["stages"] == ["all"]
    assert site.ask("release", "show", release)["document"]["service"] == "smars"

    halted = site.ask("halt", "smars", "--reason", "drill")
    assert (halted["nodes"], halted["missing"]) == ({"host-1": True}, [])
    assert "stop-in-force" in log_line(agent, "permit closed")

    refused = site.ask("resume", halted["stop"], "--reason", "over", "--key", "approver-1", code=1)
    assert (refused["code"], refused["ledger_seq"] > halted["ledger_seq"]) == ("threshold", True)
    assert "2 of 3" in refused["text"]
    site.ask("resume", halted["stop"], "--reason", "over", "--key", "approver-1", "--key", "approver-3")
    assert json.loads(log_line(agent, '"event": "permit"'))["release"] == release

    # The release demands one node, so the last one cannot be taken out.
    assert site.ask("node", "exclude", "host-1", "--reason", "old", code=1)["code"] == "min-nodes"
    site.enrol("host-2")
    site.ask("node", "exclude", "host-1", "--reason", "old")
    assert {node["name"]: node["excluded"] for node in site.ask("node", "list")["nodes"]} == {
        "host-1": True,
        "host-2": False,
    }
    assert site.ask("ledger", "verify")["verdict"] == "whole"
    for process in (agent, up):
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert site.ask("ledger", "verify")["verdict"] == "whole", "without a control plane too"
