# SPDX-License-Identifier: Apache-2.0
"""The turn loop: read the clock once, ask the domain, append, evolve, and only then act.

It alone writes the ledger, one command at a time. It records what the issuer latched, opens sessions, and takes the
rollout's own steps. A step that stops is latched and cast first and recorded afterwards, and nothing here can delay
that. When the ledger cannot take or give a record, grants are refused by name and the issuer goes on affirming what the
fold last said. It decides nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import cast, get_args

import msgspec
import structlog

from firecurtain.bus.port import Conflict, StoreFailed, Unavailable
from firecurtain.control.issuer import Cast, Grants, Issuer, make_content
from firecurtain.control.latch import LatchedStop, LatchError
from firecurtain.domain.commands import Arm, Command, Exclude, OpenSession, OpenStage, RecordStop, Request
from firecurtain.domain.content import compute_allowed
from firecurtain.domain.decide import decide
from firecurtain.domain.events import Event, StopsLifted, decode_event, encode_event
from firecurtain.domain.evolve import evolve
from firecurtain.domain.refused import RefusalBudget, refusal_event, spend_refusal
from firecurtain.domain.rollout import Step, StepArm, StepExclude, StepFence, StepOpenStage, next_steps
from firecurtain.domain.state import Fleet, Instant, Live, StopRecord
from firecurtain.domain.stops import widen_scope
from firecurtain.ledger.chain import Entry
from firecurtain.ledger.ledger import Ledger
from firecurtain.ledger.replica import ReplicaFailed
from firecurtain.terms import BusError, FirecurtainError, InvariantError, LedgerError, Refusal, Scope
from firecurtain.wire import subjects
from firecurtain.wire.commands import ExcludeNode
from firecurtain.wire.messages import VERSION, Lift, StopEntry, StopKind

TURN_S = 0.1
"""Chosen: the waits of a rollout are seconds, so a tenth more is not felt; at half it only asks twice as often."""

WATCH_AGAIN_S = 1.0
"""Chosen: a broker restarts in a fifth of that."""

TROUBLES = (BusError, LedgerError, LatchError)
"""What a turn tells and outlives: the end of grants at most. Folding may widen stops, hence the latch."""

_log = structlog.get_logger("firecurtain.turn")


class Turn:
    """The writer of one fleet's ledger. `fleet` is the fold so far; `trouble` says why grants are refused, or is empty.

    `pull` latches and casts a stop of our own; `revive` restarts the broker after its store failed.
    """

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        issuer: Issuer,
        cast: Cast,
        get_live: Callable[[], Live],
        pull: Callable[[bytes], Awaitable[LatchedStop]],
        read_instant: Callable[[], Instant],
        revive: Callable[[], Awaitable[None]],
    ) -> None:
        self.fleet = fleet
        self.trouble = ""
        self._ledger = ledger
        self._issuer = issuer
        self._cast = cast
        self._get_live = get_live
        self._pull = pull
        self._read_instant = read_instant
        self._revive = revive
        self._budget = RefusalBudget()
        self._sessions: dict[str, bytes] = {}
        self._due = asyncio.Event()
        self._one_writer = asyncio.Lock()
        self._recorded: dict[bytes, StopEntry] = {}
        self._lifted: frozenset[bytes] = frozenset()
        self._publish()

    def wake(self) -> None:
        """Take the next turn now: something was latched."""
        self._due.set()

    def open_session(self, node: str, session: bytes) -> None:
        """Have a node's new agent start recorded in the next turn."""
        self._sessions[node] = session
        self._due.set()

    async def submit(self, command: Command) -> None:
        """Decide and record one command. Raises: Refusal, DiskReserve, BusError, LedgerError."""
        async with self._one_writer:
            await self._carry_out(command)

    async def exclude(self, request: Request) -> None:
        """Take a node out for a person: ask first, stop, record the stop, then the exclusion. Raises: as `submit`."""
        body = request.body
        if not isinstance(body, ExcludeNode):
            raise InvariantError(f"exclude was given a {type(body).__name__}")
        async with self._one_writer:
            decide(self.fleet, request, self._read_instant(), self._get_live())
            await self._exclude(body.node, body.reason, request.by)

    async def record_refusal(self, request: Request, error: FirecurtainError) -> int:
        """Append a refused command, within the budget of its operator; returns its ledger_seq, 0 when not recorded."""
        if not isinstance(error, Refusal):
            return 0
        is_recorded, self._budget = spend_refusal(self._budget, request.by, self._read_instant())
        if not is_recorded:
            return 0
        async with self._one_writer:
            try:
                await self._append(refusal_event(request, error))
            except TROUBLES as trouble:
                self._tell(trouble)
                return 0
            return self.fleet.seq

    async def run(self) -> None:
        """Take turns for ever: one whenever something is due, else one every TURN_S."""
        while True:
            self._due.clear()
            await self.take_turn()
            # Not wait_for: in Python 3.11 it may swallow a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._due.wait()

    async def take_turn(self) -> None:
        """Record what was latched, open sessions, go on with rollouts. Troubles are told and met again next turn."""
        async with self._one_writer:
            try:
                await self._record_stops()
                await self._open_sessions()
                for step in next_steps(self.fleet, self._read_instant(), self._get_live()):
                    await self._take_step(step)
            except TROUBLES as error:
                self._tell(error)
                await self._mend(error)
            else:
                self._tell(None)

    async def watch(self) -> None:
        """Read the stream for as long as it lasts: it is how damage behind our back is noticed, and others' events."""
        while self._ledger.damage is None:
            try:
                async with contextlib.aclosing(self._ledger.read(self.fleet.seq)) as entries:
                    async for entry in entries:
                        async with self._one_writer:
                            if entry.seq > self.fleet.seq:
                                self._fold(entry)
            except TROUBLES as error:
                # The end of grants at most: the issuer affirms what was folded, and stops need no ledger.
                self._tell(error)
            await asyncio.sleep(WATCH_AGAIN_S)

    # One turn's parts; all run under the writer's lock

    async def _record_stops(self) -> None:
        """Tell the ledger of every durable stop that it does not know yet."""
        for stop in self._issuer.find_unrecorded():
            await self._carry_out(RecordStop(stop.entry, stop.author, self._issuer.clock.clock_id, stop.durable_ns))
        for stop_id, scope, node in self._issuer.find_lost():
            reason = f"remembered by {node}, unknown here: its scope is lost"
            _log.error("a stop that nodes remember is unknown here", node=node, stop=stop_id.hex(), scope=str(scope))
            await self._pull(self._issuer.make_stop("halt", scope, reason, stop_id))

    async def _open_sessions(self) -> None:
        while self._sessions:
            node, session = self._sessions.popitem()
            try:
                await self._carry_out(OpenSession(node, session))
            except Refusal as refusal:  # the agent asks again by itself, so nobody is told twice a second
                _log.debug("session not opened", node=node, code=refusal.code, text=str(refusal))

    async def _take_step(self, step: Step) -> None:
        """Take one step of a rollout. What is refused now is asked again in a later turn."""
        try:
            match step:
                case StepOpenStage():
                    await self._carry_out(OpenStage(step.release, step.stage))
                case StepArm():
                    await self._carry_out(Arm(step.release))
                case StepFence():
                    await self._stop("fence", widen_scope(step.scope), step.reason)
                case StepExclude():
                    await self._exclude(step.node, step.reason, b"")
        except Refusal as refusal:
            _log.info("step refused", step=type(step).__name__, code=refusal.code, text=str(refusal))

    async def _exclude(self, node: str, reason: str, by: bytes) -> None:
        stop = await self._stop("halt", Scope("node", node), reason)
        await self._carry_out(Exclude(node, stop.id, by))

    async def _stop(self, kind: StopKind, scope: Scope, reason: str) -> StopEntry:
        """Stop first, record afterwards. A stop of this scope already in force is enough: H must not grow per turn."""
        entry = next((entry for entry in self._issuer.in_force().values() if entry.scope == str(scope)), None)
        if entry is None:
            entry = (await self._pull(self._issuer.make_stop(kind, scope, reason))).entry
        await self._record_stops()
        return entry

    async def _carry_out(self, command: Command) -> None:
        """Decide, append, evolve; once more from the start when somebody else appended in between."""
        before = self.fleet.seq
        try:
            await self._append_decided(command)
        except Conflict:
            await self._catch_up()
            if self.fleet.seq == before:
                raise
            await self._append_decided(command)

    async def _append_decided(self, command: Command) -> None:
        uses_reserve = isinstance(command, RecordStop | Exclude)
        for event in decide(self.fleet, command, self._read_instant(), self._get_live()):
            await self._append(event, uses_reserve=uses_reserve)
            if isinstance(event, StopsLifted):
                await self._cast(subjects.lift(self.fleet.fleet), _encode_lift(self.fleet.fleet, event))

    async def _append(self, event: Event, *, uses_reserve: bool = False) -> None:
        """Append and fold one event. An append whose answer was lost is looked for before it counts as failed."""
        data, expect = encode_event(event), self.fleet.seq
        try:
            self._fold(await self._ledger.append(data, expect, uses_reserve=uses_reserve))
        except (Unavailable, ReplicaFailed):
            entries = await self._catch_up()
            if not any(entry.seq == expect + 1 and entry.event == data for entry in entries):
                raise

    async def _catch_up(self) -> list[Entry]:
        """Fold what the ledger holds beyond us. Raises: BusError, LedgerError."""
        await self._ledger.catch_up()
        entries = [entry async for entry in self._ledger.history(self.fleet.seq)]
        for entry in entries:
            self._fold(entry)
        return entries

    def _fold(self, entry: Entry) -> None:
        if entry.seq != self.fleet.seq + 1:
            raise InvariantError(f"entry {entry.seq} cannot follow {self.fleet.seq} in the fold")
        self.fleet = evolve(self.fleet, decode_event(entry.event))
        self._publish()

    def _publish(self) -> None:
        """Give the issuer what the fold now says."""
        fleet = self.fleet
        services = {node.service for node in fleet.nodes.values()}
        services |= {record.document.service for record in fleet.releases.values()}
        # Both only grow, so what is new is added; the same object tells the issuer that there is nothing new.
        if new := {key: _make_entry(stop) for key, stop in fleet.stops.items() if key not in self._recorded}:
            self._recorded = {**self._recorded, **new}
        if len(self._lifted) != len(fleet.lifted):
            self._lifted = frozenset(fleet.lifted)
        self._issuer.adopt(
            Grants(
                contents={
                    service: make_content(
                        fleet.epoch, fleet.content_seq.get(service, 0), service, compute_allowed(fleet, service)
                    )
                    for service in sorted(services)
                },
                recorded=self._recorded,
                lifted=self._lifted,
                service_of={node.name: node.service for node in fleet.nodes.values()},
            )
        )

    async def _mend(self, error: FirecurtainError) -> None:
        """A broker whose disk was full goes on failing after space returns, until it is started again."""
        if not isinstance(error, StoreFailed):
            return
        try:
            await self._revive()
            await self._catch_up()
        except TROUBLES as trouble:
            self._tell(trouble)

    def _tell(self, error: FirecurtainError | None) -> None:
        """Log a trouble when it comes, changes or goes; keep it for status."""
        damage = self._ledger.damage
        text = f"{error.code}: {error}" if error else f"{damage.code}: {damage}" if damage else ""
        if text == self.trouble:
            return
        self.trouble = text
        if text:
            _log.error("the ledger takes nothing now; grants are refused, stops work", trouble=text)
        else:
            _log.info("the ledger takes records again")


def _make_entry(stop: StopRecord) -> StopEntry:
    # The ledger keeps kinds as text for ever; one that a later version wrote still stops.
    kind = stop.kind if stop.kind in get_args(StopKind) else "halt"
    return StopEntry(stop.id, cast(StopKind, kind), stop.scope, stop.reason)


def _encode_lift(fleet: str, event: StopsLifted) -> bytes:
    # Not signed by us: the envelope is, by k of n, and every agent verifies that itself.
    return msgspec.msgpack.encode(Lift(VERSION, fleet, event.envelope))
