# SPDX-License-Identifier: Apache-2.0
"""Taking in stops from people and nodes: verify, latch, cast, answer; the ledger is told afterwards.

Nothing here waits for the ledger. A stop that cannot be recorded is in force all the same, and a stop whose fsync
fails is still passed on to the agents, because passing on needs no signature of ours. A node's key speaks for that node
only; a stop key speaks for every scope.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping

import structlog

from firecurtain.bus.port import Bus, Message
from firecurtain.control.issuer import NODE_STOPS_MAX, Issuer
from firecurtain.control.keys import NodeKeys, index_people_who_stop
from firecurtain.control.latch import LatchedStop
from firecurtain.control.noise import Refused, is_inbox
from firecurtain.domain.state import Fleet, Node
from firecurtain.domain.stops import widen_scope
from firecurtain.terms import BusError, FirecurtainError, WireError
from firecurtain.wire import subjects
from firecurtain.wire.frame import decode_frame
from firecurtain.wire.messages import VERSION, Reply, Stop, StopEntry

NODES_LISTED_MAX = 256
"""In one answer. Chosen: with longest names they fill a third of a frame; a fleet may have 10,000 nodes."""

_log = structlog.get_logger("firecurtain.stops")


class StopDesk:
    """Takes one stop message at a time.

    `get_latched` gives the stops that each node last attested as latched; `on_latched` wakes whoever records.
    """

    def __init__(
        self,
        issuer: Issuer,
        bus: Bus,
        get_fleet: Callable[[], Fleet],
        get_latched: Callable[[], Mapping[str, frozenset[bytes]]],
        on_latched: Callable[[], None],
    ) -> None:
        self._issuer = issuer
        self._bus = bus
        self._get_fleet = get_fleet
        self._node_keys = NodeKeys(get_fleet)
        self._get_latched = get_latched
        self._on_latched = on_latched
        self._refused = Refused("stop not taken")

    async def handle(self, message: Message) -> None:
        """Verify, narrow, fsync, cast, answer."""
        try:
            stop = self._verify(message.data)
            latched = await self.pull(self._choose_frame(stop, message.data))
        except FirecurtainError as error:
            self._refused.tell(error, message.subject)
            # Without a readable stop there is no id to answer about.
            await self._answer(message, bytes(16), ok=False, code=error.code, text=str(error), detail={})
            return
        await self._answer(
            message, stop.entry.id, ok=True, code="", text="durable", detail=self._describe(stop, latched)
        )

    async def pull(self, frame: bytes) -> LatchedStop:
        """Latch a verified stop and send it out; also the way of our own fences, disarms and exclusions.

        Raises: LatchError: passed on to the agents, but not durable here.
        """
        before = len(self._issuer.latch.stops)
        try:
            latched = self._issuer.add(frame)
        finally:
            await self._send(frame)
        if len(self._issuer.latch.stops) > before:
            await self._issuer.cast_now()
            entry = latched.entry
            _log.warning("stop", scope=entry.scope, kind=entry.kind, reason=entry.reason, id=entry.id.hex())
            self._on_latched()
        return latched

    def _verify(self, frame: bytes) -> Stop:
        """Raises: WireError: malformed, of another fleet, wrongly signed, or a node that speaks for others."""
        fleet = self._get_fleet()
        people = index_people_who_stop(fleet)
        verified = decode_frame(Stop, frame, {**self._node_keys.public, **people})
        stop, node = verified.message, self._node_keys.find(verified.keyid)
        if stop.fleet != fleet.fleet:
            raise WireError(f"stop {stop.entry.id.hex()} is for fleet {stop.fleet}, this is {fleet.fleet}.")
        if node is not None and verified.keyid not in people:
            self._check_own(stop, node.name)
        return stop

    def _check_own(self, stop: Stop, node: str) -> None:
        scope = f"node:{node}"
        if stop.entry.scope != scope:
            raise WireError(f"node {node} may stop {scope}, not {stop.entry.scope}. Use a stop key of the root.")
        if self._issuer.get_entry(self._find_id(stop.entry)) is not None:
            return  # it is held already: saying it again is no second one
        count = sum(entry.scope == scope for entry in self._issuer.in_force().values())
        if count >= NODE_STOPS_MAX:
            raise WireError(f"{count} stops of {scope} are in force; {NODE_STOPS_MAX} are enough. Lift them first.")

    def _choose_frame(self, stop: Stop, frame: bytes) -> bytes:
        """The frame to latch: as it came, unless its id was taken by a stop of another scope."""
        entry = stop.entry
        stop_id = self._find_id(entry)
        if stop_id == entry.id:
            return frame
        return self._issuer.make_stop(entry.kind, widen_scope(entry.scope), entry.reason, stop_id)

    def _find_id(self, entry: StopEntry) -> bytes:
        """The id that this stop has or gets here: its own, unless a stop of another scope has it.

        Else whoever hears a stop first could take its id for a harmless scope and so have the real one ignored. The
        other id follows from both, so that the same stop sent again is the same stop.
        """
        stop_id, scope = entry.id, widen_scope(entry.scope)
        while (known := self._issuer.get_entry(stop_id)) is not None and widen_scope(known.scope) != scope:
            stop_id = hashlib.sha256(stop_id + str(scope).encode()).digest()[:16]
        return stop_id

    def _describe(self, stop: Stop, latched: LatchedStop) -> dict[str, object]:
        """What the asker waits for: when it became durable, and which nodes have attested it."""
        latched_by = self._get_latched()
        nodes = [
            (latched.entry.id in latched_by.get(node.name, frozenset()), node.name)
            for node in self._get_fleet().nodes.values()
            if node.excluded_by is None and is_in_scope(stop.entry.scope, node)
        ]
        # Whoever is missing first: when all that are listed have confirmed, all have.
        listed = {name: is_latched for is_latched, name in sorted(nodes)[:NODES_LISTED_MAX]}
        clock_id = self._issuer.clock.clock_id.hex()
        return {"durable_ns": latched.durable_ns, "clock_id": clock_id, "nodes": listed, "nodes_total": len(nodes)}

    async def _send(self, frame: bytes) -> None:
        """Down to every agent. A lost connection is told; the beacon carries the stop once there is one again."""
        try:
            await self._bus.cast(subjects.stop_down(self._issuer.fleet), frame)
            # A connection writes in the next turn of the event loop: now, before anything else is signed and logged.
            await asyncio.sleep(0)
        except BusError as error:
            _log.error("stop not passed on now; every later beacon carries it", code=error.code, error=str(error))

    async def _answer(
        self, message: Message, stop_id: bytes, *, ok: bool, code: str, text: str, detail: dict[str, object]
    ) -> None:
        if not is_inbox(message.reply):
            return
        fleet = self._get_fleet()
        reply = Reply(VERSION, fleet.fleet, stop_id, ok, fleet.seq, code, text, json.dumps(detail).encode())
        try:
            await self._bus.cast(message.reply, self._issuer.compute_reply(reply))
        except FirecurtainError as error:
            _log.error("stop not answered", code=error.code, error=str(error))


def is_in_scope(scope_text: str, node: Node) -> bool:
    """Whether a stop of this scope binds this node. Releases and flags bind every node, because any may get them."""
    scope = widen_scope(scope_text)
    if scope.kind == "service":
        return scope.name == node.service
    if scope.kind == "node":
        return scope.name == node.name
    return True
