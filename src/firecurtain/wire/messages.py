# SPDX-License-Identifier: Apache-2.0
"""What travels between agent and control plane: beacon, attest, answer, counters, stop, lift, reply.

Each message is a frozen value encoded as a msgpack array: fields are told apart by position, so an unknown or missing
field is refused. Times: `_ns` on the named clock of the sender, `_utc_ms` for people only and never a gate.
Source: 03-protocol "Messages".
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

VERSION: Final = 1

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")]
Token = Annotated[str, Meta(pattern=r"^fc1-[0-9A-HJKMNP-TV-Z]{12}\Z")]
ScopeText = Annotated[str, Meta(max_length=100)]
Text = Annotated[str, Meta(max_length=500)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
CounterName = Annotated[str, Meta(max_length=63)]
Version = Literal[1]
StopKind = Literal["halt", "trip", "fence", "disarm"]

TOKENS_MAX = 64
STOPS_PER_BEACON_MAX = 256
LATCHED_PER_ATTEST_MAX = 1024
COUNTERS_MAX = 256


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of every network message: frozen, positional, strict."""


class StopEntry(Message, frozen=True):
    """One element of the grow-only set H as a beacon carries it."""

    id: Id
    kind: StopKind
    scope: ScopeText
    reason: Text


class AllowedRelease(Message, frozen=True):
    """One release that nodes may run: the digest of its signed payload, its artifact, open stage and armed tokens.

    `nodes` are those the open stages name; empty means every node of the service.
    """

    release: Hex
    artifact: Hex
    stage: Name
    nodes: Annotated[tuple[Name, ...], Meta(max_length=256)]
    armed: Annotated[tuple[Token, ...], Meta(max_length=TOKENS_MAX)]
    limits: Hex


class Beacon(Message, frozen=True):
    """An issuer's word, every p, that its content and its stops stand as of `signed_ns` on its own clock."""

    version: Version
    fleet: Name
    service: Name
    clock_id: Id
    signed_ns: Count
    issued_utc_ms: Count
    max_age_ms: Annotated[int, Meta(gt=0, le=600_000)]
    ledger_epoch: Count
    ledger_seq: Count
    content: Hex
    allowed: Annotated[tuple[AllowedRelease, ...], Meta(max_length=8)]
    stops: Annotated[tuple[StopEntry, ...], Meta(max_length=STOPS_PER_BEACON_MAX)]


class Running(Message, frozen=True):
    """What the agent sees running: the process, and the artifact as its files are now (level 0 = self-report)."""

    pid: Annotated[int, Meta(gt=0)]
    start_ticks: Count
    artifact: Hex
    level: Literal[0]


class Attest(Message, frozen=True):
    """A node's signed report; its nonce makes it the challenge that anchors freshness."""

    version: Version
    fleet: Name
    service: Name
    node: Name
    session: Id
    number: Count
    running: Running | None
    ledger_epoch: Count
    ledger_seq: Count
    content: Hex
    latched: Annotated[tuple[Id, ...], Meta(max_length=LATCHED_PER_ATTEST_MAX)]
    totals: Annotated[tuple[tuple[CounterName, Count], ...], Meta(max_length=COUNTERS_MAX)]
    nonce: Id


class Answer(Message, frozen=True):
    """The issuer's answer to one attest: its clock at signing, and the lifts the node lacks (DSSE envelopes)."""

    version: Version
    fleet: Name
    node: Name
    session: Id
    nonce: Id
    accepted: Hex
    clock_id: Id
    clock_ns: Count
    lifts: Annotated[tuple[bytes, ...], Meta(max_length=16)]


class Counters(Message, frozen=True):
    """Cumulative totals of one node and session, unsigned: the subject permission authenticates them."""

    version: Version
    fleet: Name
    service: Name
    node: Name
    session: Id
    number: Count
    totals: Annotated[tuple[tuple[CounterName, Count], ...], Meta(max_length=COUNTERS_MAX)]


class Stop(Message, frozen=True):
    """An order to stop, signed by any one enrolled key; `id` is 128 random bits made by its signer."""

    version: Version
    fleet: Name
    entry: StopEntry
    issued_utc_ms: Count


class Lift(Message, frozen=True):
    """Carries one DSSE envelope, signed by k of n people, that names the stop ids it lifts."""

    version: Version
    fleet: Name
    envelope: Annotated[bytes, Meta(max_length=60_000)]


class Reply(Message, frozen=True):
    """The control plane's signed answer to a command: done at `ledger_seq`, or refused there with a stable code."""

    version: Version
    fleet: Name
    challenge: Id
    ok: bool
    ledger_seq: Count
    code: Annotated[str, Meta(max_length=63)]
    text: Annotated[str, Meta(max_length=4000)]
    detail: bytes


def compute_content_digest(epoch: int, seq: int, service: str, allowed: tuple[AllowedRelease, ...]) -> str:
    """Name grant content by sha256, so that m issuers can be seen to name the same.

    >>> compute_content_digest(1, 2, "smars", ())[:12]
    'f067d779f8e9'
    """
    return hashlib.sha256(msgspec.msgpack.encode((epoch, seq, service, allowed))).hexdigest()
