# SPDX-License-Identifier: Apache-2.0
"""The morning under the curtain. Goal: the server that missed the update never acts while the other seven fill every
order, a rollback that would wake the old code is refused, and nobody is denied on a healthy day. Method: the command
that people type, judged by its own JSON object; two rehearsals at once, one run of each arm for all tests."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from firecurtain.rehearsal.knight.ledgers import Execution, read_lines
from support.rehearsals import Rehearsal

Wait = Callable[[Callable[[], bool], float], None]

WINDOW = ("--window", "5")
KEYS = {
    "wrong_executions",
    "wrong_shares",
    "wrong_gross_usd",
    "node_gross_usd_max",
    "parents_total",
    "parents_completed",
    "false_denials",
    "first_denial_ms",
    "all_stopped_ms",
    "nodes_without_permit",
    "venue_equals_guard",
    "refusals",
    "pids",
}
ROLES = {"control", "broker", "venue", "feeder", *(f"{kind}-{n}" for kind in ("agent", "router") for n in range(1, 9))}
MAX_AGE_NS = 1_500_000_000
NS_PER_S = 1_000_000_000

Arms = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="session")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    """Every arm under the curtain, run once; straggler 3 in `all`, 8 elsewhere."""
    directory = tmp_path_factory.mktemp("curtain")
    both = (
        Rehearsal(directory, "a", "--arm", "all", "--arm", "healthy", "--straggler", "3", *WINDOW),
        Rehearsal(directory, "b", "--arm", "straggler-excluded", "--arm", "rollback-bound", "--seed", "5", *WINDOW),
    )
    found: dict[str, Mapping[str, Any]] = {}
    for rehearsal, seed in zip(both, (1, 5), strict=True):
        code = rehearsal.process.wait(110)
        assert code == 0, rehearsal.read_words()
        whole = json.loads(rehearsal.read_result())
        assert set(whole) == {"seed", "window_s", "arms"}
        assert (whole["seed"], whole["window_s"]) == (seed, 5.0)
        assert list(rehearsal.temporary.iterdir()) == []
        found |= whole["arms"]
    return found


CURTAIN_ARMS = ["all", "straggler-excluded", "rollback-bound", "healthy"]


@pytest.mark.parametrize("name", CURTAIN_ARMS)
def test_nothing_wrong_leaves_and_every_order_is_filled(arms: Arms, name: str):
    arm = arms[name]
    assert set(arm) == KEYS
    assert (arm["wrong_executions"], arm["wrong_shares"], arm["wrong_gross_usd"]) == (0, 0, 0.0)
    assert (arm["parents_completed"], arm["parents_total"]) == (1696, 1696)
    assert (arm["false_denials"], arm["all_stopped_ms"], arm["venue_equals_guard"]) == (0, 0.0, True)
    assert 0 < arm["node_gross_usd_max"] < 2_000_000


@pytest.mark.parametrize("name", CURTAIN_ARMS)
def test_twenty_different_processes_play_each_arm(arms: Arms, name: str):
    pids = arms[name]["pids"]
    assert set(pids) == ROLES
    assert len(set(pids.values())) == 20


@pytest.mark.parametrize(("name", "straggler"), [("all", 3), ("straggler-excluded", 8), ("rollback-bound", 8)])
def test_the_server_that_missed_the_update_holds_no_permit_and_is_denied(arms: Arms, name: str, straggler: int):
    assert arms[name]["nodes_without_permit"] == [straggler]
    assert 0 <= arms[name]["first_denial_ms"] < 1000


def test_on_a_healthy_day_nobody_is_denied(arms: Arms):
    healthy = arms["healthy"]
    assert (healthy["nodes_without_permit"], healthy["first_denial_ms"], healthy["refusals"]) == ([], None, [])


def test_the_rollback_is_refused_with_its_place_in_the_ledger(arms: Arms):
    """The claim itself holds every quoted refusal against the ledger's own CommandRefused; here its words."""
    [refusal] = arms["rollback-bound"]["refusals"]
    assert re.match(r"ledger_seq \d+ armed-flag-not-declared: release [0-9a-f]{12} ", refusal)
    assert refusal.count("ledger_seq") == 1
    assert "Do: disarm it first" in refusal
    assert [arms[name]["refusals"] for name in CURTAIN_ARMS if name != "rollback-bound"] == [[], [], []]


@pytest.fixture
def healthy(tmp_path: Path) -> Iterator[Rehearsal]:
    """Eight good servers for eight seconds: orders are offered during the first four."""
    rehearsal = Rehearsal(tmp_path, "a", "--arm", "healthy", "--window", "8")
    yield rehearsal
    rehearsal.clean_up()


def read_executions(rehearsal: Rehearsal) -> list[Execution]:
    """The venue's ledger so far; its last line may still be under way."""
    [ledger] = rehearsal.temporary.glob("*/venue.ledger")
    whole = ledger.read_text().rpartition("\n")[0].splitlines()
    return [event for event in read_lines(whole) if isinstance(event, Execution)]


def test_when_an_agent_is_killed_its_router_stops_and_the_others_fill_every_order(healthy: Rehearsal, wait_until: Wait):
    wait_until(lambda: len(healthy.read_pids()) == 20, 60)
    wait_until(lambda: any(execution.node == 5 for execution in read_executions(healthy)), 10)
    kill_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    os.kill(healthy.read_pids()["agent-5"], signal.SIGKILL)
    late_ns = kill_ns + MAX_AGE_NS + NS_PER_S // 2
    wait_until(lambda: read_executions(healthy)[-1].receipt_ns > late_ns, 10)
    last_ns = max(execution.receipt_ns for execution in read_executions(healthy) if execution.node == 5)
    assert last_ns - kill_ns < MAX_AGE_NS

    assert healthy.process.wait(30) == 1
    arm = json.loads(healthy.read_result())["arms"]["healthy"]
    assert (arm["wrong_executions"], arm["parents_completed"], arm["nodes_without_permit"]) == (0, 1696, [5])
    assert "BROKEN healthy: servers (5,) hold no permit, claimed none" in healthy.read_words()
