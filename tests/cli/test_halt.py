# SPDX-License-Identifier: Apache-2.0
"""`halt` is fast because it imports little, and works while the control plane hangs or is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

LogLine = Callable[[subprocess.Popen[str], str], str]

# The package itself brings the guard, which is stdlib only.
LIGHT = {"cli", "wire", "bus", "terms", "guard", "permit", "artifact"}
ENTER_TO_CAST_MS = 300.0
SLACK = 5.0  # two cores shared with other tests; the bench holds it to the bound itself


def test_until_the_cast_only_cli_wire_and_bus_are_imported() -> None:
    words = "import sys, firecurtain.cli, firecurtain.cli.halt; print(*sorted(sys.modules))"
    names = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in names if name.startswith("firecurtain.")}
    assert ours <= LIGHT
    assert not {"typer", "rich", "structlog", "securesystemslib"} & set(names)


def test_the_cast_leaves_soon_after_the_enter_key(site: Any) -> None:
    site.up()
    took_ms = [site.ask("halt", "fleet", "--reason", "drill")["enter_to_cast_ms"] for _ in range(3)]
    assert min(took_ms) <= ENTER_TO_CAST_MS * SLACK, took_ms


def test_with_the_control_plane_hanging_the_agents_stop_and_the_missing_issuer_is_named(
    site: Any, log_line: LogLine
) -> None:
    up = site.up()
    agent_config = site.enrol("host-1")
    site.release()
    agent = site.start("agent", "--config", agent_config, until='"event": "permit"')
    up.send_signal(signal.SIGSTOP)
    halted = site.ask("halt", "fleet", "--reason", "drill", "--wait", "0.5", code=2)
    assert halted["missing"] == ["issuer"]
    assert "stop-in-force" in log_line(agent, "permit closed")
    up.send_signal(signal.SIGCONT)
    again = site.ask("halt", "fleet", "--reason", "drill")
    assert (again["nodes"], again["missing"]) == ({"host-1": True}, [])


def test_a_node_that_does_not_confirm_is_named(site: Any) -> None:
    site.up()
    site.enrol("host-1")
    halted = site.ask("halt", "fleet", "--reason", "drill", "--wait", "0.3", code=2)
    assert halted["missing"] == ["host-1"]
    assert halted["durable_ns"] is not None


def test_a_name_that_nobody_has_is_no_success_and_a_key_that_may_not_stop_is_told_so(site: Any) -> None:
    """A typing mistake during a fire must not look like a stop; nor may a stop that every agent refuses."""
    site.up()
    site.enrol("host-1")
    nobody = site.run("halt", "payoutz", "--reason", "drill")
    assert nobody.returncode == 2
    assert "NOBODY is stopped by it: no enrolled node is in service:payoutz" in nobody.stdout
    refused = site.ask("halt", "fleet", "--reason", "drill", "--key", "author", code=1)
    assert (refused["ok"], refused["durable_ns"]) == (False, None)
    assert "wire: Stop signed by unknown key" in refused["refusal"]
    assert "take nothing as stopped" in site.run("halt", "fleet", "--reason", "drill", "--key", "author").stdout
    assert [stop["scope"] for stop in site.ask("status")["stops"]] == ["service:payoutz"]


def test_a_reason_of_any_length_stops(site: Any) -> None:
    site.up()
    halted = site.ask("halt", "fleet", "--reason", "x" * 900)
    assert halted["durable_ns"] is not None


def test_with_everything_dead_it_says_that_permits_run_out(site: Any) -> None:
    up = site.up()
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    done = site.run("halt", "fleet", "--reason", "drill")
    assert done.returncode == 2
    assert "runs out within max_age" in done.stderr
