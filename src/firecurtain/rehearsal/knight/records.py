# SPDX-License-Identifier: Apache-2.0
"""What the control plane's ledger says of an arm after its run: when the flag was armed, when a stop covered a server.

Times in the ledger are for people (UTC); the ledgers of venue and feeder run on CLOCK_BOOTTIME. Both are clocks of this
one machine, so one reading of each joins them to the millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from firecurtain.domain.events import Armed, Event, StopRecorded, decode_event
from firecurtain.ledger.replica import make_replica
from firecurtain.rehearsal.knight.clock import read_utc_offset_ns
from firecurtain.terms import NS_PER_MS, FlagToken

EPOCH = 1
FOREVER_NS = 2**63


def read_history(path: Path, fleet: str) -> tuple[Event, ...]:
    """Every event in the control plane's own checked copy. Raises: LedgerError: damaged."""
    return asyncio.run(_read(path, fleet))


def compute_lawful_spans(
    history: Iterable[Event], token: FlagToken, nodes: Mapping[int, str]
) -> Mapping[int, tuple[tuple[int, int], ...]]:
    """For each of these servers: from when the token was armed until a stop covered the server, on CLOCK_BOOTTIME."""
    events = tuple(history)
    offset_ns = read_utc_offset_ns()
    armed = [event.recorded_utc_ms for event in events if isinstance(event, Armed) and token in event.tokens]
    spans: dict[int, tuple[tuple[int, int], ...]] = {}
    for node, name in nodes.items():
        stops = [event.recorded_utc_ms for event in events if isinstance(event, StopRecorded) and _covers(event, name)]
        until_ns = min(stops) * NS_PER_MS + offset_ns if stops else FOREVER_NS
        spans[node] = tuple((ms * NS_PER_MS + offset_ns, until_ns) for ms in armed)
    return spans


def _covers(stop: StopRecorded, node: str) -> bool:
    """Whether a stop reaches this server; a fence names another release than the one it runs."""
    return stop.kind != "fence" and stop.scope in ("fleet", "service:smars", f"node:{node}")


async def _read(path: Path, fleet: str) -> tuple[Event, ...]:
    replica = make_replica(path, fleet, EPOCH, read_only=True)
    head = await replica.open()
    try:
        async with contextlib.aclosing(replica.read(0, head.seq)) as entries:
            return tuple([decode_event(entry.event) async for entry in entries])
    finally:
        await replica.close()
