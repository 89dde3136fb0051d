# SPDX-License-Identifier: Apache-2.0
"""The switches of the fake that other rooms' tests use; what it shares with NATS is in test_conformance."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from firecurtain.bus.memory import MemoryBroker
from firecurtain.bus.port import NoAnswer, StoreFailed, Unavailable
from firecurtain.terms import LedgerDamaged
from support.nats import CONTROL, HOST_8

BOUND_S = 10.0


@pytest.fixture
def broker():
    return MemoryBroker()


async def test_a_broker_that_is_down_refuses_calls_and_goes_on_afterwards(broker):
    bus = broker.connect(CONTROL, print)
    heard = await bus.listen("fc.knight.>")
    broker.is_down = True
    for call in (
        bus.cast("fc.knight.down.x", b""),
        bus.append(b"", expect=0, id="x"),
        bus.last(),
        bus.listen("fc.knight.x"),
    ):
        with pytest.raises(Unavailable):
            await call
    broker.is_down = False
    await bus.cast("fc.knight.down.x", b"back")
    assert (await anext(heard)).data == b"back"


async def test_a_dropped_message_is_silence(broker):
    control, node = broker.connect(CONTROL, print), broker.connect(HOST_8, print)
    async with await control.listen("fc.knight.up.>") as heard:
        broker.drops = lambda message: message.subject.endswith("attest")
        with pytest.raises(NoAnswer) as silence:
            await node.ask("fc.knight.up.host-8.attest", b"?", timeout_s=0.01)
        assert not silence.value.nobody_listens
        await node.cast("fc.knight.up.host-8.counters", b"heard")
        assert (await anext(heard)).data == b"heard"


async def test_a_store_that_fails_takes_nothing(broker):
    bus = broker.connect(CONTROL, print)
    broker.store_fails = True
    with pytest.raises(StoreFailed):
        await bus.append(b"event", expect=0, id="x")
    assert broker.records == []


async def test_a_record_changed_under_a_reader_is_damage(broker):
    bus = broker.connect(CONTROL, print)
    await bus.append(b"event", expect=0, id="x")
    async with asyncio.timeout(BOUND_S), aclosing(bus.read(0)) as reading:
        assert await anext(reading) == (1, b"event")
        broker.records[0] = b"Event"
        broker.wake()
        with pytest.raises(LedgerDamaged, match="record 1 changed"):
            await anext(reading)
