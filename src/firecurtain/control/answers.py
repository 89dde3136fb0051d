# SPDX-License-Identifier: Apache-2.0
"""Which node hears from us: attests in, answers out, and what every node last said.

An answer is what keeps a node alive, so every doubt is silence. Nothing here waits for the ledger: a new session is
handed to the turn loop and answered once it is recorded, when the node attests again. The rules stand in
`domain.presence`; this module verifies, asks them and sends.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from firecurtain.bus.port import Bus, Message
from firecurtain.control.contradiction import Contradictions
from firecurtain.control.issuer import Issuer
from firecurtain.control.keys import NodeKeys
from firecurtain.control.noise import Refused, is_inbox
from firecurtain.control.stops import StopDesk
from firecurtain.domain.content import find_lifts
from firecurtain.domain.presence import Answer, Clone, NewSession, Silence, judge_attest, note_answer, observe
from firecurtain.domain.state import Fleet, Instant, Live
from firecurtain.terms import FirecurtainError, WireError, parse_scope
from firecurtain.wire.frame import decode_frame, decode_payload
from firecurtain.wire.messages import Attest, Counters

_log = structlog.get_logger("firecurtain.answers")


class Answers:
    """The live half of the fleet: `live` as the domain reads it, what each node has latched, counted and was told.

    All are keyed by enrolled nodes, hence bounded.
    """

    def __init__(
        self,
        issuer: Issuer,
        bus: Bus,
        get_fleet: Callable[[], Fleet],
        read_instant: Callable[[], Instant],
        open_session: Callable[[str, bytes], None],
    ) -> None:
        self._issuer = issuer
        self._bus = bus
        self._get_fleet = get_fleet
        self._node_keys = NodeKeys(get_fleet)
        self._read_instant = read_instant
        self._open_session = open_session
        self._contradictions = Contradictions()
        self._attests_refused = Refused("attest not answered")
        self._counters_refused = Refused("counters dropped")
        self.live: Live = {}
        self.latched: dict[str, frozenset[bytes]] = {}
        self.totals: dict[str, tuple[tuple[str, int], ...]] = {}
        self.verdicts: dict[str, str] = {}

    async def handle_attest(self, message: Message, desk: StopDesk) -> None:
        """Judge one attest and answer it, or keep silent."""
        try:
            attest = self._verify(message)
            await self._judge(attest, message.reply, desk)
        except FirecurtainError as error:
            self._attests_refused.tell(error, message.subject)

    async def handle_counters(self, message: Message) -> None:
        """Keep a node's newest totals. The broker lets a node publish below its own subject only."""
        try:
            counters = decode_payload(Counters, message.data)
        except WireError as error:
            self._counters_refused.tell(error, message.subject)
            return
        if counters.node in self._get_fleet().nodes and _get_sender(message) == counters.node:
            self.totals[counters.node] = counters.totals

    def _verify(self, message: Message) -> Attest:
        """Raises: WireError: not signed by the key of the node it names, or sent as another node."""
        verified = decode_frame(Attest, message.data, self._node_keys.public)
        signer = self._node_keys.find(verified.keyid)
        names = {verified.message.node, _get_sender(message), signer.name if signer else ""}
        if len(names) != 1:
            raise WireError(f"attest names {', '.join(sorted(names))}: sender, signer and node must be one.")
        return verified.message

    async def _judge(self, attest: Attest, reply: str, desk: StopDesk) -> None:
        fleet, now, node = self._get_fleet(), self._read_instant(), attest.node
        verdict = judge_attest(fleet, self.live, attest, now)
        before, self.live = self.live, observe(fleet, self.live, attest, now)
        if self.live is not before:
            # A copy of the node, or an old attest said again, confirms no stop for it.
            self.latched[node] = frozenset(attest.latched)
            self._contradictions.note(attest, self._issuer.get_content(attest.service), now.issuer_ns)
        unknown = self._listen_to_memory(attest, fleet) if fleet.nodes[node].excluded_by is None else ()
        if unknown and isinstance(verdict, Answer):
            # Mostly the stop is on its way to us. Until it is here this node and we do not mean the same.
            verdict = Silence("unknown-stop", f"{node} remembers stop {unknown[0].hex()}, which is unknown here.")
        elif isinstance(verdict, Answer) and (text := self._contradictions.find_of(node)):
            verdict = Silence("other-ledger", text)
        self._note(node, verdict.code if isinstance(verdict, Silence) else type(verdict).__name__.lower(), verdict)
        match verdict:
            case Answer():
                await self._answer(attest, verdict.accepted, reply)
            case NewSession():
                self._open_session(node, verdict.session)
            case Clone():
                await desk.pull(self._issuer.make_stop("trip", parse_scope(verdict.scope), verdict.text))
            case Silence():
                pass

    def _listen_to_memory(self, attest: Attest, fleet: Fleet) -> tuple[bytes, ...]:
        """Nodes remember stops and grants. Returns the stops that are unknown here."""
        unknown = self._issuer.find_unknown(attest.latched)
        self._issuer.note_remembered(attest.node, unknown)
        roster = {node.name for node in fleet.nodes.values() if node.excluded_by is None}
        found = self._contradictions.find(roster, is_suspect=self._issuer.is_suspect)
        if found != self._issuer.contradiction:
            self._issuer.contradiction = found
            _log.error("nodes contradict the ledger: nothing is signed", text=found or "no longer")
        return unknown

    async def _answer(self, attest: Attest, accepted: str, reply: str) -> None:
        if not is_inbox(reply):
            raise WireError(f"attest of {attest.node} wants its answer on {reply!r}, which is no inbox.")
        frame = self._issuer.compute_answer(attest, accepted, find_lifts(self._get_fleet(), attest.latched))
        # Noted before it is sent: what may have arrived counts as arrived.
        self.live = note_answer(self.live, attest.node, self._read_instant())
        await self._bus.cast(reply, frame)

    def _note(self, node: str, code: str, verdict: object) -> None:
        """Log a verdict when it changes, not every second."""
        if self.verdicts.get(node) != code:
            self.verdicts[node] = code
            _log.info("verdict", node=node, verdict=code, text=getattr(verdict, "text", ""))


def _get_sender(message: Message) -> str:
    """The node whose subject a message came on: `fc.<fleet>.up.<node>.…`; the broker enforces it."""
    return message.subject.split(".")[3]
