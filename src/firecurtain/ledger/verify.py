# SPDX-License-Identifier: Apache-2.0
"""The whole check behind `firecurtain ledger verify`: every record of the stream against our own copy, without writing.

It may run beside a living control plane. It repairs nothing and decides nothing: it says what it found, where, and both
values.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from firecurtain.bus.port import Bus
from firecurtain.ledger.chain import DO, Head, compute_genesis
from firecurtain.ledger.compare import read_compared
from firecurtain.ledger.replica import Replica, make_replica
from firecurtain.terms import LedgerDamaged

Verdict = Literal["whole", "ahead", "shortened", "damaged", "copy-damaged"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `ahead` is no fault: the stream holds records our copy has not taken over yet."""

    verdict: Verdict
    stream_last: int
    copy_last: int
    checked: int
    head: str
    detail: str

    @property
    def is_intact(self) -> bool:
        """Would a control plane start on this?"""
        return self.verdict in ("whole", "ahead")


async def verify(bus: Bus, path: Path, *, fleet: str, epoch: int) -> Verification:
    """Check stream and copy from genesis to end.

    Raises: Unavailable, StoreFailed, ReplicaFailed: nothing was found out.
    """
    replica = make_replica(path, fleet, epoch, read_only=True)
    genesis = compute_genesis(fleet, epoch)
    try:
        # The copy first: a living control plane appends to the stream before its copy, so the stream is never behind.
        copy_last = (await replica.open()).seq
    except LedgerDamaged as damage:
        return Verification("copy-damaged", await bus.last(), 0, 0, genesis.hash, str(damage))
    else:
        return await _verify_stream(bus, replica, genesis, copy_last)
    finally:
        await replica.close()


async def _verify_stream(bus: Bus, replica: Replica, genesis: Head, copy_last: int) -> Verification:
    stream_last = await bus.last()
    head = genesis
    try:
        async with aclosing(read_compared(bus, replica, genesis, copy_last, stream_last)) as entries:
            async for entry in entries:
                head = Head(entry.seq, entry.hash)
    except LedgerDamaged as damage:
        return Verification("damaged", stream_last, copy_last, head.seq, head.hash, str(damage))
    verdict, detail = _compare_ends(stream_last, copy_last)
    return Verification(verdict, stream_last, copy_last, head.seq, head.hash, detail)


def _compare_ends(stream_last: int, copy_last: int) -> tuple[Verdict, str]:
    if stream_last < copy_last:
        return "shortened", f"the stream ends at {stream_last}, our copy holds {copy_last}. {DO}"
    if stream_last > copy_last:
        return "ahead", f"the stream holds {stream_last - copy_last} records that a start will take over."
    return "whole", f"{stream_last} records, each follows the one before and equals our copy."
