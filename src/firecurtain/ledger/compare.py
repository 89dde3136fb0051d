# SPDX-License-Identifier: Apache-2.0
"""Read the stream from its first record to a known end, each record checked against the chain and against our own copy.

Shared by the start of a control plane and by `firecurtain ledger verify`. It writes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from firecurtain.bus.port import Bus, RecordMissing, Unavailable
from firecurtain.ledger.chain import DO, Entry, Head, verify_record, verify_same
from firecurtain.ledger.replica import Replica
from firecurtain.terms import LedgerDamaged


async def read_compared(
    bus: Bus, replica: Replica, genesis: Head, copy_last: int, stream_last: int
) -> AsyncGenerator[Entry, None]:
    """Yield the stream's entries 1 to `stream_last`; those up to `copy_last` equal our copy.

    Raises: LedgerDamaged, Unavailable, StoreFailed, ReplicaFailed.
    """
    if stream_last == 0:
        return
    head = genesis
    try:
        async with aclosing(bus.read(0)) as records, aclosing(replica.read(0, copy_last)) as copied:
            async for seq, record in records:
                entry = verify_record(head, seq, record)
                if seq <= copy_last:
                    verify_same(entry, (await anext(copied)).hash)
                yield entry
                head = Head(entry.seq, entry.hash)
                if seq == stream_last:
                    return
    except RecordMissing as missing:  # the broker was just started, so this is no passing state of a full disk
        raise describe_missing(missing) from missing
    raise Unavailable(f"the bus closed while the ledger was read at {head.seq} of {stream_last}. Connect again.")


def describe_missing(missing: RecordMissing) -> LedgerDamaged:
    """What a missing record means to somebody who has seen it, or who has just restarted the broker."""
    return LedgerDamaged(f"record {missing.seq} is missing: {missing} {DO}")
