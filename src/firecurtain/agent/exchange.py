# SPDX-License-Identifier: Apache-2.0
"""The agent's end of the bus: beacons, stops and lifts in; attests and counters out; answers and releases back.

Every frame is verified here against the keys of the root before the core sees it. What does not verify is dropped,
counted and named now and then. Losing the connection is no event for the core: silence closes the page by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import structlog

from firecurtain.agent.core import machine
from firecurtain.agent.core.freshness import ANSWER_LIFE_NS
from firecurtain.agent.core.state import OUTSTANDING_MAX
from firecurtain.agent.counters import CounterSum, Totals
from firecurtain.agent.host import Host
from firecurtain.agent.service import Service
from firecurtain.bus.port import Bus, NoAnswer, Report, Unavailable
from firecurtain.permit import boottime_ns
from firecurtain.terms import NS_PER_S, FirecurtainError, WireError
from firecurtain.trust.fields import index_keys
from firecurtain.trust.root import Root
from firecurtain.wire import subjects
from firecurtain.wire.frame import decode_frame, decode_payload, encode_frame
from firecurtain.wire.keys import Signer
from firecurtain.wire.messages import VERSION, Answer, Attest, Beacon, Counters, Lift, Stop

EXCHANGE_S = 1.0  # R of the protocol
SPACING_S = 0.02  # attests asked for in between come at most this often
UNHEARD_S = 0.1  # chosen: of the 250 ms that a starting issuer waits for what nodes remember, less than half
COUNTERS_S = 0.1
FETCH_S = 2.0

_log = structlog.get_logger("firecurtain.agent.exchange")
_encoder = msgspec.msgpack.Encoder()


class Exchange:
    """Speaks and listens for one agent, over whichever connection it is given."""

    def __init__(self, host: Host, service: Service, root: Root, signer: Signer, counters: CounterSum) -> None:
        self._host, self._service, self._signer, self._counters = host, service, signer, counters
        self._issuers = index_keys(root.issuers)
        # Any one enrolled key may stop.
        self._stoppers = {**index_keys(root.stop_keys), **self._issuers}
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: set[str] = set()
        self._refused_count = 0

    async def serve(self, bus: Bus) -> None:
        """Everything but counters, until the connection ends. Raises: BusError, in a group."""
        identity = self._host.state.identity
        beacons = subjects.beacon(identity.fleet, identity.service)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(bus, beacons, self._take_beacon))
            group.create_task(self._listen(bus, subjects.stop_down(identity.fleet), self._take_stop))
            group.create_task(self._listen(bus, subjects.stop(identity.fleet), self._take_stop))
            group.create_task(self._listen(bus, subjects.lift(identity.fleet), self._take_lift))
            group.create_task(self._attest(bus, group))

    async def count(self, bus: Bus) -> None:
        """Cast the totals at 10 Hz, until the connection ends. Raises: BusError."""
        identity, number = self._host.state.identity, 0
        subject = subjects.counters(identity.fleet, identity.node)
        while True:
            number += 1
            message = Counters(
                version=VERSION,
                fleet=identity.fleet,
                service=identity.service,
                node=identity.node,
                session=identity.session,
                number=number,
                totals=self._read_totals(),
            )
            await bus.cast(subject, _encoder.encode(message))
            await asyncio.sleep(COUNTERS_S)

    async def _listen(self, bus: Bus, subject: str, take: Callable[[bytes], None]) -> None:
        async with await bus.listen(subject) as messages:
            async for message in messages:
                try:
                    take(message.data)
                except WireError as error:
                    self._count_refused(subject, error)

    def _take_beacon(self, frame: bytes) -> None:
        now_ns = boottime_ns()
        verified = decode_frame(Beacon, frame, self._issuers)
        self._host.apply(machine.on_beacon(self._host.state, verified.keyid, verified.message, now_ns))

    def _take_stop(self, frame: bytes) -> None:
        stop = decode_frame(Stop, frame, self._stoppers).message
        if stop.fleet != self._host.state.identity.fleet:
            raise WireError(f"a stop of fleet {stop.fleet} came to fleet {self._host.state.identity.fleet}; dropped.")
        self._host.apply(machine.on_stop(self._host.state, stop.entry, boottime_ns()))

    def _take_lift(self, payload: bytes) -> None:
        lift = decode_payload(Lift, payload)
        self._host.take_lift(lift.envelope)

    async def _attest(self, bus: Bus, group: asyncio.TaskGroup) -> None:
        """One exchange a second with each issuer, and at once when the core asks for one."""
        while True:
            await self._service.attest()
            self._host.ask_now.clear()
            self._ask_all(bus, group)
            await asyncio.sleep(SPACING_S)
            try:
                async with asyncio.timeout(EXCHANGE_S - SPACING_S):
                    await self._host.ask_now.wait()
            except TimeoutError:
                continue

    def _ask_all(self, bus: Bus, group: asyncio.TaskGroup) -> None:
        totals = self._read_totals()
        for _ in self._issuers:
            if len(self._tasks) >= OUTSTANDING_MAX:
                return  # nobody has answered for three seconds; the oldest questions end by themselves
            # t0 is read before anything is signed: the answer's clock reading cannot be older than it.
            t0_ns = boottime_ns()
            self._host.apply(machine.begin_attest(self._host.state, t0_ns, secrets.token_bytes(16), totals))
            for attest in self._take_sending():
                # Tasks begin in this order and `ask` publishes before it first waits: numbers arrive in growing order,
                # which matters, because a number that falls back is how a clone shows itself.
                self._spawn(group, self._ask(bus, attest))
        for release in sorted(self._host.wanted - self._fetching):
            self._spawn(group, self._fetch(bus, release))

    def _take_sending(self) -> list[Attest]:
        sending, self._host.sending = self._host.sending, []
        return sending

    async def _ask(self, bus: Bus, attest: Attest) -> None:
        subject = subjects.attest(attest.fleet, attest.node)
        try:
            frame = await bus.ask(subject, encode_frame(attest, self._signer), ANSWER_LIFE_NS / NS_PER_S)
            now_ns = boottime_ns()
            verified = decode_frame(Answer, frame, self._issuers)
        except NoAnswer as error:
            if error.nobody_listens:
                self._ask_soon()
            return  # silence is how a node is refused; the page says so when it closes
        except FirecurtainError as error:
            if isinstance(error, Unavailable):
                self._ask_soon()
            self._count_refused(subject, error)
            return
        self._host.apply(machine.on_answer(self._host.state, verified.keyid, verified.message, now_ns))

    def _ask_soon(self) -> None:
        """Nobody heard this attest. An issuer that starts must hear what we remember before it signs anything."""
        asyncio.get_running_loop().call_later(UNHEARD_S, self._host.ask_now.set)

    async def _fetch(self, bus: Bus, release: str) -> None:
        identity = self._host.state.identity
        subject = subjects.release(identity.fleet, identity.node)
        self._fetching.add(release)
        try:
            envelope = await bus.ask(subject, release.encode(), FETCH_S)
            if envelope:
                self._host.shelf.add(release, envelope)
                self._host.take_release(release)
        except NoAnswer:
            return  # asked again with the next attest
        except (FirecurtainError, OSError) as error:
            _log.error("release refused", release=release, error=str(error))
        finally:
            self._fetching.discard(release)
            self._host.wanted.discard(release)

    def _read_totals(self) -> Totals:
        try:
            return self._counters.read_totals(self._service.read_uids())
        except FirecurtainError as error:
            _log.error("counters not read", code=error.code, error=str(error))
            return ()

    def _spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        # In the group, so that what fails in one ends the agent: a core ahead of its page must not go on.
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count_refused(self, subject: str, error: FirecurtainError) -> None:
        """Named at 1, 2, 4, 8 …: a flood of forgeries must not become a flood of log lines."""
        self._refused_count += 1
        if self._refused_count & (self._refused_count - 1) == 0:
            _log.warning("refused", subject=subject, code=error.code, error=str(error), count=self._refused_count)


Connect = Callable[[Report], Awaitable[Bus]]
