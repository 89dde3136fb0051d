# SPDX-License-Identifier: Apache-2.0
"""The fire on real processes. Goal: the old way burns as the SEC found, judged by the venue's own ledger, and orders
that meet no old code are filled exactly, also when a server dies. Method: whole arms with the shortest window."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from firecurtain.rehearsal.knight.arms import ARMS, Outcome, claim_all_burn, claim_burns
from firecurtain.rehearsal.knight.fleet import BareFleet, Report, Site
from firecurtain.rehearsal.knight.judge import judge
from firecurtain.rehearsal.knight.market import SERVERS
from firecurtain.rehearsal.knight.report import format_json
from firecurtain.rehearsal.knight.runner import Options, Progress, Result, run_arm
from firecurtain.terms import ConfigError

WINDOW_S = 5.0

Wait = Callable[[Callable[[], bool], float], None]


def run(name: str, options: Options) -> tuple[Outcome, list[Progress]]:
    seen: list[Progress] = []
    return run_arm(ARMS[name], options, seen.append), seen


def test_without_controls_one_server_burns_at_1481_a_second():
    options = Options(("none",), seed=7, straggler=3, window_s=WINDOW_S)
    outcome, seen = run("none", options)
    figures = outcome.figures
    assert claim_burns(outcome) == []
    assert figures.wrong_nodes == (3,)
    assert figures.wrong_per_s == pytest.approx(1481, rel=0.10)
    assert (figures.parents_completed, figures.parents_total) == (1484, 1696)
    assert figures.wrong_gross_usd == figures.wrong_shares * 16.75
    assert len(set(outcome.pids.values())) == len(outcome.pids) == 10
    growth = [progress.executions for progress in seen if progress.elapsed_s > WINDOW_S / 2]
    assert len(growth) > 10
    assert growth[-1] - growth[0] == pytest.approx(1481 * WINDOW_S / 2, rel=0.15)


def test_rolling_back_the_seven_good_servers_makes_all_eight_burn():
    outcome, _ = run("rollback-unbound", Options(("rollback-unbound",), window_s=WINDOW_S))
    assert claim_all_burn(outcome) == []
    assert outcome.figures.wrong_nodes == tuple(range(1, 9))


class _DyingFleet(BareFleet):
    """Eight good bare servers; at a quarter of the window the second is killed with five orders in hand at least.

    The venue is held up meanwhile, so that the victim's orders have one child each at the venue when it dies.
    """

    def __init__(self, site: Site, wait_until: Wait) -> None:
        super().__init__(site, rolls_back=False)
        self._wait_until = wait_until
        self._is_dead = False

    def act(self) -> None:
        victim = self._site.processes._running.pop("router-2")
        venue_pid, offers = self._site.processes.find_pid("venue"), self._count_offers()
        os.kill(venue_pid, signal.SIGSTOP)
        self._wait_until(lambda: self._count_offers() >= offers + 6, 10)
        os.kill(victim.pid, signal.SIGKILL)
        os.kill(venue_pid, signal.SIGCONT)
        victim.wait()
        self._is_dead = True

    def read_pids(self) -> Mapping[str, int]:
        return {} if self._is_dead else super().read_pids()

    def stop(self) -> None:
        self._site.processes.stop([f"router-{node}" for node in SERVERS if node != 2])

    def _count_offers(self) -> int:
        lines = (self._site.directory / "feeder.ledger").read_text().splitlines()
        return sum(line.startswith("offer\t") and line.split("\t")[3] == "2" for line in lines)


def test_a_killed_routers_orders_are_filled_by_the_others_and_none_of_them_twice(wait_until: Wait):
    arm = replace(ARMS["none"], make_fleet=lambda site: _DyingFleet(site, wait_until), has_straggler=False)
    outcome = run_arm(arm, Options(window_s=WINDOW_S), lambda _: None)
    figures = outcome.figures
    assert (figures.wrong_executions, figures.parents_completed, figures.parents_total) == (0, 1696, 1696)


def test_the_json_object_has_every_key_of_the_specification():
    options = Options(("none",), window_s=WINDOW_S)
    outcome = Outcome(8, judge([], [], 0, 1, None), Report(), {"venue": 11})
    whole = json.loads(format_json(Result(options, {"none": outcome}, {"none": ()})))
    assert (whole["seed"], whole["window_s"], list(whole["arms"])) == (1, WINDOW_S, ["none"])
    assert whole["arms"]["none"] == {
        "wrong_executions": 0,
        "wrong_shares": 0,
        "wrong_gross_usd": 0.0,
        "node_gross_usd_max": 0.0,
        "parents_total": 0,
        "parents_completed": 0,
        "false_denials": 0,
        "first_denial_ms": None,
        "all_stopped_ms": None,
        "nodes_without_permit": [],
        "venue_equals_guard": None,
        "refusals": [],
        "pids": {"venue": 11},
    }


def test_a_fire_that_goes_out_by_itself_breaks_the_claim():
    quiet = Outcome(8, judge([], [], 0, 1, None), Report(), {})
    assert len(claim_burns(quiet)) == 3
    assert len(claim_all_burn(quiet)) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"window_s": 4.9}, "--window 4.9 is not between 5 and 2700"),
        ({"straggler": 9}, "--straggler 9: the servers are 1 to 8"),
        ({"arms": ("none", "nine")}, "no arm nine. The arms are: none, "),
        ({"arms": ()}, "no arm chosen"),
    ],
)
def test_options_that_cannot_be_rehearsed_are_refused_in_words(words: Mapping[str, Any], complaint: str):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        Options(**words)
