# SPDX-License-Identifier: Apache-2.0
"""The chain by itself: golden bytes, and every single changed bit breaks it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecurtain.ledger.chain import Head, compute_genesis, compute_hash, frame, verify_end, verify_record, verify_same
from firecurtain.terms import LedgerDamaged

GENESIS = compute_genesis("knight", 1)


def test_the_bytes_of_a_record_never_change():
    genesis = hashlib.sha256(b"firecurtain ledger\0knight\x001").hexdigest()
    assert Head(0, genesis) == GENESIS
    record = frame(GENESIS, b"founded")
    assert record == b"FCL1" + bytes.fromhex(genesis) + b"founded"
    assert verify_record(GENESIS, 1, record).hash == hashlib.sha256(record).hexdigest()


def test_fleet_and_epoch_are_bound_by_the_first_record():
    record = frame(GENESIS, b"founded")
    for other in (compute_genesis("knight", 2), compute_genesis("other", 1)):
        with pytest.raises(LedgerDamaged, match="not written for this fleet and ledger epoch"):
            verify_record(other, 1, record)


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=6), st.data())
def test_one_flipped_bit_anywhere_breaks_the_chain_or_its_last_hash(events, data):
    records, head = [], GENESIS
    for event in events:
        records.append(frame(head, event))
        head = Head(head.seq + 1, compute_hash(records[-1]))
    victim = data.draw(st.integers(0, len(records) - 1))
    bit = data.draw(st.integers(0, len(records[victim]) * 8 - 1))
    flipped = bytearray(records[victim])
    flipped[bit // 8] ^= 1 << bit % 8
    records[victim] = bytes(flipped)
    with pytest.raises(LedgerDamaged):
        _walk(records, head)


@given(st.integers(2, 6), st.data())
def test_a_dropped_or_swapped_record_breaks_the_chain(count, data):
    records, head = [], GENESIS
    for number in range(count):
        records.append(frame(head, b"%d" % number))
        head = Head(head.seq + 1, compute_hash(records[-1]))
    first, second = data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    swapped = list(records)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    with pytest.raises(LedgerDamaged):
        _walk(swapped, head)
    with pytest.raises(LedgerDamaged):
        _walk(records[:first] + records[first + 1 :], head)


def _walk(records: list[bytes], expected: Head) -> None:
    """Read as a replica does: the chain, then the end against what was seen before."""
    head = GENESIS
    for seq, record in enumerate(records, start=1):
        entry = verify_record(head, seq, record)
        head = Head(entry.seq, entry.hash)
    verify_end(head.seq, expected.seq)
    verify_same(entry, expected.hash)
