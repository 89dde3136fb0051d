# SPDX-License-Identifier: Apache-2.0
"""What every `Bus` does, fake or real: the suite both adapters must pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count

import pytest

from firecurtain.bus.listening import Listening, Overflow
from firecurtain.bus.port import (
    MESSAGE_BYTES_MAX,
    Bus,
    Conflict,
    Denied,
    Message,
    NoAnswer,
    TooLarge,
    Unavailable,
)
from firecurtain.terms import InvariantError
from support.nats import HOST_7, HOST_8

BOUND_S = 10.0


async def take(listening: Listening[Message]) -> Message:
    """The next message, within a bound."""
    async with asyncio.timeout(BOUND_S):
        return await anext(listening)


async def take_records(bus: Bus, after: int, wanted: int) -> list[tuple[int, bytes]]:
    """The next `wanted` records after a sequence, within a bound."""
    records = []
    async with asyncio.timeout(BOUND_S), aclosing(bus.read(after)) as reading:
        async for record in reading:
            records.append(record)
            if len(records) == wanted:
                break
    return records


async def test_appends_come_back_in_order_and_without_a_gap(buses):
    bus = await buses.connect()
    for expect in range(300):
        assert await bus.append(b"event %d" % expect, expect=expect, id=f"e{expect}") == expect + 1
    assert await bus.last() == 300
    assert await take_records(bus, 0, 300) == [(n + 1, b"event %d" % n) for n in range(300)]
    assert await take_records(bus, 290, 10) == [(n + 1, b"event %d" % n) for n in range(290, 300)]


async def test_an_empty_ledger_ends_at_zero_and_a_reader_waits(buses):
    bus = await buses.connect()
    assert await bus.last() == 0
    reading = asyncio.create_task(take_records(bus, 0, 1))
    await bus.append(b"first", expect=0, id="first")
    assert await reading == [(1, b"first")]


async def test_a_reader_follows_live_what_others_append(buses):
    reader, writer = await buses.connect(), await buses.connect()
    await writer.append(b"before", expect=0, id="before")
    async with asyncio.timeout(BOUND_S), aclosing(reader.read(0)) as reading:
        assert await anext(reading) == (1, b"before")
        for expect in range(1, 5):
            await writer.append(b"live", expect=expect, id=f"live{expect}")
            assert await anext(reading) == (expect + 1, b"live")


async def test_of_two_writers_who_expect_the_same_sequence_one_is_told_where_the_ledger_stands(buses):
    first, second = await buses.connect(), await buses.connect()
    outcomes = await asyncio.gather(
        first.append(b"mine", expect=0, id="mine"),
        second.append(b"yours", expect=0, id="yours"),
        return_exceptions=True,
    )
    assert sorted(map(type, outcomes), key=str) == sorted([int, Conflict], key=str)
    conflict = next(outcome for outcome in outcomes if isinstance(outcome, Conflict))
    assert (conflict.expect, conflict.last) == (0, 1)
    assert await first.last() == 1


async def test_an_append_ahead_of_the_ledger_is_a_conflict_too(buses):
    bus = await buses.connect()
    with pytest.raises(Conflict) as refused:
        await bus.append(b"later", expect=7, id="later")
    assert (refused.value.expect, refused.value.last) == (7, 0)


async def test_the_same_append_sent_again_is_stored_once(buses):
    bus = await buses.connect()
    assert await bus.append(b"pay", expect=0, id="pay") == 1
    assert await bus.append(b"pay", expect=0, id="pay") == 1
    assert await bus.append(b"next", expect=1, id="next") == 2
    assert await bus.append(b"pay", expect=0, id="pay") == 1
    assert await bus.last() == 2


async def test_the_same_id_at_another_place_or_with_another_event_is_another_append(buses):
    bus = await buses.connect()
    assert await bus.append(b"pay", expect=0, id="pay") == 1
    assert await bus.append(b"pay", expect=1, id="pay") == 2
    with pytest.raises(Conflict):
        await bus.append(b"pay twice", expect=0, id="pay")
    assert await bus.last() == 2


async def test_an_id_that_would_break_the_protocol_is_a_programmers_error(buses):
    bus = await buses.connect()
    for bad in ("", "a b", "a\r\nNats-Rollup: all", "x" * 65):
        with pytest.raises(InvariantError):
            await bus.append(b"event", expect=0, id=bad)


async def test_nothing_cast_after_listen_returned_is_lost(buses):
    speaker, hearer = await buses.connect(), await buses.connect(HOST_8)
    async with await hearer.listen("fc.knight.down.beacon.*") as beacons:
        await speaker.cast("fc.knight.down.beacon.router", b"k")
        assert await take(beacons) == Message("fc.knight.down.beacon.router", b"k")


async def test_a_pattern_hears_what_it_covers_and_nothing_else(buses):
    bus = await buses.connect()
    async with (
        await bus.listen("fc.knight.up.*.attest") as attests,
        await bus.listen("fc.knight.up.>") as everything,
    ):
        await bus.cast("fc.knight.up.host-8.counters", b"c")
        await bus.cast("fc.knight.up.host-8.attest", b"a")
        assert (await take(attests)).data == b"a"
        assert [(await take(everything)).data for _ in range(2)] == [b"c", b"a"]


async def test_a_question_is_answered_to_the_one_who_asked(buses):
    control, node = await buses.connect(), await buses.connect(HOST_8)

    async def answer(questions: AsyncIterator[Message]) -> None:
        async for question in questions:
            await control.cast(question.reply, question.data[::-1])

    async with await control.listen("fc.knight.up.*.attest") as questions:
        answering = asyncio.create_task(answer(questions))
        assert await node.ask("fc.knight.up.host-8.attest", b"nonce", timeout_s=BOUND_S) == b"ecnon"
        answering.cancel()


async def test_silence_is_told_from_nobody_there(buses):
    control, node = await buses.connect(), await buses.connect(HOST_8)
    with pytest.raises(NoAnswer) as nobody:
        await node.ask("fc.knight.up.host-8.attest", b"?", timeout_s=BOUND_S)
    assert nobody.value.nobody_listens
    async with await control.listen("fc.knight.up.>"):
        with pytest.raises(NoAnswer) as silence:
            await node.ask("fc.knight.up.host-8.attest", b"?", timeout_s=0.05)
    assert not silence.value.nobody_listens


async def test_a_node_that_speaks_for_another_is_told_at_its_next_call(buses):
    control, node = await buses.connect(), await buses.connect(HOST_8)
    async with await control.listen("fc.knight.>") as heard:
        await node.cast("fc.knight.up.host-7.attest", b"I am host 7")
        with pytest.raises(Denied, match=r"fc\.knight\.up\.host-7\.attest"):
            await node.flush()
        await node.cast("fc.knight.up.host-8.attest", b"I am host 8")  # told once; the connection goes on
        assert (await take(heard)).data == b"I am host 8"
    assert [type(trouble) for trouble in buses.reports] == [Denied]


async def test_a_node_may_neither_speak_downwards_nor_append_nor_hear_others(buses):
    await buses.connect()
    node = await buses.connect(HOST_7)
    await node.cast("fc.knight.down.beacon.router", b"forged beacon")
    with pytest.raises(Denied):
        await node.flush()
    await node.cast("FC_LEDGER", b"forged event")
    with pytest.raises(Denied):
        await node.flush()
    for subject in ("fc.knight.up.host-8.>", "fc.>", "_INBOX.host-8.>", "FC_LEDGER"):
        with pytest.raises(Denied):
            await node.listen(subject)


async def test_a_slow_reader_loses_the_oldest_and_the_loss_is_reported(buses):
    bus = await buses.connect()
    async with await bus.listen("fc.knight.up.>", limit=4) as slow, await bus.listen("fc.knight.up.>") as quick:
        for number in range(10):
            await bus.cast("fc.knight.up.host-8.counters", b"%d" % number)
            await take(quick)
            await bus.flush()  # the slow reader's mailbox has it now too
        assert [(await take(slow)).data for _ in range(4)] == [b"6", b"7", b"8", b"9"]
    assert [type(trouble) for trouble in buses.reports] == [Overflow] * 3  # at 1, 2 and 4 dropped


async def test_what_is_too_large_is_refused_before_it_is_sent(buses):
    bus = await buses.connect()
    with pytest.raises(TooLarge):
        await bus.cast("fc.knight.down.x", bytes(MESSAGE_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        await bus.append(bytes(MESSAGE_BYTES_MAX + 1), expect=0, id="big")
    assert await bus.append(bytes(MESSAGE_BYTES_MAX), expect=0, id="fits") == 1
    assert await take_records(bus, 0, 1) == [(1, bytes(MESSAGE_BYTES_MAX))]


async def test_close_ends_every_iteration_and_every_later_call_is_refused(buses):
    bus = await buses.connect()
    await bus.append(b"event", expect=0, id="event")
    listening = await bus.listen("fc.knight.up.>")
    reading = bus.read(0)
    assert await anext(reading) == (1, b"event")
    waiting = asyncio.gather(_count(listening), _count(reading))
    await bus.close()
    await bus.close()
    async with asyncio.timeout(BOUND_S):
        assert await waiting == [0, 0]
    for call in (bus.cast("fc.knight.down.x", b""), bus.append(b"", expect=0, id="x"), bus.last(), bus.flush()):
        with pytest.raises(Unavailable):
            await call


async def test_what_was_cast_just_before_close_still_arrives(buses):
    speaker, hearer = await buses.connect(), await buses.connect(HOST_8)
    async with await hearer.listen("fc.knight.down.stop") as stops:
        await speaker.cast("fc.knight.down.stop", b"stop")
        await speaker.close()
        assert (await take(stops)).data == b"stop"


async def test_one_sender_crowds_out_nobody_else_and_waits_its_turn(buses):
    """A node may publish below its own subject only, so its subject is its name: a flood costs the flooder."""
    bus = await buses.connect()
    async with await bus.listen("fc.knight.up.*.attest", limit=8) as heard:
        await bus.cast("fc.knight.up.host-7.attest", b"first of host-7")
        for number in range(100):
            await bus.cast("fc.knight.up.host-8.attest", b"flood %d" % number)
        await bus.cast("fc.knight.up.host-9.attest", b"first of host-9")
        await bus.flush()
        taken = [(await take(heard)).data for _ in range(8)]
    assert {b"first of host-7", b"first of host-9"} <= set(taken[:3]), "read in turn"
    assert [data for data in taken if data.startswith(b"flood")] == [b"flood %d" % number for number in range(94, 100)]


async def test_a_burst_larger_than_the_mailbox_keeps_the_newest(buses):
    bus, hearer = await buses.connect(), await buses.connect(HOST_8)
    async with await hearer.listen("fc.knight.down.>", limit=8) as heard:
        for number in range(3000):
            await bus.cast("fc.knight.down.x", b"%d" % number)
        await bus.flush()
        await hearer.flush()
        newest = b""
        while newest != b"2999":
            newest = (await take(heard)).data
    assert {type(trouble) for trouble in buses.reports} == {Overflow}
    assert len(buses.reports) < 20


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(buses):
    control, node = await buses.connect(), await buses.connect(HOST_8)
    async with await control.listen("fc.knight.up.*.attest") as questions:
        with pytest.raises(NoAnswer):
            await node.ask("fc.knight.up.host-8.attest", b"first", timeout_s=0.02)
        late = await take(questions)
        asking = asyncio.create_task(node.ask("fc.knight.up.host-8.attest", b"second", timeout_s=BOUND_S))
        second = await take(questions)
        await control.cast(late.reply, b"late")
        await control.cast(second.reply, b"in time")
        assert await asking == b"in time"


async def _count(iterator: AsyncIterator[object]) -> int:
    for number in count():
        try:
            await anext(iterator)
        except StopAsyncIteration:
            return number
    raise AssertionError
