# SPDX-License-Identifier: Apache-2.0
"""Carries out what the core wants, in the order it wants it: the page, the latches, and notes for the other tasks.

Everything here is synchronous, so nothing comes between zeroing the page, the fsync and the acknowledgement. When a
latch cannot be written the rest of the effects is dropped and the core is told: the page stays zero. This class opens
no connection and starts no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from firecurtain.agent.clock import read_sample
from firecurtain.agent.core import machine
from firecurtain.agent.core.effects import (
    Acknowledge,
    Challenge,
    ClosePage,
    Effect,
    FetchRelease,
    LatchLifts,
    LatchStops,
    Renew,
    SendAttest,
    VerifyLift,
    WriteGrant,
)
from firecurtain.agent.core.state import AgentState, Identity
from firecurtain.agent.latch import Latch, LatchError
from firecurtain.agent.releases import ReleaseShelf
from firecurtain.permit import PageWriter, boottime_ns, write_limits
from firecurtain.terms import FirecurtainError, TrustError
from firecurtain.trust.envelope import EnvelopeError
from firecurtain.trust.release import encode_limits
from firecurtain.trust.root import Root
from firecurtain.trust.verify import verify_lift, verify_release
from firecurtain.wire.messages import Attest

_log = structlog.get_logger("firecurtain.agent")


class Host:
    """The state of one agent and the files it writes.

    Attributes:
        ask_now: set when an attest should go out before its time.
        releases_changed: set when another release may be the one to run.
        wanted: digests of release envelopes to fetch.
        sending: attests to sign and send, taken by the exchange.
    """

    def __init__(self, identity: Identity, root: Root, page: PageWriter, latch: Latch, shelf: ReleaseShelf) -> None:
        self.ask_now = asyncio.Event()
        self.releases_changed = asyncio.Event()
        self.wanted: set[str] = set()
        self.sending: list[Attest] = []
        self.shelf = shelf
        self._root, self._page, self._latch = root, page, latch
        self.state: AgentState
        self._drops: Mapping[str, int] = {}
        self.apply(machine.begin(identity, latch.entries, latch.lifted))
        for digest in tuple(shelf.documents):
            self.take_release(digest)

    def apply(self, step: machine.Step) -> None:
        """Make `step` the state and carry its effects out in order."""
        dropped = self._drops
        self.state, effects = step
        self._drops = self.state.drops
        if self._drops is not dropped:
            _log_drops(dropped, self._drops)
        for effect in effects:
            try:
                self._carry_out(effect)
            except LatchError as error:
                _log.critical("latch", code=error.code, error=str(error))
                self.apply(machine.on_latch_failed(self.state, str(error)))
                return

    def close(self, why: str) -> None:
        """Close the page because nothing will watch over it from now on."""
        self.apply(machine.on_running(self.state, None, why, boottime_ns()))

    def tick(self) -> None:
        """Judge the clocks and let what has expired expire."""
        self.apply(machine.on_tick(self.state, read_sample()))

    def take_release(self, digest: str) -> None:
        """Tell the core of a verified release, once its limits lie beside the page where a guard finds them."""
        try:
            write_limits(self._page.path.rpartition("/")[0], encode_limits(self.shelf.documents[digest]))
        except FirecurtainError as error:
            _log.error("limits not written", code=error.code, error=str(error), release=digest)
            return
        self.apply(machine.on_release(self.state, self.shelf.facts_of(digest), boottime_ns()))
        self.releases_changed.set()

    def take_lift(self, envelope: bytes) -> None:
        """Verify a lift, or a release that takes back fences, and tell the core what it lifts."""
        try:
            step = self._judge_lift(envelope)
        except TrustError as error:
            _log.warning("lift refused", code=error.code, error=str(error))
            return
        self.apply(step)

    def _judge_lift(self, envelope: bytes) -> machine.Step:
        try:
            lifted = verify_lift(envelope, self._root).stop_ids
        except EnvelopeError:
            release = verify_release(envelope, self._root)
            fences = tuple(bytes.fromhex(text) for text in release.lifts_fences)
            return machine.on_taken_back(self.state, fences, boottime_ns())
        return machine.on_lift(self.state, tuple(sorted(lifted)), boottime_ns())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case ClosePage(reason, detail, grant):
                self._page.close(reason, detail, grant)
                _log.warning("permit closed", reason=reason.text, detail=detail)
            case WriteGrant(grant, deadline_ns):
                self._page.grant(grant, deadline_ns)
                _log.info("permit", release=grant.release, seq=grant.ledger_seq, armed=sorted(grant.armed))
            case Renew(deadline_ns):
                self._page.renew(deadline_ns)
            case LatchStops(entries):
                self._latch.add_stops(entries)
                _log.warning("stops latched", scopes=[entry.scope for entry in entries])
            case LatchLifts(stop_ids):
                self._latch.add_lifts(stop_ids)
                _log.info("stops lifted", ids=[stop_id.hex() for stop_id in stop_ids])
            case Acknowledge(stop_ids):
                self.state = machine.on_latched(self.state, stop_ids)
                self.ask_now.set()
            case Challenge():
                self.ask_now.set()
                self.releases_changed.set()
            case SendAttest(attest):
                self.sending.append(attest)
            case FetchRelease(release):
                self.wanted.add(release)
            case VerifyLift(envelope):
                self.take_lift(envelope)


def _log_drops(before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Named at 1, 2, 4, 8 …: a flood must not become a flood of log lines."""
    for cause, count in after.items():
        if count != before.get(cause) and count & (count - 1) == 0:
            _log.info("dropped", cause=cause, count=count)
