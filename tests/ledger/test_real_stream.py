# SPDX-License-Identifier: Apache-2.0
"""Damage in the broker's own files: JetStream drops or changes records without a word, and the ledger says so."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest

from firecurtain.bus import server as server_module
from firecurtain.bus.port import Bus
from firecurtain.bus.server import ServerFailed
from firecurtain.ledger.chain import Entry
from firecurtain.ledger.verify import verify
from firecurtain.terms import BusError, LedgerDamaged
from support.nats import connect_with_ledger, running_server

BOUND_S = 30.0
COUNT = 200
VICTIM = 100


def ignore(_: BusError) -> None:
    """Lost connections are part of these tests."""


async def write_ledger(directory: Path, opened) -> list[Entry]:
    """A broker, a ledger of COUNT records, everything closed again."""
    async with running_server(directory, report=ignore) as running:
        bus = await connect_with_ledger(running)
        ledger = await opened(bus, directory / "ledger.db")
        entries = [await ledger.append(b"event %06d" % number + bytes(200), number) for number in range(COUNT)]
        await ledger.close()
        await bus.close()
    return entries


def find_record(directory: Path, seq: int) -> tuple[Path, int, int]:
    """The block file of the stream, and where in it the record of this sequence starts and the event lies."""
    (block,) = (directory / "broker").rglob("*.blk")
    data = block.read_bytes()
    event_start, first = data.index(b"event %06d" % (seq - 1)), data.index(b"event 000000")
    return block, event_start - first, event_start


def end_politely(_: Path) -> None:
    """The broker wrote down what its stream counts; nothing to change."""


def end_killed(directory: Path) -> None:
    """As if the broker had been killed before it wrote that down: its successor reads the blocks alone."""
    for index in directory.rglob("index.db"):
        index.unlink()


def flip(path: Path, position: int, bit: int) -> None:
    """Flip one bit in place."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


async def read_all(bus: Bus) -> None:
    """Read the plain stream for as long as it lasts."""
    async with asyncio.timeout(BOUND_S), aclosing(bus.read(0)) as records:
        async for _ in records:
            pass


async def expect_refusal(directory: Path, opened) -> str:
    """Start on the damaged store: either the broker does not come up or the ledger refuses; returns the words."""
    try:
        async with asyncio.timeout(BOUND_S), running_server(directory, report=ignore) as running:
            bus = await connect_with_ledger(running, ignore)
            try:
                with pytest.raises(LedgerDamaged) as refused:
                    await opened(bus, directory / "ledger.db")
                found = await verify(bus, directory / "ledger.db", fleet="knight", epoch=1)
                assert not found.is_intact
                return f"{found.verdict}: {refused.value}"
            finally:
                await bus.close()
    except ServerFailed as failed:
        return f"broker: {failed}"


@pytest.mark.parametrize("end", [end_politely, end_killed])
@pytest.mark.parametrize("offset", [0, 2, 4, 9, 13, 20, 25, 60, 200], ids=lambda offset: f"byte-{offset}")
async def test_one_flipped_bit_in_the_block_file_refuses_the_start(tmp_path, opened, monkeypatch, offset, end):
    """JetStream may drop the one record, or everything after it, or hand out changed bytes, or never come up."""
    monkeypatch.setattr(server_module, "READY_S", 2.0)  # one of these bits sends nats-server into an endless restore
    await write_ledger(tmp_path, opened)
    end(tmp_path)
    block, start, _ = find_record(tmp_path, VICTIM)
    flip(block, start + offset, bit=0)
    words = await expect_refusal(tmp_path, opened)
    assert any(
        word in words for word in ("is missing", "are lost", "follows hash", "has hash", "did not become usable")
    )


@pytest.mark.parametrize("end", [end_politely, end_killed])
async def test_a_flipped_bit_in_the_newest_record_refuses_the_start(tmp_path, opened, end):
    await write_ledger(tmp_path, opened)
    end(tmp_path)
    block, _, event_start = find_record(tmp_path, COUNT)
    flip(block, event_start + 3, bit=5)
    words = await expect_refusal(tmp_path, opened)
    assert "record 200 is missing" in words or "1 records are lost" in words


