# SPDX-License-Identifier: Apache-2.0
"""Eight servers behind the curtain: a control plane with its ledger, eight agents, the same two routing codes.

Yesterday's release with the old code runs everywhere; today's is signed by k of n, and the deploy copies its artifact
into the stores that it reaches. Which server it missed is known to the deploy only: agents, control plane and rules are
told nothing and see digests. What a permit allows is read where guards read it, from the page.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from firecurtain.permit import NO_DIGEST, PageReader, View, compute_slots_directory, read_slots
from firecurtain.rehearsal.knight import records
from firecurtain.rehearsal.knight.artifacts.smars import clock
from firecurtain.rehearsal.knight.artifacts.smars.power_peg import POWER_PEG
from firecurtain.rehearsal.knight.artifacts.smars.retail_liquidity import RETAIL_LIQUIDITY
from firecurtain.rehearsal.knight.assemble import Code, Exit
from firecurtain.rehearsal.knight.fleet import Report, Site, Stores
from firecurtain.rehearsal.knight.judge import GuardView
from firecurtain.rehearsal.knight.ledgers import RehearsalError
from firecurtain.rehearsal.knight.market import NODES, SERVERS
from firecurtain.rehearsal.knight.operators import Operators, compute_argv
from firecurtain.terms import NS_PER_S, FlagToken

FLEET, SERVICE, ACTION = "knight", "smars", "send-order"
EFFECTS_PER_CAUSE = 3  # an ordinary day's: 300 shares leave as three children of 100
GROSS_USD = 2_000_000  # the limit that was linked to nothing (SEC Release 34-70694, paragraphs 23 to 25)
APPROVERS = ("approver-1", "approver-2")
TOKENS: Mapping[Code, str] = {Code.OLD: POWER_PEG, Code.NEW: RETAIL_LIQUIDITY}
READY_TIMEOUT_NS = 30 * NS_PER_S
LOOK_S = 0.02


class CurtainFleet:
    """One fleet under Firecurtain. `awaits_armed`: the market opens when the flag is armed on every updated server,
    else as soon as they hold a permit. `at_quarter` is what people do at a quarter of the window.
    """

    def __init__(
        self, site: Site, *, on_straggler: str, awaits_armed: bool, at_quarter: Callable[[CurtainFleet], None]
    ) -> None:
        self.site = site
        self.operators = Operators(site.directory)
        self._on_straggler = on_straggler
        self._awaits_armed = awaits_armed
        self._at_quarter = at_quarter
        self._stores = Stores(site, Exit.GUARDED)
        self._runtime = Path(tempfile.mkdtemp(prefix="firecurtain-rehearsal-", dir=_find_memory()))
        self._readers: dict[int, PageReader] = {}
        self._nodes_without_permit: tuple[int, ...] = ()

    # What the runner asks

    def start(self) -> None:
        """Yesterday ends and the morning begins; returns when the permits that must be there are there."""
        self._start_yesterday()
        self._stores.install(Code.NEW, self.site.updated)
        self._release(Code.NEW, version=2, arms=True)
        self._wait("permits on the updated servers", self._is_ready)

    def act(self) -> None:
        """What people do at a quarter of the window."""
        self._at_quarter(self)

    def read_pids(self) -> Mapping[str, int]:
        """Control plane, broker, eight agents and their routers, as far as each runs."""
        pids = {"control": self.site.processes.find_pid("control"), "broker": self._read_broker_pid()}
        for node in SERVERS:
            pids[f"agent-{node}"] = agent = self.site.processes.find_pid(f"agent-{node}")
            pids |= {f"router-{node}": child for child in _read_children(agent)}
        return pids

    def stop(self) -> None:
        """Note who holds a permit, then end the agents, which end their routers first, then the control plane."""
        self._nodes_without_permit = tuple(node for node in SERVERS if not self._has_permit(node))
        for names in ([f"agent-{node}" for node in SERVERS], ["control"]):
            self.site.processes.stop(self.site.processes.list_living(names))

    def read_report(self) -> Report:
        """What guards counted, what the ledger recorded, and what was refused."""
        actions = {node: self._read_acquired(node) for node in SERVERS}
        shutil.rmtree(self._runtime)
        history = records.read_history(self.site.directory / "state" / "ledger.sqlite", FLEET)
        spans = records.compute_lawful_spans(history, FlagToken(RETAIL_LIQUIDITY), self._compute_lawful_nodes())
        return Report(GuardView(actions, spans), tuple(self.operators.refusals), self._nodes_without_permit)

    # What people do

    def exclude_straggler(self) -> None:
        """An operator takes out the server that the status shows as straggling."""
        status = self.operators.run("status")
        nodes = status["nodes"]
        if not isinstance(nodes, list):
            raise RehearsalError(f"`firecurtain status` lists no nodes: {status}")
        for name in [node["name"] for node in nodes if node["verdict"] == "straggling"]:
            self.operators.run("node", "exclude", name, "--reason", "attests another artifact than its release")

    def roll_back(self) -> None:
        """Ask for the old code while the flag stays on, as in paragraph 27."""
        self._propose(Code.OLD, version=3, arms=False)

    # How it is done

    def _start_yesterday(self) -> None:
        """The old code on all eight, released, attested and permitted, as on any day before."""
        self._stores.install(Code.OLD, SERVERS)
        self.operators.run("init", "--fleet", FLEET)
        self.site.processes.start("control", compute_argv("up", "--config", str(self._get_config())))
        self._wait("control plane", lambda: self._get_run_file().exists())
        self._enrol()
        self._release(Code.OLD, version=1, arms=False)
        for node in SERVERS:
            argv = compute_argv("agent", "--config", str(self._get_node_directory(node) / "agent.toml"))
            self.site.processes.start(f"agent-{node}", argv)
        self._wait("permits on all servers", lambda: all(map(self._has_permit, SERVERS)))

    def _enrol(self) -> None:
        self.operators.run_together(self._compute_enrolment(node) for node in SERVERS)
        for node in SERVERS:
            path = self._get_node_directory(node) / "agent.toml"
            argv = json.dumps([str(node), str(self.site.sockets)])
            path.write_text(path.read_text("utf-8").replace("\n[bus]", f"argv = {argv}\n\n[bus]", 1), "utf-8")

    def _compute_enrolment(self, node: int) -> tuple[str, ...]:
        out, store, runtime = self._get_node_directory(node), self._stores.get_store(node), self._get_runtime(node)
        places = ("--out", str(out), "--store", str(store), "--runtime-dir", str(runtime))
        return ("node", "enrol", f"host-{node}", "--service", SERVICE, *places)

    def _release(self, code: Code, *, version: int, arms: bool) -> None:
        digest = self._propose(code, version=version, arms=arms)
        keys = [word for name in APPROVERS for word in ("--key", name)]
        self.operators.run("release", "approve", digest, *keys)

    def _propose(self, code: Code, *, version: int, arms: bool) -> str:
        """Propose a release of this code; returns its digest, empty when it was refused."""
        path = self.site.directory / f"release-{version}.toml"
        path.write_text(self._render_release(code, version=version, arms=arms), "utf-8")
        node = self.site.updated[0]
        sealed = self._stores.get_newest(node) if code is Code.NEW else self._stores.get_oldest(node)
        words = ("release", "propose", str(path), "--artifact", sealed.digest)
        reply = self.operators.ask(*words, "--store", str(self._stores.get_store(node)))
        return "" if reply.is_refused else str(reply.words["release"])

    def _render_release(self, code: Code, *, version: int, arms: bool) -> str:
        token = json.dumps(TOKENS[code])
        return "\n".join(
            [
                f'fleet = "{FLEET}"',
                f'service = "{SERVICE}"',
                f"version = {version}",
                'entrypoint = ["main.py"]',
                f"tokens = [{token}]",
                f"arms = [{token if arms else ''}]",
                f'on_straggler = "{self._on_straggler}"',
                f"min_nodes = {NODES - 1}",
                f"[limits.{ACTION}]",
                f"effects_per_cause = {EFFECTS_PER_CAUSE}",
                f"gross_usd = {GROSS_USD}",
                "[[stages]]",
                'name = "all"',
                'nodes = "*"',
                "",
            ]
        )

    def _is_ready(self) -> bool:
        """Every updated server holds a permit, with the flag armed where the market waits for that."""
        wanted = self._stores.get_newest(self.site.updated[0]).digest
        token = FlagToken(RETAIL_LIQUIDITY)
        views = [self._read_permit(node) for node in self.site.updated]
        return all(
            view is not None and view.grant.artifact == wanted and (token in view.grant.armed or not self._awaits_armed)
            for view in views
        )

    def _read_permit(self, node: int) -> View | None:
        """The open permit of a server as its guard reads it."""
        path = str(self._get_runtime(node) / "permit.page")
        reader = self._readers.get(node) or self._readers.setdefault(node, PageReader(path, SERVICE))
        view = reader.read()
        return view if isinstance(view, View) and view.grant.artifact != NO_DIGEST else None

    def _has_permit(self, node: int) -> bool:
        return self._read_permit(node) is not None

    def _read_acquired(self, node: int) -> int:
        """How many actions the guards of a server let pass."""
        directory = compute_slots_directory(str(self._get_runtime(node) / "permit.page"))
        return sum(totals.get(f"{ACTION}:acquired", 0) for totals in read_slots(directory).totals.values())

    def _compute_lawful_nodes(self) -> Mapping[int, str]:
        """The servers whose store holds today's artifact, each with its name in the ledger."""
        return {node: f"host-{node}" for node in self.site.updated}

    def _read_broker_pid(self) -> int:
        return int(json.loads(self._get_run_file().read_text("utf-8"))["broker_pid"])

    def _wait(self, what: str, is_there: Callable[[], bool]) -> None:
        give_up_ns = clock.now_ns() + READY_TIMEOUT_NS
        while not is_there():
            self.site.processes.raise_for_dead(("control", *(f"agent-{node}" for node in SERVERS)))
            if clock.now_ns() > give_up_ns:
                raise RehearsalError(f"no {what} within {READY_TIMEOUT_NS // NS_PER_S} s; see {self.site.directory}")
            clock.sleep(LOOK_S)

    def _get_config(self) -> Path:
        return self.site.directory / "firecurtain.toml"

    def _get_run_file(self) -> Path:
        return self.site.directory / "state" / "run.json"

    def _get_node_directory(self, node: int) -> Path:
        return self.site.directory / f"node-{node}"

    def _get_runtime(self, node: int) -> Path:
        return self._runtime / f"host-{node}"


def _find_memory() -> str | None:
    """Where permit pages belong: memory. None is the system's temporary directory."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory is made there


def _read_children(pid: int) -> list[int]:
    """The processes that a process started, none when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []
