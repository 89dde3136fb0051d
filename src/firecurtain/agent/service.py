# SPDX-License-Identifier: Apache-2.0
"""Keeps the right release running: starts, watches, replaces and restarts the one service process, and says what runs.

Which release is right is the core's choice (`core.choice`). Restarts back off, so that a service that dies at once
costs little; nothing is restarted in secret: while no process runs the page is closed and says why.
"""

from __future__ import annotations

import asyncio

import structlog

from firecurtain.agent.clock import read_utc_ns
from firecurtain.agent.config import AgentConfig
from firecurtain.agent.core import machine
from firecurtain.agent.core.choice import choose_release
from firecurtain.agent.host import Host
from firecurtain.agent.process import ServiceProcess, list_stored, read_uids, start_service
from firecurtain.permit import boottime_ns
from firecurtain.terms import NS_PER_S, FirecurtainError
from firecurtain.trust.release import Release
from firecurtain.wire.messages import Running

LOOK_S = 1.0  # how often the store is looked at for an artifact that has arrived meanwhile
BACK_OFF_S_MIN, BACK_OFF_S_MAX = 0.1, 5.0
STEADY_NS = 10 * NS_PER_S  # who lived this long starts again without waiting

_log = structlog.get_logger("firecurtain.agent.service")


class Service:
    """The service of one agent. `run` is its only task; `attest` may be called at any time."""

    def __init__(self, config: AgentConfig, host: Host) -> None:
        self._config, self._host = config, host
        self._process: ServiceProcess | None = None
        self._attesting = asyncio.Lock()
        self._uids: frozenset[int] = frozenset()
        self._started_ns = 0
        self._back_off_s = BACK_OFF_S_MIN

    async def run(self) -> None:
        """Until cancelled; then the process is ended."""
        try:
            while True:
                self._host.releases_changed.clear()
                await self._replace()
                await self._wait()
        finally:
            await self._end("the agent stops")

    async def attest(self) -> None:
        """Look at the process and its files as they are now, and tell the core. Hashing runs beside the event loop."""
        async with self._attesting:
            process = self._process
            if process is None:
                return
            running, doubt = await asyncio.to_thread(_look, process)
            if process is self._process:
                self._tell(running, doubt)

    def read_uids(self) -> frozenset[int]:
        """As which users the service runs, or ran while it last did: it may have left the agent's user."""
        if self._process is not None:
            self._uids = read_uids(self._process.child.pid) or self._uids
        return self._uids

    async def _replace(self) -> None:
        """End what runs if something else should, then start what should run."""
        wanted = self._choose()
        process = self._process
        if process is not None and process.child.ended.done():
            await self._note_end(process)
            process = None
        if wanted is None or (process is not None and _is_same(process.release, wanted)):
            return
        await self._end(f"release {wanted.version} is to run")
        await self._start(wanted)

    def _choose(self) -> Release | None:
        try:
            facts = choose_release(self._host.state, list_stored(self._config.store))
        except FirecurtainError as error:
            self._tell(None, str(error))
            return None
        if facts is None and self._process is None:
            self._tell(
                None, f"the store {self._config.store} holds no artifact of a release verified here. Do: seal it."
            )
        return None if facts is None else self._host.shelf.documents[facts.release]

    async def _start(self, release: Release) -> None:
        config = self._config
        lock = config.state_dir / "service.lock"
        try:
            self._process = start_service(
                release, config.store, config.interpreter, config.argv, config.page_path, lock
            )
        except FirecurtainError as error:
            self._tell(None, str(error))
            _log.error("service not started", code=error.code, error=str(error))
            await self._wait_back_off()
            return
        pid = self._process.child.pid
        self._started_ns = boottime_ns()
        _log.info(
            "service started", pid=pid, artifact=release.artifact, version=release.version, attestation="L0 self-report"
        )
        self._process.child.ended.add_done_callback(lambda _ended: self._host.releases_changed.set())
        await self.attest()

    async def _note_end(self, process: ServiceProcess) -> None:
        """It ended by itself: close first, then wait a little longer each time."""
        self._process = None
        text = (
            f"the service process {process.child.pid} ended with code {process.child.ended.result()}. Do: see its log."
        )
        self._tell(None, text)
        _log.error("service ended", pid=process.child.pid, code=process.child.ended.result())
        if boottime_ns() - self._started_ns >= STEADY_NS:
            self._back_off_s = BACK_OFF_S_MIN
        await self._wait_back_off()

    async def _end(self, why: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._tell(None, f"{why}; process {process.child.pid} is being ended.")
            await process.child.end()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._host.releases_changed.wait()
        except TimeoutError:
            return

    async def _wait_back_off(self) -> None:
        await asyncio.sleep(self._back_off_s)
        self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S_MAX)
        self._host.releases_changed.set()

    def _tell(self, running: Running | None, doubt: str) -> None:
        self._host.apply(machine.on_running(self._host.state, running, doubt, boottime_ns()))


def _look(process: ServiceProcess) -> tuple[Running | None, str]:
    try:
        return process.read_running(read_utc_ns()), ""
    except FirecurtainError as error:
        return None, str(error)


def _is_same(running: Release, wanted: Release) -> bool:
    """Two releases of the same code need no restart between them."""
    return (running.artifact, running.entrypoint) == (wanted.artifact, wanted.entrypoint)