async def test_the_flipped_bit_is_dropped_in_silence_without_our_checks(tmp_path, opened):
    """The plain stream says nothing: it simply has no record 100. This is what the checks above are for."""
    await write_ledger(tmp_path, opened)
    block, _, event_start = find_record(tmp_path, VICTIM)
    flip(block, event_start + 3, bit=5)
    async with running_server(tmp_path, report=ignore) as running:
        bus = await connect_with_ledger(running)
        assert await bus.last() == COUNT
        with pytest.raises(LedgerDamaged, match=f"record {VICTIM} is missing"):
            await read_all(bus)
        await bus.close()


async def test_a_truncated_block_file_refuses_the_start(tmp_path, opened):
    await write_ledger(tmp_path, opened)
    block, start, _ = find_record(tmp_path, VICTIM)
    with block.open("r+b") as file:
        file.truncate(start)
    end_killed(tmp_path)
    assert "ends at 99, our copy holds 200: 101 records are lost" in await expect_refusal(tmp_path, opened)


async def test_a_deleted_store_refuses_the_start(tmp_path, opened):
    await write_ledger(tmp_path, opened)
    shutil.rmtree(tmp_path / "broker" / "store" / "jetstream")
    assert "ends at 0, our copy holds 200" in await expect_refusal(tmp_path, opened)


async def test_a_store_put_back_from_an_older_backup_refuses_the_start(tmp_path, opened):
    async with running_server(tmp_path, report=ignore) as running:
        bus = await connect_with_ledger(running)
        await (await opened(bus, tmp_path / "ledger.db")).append(b"first", 0)
        await bus.close()
    shutil.copytree(tmp_path / "broker" / "store" / "jetstream", tmp_path / "backup")
    async with running_server(tmp_path, report=ignore) as running:
        bus = await connect_with_ledger(running)
        await (await opened(bus, tmp_path / "ledger.db")).append(b"second", 1)
        await bus.close()
    shutil.rmtree(tmp_path / "broker" / "store" / "jetstream")
    shutil.copytree(tmp_path / "backup", tmp_path / "broker" / "store" / "jetstream")
    assert "ends at 1, our copy holds 2: 1 records are lost" in await expect_refusal(tmp_path, opened)


async def test_a_running_issuer_affirms_from_its_own_copy_when_the_restarted_stream_is_damaged(tmp_path, opened):
    async with running_server(tmp_path, report=ignore) as running:
        bus = await connect_with_ledger(running, ignore)
        ledger = await opened(bus, tmp_path / "ledger.db")
        for number in range(COUNT - 1):
            await ledger.append(b"event %06d" % number + bytes(200), number)
        async with asyncio.timeout(BOUND_S), aclosing(ledger.read(COUNT - 1)) as reading:
            live = asyncio.create_task(anext(reading))
            await ledger.append(b"event %06d" % (COUNT - 1) + bytes(200), COUNT - 1)
            assert (await live).seq == COUNT
            head = ledger.head
            block, _, event_start = find_record(tmp_path, COUNT)
            flip(block, event_start + 3, bit=5)
            await running.revive(0)  # one restart is like another, and this one can be asked for
            with pytest.raises(LedgerDamaged):
                await anext(reading)
        with pytest.raises(LedgerDamaged):
            await ledger.append(b"grant", COUNT)
        assert ledger.head == head
        assert [entry.seq async for entry in ledger.history(COUNT - 2)] == [COUNT - 1, COUNT]
        await bus.close()


async def test_ledger_and_broker_survive_a_restart_together(tmp_path, opened):
    entries = await write_ledger(tmp_path, opened)
    async with running_server(tmp_path) as running:
        bus = await connect_with_ledger(running)
        ledger = await opened(bus, tmp_path / "ledger.db")
        assert [entry async for entry in ledger.history(0)] == entries
        assert (await verify(bus, tmp_path / "ledger.db", fleet="knight", epoch=1)).verdict == "whole"
        assert (await ledger.append(b"goes on", COUNT)).seq == COUNT + 1
        await bus.close()
