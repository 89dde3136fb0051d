# SPDX-License-Identifier: Apache-2.0
"""Which node hears an answer: the rules of "Attest" over the ledger's state and what nodes attested lately.

An unanswered node falls silent by itself, so every doubt is no answer. `Live` holds the opened session of each enrolled
node and nothing else, so it is bounded by the roster. This module signs and sends nothing.
Source: 03-protocol, "Messages", Attest.
"""

from __future__ import annotations

import hashlib

import msgspec

from firecurtain.domain.content import find_allowed
from firecurtain.domain.gate import find_called
from firecurtain.domain.state import Fleet, Instant, Live, Node, Presence
from firecurtain.domain.stops import in_force
from firecurtain.domain.waits import compute_session_wait_ns, format_s
from firecurtain.terms import short
from firecurtain.wire.messages import Attest


class Answer(msgspec.Struct, frozen=True):
    """Answer this attest: the artifact is the one its node may run."""

    accepted: str


class Silence(msgspec.Struct, frozen=True):
    """Give no answer; code and text are for status and log."""

    code: str
    text: str


class NewSession(msgspec.Struct, frozen=True):
    """Record `OpenSession(node, session)` first, then judge the same attest again."""

    node: str
    session: bytes


class Clone(msgspec.Struct, frozen=True):
    """Two processes speak as one node: stop `scope`, page, give no answer."""

    scope: str
    text: str


Verdict = Answer | Silence | NewSession | Clone


def judge_attest(state: Fleet, live: Live, attest: Attest, now: Instant) -> Verdict:
    """Judge one attest whose signature by the node's key has been verified. Does not change `live`; see `observe`."""
    node = state.nodes.get(attest.node)
    if node is None or (attest.fleet, attest.service) != (state.fleet, node.service):
        return Silence("unknown-node", f"{attest.node} of {attest.service} is not enrolled in fleet {state.fleet}.")
    if node.excluded_by is not None:
        return Silence("node-excluded", f"{attest.node} was excluded by stop {node.excluded_by.hex()}.")
    if attest.session != node.session:
        return _judge_session(state, live, node, attest, now)
    return _find_regression(state, live.get(node.name), attest) or _judge_artifact(state, node, attest)


def observe(state: Fleet, live: Live, attest: Attest, now: Instant) -> Live:
    """Remember an attest of a node's opened session; anything else changes nothing."""
    node, presence = state.nodes.get(attest.node), live.get(attest.node)
    if node is None or attest.session != node.session:
        return live
    is_same_session = presence is not None and presence.session == attest.session
    if presence is not None and is_same_session and attest.number <= presence.number:
        return live
    artifact = attest.running.artifact if attest.running else None
    is_unbroken = presence is not None and is_same_session and presence.artifact == artifact
    fresh = Presence(
        session=attest.session,
        number=attest.number,
        artifact=artifact,
        ledger_seq=attest.ledger_seq,
        attested_ns=now.issuer_ns,
        answered_ns=presence.answered_ns if presence else None,
        digest=_compute_digest(attest),
        since_ns=presence.since_ns if presence and is_unbroken else now.issuer_ns,
        accepted_ns=presence.accepted_ns if presence and is_unbroken else None,
    )
    return {**live, attest.node: fresh}


def note_answer(live: Live, node: str, now: Instant) -> Live:
    """Remember that the attest just observed is being answered; call it before the answer is sent."""
    presence = live[node]
    accepted_ns = now.issuer_ns if presence.accepted_ns is None else presence.accepted_ns
    answered = msgspec.structs.replace(presence, answered_ns=now.issuer_ns, accepted_ns=accepted_ns)
    return {**live, node: answered}


def compute_session_wait_left_ns(state: Fleet, live: Live, node: Node, now: Instant) -> int:
    """How long a new session still waits for the old one's grant to run out; 0 or less: it may be opened.

    Counted from the old session's last attest, which is not before its last answer, so that two agents that are both
    alive never take the node from each other. What an earlier issuer answered counts from when this one started.
    """
    if node.session is None:
        return 0
    presence = live.get(node.name)
    last_ns = now.started_ns
    if presence is not None:
        last_ns = max(last_ns, presence.attested_ns, presence.answered_ns or 0)
    return compute_session_wait_ns(state.root) - (now.issuer_ns - last_ns)


def _judge_session(state: Fleet, live: Live, node: Node, attest: Attest, now: Instant) -> Verdict:
    left_ns = compute_session_wait_left_ns(state, live, node, now)
    if left_ns <= 0:
        return NewSession(node.name, attest.session)
    return Silence(
        "duplicate-session",
        f"{node.name} attests session {attest.session.hex()}, but session {(node.session or b'').hex()} may hold a "
        f"grant for another {format_s(left_ns)}.",
    )


def _find_regression(state: Fleet, presence: Presence | None, attest: Attest) -> Verdict | None:
    """An attest number that does not grow: a repeated delivery, or a second process with the same state."""
    if presence is None or presence.session != attest.session or attest.number > presence.number:
        return None
    if attest.number == presence.number and _compute_digest(attest) == presence.digest:
        return Silence("repeated-attest", f"{attest.node} attest {attest.number} was delivered twice.")
    text = (
        f"{attest.node} attests number {attest.number} after {presence.number} in one session: two processes speak as "
        f"this node. Do: find and end the copy, then lift the stop with k of n."
    )
    scope = f"node:{attest.node}"
    if any(stop.scope == scope for stop in in_force(state)):
        return Silence("clone", text)  # one stop is enough; a second would only grow H
    return Clone(scope, text)


def _judge_artifact(state: Fleet, node: Node, attest: Attest) -> Verdict:
    if attest.running is None:
        return Silence("not-running", f"{node.name} attests no running artifact.")
    artifact = attest.running.artifact
    allowed = find_allowed(state, node.service, node.name)
    if allowed is not None and allowed.artifact == artifact:
        return Answer(artifact)
    called = find_called(state, node)
    if called is not None and called.document.artifact != artifact:
        expected = f"release {short(called.release)} called it to {short(called.document.artifact)}"
        return Silence("straggling", f"{node.name} attests artifact {short(artifact)}, but {expected}.")
    return Silence("not-allowed", f"{node.name} attests artifact {short(artifact)}, which no release allows there now.")


def _compute_digest(attest: Attest) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(attest)).hexdigest()
