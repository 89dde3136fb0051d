# SPDX-License-Identifier: Apache-2.0
"""The guarded exit on real routers. Goal: a server whose page permits nothing never acts while the others fill every
order, and guards and venue count the same. Method: a whole arm whose permit pages the test writes, with no agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from firecurtain import permit
from firecurtain.rehearsal.knight.arms import ARMS
from firecurtain.rehearsal.knight.artifacts.smars.power_peg import POWER_PEG
from firecurtain.rehearsal.knight.artifacts.smars.retail_liquidity import RETAIL_LIQUIDITY
from firecurtain.rehearsal.knight.assemble import Code, Exit
from firecurtain.rehearsal.knight.fleet import Report, Site, Stores
from firecurtain.rehearsal.knight.judge import Figures, GuardView
from firecurtain.rehearsal.knight.ledgers import Answered, Execution, read_lines
from firecurtain.rehearsal.knight.market import SERVERS
from firecurtain.rehearsal.knight.processes import read_interpreter
from firecurtain.rehearsal.knight.runner import Options, run_arm
from firecurtain.terms import NS_PER_S, FlagToken, Reason

LIMITS = {"send-order": permit.ActionLimits(effects_per_cause=3, gross_usd=2_000_000)}
TOKENS = {Code.OLD: FlagToken(POWER_PEG), Code.NEW: FlagToken(RETAIL_LIQUIDITY)}
MAX_AGE_NS = 60 * NS_PER_S


class PagedFleet:
    """Eight guarded routers whose pages are written once, by hand, for longer than the window.

    Server 8 runs the old code. `permits_old` writes the page that no control plane would: the old artifact, its own
    token armed. Without it server 8 is told that it has no answer.
    """

    def __init__(self, site: Site, *, permits_old: bool) -> None:
        self._site = site
        self._permits_old = permits_old
        self._stores = Stores(site, Exit.GUARDED)
        self._pages: dict[int, permit.PageWriter] = {}
        self.venue: list[Execution] = []
        self.answers: list[Answered] = []

    def start(self) -> None:
        self._stores.install(Code.OLD, (8,))
        self._stores.install(Code.NEW, SERVERS[:-1])
        for node in SERVERS:
            self._write_page(node)
            main = self._stores.get_newest(node).path / "main.py"
            argv = [read_interpreter(), "-B", str(main), str(node), str(self._site.sockets)]
            environment = {permit.PERMIT_VARIABLE: str(self._get_page_path(node)), "PATH": os.defpath}
            self._site.processes.start(f"router-{node}", argv, environment=environment)

    def _write_page(self, node: int) -> None:
        path = self._get_page_path(node)
        path.parent.mkdir(mode=0o700)
        header = permit.PageHeader(
            "knight", "smars", f"host-{node}", MAX_AGE_NS, permit.read_boot_id(), permit.read_time_namespace()
        )
        page = self._pages[node] = permit.PageWriter(str(path), header)
        limits = permit.write_limits(str(path.parent), permit.encode_limits(LIMITS))
        digest, token = self._stores.get_newest(node).digest, TOKENS[Code.OLD if node == 8 else Code.NEW]
        grant = permit.Grant(1, 40 + node, digest, digest, limits, frozenset({token}))
        if node == 8 and not self._permits_old:
            page.close(Reason.NOT_ENROLLED, "host-8 is straggling", grant)
        else:
            page.grant(grant, permit.boottime_ns() + MAX_AGE_NS // 2)

    def act(self) -> None:
        pass

    def read_pids(self) -> Mapping[str, int]:
        return {f"router-{node}": self._site.processes.find_pid(f"router-{node}") for node in SERVERS}

    def stop(self) -> None:
        self._site.processes.stop([f"router-{node}" for node in SERVERS])

    def read_report(self) -> Report:
        for name in ("venue", "feeder"):
            for event in read_lines((self._site.directory / f"{name}.ledger").read_text().splitlines()):
                if isinstance(event, Execution):
                    self.venue.append(event)
                elif isinstance(event, Answered):
                    self.answers.append(event)
        for page in self._pages.values():
            page.release()
        always = ((0, 1 << 63),)
        lawful = {node: always for node in SERVERS if node != 8}
        return Report(GuardView({node: self._count_acquired(node) for node in SERVERS}, lawful))

    def _count_acquired(self, node: int) -> int:
        reading = permit.read_slots(permit.compute_slots_directory(str(self._get_page_path(node))))
        return sum(counters.get("send-order:acquired", 0) for counters in reading.totals.values())

    def _get_page_path(self, node: int) -> Path:
        return self._site.directory / f"node-{node}" / "permit" / "permit.page"


def play(permits_old: bool) -> tuple[PagedFleet, Figures]:
    fleets: list[PagedFleet] = []

    def make(site: Site) -> PagedFleet:
        fleets.append(PagedFleet(site, permits_old=permits_old))
        return fleets[0]

    outcome = run_arm(replace(ARMS["none"], make_fleet=make), Options(window_s=5.0), lambda _: None)
    return fleets[0], outcome.figures


def test_a_server_without_a_permit_never_acts_and_the_seven_fill_every_order():
    fleet, figures = play(permits_old=False)
    assert (figures.wrong_executions, figures.parents_completed) == (0, 1696)
    assert (figures.venue_equals_guard, figures.false_denials, figures.all_stopped_ms) == (True, 0, 0.0)
    assert figures.first_denial_ms is not None
    assert {execution.node for execution in fleet.venue} == set(SERVERS) - {8}
    assert {answer.reason for answer in fleet.answers if answer.node == 8} == {"not-enrolled"}
    assert all((execution.token_epoch, execution.token_seq) == (1, 40 + execution.node) for execution in fleet.venue)
    assert figures.node_gross_usd_max < 1.3e6


def test_even_a_permitted_power_peg_meets_the_limit_of_effects_for_each_cause():
    fleet, figures = play(permits_old=True)
    assert (figures.wrong_executions, figures.venue_equals_guard, figures.false_denials) == (0, True, 0)
    assert {execution.node for execution in fleet.venue} == set(SERVERS)
    assert {answer.reason for answer in fleet.answers if answer.node == 8} == {"", "effects-per-cause"}
