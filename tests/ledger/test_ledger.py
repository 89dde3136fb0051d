# SPDX-License-Identifier: Apache-2.0
"""What a control replica may rely on: appends, restarts, and every way stream and copy can disagree."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing

import pytest

from firecurtain.bus.disk import DiskReserve
from firecurtain.bus.port import Conflict, StoreFailed, Unavailable
from firecurtain.ledger.chain import compute_genesis
from firecurtain.ledger.verify import verify
from firecurtain.terms import LedgerDamaged
from support.mutants import load_mutant

BOUND_S = 10.0


async def take_all(entries, wanted):
    taken = []
    async with asyncio.timeout(BOUND_S), aclosing(entries) as reading:
        async for entry in reading:
            taken.append(entry)
            if len(taken) == wanted:
                break
    return taken


async def fill(ledger, count):
    for number in range(ledger.head.seq, ledger.head.seq + count):
        await ledger.append(b"event %d" % number, number)


def damage_event(broker, seq):
    record = bytearray(broker.records[seq - 1])
    record[-1] ^= 1
    broker.records[seq - 1] = bytes(record)


async def test_an_empty_ledger_starts_at_the_genesis_of_its_fleet_and_epoch(bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    assert ledger.head == compute_genesis("knight", 1)


async def test_what_was_appended_is_read_again_after_a_restart(bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    entries = [await ledger.append(b"event %d" % number, number) for number in range(600)]
    assert [entry.seq for entry in entries] == list(range(1, 601))
    await ledger.close()
    again = await opened(bus, tmp_path / "ledger.db")
    assert (again.head.seq, again.head.hash) == (600, entries[-1].hash)
    assert await take_all(again.history(0), 601) == entries
    assert await take_all(again.history(598), 3) == entries[598:]


async def test_a_new_replica_copies_the_whole_stream(bus, tmp_path, opened):
    first = await opened(bus, tmp_path / "first.db")
    await fill(first, 5)
    second = await opened(bus, tmp_path / "second.db")
    assert second.head == first.head
    assert await take_all(second.history(0), 6) == await take_all(first.history(0), 6)


async def test_a_reader_follows_its_own_and_other_replicas_appends(bus, tmp_path, opened):
    mine, other = await opened(bus, tmp_path / "mine.db"), await opened(bus, tmp_path / "other.db")
    await mine.append(b"before", 0)
    async with asyncio.timeout(BOUND_S), aclosing(mine.read(0)) as reading:
        assert (await anext(reading)).event == b"before"
        await mine.append(b"mine", 1)
        assert (await anext(reading)).event == b"mine"
        await other.catch_up()
        await other.append(b"other", 2)
        assert (await anext(reading)).event == b"other"
    assert mine.head == other.head


async def test_whoever_decided_on_an_older_state_is_told(bus, tmp_path, opened):
    mine, other = await opened(bus, tmp_path / "mine.db"), await opened(bus, tmp_path / "other.db")
    await mine.append(b"mine", 0)
    with pytest.raises(Conflict) as behind:
        await other.append(b"other", 0)
    assert (behind.value.expect, behind.value.last) == (0, 1)
    with pytest.raises(Conflict):
        await mine.append(b"mine", 0)
    await other.catch_up()
    assert (await other.append(b"other", 1)).seq == 2


async def test_an_append_with_a_lost_answer_is_found_again_and_stored_once(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    broker.lose_acks = 2
    with pytest.raises(Unavailable) as lost:
        await ledger.append(b"retried", 0)
    assert lost.value.ambiguous
    assert (await ledger.append(b"retried", 0)).seq == 1  # the same event again
    with pytest.raises(Unavailable):
        await ledger.append(b"found", 1)
    with pytest.raises(Conflict):
        await ledger.append(b"another", 1)
    await ledger.catch_up()  # or look what became of it
    assert [entry.event for entry in await take_all(ledger.history(0), 3)] == [b"retried", b"found"]
    assert len(broker.records) == 2


async def test_a_record_changed_while_running_refuses_grants_and_leaves_the_head_to_affirm(
    broker, bus, tmp_path, opened
):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 3)
    head = ledger.head
    async with aclosing(ledger.read(0)) as reading:
        for _ in range(3):
            await anext(reading)
        damage_event(broker, 3)
        broker.wake()
        with pytest.raises(LedgerDamaged):
            async with asyncio.timeout(BOUND_S):
                await anext(reading)
    with pytest.raises(LedgerDamaged):
        await ledger.append(b"grant", 3)
    with pytest.raises(LedgerDamaged):
        await ledger.catch_up()
    assert ledger.head == head
    assert len(await take_all(ledger.history(0), 4)) == 3


async def test_a_stream_that_became_shorter_is_noticed_by_the_next_append(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 5)
    del broker.records[2:]
    with pytest.raises(LedgerDamaged, match="ends at 2, our copy holds 5: 3 records are lost"):
        await ledger.append(b"grant", 5)
    with pytest.raises(LedgerDamaged, match="ends at 2"):
        ledger.check()


async def test_a_stream_that_grew_again_after_it_became_shorter_is_noticed(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 5)
    del broker.records[2:]
    forger = await opened(bus, tmp_path / "forger.db")
    for expect in range(2, 8):
        await forger.append(b"other", expect)
    with pytest.raises(LedgerDamaged, match="one of them changed"):
        await ledger.catch_up()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda records: records.pop(), "ends at 4, our copy holds 5"),
        (lambda records: records.clear(), "ends at 0, our copy holds 5"),
        (lambda records: records.pop(1), "ends at 4, our copy holds 5"),
        (lambda records: records.__setitem__(4, records[4] + b"!"), "record 5 has hash"),
        (lambda records: records.__setitem__(1, b"not a record"), "record 2 is no ledger record"),
        (lambda records: records.__setitem__(1, records[2]), "record 2 follows hash"),
    ],
    ids=["shorter", "empty", "dropped", "changed", "garbage", "repeated"],
)
async def test_a_start_on_a_damaged_or_shortened_stream_is_refused(broker, bus, tmp_path, opened, spoil, words):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 5)
    await ledger.close()
    spoil(broker.records)
    with pytest.raises(LedgerDamaged, match=words):
        await opened(bus, tmp_path / "ledger.db")


async def test_another_fleets_or_epochs_ledger_is_refused(bus, tmp_path, opened):
    await fill(await opened(bus, tmp_path / "ledger.db"), 1)
    for changes in ({"fleet": "other"}, {"epoch": 2}):
        with pytest.raises(LedgerDamaged):
            await opened(bus, tmp_path / "ledger.db", **changes)
        with pytest.raises(LedgerDamaged, match="not written for this fleet and ledger epoch"):
            await opened(bus, tmp_path / "new.db", **changes)


async def test_a_start_with_a_damaged_copy_is_refused_and_starts_anew_without_it(bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 5)
    await ledger.close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE entry SET event = ? WHERE seq = 3", (b"changed",))
    database.close()
    with pytest.raises(LedgerDamaged, match="breaks at entry 3"):
        await opened(bus, tmp_path / "ledger.db")
    (tmp_path / "ledger.db").rename(tmp_path / "ledger.db.damaged")
    assert (await opened(bus, tmp_path / "ledger.db")).head.seq == 5


async def test_a_copy_that_is_no_database_is_refused(bus, tmp_path, opened):
    (tmp_path / "ledger.db").write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(LedgerDamaged, match="our own copy"):
        await opened(bus, tmp_path / "ledger.db")


async def test_below_the_disk_reserve_grants_are_refused_and_stops_recorded(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db", reserve_bytes=1 << 62)
    with pytest.raises(DiskReserve, match=str(tmp_path)) as refused:
        await ledger.append(b"grant", 0)
    assert refused.value.reserve_bytes == 1 << 62
    assert refused.value.free_bytes > 0
    assert broker.records == []
    assert (await ledger.append(b"stop", 0, uses_reserve=True)).seq == 1


async def test_a_broker_that_cannot_store_leaves_the_ledger_as_it_was(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    broker.store_fails = True
    with pytest.raises(StoreFailed):
        await ledger.append(b"grant", 0)
    broker.store_fails = False
    assert (await ledger.append(b"grant", 0)).seq == 1


async def test_verify_says_what_it_found(broker, bus, tmp_path, opened):
    path = tmp_path / "ledger.db"
    ledger = await opened(bus, path)
    await fill(ledger, 5)
    whole = await verify(bus, path, fleet="knight", epoch=1)  # beside the living replica
    assert (whole.verdict, whole.is_intact, whole.checked, whole.head) == ("whole", True, 5, ledger.head.hash)
    other = await opened(bus, tmp_path / "other.db")
    await other.append(b"sixth", 5)
    ahead = await verify(bus, path, fleet="knight", epoch=1)
    assert (ahead.verdict, ahead.is_intact, ahead.stream_last, ahead.copy_last) == ("ahead", True, 6, 5)
    await ledger.close()
    kept = list(broker.records)
    del broker.records[4:]
    shorter = await verify(bus, path, fleet="knight", epoch=1)
    assert (shorter.verdict, shorter.is_intact, shorter.stream_last, shorter.copy_last) == ("shortened", False, 4, 5)
    broker.records[:] = kept
    damage_event(broker, 2)
    damaged = await verify(bus, path, fleet="knight", epoch=1)
    assert (damaged.verdict, damaged.checked, damaged.is_intact) == ("damaged", 1, False)
    assert "record 2 has hash" in damaged.detail


async def test_the_tests_above_notice_a_ledger_that_does_not_compare_ends(broker, bus, tmp_path, opened):
    ledger = await opened(bus, tmp_path / "ledger.db")
    await fill(ledger, 5)
    await ledger.close()
    del broker.records[2:]
    mutant = load_mutant("firecurtain.ledger.ledger", "    verify_end(last, head.seq)\n    async", "    async")
    blind = await mutant.open_ledger(
        bus, tmp_path / "ledger.db", fleet="knight", epoch=1, disks=(tmp_path,), reserve_bytes=0
    )
    assert blind.head.seq == 5  # it starts, although three records are gone
    await blind.close()
