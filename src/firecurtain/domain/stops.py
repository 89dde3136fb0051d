# SPDX-License-Identifier: Apache-2.0
"""The set H as recorded: what is in force, how long a stop has been durable, and the record of a new one.

In force = H \\ L, whatever the order in which both came. Recording is never refused, because the stop was fsynced and
cast before anybody asked. Lifting is `lifts`; what a stop does to grants is `evolve`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from firecurtain.domain.commands import RecordStop
from firecurtain.domain.events import Event, StopRecorded
from firecurtain.domain.refusals import LedgerBound
from firecurtain.domain.state import Fleet, Instant, StopRecord
from firecurtain.terms import FLEET, Scope, TermError, parse_scope

ENTRIES_MAX = 100_000
"""Of H: from here on grants are refused, stops never. Source: 03-protocol, "Taking away is monotone"."""

SCOPES_KEPT_MAX = 16_384
"""Scopes read once and kept. Chosen: every attest and beacon reads those of all stops in force; a few megabytes."""


def decide_record_stop(state: Fleet, command: RecordStop, now: Instant) -> tuple[Event, ...]:
    """Record a stop that is already durable; an id that is in H gives no event."""
    entry = command.entry
    if entry.id in state.stops:
        return ()
    recorded = StopRecorded(
        id=entry.id,
        kind=entry.kind,
        scope=entry.scope,
        reason=entry.reason,
        author=command.author,
        clock_id=command.clock_id,
        durable_ns=command.durable_ns,
        recorded_utc_ms=now.utc_ms,
    )
    return (recorded,)


def in_force(state: Fleet) -> tuple[StopRecord, ...]:
    """H \\ L, oldest record first."""
    return tuple(stop for stop in state.stops.values() if stop.id not in state.lifted)


@functools.lru_cache(maxsize=SCOPES_KEPT_MAX)
def widen_scope(text: str) -> Scope:
    """The scope of a recorded stop. What we cannot read covers everything: a stop is widened, never dropped.

    >>> widen_scope("node:host-8").name, str(widen_scope("planet:earth"))
    ('host-8', 'fleet')
    """
    try:
        return parse_scope(text)
    except TermError:
        return FLEET


def compute_age_ns(stop: StopRecord, now: Instant) -> int:
    """How long this stop has provably been durable, on the issuer clock.

    A stop timed on another clock is from an earlier boot, as there is one issuer; it counts from when this issuer
    started, because every beacon since has carried it.
    """
    durable_ns = stop.durable_ns if stop.clock_id == now.clock_id else now.started_ns
    return now.issuer_ns - durable_ns


def compute_fence_ages(state: Fleet, now: Instant) -> Mapping[str, int]:
    """For each release that a stop in force names: the age of the oldest such stop."""
    ages: dict[str, int] = {}
    for stop in in_force(state):
        scope = widen_scope(stop.scope)
        if scope.kind == "release":
            ages[scope.name] = max(ages.get(scope.name, 0), compute_age_ns(stop, now))
    return ages


def find_fenced(state: Fleet) -> frozenset[str]:
    """The releases that a stop in force names, whatever the kind of stop."""
    scopes = (widen_scope(stop.scope) for stop in in_force(state))
    return frozenset(scope.name for scope in scopes if scope.kind == "release")


def check_bound(state: Fleet) -> None:
    """Refuse every grant while H is full. Raises: LedgerBound."""
    if len(state.stops) >= ENTRIES_MAX:
        raise LedgerBound(
            f"the ledger holds {len(state.stops)} stops and takes grants below {ENTRIES_MAX}: nothing more is granted. "
            "Stops still work. Do: begin a new ledger epoch, signed by k of n, that leaves out the lifted pairs."
        )
