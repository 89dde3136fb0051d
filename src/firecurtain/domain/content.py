# SPDX-License-Identifier: Apache-2.0
"""What beacons say of the ledger: the allowed releases of a service, the fencing floor of a scope, the lifts of a node.

Projections of the folded state and nothing else, so that every issuer names the same content by the same digest. Stops
are not left out here for their own sake: the issuer carries them in each beacon besides.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from firecurtain.domain.binding import find_service_records, is_open
from firecurtain.domain.refusals import EntryBound
from firecurtain.domain.state import Fleet, ReleaseRecord
from firecurtain.domain.stops import find_fenced, widen_scope
from firecurtain.terms import FLEET, Scope, short
from firecurtain.trust.release import EVERY_NODE, compute_limits_digest
from firecurtain.wire.messages import AllowedRelease

ALLOWED_MAX = 8
"""Releases in one beacon. Source: `wire.messages.Beacon`."""

NODES_MAX = 256
"""Nodes named by one of them. Source: `wire.messages.AllowedRelease`."""

ALLOWED_BYTES_MAX = 24_000
"""Of all of them together. Derived: a beacon has 64 KiB, of which its stops may take 40,000 bytes."""

LIFTS_MAX = 16
"""Envelopes in one answer; the next answer brings more. Source: `wire.messages.Answer`."""

LIFTS_BYTES_MAX = 48_000
"""Of all but the first, which may have 60,000 alone. Derived: an answer has 64 KiB."""


def compute_allowed(state: Fleet, service: str) -> tuple[AllowedRelease, ...]:
    """The releases that nodes of `service` may run, newest first; no node may run more than one.

    A release that called a node keeps it, fenced or not: only a newer one calls it away, so nothing runs again
    because something else was stopped.
    """
    # Cutting takes permits away and never gives one; `check_entries_fit` refuses what would have to be cut.
    runnable = _find_runnable(state, service)[:ALLOWED_MAX]
    entries = [_compute_entry(record, nodes[:NODES_MAX], record.armed) for record, nodes in runnable]
    while _compute_bytes(entries) > ALLOWED_BYTES_MAX:
        entries.pop()
    return tuple(entries)


def find_allowed(state: Fleet, service: str, node: str) -> AllowedRelease | None:
    """The one release that this node may run now."""
    for entry in compute_allowed(state, service):
        if not entry.nodes or node in entry.nodes:
            return entry
    return None


def compute_floor(state: Fleet, scope: Scope) -> int:
    """The fencing floor: effects whose token is lower were permitted before the newest stop of this scope.

    A lift never lowers it; what is granted after a lift carries a higher token.
    """
    covering = (FLEET, scope)
    return max((stop.seq for stop in state.stops.values() if widen_scope(stop.scope) in covering), default=0)


def find_lifts(state: Fleet, latched: Iterable[bytes]) -> tuple[bytes, ...]:
    """The lift envelopes for a node that holds these stop ids in force."""
    places = dict.fromkeys(state.lifted[stop_id] for stop_id in latched if stop_id in state.lifted)
    found: list[bytes] = []
    size_bytes = 0
    for place in list(places)[:LIFTS_MAX]:
        size_bytes += len(state.lifts[place])
        if found and size_bytes > LIFTS_BYTES_MAX:
            break
        found.append(state.lifts[place])
    return tuple(found)


def check_entries_fit(state: Fleet, service: str) -> None:
    """Refuse a state whose grants a beacon could not carry whole. Raises: EntryBound."""
    runnable = _find_runnable(state, service)
    if len(runnable) > ALLOWED_MAX:
        raise EntryBound(
            f"{len(runnable)} releases of service {service} would be allowed, a beacon names {ALLOWED_MAX}. "
            "Do: fence those that shall not run again (`firecurtain halt release:DIGEST`)."
        )
    for record, nodes in runnable:
        if len(nodes) > NODES_MAX:
            raise EntryBound(
                f"a beacon would have to name {len(nodes)} nodes for release {short(record.release)} of service "
                f"{service}, it names {NODES_MAX}. Do: open a stage for every node, or split the service."
            )
    # With every flag that they arm, so that arming later needs no room that is not there.
    size_bytes = _compute_bytes([_compute_entry(record, nodes, record.document.arms) for record, nodes in runnable])
    if size_bytes > ALLOWED_BYTES_MAX:
        raise EntryBound(
            f"the releases of service {service} would take {size_bytes} bytes of a beacon, it has {ALLOWED_BYTES_MAX} "
            "for them. Do: fence those that shall not run again, open a stage for every node, or split the service."
        )


def _find_runnable(state: Fleet, service: str) -> list[tuple[ReleaseRecord, tuple[str, ...]]]:
    """Each release that may run with the nodes that no newer one called, newest first; () is every node."""
    fenced = find_fenced(state)
    found: list[tuple[ReleaseRecord, tuple[str, ...]]] = []
    called: frozenset[str] = frozenset()
    for record in filter(is_open, find_service_records(state, service)):
        named = _find_named(record)
        remaining = _find_remaining(state, service, named, called)
        if record.release not in fenced and remaining is not None:
            found.append((record, remaining))
        if named is None:
            break
        called |= named
    return found


def _find_named(record: ReleaseRecord) -> frozenset[str] | None:
    """The nodes that the open stages call; None is every node of the service."""
    named: set[str] = set()
    for stage in record.document.stages:
        if stage.name in record.stages:
            if stage.nodes == EVERY_NODE:
                return None
            named.update(stage.nodes)
    return frozenset(named)


def _find_remaining(
    state: Fleet, service: str, named: frozenset[str] | None, called: frozenset[str]
) -> tuple[str, ...] | None:
    """The names an entry lists: () for every node; None when newer releases called them all away."""
    if named is None and not called:
        return ()
    on_roster = (node for node in state.nodes.values() if node.service == service and node.excluded_by is None)
    base = frozenset(node.name for node in on_roster) if named is None else named
    # An empty list would mean every node.
    return tuple(sorted(base - called)) or None


def _compute_entry(record: ReleaseRecord, nodes: tuple[str, ...], armed: tuple[str, ...]) -> AllowedRelease:
    return AllowedRelease(
        release=record.release,
        artifact=record.document.artifact,
        stage=record.stages[-1],
        nodes=nodes,
        armed=armed,
        limits=compute_limits_digest(record.document),
    )


def _compute_bytes(entries: list[AllowedRelease]) -> int:
    return len(msgspec.msgpack.encode(entries))
