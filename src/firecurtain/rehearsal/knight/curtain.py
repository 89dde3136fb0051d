# SPDX-License-Identifier: Apache-2.0
"""Eight servers behind the curtain: a control plane with its ledger, eight agents, the same two routing codes.

Yesterday's release with the old code runs everywhere; today's is signed by k of n, and the deploy copies its artifact
into the stores that it reaches. Which server it missed is known to the deploy only: agents, control plane and rules are
told nothing and see digests. What a permit allows is read where guards read it, from the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from firecurtain.permit import NO_DIGEST, PageReader, View, compute_slots_directory, read_slots
from firecurtain.rehearsal.knight import records
from firecurtain.rehearsal.knight.artifacts.smars import clock
from firecurtain.rehearsal.knight.assemble import Code, Exit
from firecurtain.rehearsal.knight.clock import read_utc_offset_ns
from firecurtain.rehearsal.knight.fleet import Report, Site, Stores
from firecurtain.rehearsal.knight.judge import GuardView
from firecurtain.rehearsal.knight.ledgers import RehearsalError
from firecurtain.rehearsal.knight.market import SERVERS
from firecurtain.rehearsal.knight.operators import Operators, compute_argv
from firecurtain.rehearsal.knight.processes import read_children
from firecurtain.rehearsal.knight.release_file import ACTION, FLEET, SERVICE, TOKENS, render_release
from firecurtain.terms import NS_PER_S, FlagToken

APPROVERS = ("approver-1", "approver-2")
READY_TIMEOUT_NS = 30 * NS_PER_S
LOOK_S = 0.02
AGENTS = tuple(f"agent-{node}" for node in SERVERS)
FLAG = FlagToken(TOKENS[Code.NEW])


class CurtainFleet:
    """One fleet under Firecurtain. `awaits_armed`: the market opens when the flag is armed on every updated server,
    else as soon as they hold a permit. `at_quarter` is what people do at a quarter of the window.
    """

    def __init__(
        self, site: Site, *, on_straggler: str, awaits_armed: bool, at_quarter: Callable[[CurtainFleet], None]
    ) -> None:
        self._site = site
        self._operators = Operators(site.directory, site.processes)
        self._on_straggler = on_straggler
        self._awaits_armed = awaits_armed
        self._at_quarter = at_quarter
        self._stores = Stores(site, Exit.GUARDED)
        self._readers: dict[int, PageReader] = {}
        self._refusals: list[str] = []
        self._nodes_without_permit: tuple[int, ...] = ()
        self._closed_ns = 0

    # What the runner asks

    def start(self) -> None:
        """Yesterday ends and the morning begins; returns when the permits that must be there are there."""
        self._start_yesterday()
        self._stores.install(Code.NEW, self._site.updated)
        release = self._propose(Code.NEW, version=2, arms=True)
        self._wait("permits on all servers", lambda: all(map(self._has_permit, SERVERS)))
        self._approve(release)
        self._wait("permits on the updated servers", self._is_ready)

    def act(self) -> None:
        """What people do at a quarter of the window."""
        self._at_quarter(self)

    def read_pids(self) -> Mapping[str, int]:
        """Control plane, broker, eight agents and their routers, as far as each runs."""
        pids = {"control": self._site.processes.find_pid("control"), "broker": self._read_broker_pid()}
        for node in SERVERS:
            pids[f"agent-{node}"] = agent = self._site.processes.find_pid(f"agent-{node}")
            pids |= {f"router-{node}": child for child in read_children(agent)}
        return pids

    def stop(self) -> None:
        """Note who holds a permit, then end the agents, which end their routers first, then the control plane."""
        self._closed_ns = clock.now_ns()
        self._nodes_without_permit = tuple(node for node in SERVERS if not self._has_permit(node))
        processes = self._site.processes
        processes.stop(processes.list_living(AGENTS))
        processes.stop(processes.list_living(["control"]))

    def read_report(self) -> Report:
        """What guards counted, what the ledger recorded, and what was refused."""
        actions = {node: self._read_acquired(node) for node in SERVERS}
        history = records.read_history(self._site.directory / "state" / "ledger.sqlite", FLEET)
        updated = {node: f"host-{node}" for node in self._site.updated}
        spans = records.compute_lawful_spans(history, updated, FLAG, SERVICE, read_utc_offset_ns(), self._closed_ns)
        return Report(
            guards=GuardView(actions, spans),
            refusals=tuple(self._refusals),
            refusals_recorded=records.list_refusals(history),
            nodes_without_permit=self._nodes_without_permit,
        )

    # What people do

    def exclude_straggler(self) -> None:
        """An operator takes out the server that the list shows as straggling."""
        nodes = self._operators.run("node", "list")["nodes"]
        if not isinstance(nodes, list):
            raise RehearsalError(f"`firecurtain node list` shows no list of nodes: {nodes!r}")
        for name in [node["name"] for node in nodes if node["verdict"] == "straggling"]:
            self._operators.run("node", "exclude", name, "--reason", "attests another artifact than its release")

    def roll_back(self) -> None:
        """Ask for the old code while the flag stays on, as in paragraph 27."""
        self._propose(Code.OLD, version=3, arms=False)

    # How it is done

    def _start_yesterday(self) -> None:
        """The old code on all eight, released on any day before; the agents start while it is being signed."""
        self._stores.install(Code.OLD, SERVERS)
        self._operators.run("init", "--fleet", FLEET)
        config = self._site.directory / "firecurtain.toml"
        self._site.processes.start("control", compute_argv("up", "--config", str(config)))
        self._wait("control plane", lambda: self._get_run_file().exists())
        self._operators.run_together(self._compute_enrolment(node) for node in SERVERS)
        for node in SERVERS:
            self._start_agent(node)
        self._approve(self._propose(Code.OLD, version=1, arms=False))

    def _compute_enrolment(self, node: int) -> tuple[str, ...]:
        out, store, runtime = self._get_node_directory(node), self._stores.get_store(node), self._get_runtime(node)
        places = ("--out", str(out), "--store", str(store), "--runtime-dir", str(runtime))
        return ("node", "enrol", f"host-{node}", "--service", SERVICE, *places)

    def _start_agent(self, node: int) -> None:
        """Write the router's own words into the file that `node enrol` made, as its administrator would, and start."""
        path = self._get_node_directory(node) / "agent.toml"
        argv = json.dumps([str(node), str(self._site.sockets)])
        path.write_text(path.read_text("utf-8").replace("\n[bus]", f"argv = {argv}\n\n[bus]", 1), "utf-8")
        self._site.processes.start(f"agent-{node}", compute_argv("agent", "--config", str(path)))

    def _propose(self, code: Code, *, version: int, arms: bool) -> str:
        """Propose a release of this code; returns its digest, empty when it was refused."""
        path = self._site.directory / f"release-{version}.toml"
        text = render_release(code, version=version, arms=arms, on_straggler=self._on_straggler)
        path.write_text(text, "utf-8")
        node = self._site.updated[0]
        sealed = self._stores.get_newest(node) if code is Code.NEW else self._stores.get_oldest(node)
        store = str(self._stores.get_store(node))
        reply = self._operators.ask("release", "propose", str(path), "--artifact", sealed.digest, "--store", store)
        if reply.is_refused:
            self._refusals.append(records.format_refusal(*(reply.words[key] for key in ("ledger_seq", "code", "text"))))
            return ""
        return str(reply.words["release"])

    def _approve(self, release: str) -> None:
        keys = [word for name in APPROVERS for word in ("--key", name)]
        self._operators.run("release", "approve", release, *keys)

    def _is_ready(self) -> bool:
        """Every updated server holds a permit, with the flag armed where the market waits for that."""
        wanted = self._stores.get_newest(self._site.updated[0]).digest
        grants = [view.grant for view in map(self._read_permit, self._site.updated) if view is not None]
        return len(grants) == len(self._site.updated) and all(
            grant.artifact == wanted and (FLAG in grant.armed or not self._awaits_armed) for grant in grants
        )

    def _read_permit(self, node: int) -> View | None:
        """The open permit of a server as its guard reads it."""
        reader = self._readers.get(node) or self._readers.setdefault(node, PageReader(self._get_page(node), SERVICE))
        view = reader.read()
        return view if isinstance(view, View) and view.grant.artifact != NO_DIGEST else None

    def _has_permit(self, node: int) -> bool:
        return self._read_permit(node) is not None

    def _read_acquired(self, node: int) -> int:
        """How many actions the guards of a server let pass."""
        totals = read_slots(compute_slots_directory(self._get_page(node))).totals
        return sum(counters.get(f"{ACTION}:acquired", 0) for counters in totals.values())

    def _read_broker_pid(self) -> int:
        return int(json.loads(self._get_run_file().read_text("utf-8"))["broker_pid"])

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        give_up_ns = clock.now_ns() + READY_TIMEOUT_NS
        while not is_there():
            self._site.processes.raise_for_dead(("control", *AGENTS))
            if clock.now_ns() > give_up_ns:
                raise RehearsalError(f"no {what} within {READY_TIMEOUT_NS // NS_PER_S} s; the machine is too busy")
            clock.sleep(LOOK_S)

    def _get_run_file(self) -> Path:
        return self._site.directory / "state" / "run.json"

    def _get_node_directory(self, node: int) -> Path:
        return self._site.directory / f"node-{node}"

    def _get_runtime(self, node: int) -> Path:
        return self._site.memory / f"host-{node}"

    def _get_page(self, node: int) -> str:
        return str(self._get_runtime(node) / "permit.page")
