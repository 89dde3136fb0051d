# SPDX-License-Identifier: Apache-2.0
"""What happened, for ever: the events of the ledger and their bytes.

Only transitions are events; an attestation that repeats the last one is none. Old ledgers must replay for ever, so a
released event never changes its fields: a new meaning is a new event. Times: `durable_ns` on the issuer clock named
by `clock_id`, `recorded_utc_ms` for people.
"""

from __future__ import annotations

import msgspec

from firecurtain.terms import LedgerError


class EventBase(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of every event: tagged by its class name, positional, strict."""


class FleetFounded(EventBase, frozen=True):
    """The first event: binds fleet, ledger epoch and the root document in force."""

    fleet: str
    epoch: int
    root: bytes


class NodeEnrolled(EventBase, frozen=True):
    """A node's key is admitted to one service. Re-enrolling an excluded node is a new event with k-of-n lift before."""

    node: str
    service: str
    public_key: bytes
    by: bytes


class SessionOpened(EventBase, frozen=True):
    """A node's agent start was accepted; from now on only this session is answered."""

    node: str
    session: bytes


class ReleaseProposed(EventBase, frozen=True):
    """A release with its author's signature."""

    release: str
    envelope: bytes


class ReleaseApproved(EventBase, frozen=True):
    """One more approver signed; `envelope` carries every signature so far, `complete` says whether k are reached."""

    release: str
    envelope: bytes
    complete: bool


class StageOpened(EventBase, frozen=True):
    """The nodes of this stage are called: they get permits for this release only."""

    release: str
    stage: str


class Armed(EventBase, frozen=True):
    """The release's tokens are armed: every release that does not declare them was fenced and its permits ran out."""

    release: str
    tokens: tuple[str, ...]
    recorded_utc_ms: int


class StopRecorded(EventBase, frozen=True):
    """A stop that some issuer had already fsynced; fences, disarms, halts, trips and exclusions alike."""

    id: bytes
    kind: str
    scope: str
    reason: str
    author: bytes
    clock_id: bytes
    durable_ns: int
    recorded_utc_ms: int


class NodeExcluded(EventBase, frozen=True):
    """A node left the roster; `stop` is the id of the stop that covers it."""

    node: str
    stop: bytes
    by: bytes


class StopsLifted(EventBase, frozen=True):
    """k of n people lifted these stops; the envelope proves it to every agent."""

    ids: tuple[bytes, ...]
    envelope: bytes


class CommandRefused(EventBase, frozen=True):
    """A signed command was refused; rate-bounded, so that a refusal can be quoted by its ledger_seq."""

    command: str
    by: bytes
    code: str
    text: str


Event = (
    FleetFounded
    | NodeEnrolled
    | SessionOpened
    | ReleaseProposed
    | ReleaseApproved
    | StageOpened
    | Armed
    | StopRecorded
    | NodeExcluded
    | StopsLifted
    | CommandRefused
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event's bytes as the ledger chains them."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """Read one event strictly.

    Raises: LedgerError: an unknown event or field; a newer version wrote this ledger.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise LedgerError(f"event of {len(data)} bytes cannot be read: {error}. Upgrade before reading on.") from error
