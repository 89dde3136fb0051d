# SPDX-License-Identifier: Apache-2.0
"""Do nodes hold grants that our ledger does not know? Then it was rolled back, and we must not go on signing from it.

A node adopts only what an issuer signed for its service, so one that attests a later ledger_seq than that content, or
other content at the same seq, has seen a ledger that is not this one any more. Where our ledger ends says nothing:
after a restore it grows past the node by events that change no grant. A node must say so for fifteen seconds: a replica
that lags behind catches up within that time. It decides nothing about the node itself.
Source: 03-protocol, "Ledger and restore".
"""

from __future__ import annotations

from collections.abc import Collection

from firecurtain.control.issuer import Content
from firecurtain.terms import NS_PER_S
from firecurtain.wire.messages import Attest

CONTRADICTED_NS = 15 * NS_PER_S


class Contradictions:
    """For each node that contradicts us: what it said, since when, and when it last said so."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, int, int]] = {}

    def note(self, attest: Attest, content: Content | None, now_ns: int) -> None:
        """Compare one attest with what we sign for its service."""
        text = find_contradiction(attest, content)
        if not text:
            self._said.pop(attest.node, None)
            return
        _, since_ns, _ = self._said.get(attest.node, ("", now_ns, now_ns))
        self._said[attest.node] = (text, since_ns, now_ns)

    def find(self, roster: Collection[str]) -> str:
        """Why nothing may be signed; empty while nobody on the roster has contradicted us for long enough."""
        for node, (text, since_ns, last_ns) in self._said.items():
            if node in roster and last_ns - since_ns >= CONTRADICTED_NS:
                return (
                    f"{node} {text}: this ledger was rolled back or is another one. Restore the newer one, or exclude "
                    "the node if it is wrong."
                )
        return ""


def find_contradiction(attest: Attest, content: Content | None) -> str:
    """What this attest says that cannot be true beside what we sign; empty when nothing."""
    if content is None or attest.ledger_epoch != content.epoch:
        return ""
    if attest.ledger_seq > content.seq:
        return f"adopted content of ledger_seq {attest.ledger_seq}, ours for {attest.service} is of {content.seq}"
    if attest.ledger_seq == content.seq and attest.content != content.digest:
        return f"adopted content {attest.content[:12]} at ledger_seq {content.seq}, ours is {content.digest[:12]}"
    return ""
