# SPDX-License-Identifier: Apache-2.0
"""What the control plane's ledger says of an arm after its run: when each server was in the right, what was refused.

Times in the ledger are for people (UTC); the ledgers of venue and feeder run on CLOCK_BOOTTIME. Both are clocks of this
one machine, so one reading of each (`clock`) joins them to the millisecond. This module judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from firecurtain.domain.events import Armed, CommandRefused, Event, StopRecorded, decode_event
from firecurtain.ledger.replica import make_replica
from firecurtain.terms import NS_PER_MS

EPOCH = 1


def read_history(path: Path, fleet: str) -> tuple[Event, ...]:
    """Every event in the control plane's own checked copy, from ledger_seq 1 on. Raises: LedgerError: damaged."""
    return asyncio.run(_read(path, fleet))


def compute_lawful_spans(
    history: Iterable[Event], nodes: Mapping[int, str], token: str, service: str, utc_offset_ns: int, closed_ns: int
) -> Mapping[int, tuple[tuple[int, int], ...]]:
    """For each of these servers: from when the token was armed until a stop covered the server or its fleet was ended.

    Args:
        nodes: the servers whose store holds the release that is to run, each with its name in the ledger.
        utc_offset_ns: what to add to a UTC time to get CLOCK_BOOTTIME.
        closed_ns: when the fleet was told to end, CLOCK_BOOTTIME.
    Returns: spans [from, until) on CLOCK_BOOTTIME. A lifted stop opens no second span: no arm lifts one.
    """
    events = tuple(history)
    armed = next((event for event in events if isinstance(event, Armed) and token in event.tokens), None)
    if armed is None:
        return {}
    opened_ns = armed.recorded_utc_ms * NS_PER_MS + utc_offset_ns
    spans: dict[int, tuple[tuple[int, int], ...]] = {}
    for node, name in nodes.items():
        scopes = {"fleet", f"service:{service}", f"node:{name}", f"release:{armed.release}", f"token:{token}"}
        stops = [event.recorded_utc_ms for event in events if isinstance(event, StopRecorded) and event.scope in scopes]
        until_ns = min([closed_ns, *(stop * NS_PER_MS + utc_offset_ns for stop in stops)])
        spans[node] = ((opened_ns, until_ns),) if opened_ns < until_ns else ()
    return spans


def list_refusals(history: Iterable[Event]) -> tuple[str, ...]:
    """Every refused command that the ledger holds, as `format_refusal` spells it."""
    return tuple(
        format_refusal(seq, event.code, event.text)
        for seq, event in enumerate(history, start=1)
        if isinstance(event, CommandRefused)
    )


def format_refusal(ledger_seq: object, code: object, text: object) -> str:
    """A refusal as it is quoted: where the ledger holds it, its stable code, its text.

    >>> format_refusal(28, "armed-flag-not-declared", "it would give the flag another meaning.")
    'ledger_seq 28 armed-flag-not-declared: it would give the flag another meaning.'
    """
    return f"ledger_seq {ledger_seq} {code}: {text}"


async def _read(path: Path, fleet: str) -> tuple[Event, ...]:
    replica = make_replica(path, fleet, EPOCH, read_only=True)
    head = await replica.open()
    try:
        async with contextlib.aclosing(replica.read(0, head.seq)) as entries:
            return tuple([decode_event(entry.event) async for entry in entries])
    finally:
        await replica.close()
