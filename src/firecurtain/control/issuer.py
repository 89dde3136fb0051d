# SPDX-License-Identifier: Apache-2.0
"""The issuer: signs each service's beacon every period, and at once when content changes or a stop comes.

Order is everything here. It reads its clock FIRST, then its fsynced stops, then signs: a stop that was durable before
the reading stands in the beacon, so whoever counts age from that reading cannot outlive the stop. It narrows in memory,
fsyncs, and only then casts. Its task awaits nothing but the cast: no append, no database, no HTTP. When its latch
cannot be written, or may have lost a stop that nodes remember, it signs no beacon and no answer: silence stops the
fleet. What one node alone remembers while our latch is whole is that node's own trouble.
Source: docs/decisions/0007-whom-a-remembered-stop-silences.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from firecurtain.control.clock import IssuerClock
from firecurtain.control.latch import Latch, LatchedStop
from firecurtain.control.widen import select_stops
from firecurtain.domain.stops import widen_scope
from firecurtain.terms import FLEET, NS_PER_S, FirecurtainError, Scope
from firecurtain.wire import subjects
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.keys import Signer
from firecurtain.wire.messages import (
    VERSION,
    AllowedRelease,
    Answer,
    Attest,
    Beacon,
    Reply,
    Stop,
    StopEntry,
    StopKind,
    compute_content_digest,
)

NODE_STOPS_MAX = 64
"""In force at once by one node for itself: more add nothing to what is stopped and would fill the set."""

REMEMBERED_PER_NODE_MAX = 16
"""Stops that one node remembers and we do not, kept at a time: the others come when these are known."""

REMEMBERED_WAIT_NS = 5 * NS_PER_S
"""Chosen: a sender repeats a stop several times a second, so what has not come again by then has no sender."""

START_WAIT_S = 0.25
"""Before the first beacon nodes may tell which stops they remember.
Source: 03-protocol, "Ledger and restore"."""

SUSPECT_WAIT_S = 1.0
"""So much longer when our own memory is in doubt: an agent attests every R = 1 s, and as soon as it is connected."""

Cast = Callable[[str, bytes], Awaitable[None]]

_log = structlog.get_logger("firecurtain.issuer")


class IssuerSilentError(FirecurtainError):
    """The issuer may sign nothing now."""

    code = "issuer-silent"


@dataclass(frozen=True, slots=True)
class Content:
    """What the ledger lets the nodes of one service do, named by its place and digest."""

    epoch: int
    seq: int
    digest: str
    allowed: tuple[AllowedRelease, ...]


@dataclass(frozen=True, slots=True)
class Grants:
    """What the ledger last told the issuer. Replaced as a whole, never changed: the same object is the same content."""

    contents: Mapping[str, Content] = field(default_factory=dict)
    recorded: Mapping[bytes, StopEntry] = field(default_factory=dict)
    lifted: frozenset[bytes] = frozenset()
    service_of: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A stop that nodes remember and we do not: since when, and the first two of them."""

    since_ns: int
    nodes: tuple[str, ...]


