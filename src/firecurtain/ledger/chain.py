# SPDX-License-Identifier: Apache-2.0
"""How a record names its predecessor, so that none can be changed, dropped or put in between unseen.

A record is `FCL1`, the 32-byte hash of the record before it, and the event. Its own hash is the sha256 of all that. The
first record names the genesis hash, made from fleet and ledger epoch: a ledger of another fleet, or one restored from a
backup into a new epoch, differs from its first byte. Pure; a chain does not show who wrote it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from firecurtain.terms import Digest, LedgerDamaged

MAGIC = b"FCL1"
HASH_BYTES = 32
DO = "Grants stay refused. Run `firecurtain ledger verify` and restore the store from a backup."


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in its place. `hash` covers it and, through the chain, every event before it."""

    seq: int
    hash: Digest
    event: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checked entry: where the next one goes. At seq 0 the hash is the genesis hash."""

    seq: int
    hash: Digest


def compute_genesis(fleet: str, epoch: int) -> Head:
    """The head of an empty ledger of this fleet and epoch.

    >>> compute_genesis("knight", 1) == compute_genesis("knight", 2)
    False
    """
    text = b"firecurtain ledger\0" + fleet.encode() + b"\0" + str(epoch).encode()
    return Head(0, Digest(hashlib.sha256(text).hexdigest()))


def frame(head: Head, event: bytes) -> bytes:
    """The record that puts `event` after `head`.

    >>> frame(compute_genesis("knight", 1), b"event")[-5:]
    b'event'
    """
    return MAGIC + bytes.fromhex(head.hash) + event


def verify_record(head: Head, seq: int, record: bytes) -> Entry:
    """Check that `record` continues the chain from `head` at `seq`. Raises: LedgerDamaged."""
    if seq != head.seq + 1:
        raise LedgerDamaged(f"record {head.seq + 1} is missing: after {head.seq} came {seq}. {DO}")
    event_start = len(MAGIC) + HASH_BYTES
    if record[: len(MAGIC)] != MAGIC or len(record) < event_start:
        raise LedgerDamaged(f"record {seq} is no ledger record: it begins with {record[:8].hex()!r}. {DO}")
    previous = record[len(MAGIC) : event_start].hex()
    if previous != head.hash:
        raise LedgerDamaged(_describe_break(head, seq, previous))
    return Entry(seq, compute_hash(record), record[event_start:])


def verify_end(last: int, held: int) -> None:
    """Check that a stream ending at `last` holds at least the `held` records we have seen. Raises: LedgerDamaged."""
    if last < held:
        raise LedgerDamaged(f"the stream ends at {last}, our copy holds {held}: {held - last} records are lost. {DO}")


def verify_same(entry: Entry, held: Digest) -> None:
    """Check that the stream's entry is the one our copy holds. Raises: LedgerDamaged."""
    if entry.hash != held:
        raise LedgerDamaged(f"record {entry.seq} has hash {entry.hash} in the stream, {held} in our copy. {DO}")


def compute_hash(record: bytes) -> Digest:
    """The hash of a record."""
    return Digest(hashlib.sha256(record).hexdigest())


def _describe_break(head: Head, seq: int, previous: str) -> str:
    if seq == 1:
        return (
            f"record 1 was not written for this fleet and ledger epoch: it follows {previous}, not {head.hash}. "
            "Connect to the fleet's own broker, or name the epoch that k of n approved."
        )
    return f"record {seq} follows hash {previous}, but record {head.seq} has {head.hash}: one of them changed. {DO}"
