# SPDX-License-Identifier: Apache-2.0
"""Eight servers as an arm sees them: what a fleet must offer, and the bare fleet, run the old way by hand.

In the bare fleet a deploy copies the new artifact into the store of each server it reaches, and a server starts the
newest artifact that its store holds. Nothing checks that all stores hold the same. That is all that makes a straggler.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firecurtain.artifact.seal import seal
from firecurtain.rehearsal.knight.assemble import Code, Exit, assemble
from firecurtain.rehearsal.knight.judge import GuardView
from firecurtain.rehearsal.knight.market import NODES
from firecurtain.rehearsal.knight.processes import Processes, read_interpreter
from firecurtain.terms import Digest


@dataclass(frozen=True, slots=True)
class Site:
    """Where one arm plays: its own directory, the sockets of venue and feeder, and who missed the update."""

    directory: Path
    sockets: Path
    processes: Processes
    straggler: int | None

    @property
    def updated(self) -> tuple[int, ...]:
        """The servers that the deploy reached."""
        return tuple(node for node in range(1, NODES + 1) if node != self.straggler)


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a fleet after the window beside the ledgers; the default is a fleet without any guard."""

    guards: GuardView | None = None
    refusals: tuple[str, ...] = ()
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


class BareFleet:
    """Eight routers with the bare exit, started by hand. With `rolls_back` the new code is uninstalled again."""

    def __init__(self, site: Site, *, rolls_back: bool) -> None:
        self._site = site
        self._rolls_back = rolls_back
        self._installed: dict[int, list[Digest]] = {node: [] for node in range(1, NODES + 1)}

    def start(self) -> None:
        """Install the old code everywhere, deploy the new code to the servers it reaches, start all."""
        self._install(Code.OLD, tuple(self._installed))
        self._install(Code.NEW, self._site.updated)
        for node in self._installed:
            self._start_router(node)

    def act(self) -> None:
        """Paragraph 27: the new code is uninstalled where it was installed; the flag in the orders stays as it is."""
        if not self._rolls_back:
            return
        nodes = self._site.updated
        self._site.processes.stop([f"router-{node}" for node in nodes])
        for node in nodes:
            self._installed[node].pop()
            self._start_router(node)

    def read_pids(self) -> Mapping[str, int]:
        """The eight routers."""
        return {f"router-{node}": self._site.processes.find_pid(f"router-{node}") for node in self._installed}

    def stop(self) -> None:
        """End the eight routers."""
        self._site.processes.stop([f"router-{node}" for node in self._installed])

    def read_report(self) -> Report:
        """Nobody guards, so there is nothing to report."""
        return Report()

    def _install(self, code: Code, nodes: tuple[int, ...]) -> None:
        source = self._site.directory / f"build-{code.name.lower()}"
        assemble(code, Exit.BARE, source)
        for node in nodes:
            self._installed[node].append(seal(source, self._get_store(node)).digest)

    def _start_router(self, node: int) -> None:
        newest = self._get_store(node) / self._installed[node][-1]
        argv = [read_interpreter(), "-B", str(newest / "main.py"), str(node), str(self._site.sockets)]
        self._site.processes.start(f"router-{node}", argv, environment=_read_plain_environment())

    def _get_store(self, node: int) -> Path:
        return self._site.directory / f"node-{node}" / "store"


def _read_plain_environment() -> dict[str, str]:
    """The same few words for every router, whatever it runs."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
