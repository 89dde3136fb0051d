# SPDX-License-Identifier: Apache-2.0
"""A fleet's first day, as one person with every key lives it: each command once, on real processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

LogLine = Callable[[subprocess.Popen[str], str], str]


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
