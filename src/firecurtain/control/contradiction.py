# SPDX-License-Identifier: Apache-2.0
"""Do nodes hold grants that our ledger does not know? Then it was rolled back, and we must not go on signing from it.

A node adopts only what an issuer signed for its service, so one that attests a later ledger_seq than that content, or
other content at the same seq, has seen a ledger that is not this one any more. Where our ledger ends says nothing:
after a restore it grows past the node by events that change no grant. A node must say so for fifteen seconds: a replica
that lags behind catches up within that time. One node among several may be the one that is wrong: unless our own memory
is in doubt, it alone is silenced until a second one says so. It verifies no attest.
Source: 03-protocol, "Ledger and restore"; docs/decisions/0007-whom-a-remembered-stop-silences.md.
"""

from __future__ import annotations

from collections.abc import Collection

from firecurtain.control.issuer import Content
from firecurtain.terms import NS_PER_S
from firecurtain.wire.messages import Attest

CONTRADICTED_NS = 15 * NS_PER_S

SAID_AGAIN_NS = 3 * NS_PER_S
"""Chosen: an agent attests every R = 1 s, so that two lost messages do not begin the count anew and an hour does."""

NODES_THAT_CONVINCE = 2
"""Chosen: one key may be stolen and one file spoilt. Where fewer nodes are enrolled, all of them."""


class Contradictions:
    """For each node that contradicts us: what it said, since when, and when it last said so."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, int, int]] = {}

    def note(self, attest: Attest, content: Content | None, now_ns: int) -> None:
        """Compare one attest of the node's own session, newer than its last, with what we sign for its service."""
        text = find_contradiction(attest, content)
        if not text:
            self._said.pop(attest.node, None)
            return
        _, since_ns, last_ns = self._said.get(attest.node, ("", now_ns, now_ns))
        # Once it was said for long enough it stands through any gap, until the node comes round or is excluded.
        if now_ns - last_ns > SAID_AGAIN_NS and last_ns - since_ns < CONTRADICTED_NS:
            since_ns = now_ns
        self._said[attest.node] = (text, since_ns, now_ns)

    def find_of(self, node: str) -> str:
        """Why this node may get no answer; empty while it has not contradicted us for long enough."""
        text, since_ns, last_ns = self._said.get(node, ("", 0, 0))
        if not text or last_ns - since_ns < CONTRADICTED_NS:
            return ""
        return (
            f"{node} {text}: this ledger was rolled back or is another one. Restore the newer one, or exclude the node "
            "if it is wrong."
        )

    def find(self, roster: Collection[str], *, is_suspect: bool) -> str:
        """Why nothing may be signed for anybody; empty while too few nodes of the roster say so.

        `is_suspect`: our own memory is in doubt, so that one node's word is enough.
        """
        said = [text for node in sorted(self._said) if node in roster and (text := self.find_of(node))]
        needed = 1 if is_suspect else min(NODES_THAT_CONVINCE, len(roster))
        return said[0] if said and len(said) >= needed else ""


def find_contradiction(attest: Attest, content: Content | None) -> str:
    """What this attest says that cannot be true beside what we sign; empty when nothing."""
    if content is None or attest.ledger_epoch != content.epoch:
        return ""
    if attest.ledger_seq > content.seq:
        return f"adopted content of ledger_seq {attest.ledger_seq}, ours for {attest.service} is of {content.seq}"
    if attest.ledger_seq == content.seq and attest.content != content.digest:
        return f"adopted content {attest.content[:12]} at ledger_seq {content.seq}, ours is {content.digest[:12]}"
    return ""
