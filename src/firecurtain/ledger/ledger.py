# SPDX-License-Identifier: Apache-2.0
"""The ledger as a control replica uses it: append after what was checked, read what was checked, refuse when in doubt.

The stream is the truth for everybody, the replica is what we saw of it. At the start they must agree, or there is no
start. Later a stream that lost or changed a record makes `damage` true for good: every append raises it, while `head`
and `history` stand on our own intact copy, so that what was granted can still be affirmed and stops still travel.
This module appends no event by itself, knows no event and never repairs anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from firecurtain.bus.disk import RESERVE_BYTES, check_reserve
from firecurtain.bus.port import Bus, Conflict, RecordMissing, Unavailable
from firecurtain.ledger.chain import (
    Entry,
    Head,
    compute_genesis,
    compute_hash,
    frame,
    verify_end,
    verify_record,
    verify_same,
)
from firecurtain.ledger.compare import describe_missing, read_compared
from firecurtain.ledger.replica import Replica, make_replica
from firecurtain.terms import LedgerDamaged

ID_CHARACTERS = 32  # 128 bits of the record's own hash: the same record is the same append, for ever


class Ledger:
    """The checked ledger of one fleet and epoch; made by `open_ledger`. One per process."""

    def __init__(self, bus: Bus, replica: Replica, head: Head, disks: tuple[Path, ...], reserve_bytes: int) -> None:
        self.head = head
        self.damage: LedgerDamaged | None = None
        self._bus = bus
        self._replica = replica
        self._disks = disks
        self._reserve_bytes = reserve_bytes
        self._one_writer = asyncio.Lock()

    async def append(self, event: bytes, expect: int, *, uses_reserve: bool = False) -> Entry:
        """Append one event after sequence `expect`; it is on disk twice, in stream and copy, when this returns.

        Args:
            expect: the sequence the caller decided on.
            uses_reserve: True for what a stop writes: it may use the disk space that grants may not.
        Raises: Conflict, Unavailable, ReplicaFailed: `catch_up`, then decide again. DiskReserve: nothing was sent.
            StoreFailed: revive the broker, then `catch_up`. LedgerDamaged: now and from now on.
        """
        self.check()
        if not uses_reserve:
            for disk in self._disks:
                check_reserve(disk, self._reserve_bytes)
        async with self._one_writer:
            if expect != self.head.seq:
                raise Conflict(expect, self.head.seq)
            record = frame(self.head, event)
            with self._marking():
                try:
                    seq = await self._bus.append(record, expect=expect, id=compute_hash(record)[:ID_CHARACTERS])
                except Conflict as conflict:
                    verify_end(conflict.last, expect)
                    raise
                return await self._adopt(seq, record)

    async def catch_up(self) -> None:
        """Check and copy what the stream holds beyond our head, our own append with a lost answer included.

        Raises: LedgerDamaged, Unavailable, StoreFailed, ReplicaFailed.
        """
        self.check()
        with self._marking():
            last = await self._bus.last()
            verify_end(last, self.head.seq)
            await self._check_up_to(last)

    async def history(self, after: int) -> AsyncGenerator[Entry, None]:
        """Yield every checked entry from `after + 1` to the head as it is now, from our own copy."""
        async for entry in self._replica.read(after, self.head.seq):
            yield entry

    async def read(self, after: int) -> AsyncGenerator[Entry, None]:
        """Yield history, then each new entry as it is checked and copied, for as long as the bus is open.

        Keep one such reading for as long as the ledger is used: it is what notices a stream damaged behind our back.
        Leave it early only inside `contextlib.aclosing`.
        Raises: LedgerDamaged, Unavailable, StoreFailed, ReplicaFailed.
        """
        async with aclosing(self._replica.read(after, self.head.seq)) as entries:
            async for entry in entries:
                after = entry.seq
                yield entry
        # From one record earlier: a stream that changed since our copy was made shows itself at once.
        async with aclosing(self._bus.read(max(after - 1, 0))) as records:
            while (taken := await self._take_next(records)) is not None:
                if taken.seq > after:
                    yield taken

    def check(self) -> None:
        """Refuse when the ledger is damaged. Raises: LedgerDamaged."""
        if self.damage is not None:
            raise self.damage

    async def close(self) -> None:
        """Close our copy; the bus stays open."""
        await self._replica.close()

    async def _check_up_to(self, last: int) -> None:
        if last == 0:
            return
        # The newest record we know is read again, so that a stream rewritten up to there is noticed as well.
        async with aclosing(self._bus.read(max(self.head.seq - 1, 0))) as records:
            async for seq, record in records:
                await self._take(seq, record)
                if seq == last:
                    return
        raise Unavailable(f"the bus closed while the ledger was read at {self.head.seq} of {last}. Connect again.")

    async def _take_next(self, records: AsyncGenerator[tuple[int, bytes], None]) -> Entry | None:
        with self._marking():
            record = await anext(records, None)
            return None if record is None else await self._take(*record)

    async def _take(self, seq: int, record: bytes) -> Entry:
        """A record from the stream: the next one is checked and copied, an older one must be the one we hold."""
        async with self._one_writer:
            if seq > self.head.seq:
                return await self._adopt(seq, record)
            head = Head(seq - 1, await self._replica.read_hash(seq - 1))
            entry = verify_record(head, seq, record)
            verify_same(entry, await self._replica.read_hash(seq))
            return entry

    async def _adopt(self, seq: int, record: bytes) -> Entry:
        entry = verify_record(self.head, seq, record)
        await self._replica.put(entry)
        self.head = Head(entry.seq, entry.hash)
        return entry

    @contextmanager
    def _marking(self) -> Iterator[None]:
        """Remember the first damage for good: what is found later are its consequences."""
        try:
            yield
        except LedgerDamaged as damage:
            self.damage = self.damage or damage
            raise
        except RecordMissing as missing:
            # Beyond our head nobody was ever told of this record: a broker with a full disk may only think it has it.
            if missing.seq > self.head.seq:
                raise
            self.damage = self.damage or describe_missing(missing)
            raise self.damage from missing


async def open_ledger(
    bus: Bus,
    path: Path,
    *,
    fleet: str,
    epoch: int,
    disks: tuple[Path, ...],
    reserve_bytes: int = RESERVE_BYTES,
) -> Ledger:
    """Check the whole stream against our own copy in `path` and take over what is new; or refuse to start.

    Args:
        disks: directories whose file systems must keep `reserve_bytes` free before a grant is appended: that of the
            broker's store and that of `path`.
    Raises: LedgerDamaged: the stream is damaged, shorter than our copy, or of another fleet or epoch; or our copy is.
        Unavailable, StoreFailed, ReplicaFailed.
    """
    replica = make_replica(path, fleet, epoch)
    try:
        head = await _start(bus, replica, fleet, epoch)
    except BaseException:
        await replica.close()
        raise
    return Ledger(bus, replica, head, disks, reserve_bytes)


async def _start(bus: Bus, replica: Replica, fleet: str, epoch: int) -> Head:
    """Check the whole stream against our copy and put what is newer into the copy."""
    head = await replica.open()
    last = await bus.last()
    verify_end(last, head.seq)
    async with aclosing(read_compared(bus, replica, compute_genesis(fleet, epoch), head.seq, last)) as entries:
        async for entry in entries:
            if entry.seq > head.seq:
                await replica.put(entry)
                head = Head(entry.seq, entry.hash)
    return head
