# SPDX-License-Identifier: Apache-2.0
"""The parts of a running control plane and the tasks that drive them, each on subjects of its own.

What must never wait for the ledger (beacons, stops, answers) runs in tasks that never touch it; what needs it runs in
the turn loop and in the command task. A part that cannot go on ends all of them: a control plane that is half there
would look alive.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from firecurtain.bus.listening import Listening
from firecurtain.bus.port import Bus, Message
from firecurtain.control.answers import Answers
from firecurtain.control.clock import IssuerClock
from firecurtain.control.commands import CommandDesk
from firecurtain.control.issuer import Issuer
from firecurtain.control.latch import Latch, LatchedStop
from firecurtain.control.noise import is_inbox
from firecurtain.control.status import compute_status
from firecurtain.control.stops import StopDesk
from firecurtain.control.turn import Turn
from firecurtain.domain.state import Fleet, Instant
from firecurtain.ledger.ledger import Ledger
from firecurtain.terms import BusError
from firecurtain.wire import subjects
from firecurtain.wire.keys import Signer

_log = structlog.get_logger("firecurtain.control")

CANCEL_AGAIN_S = 0.1

Handler = Callable[[Message], Awaitable[None]]


class Plane:
    """One control plane over one bus. `admit` gives an enrolled node its broker credentials."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        latch: Latch,
        bus: Bus,
        clock: IssuerClock,
        signer: Signer,
        revive: Callable[[], Awaitable[None]],
        admit: Callable[[str], Awaitable[dict[str, str]]],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._fleet_name = fleet.fleet
        self.issuer = Issuer(
            fleet.fleet, signer, clock, latch, bus.cast, _draw_id, fleet.root.max_age_ms, fleet.root.beacon_period_ms
        )
        self.turn = Turn(
            fleet, ledger, self.issuer, bus.cast, lambda: self.answers.live, self._pull, self.read_instant, revive
        )
        self.answers = Answers(self.issuer, bus, lambda: self.turn.fleet, self.read_instant, self.turn.open_session)
        self.stops = StopDesk(self.issuer, bus, lambda: self.turn.fleet, lambda: self.answers.latched, self.turn.wake)
        self.commands = CommandDesk(self.issuer, bus, self.turn, _draw_id, admit, self._compute_status)

    def read_instant(self) -> Instant:
        """The clocks, read once per turn."""
        clock = self._clock
        return Instant(clock.clock_id, clock.read_ns(), clock.started_ns, clock.read_utc_ms())

    async def serve(self, ended: asyncio.Event, beside: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run every task until `ended`, and `beside` once everybody listens.

        Raises: FirecurtainError: what ended a task by itself.
        """
        waiting = asyncio.create_task(ended.wait())
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(work) for work in [*await self._start(), beside()]}
        running = tasks
        try:
            while not waiting.done() and not any(task.exception() for task in tasks - running):
                _, running = await asyncio.wait({waiting, *running}, return_when=asyncio.FIRST_COMPLETED)
                running.discard(waiting)
        finally:
            await _end({waiting, *tasks})
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _start(self) -> list[Coroutine[None, None, None]]:
        """Listen first, so that nothing sent after the start is missed, then hand out the work."""
        name = self._fleet_name
        handlers: dict[str, Handler] = {
            subjects.stop(name): self.stops.handle,
            subjects.node_stop(name, "*"): self.stops.handle,
            subjects.attest(name, "*"): lambda message: self.answers.handle_attest(message, self.stops),
            subjects.counters(name, "*"): self.answers.handle_counters,
            subjects.release(name, "*"): self._handle_release,
            subjects.release_for_people(name): self._handle_release,
            subjects.hello(name): self.commands.handle_hello,
            subjects.command(name): self.commands.handle_command,
        }
        listenings = [(await self._bus.listen(subject), handler) for subject, handler in handlers.items()]
        return [
            *(_serve(listening, handler) for listening, handler in listenings),
            self.issuer.run(),
            self.turn.run(),
            self.turn.watch(),
        ]

    async def _handle_release(self, message: Message) -> None:
        """Give out a release envelope by its digest, with its signatures so far; empty when there is none.

        Whoever gets it verifies it: an envelope proves itself or nothing.
        """
        if not is_inbox(message.reply):
            return
        record = self.turn.fleet.releases.get(message.data.decode("ascii", "replace"))
        try:
            await self._bus.cast(message.reply, record.envelope if record else b"")
        except BusError as error:
            _log.error("release not sent", code=error.code, error=str(error))

    async def _pull(self, frame: bytes) -> LatchedStop:
        return await self.stops.pull(frame)

    def _compute_status(self) -> dict[str, object]:
        return compute_status(self.turn.fleet, self.answers, self.issuer, self.read_instant(), self.turn.trouble)


async def _serve(listening: Listening[Message], handler: Handler) -> None:
    async with listening:
        async for message in listening:
            await handler(message)


def _draw_id() -> bytes:
    return secrets.token_bytes(16)


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    # Asked again until each has ended: a library that waits with wait_for may swallow a cancellation in Python 3.11.
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