class Issuer:
    """One issuer of one fleet. `draw_id` gives 16 random bytes; `cast` sends to whoever listens.

    `contradiction` is set by whoever hears the nodes: why our ledger cannot be the newest; empty while it may be.
    """

    def __init__(
        self,
        fleet: str,
        signer: Signer,
        clock: IssuerClock,
        latch: Latch,
        cast: Cast,
        draw_id: Callable[[], bytes],
        max_age_ms: int,
        period_ms: int,
    ) -> None:
        self.fleet = fleet
        self.clock = clock
        self.latch = latch
        self._signer = signer
        self._cast = cast
        self._draw_id = draw_id
        self._max_age_ms = max_age_ms
        self._period_s = period_ms / 1000
        self._grants = Grants()
        self._in_force: dict[bytes, StopEntry] = {}
        self._selected: dict[str, tuple[tuple[StopEntry, ...], bool]] = {}
        self._unrecorded: tuple[LatchedStop, ...] = ()
        self._remembered: dict[bytes, Remembered] = {}
        self._lost_halt = b""
        self._is_suspect: bool | None = None
        self.contradiction = ""
        self._changed = asyncio.Event()
        self._is_started = False
        self._trouble = ""
        self._refresh()

    # Grants and stops in force

    def adopt(self, grants: Grants) -> None:
        """Take over what the ledger says now, and have it signed at once."""
        before, self._grants = self._grants, grants
        if self._is_suspect is None:
            # Judged once: from here on every stop goes through this latch before the ledger hears of it.
            self._is_suspect = not (self.latch.is_founded and grants.recorded.keys() <= self.latch.stops.keys())
        # Most events change neither H nor L, and H may be large.
        if grants.recorded is not before.recorded or grants.lifted is not before.lifted:
            self._refresh()
        if grants.service_of != before.service_of:
            self._selected = {}
        self._widen()
        self._changed.set()

    def in_force(self) -> Mapping[bytes, StopEntry]:
        """Every stop this issuer knows and nobody lifted."""
        return self._in_force

    def is_known(self, stop_id: bytes) -> bool:
        """Whether this id is in H or in L."""
        return stop_id in self.latch.stops or stop_id in self._grants.recorded or stop_id in self._grants.lifted

    def get_entry(self, stop_id: bytes) -> StopEntry | None:
        """The stop of this id in H, lifted or not."""
        stop = self.latch.stops.get(stop_id)
        return stop.entry if stop else self._grants.recorded.get(stop_id)

    def find_unrecorded(self) -> tuple[LatchedStop, ...]:
        """Durable stops that the ledger does not hold yet; none while the latch is broken, as one of them is not."""
        return self._unrecorded if self.latch.error is None else ()

    def add(self, frame: bytes) -> LatchedStop:
        """Narrow, then fsync. The frame's signature must have been verified. A known id keeps its first durability.

        Raises: LatchError: held in memory, not durable; this issuer is silent from now on.
        """
        try:
            stop = self.latch.add(frame)
        finally:
            self._refresh()
        self._widen()
        return stop

    def make_stop(self, kind: StopKind, scope: Scope, reason: str, stop_id: bytes | None = None) -> bytes:
        """Sign a stop of our own: a fence, a disarm, an exclusion or a widening. It is not latched yet."""
        entry = StopEntry(stop_id or self._draw_id(), kind, str(scope), reason)
        return encode_frame(Stop(VERSION, self.fleet, entry, self.clock.read_utc_ms()), self._signer)

    def find_unknown(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Those of these stops that are neither in H nor in L."""
        return tuple(stop_id for stop_id in ids if not self.is_known(stop_id))

    def note_remembered(self, node: str, ids: tuple[bytes, ...]) -> None:
        """A node attests these stops as latched, and we do not know them."""
        count = sum(node in memory.nodes for memory in self._remembered.values()) if ids else 0
        for stop_id in ids:
            memory = self._remembered.get(stop_id)
            if memory is None and count < REMEMBERED_PER_NODE_MAX:
                count += 1
                self._remembered[stop_id] = Remembered(self.clock.read_ns(), (node,))
                # Mostly it heard the person's own cast a moment before us.
                _log.info("waiting for a stop that a node has already", node=node, stop=stop_id.hex())
            elif memory is not None and len(memory.nodes) == 1 and node not in memory.nodes:
                self._remembered[stop_id] = replace(memory, nodes=(*memory.nodes, node))

    def get_content(self, service: str) -> Content | None:
        """What we sign for a service now."""
        return self._grants.contents.get(service)

    def find_lost(self) -> tuple[tuple[bytes, Scope, str], ...]:
        """What to make of stops that nobody sent us again within REMEMBERED_WAIT_NS: id, scope, a node that has it.

        One of them, told alone, stops the whole fleet when it was we who lost them; under it the others, like those
        that one node alone remembers, stop that node, so that each can be lifted by its id. No other halt of the fleet
        will do: people lift it for reasons of its own, and the lost scope would be left to one node.
        """
        if not self._remembered:
            return ()
        overdue_ns = self.clock.read_ns() - REMEMBERED_WAIT_NS
        halt = self._in_force.get(self._lost_halt)
        is_fleet_halted = halt is not None and widen_scope(halt.scope) == FLEET
        counts = Counter(entry.scope for entry in self._in_force.values())
        found: list[tuple[bytes, Scope, str]] = []
        for stop_id, memory in self._remembered.items():
            scope = Scope("node", memory.nodes[0])
            if memory.since_ns > overdue_ns:
                continue
            if self._is_ours(memory) and not is_fleet_halted:
                self._lost_halt = stop_id
                return ((stop_id, FLEET, memory.nodes[0]),)
            if counts[str(scope)] >= NODE_STOPS_MAX:
                continue
            counts[str(scope)] += 1
            found.append((stop_id, scope, memory.nodes[0]))
        return tuple(found)

    @property
    def silence(self) -> str:
        """Why nothing may be signed now; empty when signing is allowed."""
        if self.latch.error is not None:
            return str(self.latch.error)
        if self.contradiction:
            return self.contradiction
        lost = [(key, memory.nodes[0]) for key, memory in self._remembered.items() if self._is_ours(memory)]
        if lost and not self._is_fleet_stopped():
            stop_id, node = lost[0]
            return (
                f"{len(lost)} stops are remembered by nodes but not here, first {stop_id.hex()} on {node}. "
                "Nothing is signed until they are sent again; else they soon count as a stop of the whole fleet."
            )
        return ""

    @property
    def is_suspect(self) -> bool:
        """Whether our own memory is in doubt: the stop file is not whole, or was not judged yet."""
        return self._is_suspect is not False

    def _is_ours(self, memory: Remembered) -> bool:
        """Whether it must be we who lost this stop: one node alone against a whole latch proves nothing."""
        return self.is_suspect or len(memory.nodes) > 1

    def _is_fleet_stopped(self) -> bool:
        return any(widen_scope(entry.scope) == FLEET for entry in self._in_force.values())

    def _refresh(self) -> None:
        self._selected = {}
        known = {**self._grants.recorded, **{key: stop.entry for key, stop in self.latch.stops.items()}}
        self._in_force = {key: entry for key, entry in known.items() if key not in self._grants.lifted}
        self._unrecorded = tuple(stop for key, stop in self.latch.stops.items() if key not in self._grants.recorded)
        self._remembered = {key: memory for key, memory in self._remembered.items() if not self.is_known(key)}

    def _widen(self) -> None:
        for service in sorted(self._grants.contents):
            listed, is_covered = self._select(service)
            if not is_covered:
                reason = f"widened: {len(listed)} narrower stops fill a beacon"
                self.add(self.make_stop("halt", Scope("service", service), reason))

    def _select(self, service: str) -> tuple[tuple[StopEntry, ...], bool]:
        """What this service's beacon lists, worked out anew only when H, L or the roster changed."""
        if service not in self._selected:
            self._selected[service] = select_stops(self._in_force.values(), service, self._grants.service_of)
        return self._selected[service]

    # Signing

    def compute_beacon(self, service: str) -> bytes:
        """Sign one beacon. Raises: IssuerSilentError, KeyError: no grants for this service."""
        self._check_may_sign()
        signed_ns = self.clock.read_ns()  # first: a stop durable before this moment must stand below
        stops, _ = self._select(service)
        content = self._grants.contents[service]
        beacon = Beacon(
            version=VERSION,
            fleet=self.fleet,
            service=service,
            clock_id=self.clock.clock_id,
            signed_ns=signed_ns,
            issued_utc_ms=self.clock.read_utc_ms(),
            max_age_ms=self._max_age_ms,
            ledger_epoch=content.epoch,
            ledger_seq=content.seq,
            content=content.digest,
            allowed=content.allowed,
            stops=stops,
        )
        return encode_frame(beacon, self._signer)

    def compute_answer(self, attest: Attest, accepted: str, lifts: tuple[bytes, ...]) -> bytes:
        """Sign the answer to one attest, with our clock as it is now. Raises: IssuerSilentError."""
        self._check_may_sign()
        answer = Answer(
            version=VERSION,
            fleet=self.fleet,
            node=attest.node,
            session=attest.session,
            nonce=attest.nonce,
            accepted=accepted,
            clock_id=self.clock.clock_id,
            clock_ns=self.clock.read_ns(),
            lifts=lifts,
        )
        return encode_frame(answer, self._signer)

    def compute_reply(self, reply: Reply) -> bytes:
        """Sign a reply to a person: it grants nothing, so it is signed in silence too, and says why."""
        return encode_frame(reply, self._signer)

    def _check_may_sign(self) -> None:
        if silence := self.silence:
            raise IssuerSilentError(silence)

    # Casting

    async def cast_now(self) -> None:
        """Sign and send every service's beacon, once we have started. A trouble is told when it comes and goes."""
        trouble: FirecurtainError | None = None
        for service in sorted(self._grants.contents) if self._is_started else ():
            try:
                await self._cast(subjects.beacon(self.fleet, service), self.compute_beacon(service))
            except FirecurtainError as error:
                trouble = error
        self._tell(trouble)

    async def run(self) -> None:
        """Cast for ever. Beacons follow at once when something changed, else after one period."""
        # A whole memory lacks nothing that anybody was told, and a restart within max_age shall close no page.
        await asyncio.sleep(START_WAIT_S + (SUSPECT_WAIT_S if self._is_suspect else 0.0))
        self._is_started = True
        while True:
            self._changed.clear()
            await self.cast_now()
            # Not wait_for: in Python 3.11 it may swallow a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._changed.wait()

    def _tell(self, error: FirecurtainError | None) -> None:
        code = error.code if error else ""
        if code != self._trouble:
            self._trouble = code
            if error is None:
                _log.info("beacons go out again")
            else:
                _log.error("a beacon does not go out", code=code, error=str(error))


def make_content(epoch: int, seq: int, service: str, allowed: tuple[AllowedRelease, ...]) -> Content:
    """Name the grants of one service by their digest."""
    return Content(epoch, seq, compute_content_digest(epoch, seq, service, allowed), allowed)
