# SPDX-License-Identifier: Apache-2.0
"""Eight servers as an arm sees them: what a fleet must offer, and the bare fleet, run the old way by hand.

In the bare fleet a deploy copies the new artifact into the store of each server it reaches, and a server starts the
newest artifact that its store holds. Nothing checks that all stores hold the same. That is all that makes a straggler.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firecurtain.artifact.seal import Sealed, seal
from firecurtain.rehearsal.knight.assemble import Code, Exit, assemble
from firecurtain.rehearsal.knight.judge import GuardView
from firecurtain.rehearsal.knight.market import SERVERS
from firecurtain.rehearsal.knight.processes import Processes, read_interpreter


@dataclass(frozen=True, slots=True)
class Site:
    """Where one arm plays: directories of its own on disk and in memory, the sockets of venue and feeder, and which
    server the deploy misses."""

    directory: Path
    memory: Path
    sockets: Path
    processes: Processes
    straggler: int | None

    @property
    def updated(self) -> tuple[int, ...]:
        """The servers that the deploy reached."""
        return tuple(node for node in SERVERS if node != self.straggler)


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a fleet after the window beside the ledgers; the default is a fleet without any guard.

    `refusals` are what people were told, `refusals_recorded` what the control plane's ledger holds.
    """

    guards: GuardView | None = None
    refusals: tuple[str, ...] = ()
    refusals_recorded: tuple[str, ...] = ()
    nodes_without_permit: tuple[int, ...] = ()


class Fleet(Protocol):
    """What the runner asks of a fleet. Calls come in this order, all from the main thread."""

    def start(self) -> None:
        """Start eight routers that connect to the site's sockets, with agents and control plane if the arm has some."""

    def act(self) -> None:
        """What people do at a quarter of the window."""

    def read_pids(self) -> Mapping[str, int]:
        """Process ids by role: `control`, `broker`, `agent-N`, `router-N`."""

    def stop(self) -> None:
        """Stop the routers after the window; when this returns none of them sends any more."""

    def read_report(self) -> Report:
        """The facts beside the ledgers, after `stop`."""


class Stores:
    """One artifact store for each server, below the arm's directory, and what was installed there in which order."""

    def __init__(self, site: Site, order_exit: Exit) -> None:
        self._site = site
        self._exit = order_exit
        self._installed: dict[int, list[Sealed]] = {node: [] for node in SERVERS}

    def install(self, code: Code, nodes: Iterable[int]) -> None:
        """Build the artifact once and seal the same files into the store of each of these servers."""
        source = self._site.directory / f"build-{code.name.lower()}"
        assemble(code, self._exit, source)
        for node in nodes:
            self._installed[node].append(seal(source, self.get_store(node)))

    def uninstall(self, node: int) -> None:
        """Forget the newest artifact of a server."""
        self._installed[node].pop()

    def get_newest(self, node: int) -> Sealed:
        """What a server starts: the newest artifact that its store holds."""
        return self._installed[node][-1]

    def get_oldest(self, node: int) -> Sealed:
        """What was installed first on a server."""
        return self._installed[node][0]

    def get_store(self, node: int) -> Path:
        """Where a server keeps its artifacts."""
        return self._site.directory / f"node-{node}" / "store"


class BareFleet:
    """Eight routers with the bare exit, started by hand. With `rolls_back` the new code is uninstalled again."""

    def __init__(self, site: Site, *, rolls_back: bool) -> None:
        self._site = site
        self._rolls_back = rolls_back
        self._stores = Stores(site, Exit.BARE)

    def start(self) -> None:
        """Install the old code everywhere, deploy the new code to the servers it reaches, start all."""
        self._stores.install(Code.OLD, SERVERS)
        self._stores.install(Code.NEW, self._site.updated)
        for node in SERVERS:
            self._start_router(node)

    def act(self) -> None:
        """Paragraph 27: the new code is uninstalled where it was installed; the flag in the orders stays as it is."""
        if not self._rolls_back:
            return
        self._site.processes.stop([f"router-{node}" for node in self._site.updated])
        for node in self._site.updated:
            self._stores.uninstall(node)
            self._start_router(node)

    def read_pids(self) -> Mapping[str, int]:
        """The eight routers."""
        return {f"router-{node}": self._site.processes.find_pid(f"router-{node}") for node in SERVERS}

    def stop(self) -> None:
        """End the eight routers."""
        self._site.processes.stop([f"router-{node}" for node in SERVERS])

    def read_report(self) -> Report:
        """Nobody guards, so there is nothing to report."""
        return Report()

    def _start_router(self, node: int) -> None:
        main = self._stores.get_newest(node).path / "main.py"
        argv = [read_interpreter(), "-B", str(main), str(node), str(self._site.sockets)]
        self._site.processes.start(f"router-{node}", argv, environment=_read_plain_environment())


def _read_plain_environment() -> dict[str, str]:
    """The same few words for every router, whatever it runs."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
