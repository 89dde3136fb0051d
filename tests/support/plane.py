# SPDX-License-Identifier: Apache-2.0
"""A control plane in this process over a real broker, and the people and nodes who speak to it by hand.

`async with running_plane(tmp_path) as site:`; a test then sends what a person or an agent would send, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from firecurtain.bus.nats import NatsBus
from firecurtain.bus.port import Message
from firecurtain.bus.server import Server
from firecurtain.control.clock import IssuerClock
from firecurtain.control.latch import Latch, create_latch, open_latch
from firecurtain.control.plane import Plane
from firecurtain.domain.commands import FoundFleet
from firecurtain.domain.decide import decide
from firecurtain.domain.events import Event, EventBase, decode_event, encode_event
from firecurtain.domain.evolve import evolve, initial
from firecurtain.domain.state import Instant
from firecurtain.ledger.ledger import Ledger, open_ledger
from firecurtain.trust.envelope import ROOT_TYPE, write_document
from firecurtain.trust.root import Root
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire import subjects
from firecurtain.wire.commands import AnyBody, Command, EnrolNode
from firecurtain.wire.frame import decode_frame, encode_frame
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import VERSION, Answer, Attest, Beacon, Reply, Running, Stop, StopEntry
from support import nats
from support.fleet_world import make_signer

Event_ = TypeVar("Event_", bound=EventBase)

FLEET = nats.FLEET
SERVICE = "smars"
ISSUER = make_signer("issuer")
OPERATORS = (make_signer("olga"), make_signer("otto"))
STOP = make_signer("stop")


def make_root() -> bytes:
    """A root with two operators and a stop key of its own."""
    approvers = [make_signer(name) for name in ("ann", "bob", "cid")]
    root = Root(
        fleet=FLEET,
        version=1,
        issuers=(ISSUER.public.hex(),),
        stop_keys=(STOP.public.hex(),),
        operators=tuple(key.public.hex() for key in OPERATORS),
        approvers=tuple(key.public.hex() for key in approvers),
        approve_threshold=2,
        lift_threshold=2,
        authors=(make_signer("author").public.hex(),),
    )
    return sign_envelope(write_document(root), ROOT_TYPE, approvers)


@dataclass
class Site:
    """A running control plane and two connections to it: one as a person, one as host-8."""

    plane: Plane
    ledger: Ledger
    latch: Latch
    latch_path: Path
    server: Server
    person: NatsBus
    host: NatsBus
    numbers: dict[bytes, int] = field(default_factory=dict)

    async def frame_command(self, body: AnyBody, by: Ed25519Signer = OPERATORS[0]) -> tuple[bytes, bytes]:
        """A signed command with a fresh challenge: (challenge, frame)."""
        challenge = await self.person.ask(subjects.hello(FLEET), b"", 5.0)
        return challenge, encode_frame(Command(VERSION, FLEET, challenge, body), by)

    async def send(self, frame: bytes) -> Reply:
        """Send a command's frame; the reply's signature is verified."""
        return self.read(Reply, await self.person.ask(subjects.command(FLEET), frame, 5.0))

    async def command(self, body: AnyBody, by: Ed25519Signer = OPERATORS[0]) -> Reply:
        return await self.send((await self.frame_command(body, by))[1])

    async def enrol(self, node: str = "host-8") -> Ed25519Signer:
        """Enrol a node of service smars and return its key."""
        key = make_signer(node)
        reply = await self.command(EnrolNode(node, SERVICE, key.public))
        assert reply.ok, reply.text
        return key

    async def stop(self, frame: bytes) -> Reply:
        return self.read(Reply, await self.person.ask(subjects.stop(FLEET), frame, 5.0))

    def make_attest(
        self,
        node: str = "host-8",
        session: bytes = b"s" * 16,
        artifact: str = "a" * 64,
        latched: tuple[bytes, ...] = (),
    ) -> Attest:
        """The next attest of this session."""
        self.numbers[session] = self.numbers.get(session, 0) + 1
        return Attest(
            version=VERSION,
            fleet=FLEET,
            service=SERVICE,
            node=node,
            session=session,
            number=self.numbers[session],
            running=Running(4711, 99, artifact, 0),
            ledger_epoch=1,
            ledger_seq=1,
            content="0" * 64,
            latched=latched,
            totals=(),
            nonce=secrets.token_bytes(16),
        )

    async def attest(self, attest: Attest, by: Ed25519Signer, timeout_s: float = 1.0) -> Answer:
        """Ask as host-8 does. Raises: NoAnswer."""
        frame = await self.host.ask(subjects.attest(FLEET, "host-8"), encode_frame(attest, by), timeout_s)
        return self.read(Answer, frame)

    async def cast_attest(self, attest: Attest, by: Ed25519Signer) -> None:
        """Attest without waiting for an answer; returns once the control plane has judged it."""
        message = Message(subjects.attest(FLEET, attest.node), encode_frame(attest, by), "")
        await self.plane.answers.handle_attest(message, self.plane.stops)

    def read(self, kind: type[Any], frame: bytes) -> Any:
        return decode_frame(kind, frame, {ISSUER.keyid: ISSUER.public}).message

    async def read_beacon(self) -> Beacon:
        """The next beacon of service smars."""
        async with await self.host.listen(subjects.beacon(FLEET, SERVICE)) as beacons, asyncio.timeout(5.0):
            async for message in beacons:
                return self.read(Beacon, message.data)
        raise AssertionError("the listening ended without a beacon")

    async def read_events(self) -> list[Event]:
        """What our own copy of the ledger holds."""
        return [decode_event(entry.event) async for entry in self.ledger.history(0)]

    async def wait_for(self, kind: type[Event_]) -> Event_:
        """The first event of this kind, as soon as the ledger holds it."""
        async with asyncio.timeout(5.0), aclosing(self.ledger.read(0)) as entries:
            async for entry in entries:
                event = decode_event(entry.event)
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"the ledger ended without a {kind.__name__}")


def make_stop(
    scope: str = "fleet", stop_id: bytes | None = None, by: Ed25519Signer = STOP, fleet: str = FLEET
) -> bytes:
    """A signed stop."""
    entry = StopEntry(stop_id or secrets.token_bytes(16), "halt", scope, "drill")
    return encode_frame(Stop(VERSION, fleet, entry, 0), by)


@asynccontextmanager
async def running_plane(directory: Path, reserve_bytes: int = 0) -> AsyncIterator[Site]:
    """Found or replay a fleet in `directory` and serve it."""
    async with nats.running_server(directory) as server:
        bus = await nats.connect_with_ledger(server)
        ledger = await open_ledger(
            bus,
            directory / "ledger.sqlite",
            fleet=FLEET,
            epoch=1,
            disks=(directory,),
            reserve_bytes=reserve_bytes,
        )
        clock = IssuerClock(ISSUER.keyid)
        path = directory / "stops"
        if not path.exists():
            create_latch(path)
        latch, _ = open_latch(path, clock.read_ns)
        if ledger.head.seq == 0:
            now = Instant(clock.clock_id, clock.read_ns(), clock.started_ns, 0)
            for event in decide(initial(), FoundFleet(FLEET, 1, make_root()), now, {}):
                await ledger.append(encode_event(event), 0, uses_reserve=True)
        fleet = initial()
        async for entry in ledger.history(0):
            fleet = evolve(fleet, decode_event(entry.event))
        plane = Plane(fleet, ledger, latch, bus, clock, ISSUER, server.revive, _admit)
        ended, ready = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(plane.serve(ended, lambda: _set(ready)))
        person, host = await nats.connect(server, nats.OPERATOR), await nats.connect(server, nats.HOST_8)
        await _first(ready.wait(), serving)
        try:
            yield Site(plane, ledger, latch, path, server, person, host)
        finally:
            ended.set()
            await asyncio.wait_for(serving, 10.0)
            for connection in (person, host, bus):
                await connection.close()
            await ledger.close()
            latch.close()


async def _set(ready: asyncio.Event) -> None:
    ready.set()


async def _admit(node: str) -> dict[str, str]:
    return {"url": "", "user": node, "password": ""}


async def _first(waiting: Awaitable[object], serving: asyncio.Task[None]) -> None:
    await asyncio.wait({asyncio.ensure_future(waiting), serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving


def read_detail(reply: Reply) -> dict[str, Any]:
    """The JSON inside a reply."""
    detail = json.loads(reply.detail)
    assert isinstance(detail, dict)
    return detail
