# SPDX-License-Identifier: Apache-2.0
"""Which stops a beacon lists, and what happens when there are more than it can carry.

A stop is never dropped: when those that concern a service do not fit, they are widened to the next broader scope, the
whole service, by one more stop that must be lifted like any other. Under a broad stop the narrow ones are listed only
as far as they fit, because the broad one covers them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from firecurtain.domain.stops import widen_scope
from firecurtain.terms import FLEET, Scope
from firecurtain.wire.messages import STOPS_PER_BEACON_MAX, StopEntry

STOP_BYTES_MAX = 40_000
"""Of a frame's 64 KiB. Chosen: leaves 24 KiB for the allowed releases with their nodes, tokens and the signature."""

REASON_CHARACTERS = 100
"""A beacon shortens reasons; the ledger and the stop itself keep them whole."""


def select_stops(
    in_force: Iterable[StopEntry], service: str, service_of: Mapping[str, str]
) -> tuple[tuple[StopEntry, ...], bool]:
    """The stops that this service's beacon lists, broadest first, and whether they cover everything in force.

    >>> halt = StopEntry(bytes(16), "halt", "service:payouts", "drill")
    >>> select_stops([halt], "payouts", {}) == ((halt,), True), select_stops([halt], "refunds", {})
    (True, ((), True))
    """
    concerned = [entry for entry in in_force if concerns(entry, service, service_of)]
    concerned.sort(key=lambda entry: _breadth(entry, service))
    listed: list[StopEntry] = []
    size_bytes = 0
    for entry in concerned:
        short = msgspec.structs.replace(entry, reason=entry.reason[:REASON_CHARACTERS])
        size_bytes += len(msgspec.msgpack.encode(short))
        if len(listed) == STOPS_PER_BEACON_MAX or size_bytes > STOP_BYTES_MAX:
            return tuple(listed), is_broad(listed[0], service)
        listed.append(short)
    return tuple(listed), True


def concerns(entry: StopEntry, service: str, service_of: Mapping[str, str]) -> bool:
    """Whether a stop may bind a node of `service`. A node nobody enrolled is counted to every service."""
    scope = widen_scope(entry.scope)
    if scope.kind == "service":
        return scope.name == service
    if scope.kind == "node":
        return service_of.get(scope.name, service) == service
    return True


def is_broad(entry: StopEntry, service: str) -> bool:
    """Whether a stop covers every node of `service`."""
    return widen_scope(entry.scope) in (FLEET, Scope("service", service))


def _breadth(entry: StopEntry, service: str) -> int:
    scope = widen_scope(entry.scope)
    return (FLEET, Scope("service", service), scope).index(scope)
